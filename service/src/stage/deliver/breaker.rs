//! The circuit breaker: a target that cannot take anything is left alone for a while.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossdock_apply::ApplyError;

use crate::board::TargetBoard;

/// After so many failures in a row the circuit opens.
const FAILURES_MAX: u32 = 5;
/// For so long nothing is tried then; after that one attempt decides.
const PAUSE: Duration = Duration::from_secs(30);

/// Counts failures of a target that does not answer, or answers that it is busy. Databases are
/// left to the supervisor, which waits longer from failure to failure.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// Notes that the target took what it was given.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure.
    pub(super) fn failed(&mut self, error: &ApplyError) {
        let ApplyError::Busy { after, .. } = error else { return };
        self.failures = self.failures.saturating_add(1);
        let open = (self.failures >= FAILURES_MAX).then_some(PAUSE);
        self.until = open.max(*after).map(|pause| Instant::now() + pause);
    }

    /// How long the target is left alone from now on.
    fn left(&self) -> Option<Duration> {
        self.until?.checked_duration_since(Instant::now())
    }

    /// Waits until the target may be tried.
    pub(super) async fn wait(&self, board: &TargetBoard) {
        let Some(left) = self.left() else { return };
        board.circuit_open.store(true, Ordering::Relaxed);
        tokio::time::sleep(left).await;
        board.circuit_open.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_after_failures_and_when_asked_to() {
        let busy = |after| ApplyError::Busy { what: "x".into(), after };
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.failed(&busy(None));
            assert_eq!(breaker.left(), None);
        }
        breaker.failed(&ApplyError::Transient { what: "x".into(), source: None });
        assert_eq!(breaker.left(), None, "no answer of the service's");
        breaker.failed(&busy(None));
        assert!(breaker.left().is_some_and(|left| left > PAUSE / 2));
        breaker.worked();
        assert_eq!(breaker.left(), None);
        breaker.failed(&busy(Some(Duration::from_secs(90))));
        assert!(breaker.left().is_some_and(|left| left > Duration::from_secs(60)));
    }
}
