//! Named points before and after everything that becomes durable. With the environment variable
//! `CROSSDOCK_CRASH_AT=POINT:N` the process ends there, without warning and without cleaning up,
//! when it passes the point for the n-th time; with `CROSSDOCK_STOP_AT=POINT:N` it stands still
//! until it is told to go on (SIGCONT), so that a server can be killed just there. `POINT@NAME`
//! is the point as the target of that name passes it. Without the variables, a point is nothing.
//!
//! For tests of recovery: `tests/suite/crash_points.rs` names all points.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, raise};

#[derive(Clone, Copy)]
enum Then {
    End,
    StandStill,
}

const VARIABLES: [(&str, Then); 2] =
    [("CROSSDOCK_CRASH_AT", Then::End), ("CROSSDOCK_STOP_AT", Then::StandStill)];

struct Wanted {
    point: String,
    /// Name of a target; empty: whoever passes.
    who: String,
    /// Passings that are left.
    left: AtomicU64,
    then: Then,
}

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();

/// Reads the variables, and has the points of targets watched when one is set.
pub fn arm() {
    if wanted().is_some() {
        crossdock_apply::points::watch(pass_of);
    }
}

fn wanted() -> Option<&'static Wanted> {
    let read = || {
        let set = |(variable, then)| Some((std::env::var(variable).ok()?, then));
        let (text, then) = VARIABLES.into_iter().find_map(set)?;
        read(&text, then)
    };
    WANTED.get_or_init(read).as_ref()
}

fn read(text: &str, then: Then) -> Option<Wanted> {
    let (point, times) = text.rsplit_once(':')?;
    let (point, who) = point.split_once('@').unwrap_or((point, ""));
    let times = times.parse().ok().filter(|times| *times > 0)?;
    Some(Wanted { point: point.into(), who: who.into(), left: AtomicU64::new(times), then })
}

/// Says that a point is passed that has nothing to do with a target.
pub fn pass(point: &'static str) {
    pass_of(point, "");
}

/// Says that a point is passed on behalf of a target.
pub fn pass_of(point: &'static str, who: &str) {
    let Some(wanted) = wanted() else { return };
    let meant = wanted.point == point && (wanted.who.is_empty() || wanted.who == who);
    if !meant || wanted.left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    eprintln!("crash point {point} {who}");
    match wanted.then {
        Then::End => std::process::abort(),
        // Without a signal to stop it, it goes on: the test says that it was not reached.
        Then::StandStill => _ = raise(Signal::SIGSTOP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_may_be_that_of_one_target() {
        let of = |text| {
            let wanted = read(text, Then::End)?;
            Some((wanted.point, wanted.who, wanted.left.into_inner()))
        };
        let expect = |point: &str, who: &str, times| Some((point.into(), who.into(), times));
        assert_eq!(of("a.b:2"), expect("a.b", "", 2));
        assert_eq!(of("a.b@erp:1"), expect("a.b", "erp", 1));
        for wrong in ["a.b", "a.b:0", "a.b:x", ""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
