//! Named points between two durable steps, where tests let the process end.

use std::sync::OnceLock;

/// What is called when a point is passed: its name, and that of the target which passes it.
pub type Watch = fn(&'static str, &str);

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Has a function called whenever a point is passed; the first one given counts.
pub fn watch(function: Watch) {
    // A second one is refused, which is what is said above.
    let _ = WATCH.set(function);
}

/// Says that a target passes a point. Without anybody watching, that is nothing.
pub(crate) fn pass(point: &'static str, target: &str) {
    if let Some(watch) = WATCH.get() {
        watch(point, target);
    }
}
