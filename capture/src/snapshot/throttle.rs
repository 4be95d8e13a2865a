//! Not more than so many rows a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far ahead of its rate reading may run: what is sent at once.
const AHEAD: Duration = Duration::from_millis(200);

/// Shared by all who read.
pub(crate) struct Throttle {
    rows_per_second: Option<u64>,
    /// When all rows taken so far may have been read.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// No limit when `None`; a limit of 0 counts as 1.
    pub(crate) fn new(rows_per_second: Option<u64>) -> Self {
        Self { rows_per_second, paid_until: Mutex::new(None) }
    }

    /// Takes `rows`; returns how long to wait before reading more.
    pub(crate) fn take(&self, rows: u64, now: Instant) -> Duration {
        let Some(rate) = self.rows_per_second.map(|rate| rate.max(1)) else {
            return Duration::ZERO;
        };
        let cost = Duration::from_micros(rows.saturating_mul(1_000_000) / rate);
        let mut paid = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Time that was not used is lost but for a little.
        let floor = now.checked_sub(AHEAD).unwrap_or(now);
        let until = paid.unwrap_or(floor).max(floor).checked_add(cost).unwrap_or(now);
        *paid = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_their_time() {
        let start = Instant::now();
        let throttle = Throttle::new(Some(1_000));
        assert_eq!(throttle.take(100, start), Duration::ZERO);
        assert_eq!(throttle.take(200, start), Duration::from_millis(100));
        assert_eq!(throttle.take(100, start), Duration::from_millis(200));
        let later = start + Duration::from_secs(9);
        assert_eq!(throttle.take(300, later), Duration::from_millis(100));
        assert_eq!(Throttle::new(None).take(u64::MAX, start), Duration::ZERO);
    }
}
