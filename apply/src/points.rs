//! Named points between two durable steps, where tests let the process end.

use std::sync::OnceLock;

static WATCH: OnceLock<fn(&'static str)> = OnceLock::new();

/// Has a function called whenever a point is passed; the first one given counts.
pub fn watch(function: fn(&'static str)) {
    // A second one is refused, which is what is said above.
    let _ = WATCH.set(function);
}

/// Says that a point is passed. Without anybody watching, that is nothing.
pub(crate) fn pass(point: &'static str) {
    if let Some(watch) = WATCH.get() {
        watch(point);
    }
}
