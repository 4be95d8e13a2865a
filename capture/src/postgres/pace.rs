//! When to read, and when to hand a block over.
//!
//! The server's walsender writes every message to the socket by itself. A reader that is woken
//! for each of them costs the walsender about as much again as decoding does, so that a backlog
//! drains at half the speed. While behind, reading therefore pauses a little after a read that
//! brought little, and finds more there the next time; when caught up, it never pauses.
//!
//! A walsender that says nothing for a moment (it reads its log, or another process has its CPU)
//! does not mean that the backlog has gone: only a longer silence does, or reads that stay thin
//! in spite of the pauses. Measurements: docs/performance.md.

use std::time::{Duration, Instant};

/// A read of less than this, while behind, is followed by a pause.
pub(super) const SHORT_READ_BYTES: usize = 64 * 1024;
/// Pauses begin at this length, and shrink to it where reads are thick.
const PAUSE_MIN: Duration = Duration::from_micros(300);
/// Pauses grow up to this where reads stay short. Some 60 KiB arrive in it from a walsender at
/// full speed, half of what a socket holds before it stops the walsender.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// So many reads within `WINDOW` mean that there is more than the reader is woken for.
const READS_BEHIND: u32 = 16;
const WINDOW: Duration = Duration::from_millis(2);
/// Silence of this length means that there is no backlog.
const SILENCE: Duration = Duration::from_millis(5);
/// So many reads in a row that bring less than `THIN_READ_BYTES` after a pause mean the same.
const THIN_READS: u32 = 8;
const THIN_READ_BYTES: usize = 2 * 1024;
/// While behind, a block that ends with a transaction does not wait longer than this.
const BLOCK_AGE_MAX: Duration = Duration::from_millis(5);

/// Whether the reader is behind, judged by how thick and fast reads come.
pub(super) struct Pace {
    behind: bool,
    window: Instant,
    reads: u32,
    thin_reads: u32,
    last_read: Instant,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            behind: false,
            window: now,
            reads: 0,
            thin_reads: 0,
            last_read: now,
            pause: PAUSE_MIN,
        }
    }

    /// True while there is a backlog.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// A read brought so many bytes.
    pub(super) fn read(&mut self, count: usize, now: Instant) {
        self.last_read = now;
        if !self.behind {
            if now - self.window > WINDOW {
                self.window = now;
                self.reads = 0;
            }
            self.reads += 1;
            self.behind = self.reads >= READS_BEHIND;
            return;
        }
        self.thin_reads = if count < THIN_READ_BYTES { self.thin_reads + 1 } else { 0 };
        if self.thin_reads >= THIN_READS {
            *self = Self::new(now);
        } else if count < SHORT_READ_BYTES / 2 {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else if count > SHORT_READ_BYTES {
            self.pause = (self.pause / 2).max(PAUSE_MIN);
        }
    }

    /// A read found nothing.
    pub(super) fn found_nothing(&mut self, now: Instant) {
        if self.behind && now - self.last_read >= SILENCE {
            *self = Self::new(now);
        }
    }

    /// Lets messages gather.
    pub(super) fn pause(&self) {
        std::thread::sleep(self.pause);
    }

    /// Whether a block begun at `since` has waited long enough.
    pub(super) fn is_due(&self, since: Instant, now: Instant) -> bool {
        self.behind && now - since >= BLOCK_AGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(at: Instant) -> Pace {
        let mut pace = Pace::new(at);
        (0..READS_BEHIND).for_each(|_| pace.read(100, at));
        assert!(pace.is_behind());
        pace
    }

    #[test]
    fn many_reads_in_a_short_time_mean_behind() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for i in 0..100 {
            pace.read(100, start + Duration::from_millis(i));
        }
        assert!(!pace.is_behind());
        let later = start + Duration::from_secs(1);
        (0..READS_BEHIND).for_each(|_| pace.read(100, later));
        assert!(pace.is_behind());
        assert!(pace.is_due(later, later + BLOCK_AGE_MAX));
    }

    #[test]
    fn a_moment_without_bytes_is_not_the_end_of_the_backlog() {
        let start = Instant::now();
        let mut pace = behind(start);
        pace.found_nothing(start + SILENCE / 2);
        assert!(pace.is_behind());
        pace.found_nothing(start + SILENCE);
        assert!(!pace.is_behind());
    }

    #[test]
    fn thin_reads_are_the_end_of_the_backlog() {
        let start = Instant::now();
        let mut pace = behind(start);
        (1..THIN_READS).for_each(|_| pace.read(100, start));
        pace.read(THIN_READ_BYTES, start);
        (1..THIN_READS).for_each(|_| pace.read(100, start));
        assert!(pace.is_behind());
        pace.read(100, start);
        assert!(!pace.is_behind());
    }

    #[test]
    fn pauses_grow_while_reads_are_short() {
        let mut pace = behind(Instant::now());
        (0..5).for_each(|_| pace.read(THIN_READ_BYTES, Instant::now()));
        assert_eq!(pace.pause, PAUSE_MAX);
        (0..5).for_each(|_| pace.read(4 * SHORT_READ_BYTES, Instant::now()));
        assert_eq!(pace.pause, PAUSE_MIN);
    }
}
