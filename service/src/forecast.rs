//! When a server will give up the log that it keeps for us, if things go on like this.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is looked back at.
const WINDOW: Duration = Duration::from_secs(600);
/// Samples are taken this far apart.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A shorter look back says nothing.
const WINDOW_MIN: Duration = Duration::from_secs(20);

/// How much log a server has kept over the last minutes.
#[derive(Default)]
pub struct Retained(VecDeque<(Instant, u64)>);

impl Retained {
    /// Notes how much it keeps now.
    pub fn saw(&mut self, bytes: u64, now: Instant) {
        let due = |(at, _): &(Instant, u64)| now.duration_since(*at) >= SAMPLE_EVERY;
        if self.0.back().is_none_or(due) {
            self.0.push_back((now, bytes));
        }
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// How long until it reaches `limit` at the rate of the last minutes; `None` while it does
    /// not grow.
    pub fn time_left(&self, limit: u64, now: Instant) -> Option<Duration> {
        let ((first, was), (last, is)) = self.0.front().zip(self.0.back())?;
        let seen = last.duration_since(*first);
        if seen < WINDOW_MIN || is <= was {
            return None;
        }
        let rate = (is - was) as f64 / seen.as_secs_f64();
        let left = limit.saturating_sub(*is) as f64 / rate;
        let left = Duration::try_from_secs_f64(left).ok()?;
        Some(left.saturating_sub(now.duration_since(*last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_what_remains_at_the_rate_of_the_last_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut retained = Retained::default();
        // A thousand bytes a second.
        for second in 0..=60 {
            retained.saw(5_000 + second * 1_000, at(second));
        }
        let left = retained.time_left(165_000, at(60)).unwrap();
        assert_eq!(left, Duration::from_secs(100));
        assert_eq!(retained.time_left(10, at(60)), Some(Duration::ZERO), "it is over the limit");
        // Read at last: it does not grow any more, and after a while nothing else is remembered.
        for second in 61..=700 {
            retained.saw(5_000, at(second));
        }
        assert_eq!(retained.time_left(165_000, at(700)), None);
        assert_eq!(Retained::default().time_left(1, start), None);
    }
}
