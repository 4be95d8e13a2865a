//! Named points before and after everything that becomes durable. With the environment variable
//! `CROSSDOCK_CRASH_AT=POINT:N` the process ends there, without warning and without cleaning up,
//! when it passes the point for the n-th time; without it, a point is nothing.
//!
//! For tests of recovery: `tests/suite/crash_points.rs` names all points.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "CROSSDOCK_CRASH_AT";

struct Wanted {
    point: String,
    /// Passings that are left.
    left: AtomicU64,
}

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();

/// Reads the variable, and has the points of targets watched when it is set.
pub fn arm() {
    if wanted().is_some() {
        crossdock_apply::points::watch(pass);
    }
}

fn wanted() -> Option<&'static Wanted> {
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let (point, times) = text.rsplit_once(':')?;
        let times = times.parse().ok().filter(|times| *times > 0)?;
        Some(Wanted { point: point.to_string(), left: AtomicU64::new(times) })
    };
    WANTED.get_or_init(read).as_ref()
}

/// Says that a point is passed.
pub fn pass(point: &'static str) {
    let Some(wanted) = wanted() else { return };
    if wanted.point == point && wanted.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        eprintln!("crash point {point}");
        std::process::abort();
    }
}
