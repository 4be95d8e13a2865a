//! When to read, and when to hand a block over.
//!
//! The server's walsender writes every message to the socket by itself. A reader that is woken
//! for each of them costs the walsender about as much again as decoding does, so that a backlog
//! drains at half the speed. While behind, reading therefore pauses a little after a read that
//! brought little, and finds more there the next time; when caught up, it never pauses.

use std::time::{Duration, Instant};

/// A read of less than this, while behind, is followed by a pause.
pub(super) const SHORT_READ_BYTES: usize = 64 * 1024;
/// Long enough for some hundred messages, short against any goal for latency. Measured: 278-306
/// thousand events/s against 149-155 without.
const PAUSE: Duration = Duration::from_micros(300);
/// So many reads within `WINDOW` mean that there is more than the reader is woken for.
const READS_BEHIND: u32 = 16;
const WINDOW: Duration = Duration::from_millis(2);
/// While behind, a block that ends with a transaction does not wait longer than this.
const BLOCK_AGE_MAX: Duration = Duration::from_millis(2);

/// Whether the reader is behind, judged by how thick and fast reads come.
pub(super) struct Pace {
    behind: bool,
    window: Instant,
    reads: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { behind: false, window: now, reads: 0 }
    }

    /// True while there is a backlog.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// A read brought something.
    pub(super) fn read(&mut self, now: Instant) {
        if now - self.window > WINDOW {
            self.window = now;
            self.reads = 0;
        }
        self.reads += 1;
        self.behind |= self.reads >= READS_BEHIND;
    }

    /// A read found nothing.
    pub(super) fn caught_up(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Lets messages gather.
    pub(super) fn pause(&self) {
        std::thread::sleep(PAUSE);
    }

    /// Whether a block begun at `since` has waited long enough.
    pub(super) fn is_due(&self, since: Instant, now: Instant) -> bool {
        self.behind && now - since >= BLOCK_AGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reads_in_a_short_time_mean_behind() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for i in 0..100 {
            pace.read(start + Duration::from_millis(i));
        }
        assert!(!pace.is_behind());
        let later = start + Duration::from_secs(1);
        (0..READS_BEHIND).for_each(|_| pace.read(later));
        assert!(pace.is_behind());
        assert!(pace.is_due(later, later + BLOCK_AGE_MAX));
        pace.caught_up(later);
        assert!(!pace.is_behind());
    }
}
