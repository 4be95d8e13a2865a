//! When to read, and when to hand a block over.
//!
//! The server's walsender writes every message to the socket by itself. While the connection is
//! open for more, each becomes a segment of its own, and on one machine the walsender's CPU also
//! does the receiving side's work for it. A reader that follows closely halves the speed at which
//! a backlog drains. While behind, reading therefore pauses after a read that found little: the
//! socket fills up, the server's kernel gathers the messages, and hands them over in large pieces
//! as soon as there is room. When caught up, reading never pauses.
//!
//! A burst looks like a backlog: several transactions, committed together, come in dozens of
//! messages within a millisecond. What tells them apart is the server's own clock: each
//! transaction says when it was committed, and each message when it was sent. Transactions that
//! are sent just after their commit are no backlog, however fast they come.
//!
//! A walsender that says nothing for a moment (it reads its log, or another process has its CPU)
//! does not mean that the backlog has gone: only a longer silence does, or pauses that stay
//! fruitless. Measurements: docs/performance.md.

use std::time::{Duration, Instant};

/// A read of less than this, while behind, is followed by a pause.
pub(super) const SHORT_READ_BYTES: usize = 64 * 1024;
/// Pauses begin at this length.
const PAUSE_MIN: Duration = Duration::from_micros(300);
/// So many reads within `WINDOW` mean that there is more than the reader is woken for.
const READS_BEHIND: u32 = 16;
const WINDOW: Duration = Duration::from_millis(2);
/// Silence of this length means that there is no backlog.
const SILENCE: Duration = Duration::from_millis(5);
/// So many pauses in a row that were fruitless mean the same.
const THIN_PAUSES: u32 = 8;
/// A pause was fruitless when less than this arrived for each of its microseconds: 2 MB/s.
const THIN_BYTES_PER_MICRO: usize = 2;
/// While behind, a block that ends with a transaction does not wait longer than this.
const BLOCK_AGE_MAX: Duration = Duration::from_millis(5);

/// Transactions that are sent so long after their commit are a backlog.
const OLD_MICROS: i64 = 30_000;
/// Transactions that are sent so soon after their commit are none, or no longer.
const FRESH_MICROS: i64 = 10_000;

/// How long pauses may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pause_max: Duration,
    /// A pause that gathers more than this was too long: the server must never wait for room.
    gathered_max: usize,
}

impl Limits {
    /// Over a network, the server's send buffer may be as small as 87 KB, and cards gather
    /// segments by themselves.
    pub(super) const NETWORK: Self =
        Self { pause_max: Duration::from_millis(1), gathered_max: 64 * 1024 };
    /// On one machine, the server's send buffer begins at 2.5 MB.
    pub(super) const SAME_MACHINE: Self =
        Self { pause_max: Duration::from_millis(8), gathered_max: 1024 * 1024 };
}

/// Whether the reader is behind, judged by how old what comes is, and how thick and fast it comes.
pub(super) struct Pace {
    limits: Limits,
    behind: bool,
    window: Instant,
    reads: u32,
    pause: Duration,
    /// Bytes since the last pause.
    gathered: usize,
    thin_pauses: u32,
    /// How long after its commit the server sent the last transaction; `None` for one that is
    /// sent before its commit, and at first.
    age_micros: Option<i64>,
}

impl Pace {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            behind: false,
            window: now,
            reads: 0,
            pause: PAUSE_MIN,
            gathered: 0,
            thin_pauses: 0,
            age_micros: None,
        }
    }

    /// A message of a transaction was sent so long after its commit, by the server's clock.
    pub(super) fn sent(&mut self, age_micros: Option<i64>, now: Instant) {
        self.age_micros = age_micros;
        if self.behind && age_micros.is_some_and(|age| age < FRESH_MICROS) {
            self.catch_up(now);
        }
    }

    fn catch_up(&mut self, now: Instant) {
        *self = Self { age_micros: self.age_micros, ..Self::new(self.limits, now) };
    }

    /// True while there is a backlog.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// A read brought so many bytes. The pause to make before the next one, if any.
    pub(super) fn read(&mut self, count: usize, now: Instant) -> Option<Duration> {
        if !self.behind {
            if now - self.window > WINDOW {
                self.window = now;
                self.reads = 0;
            }
            self.reads += 1;
            let old = self.age_micros.is_none_or(|age| age >= OLD_MICROS);
            self.behind = old && self.reads >= READS_BEHIND;
            return None;
        }
        self.gathered += count;
        if count >= SHORT_READ_BYTES {
            return None;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let thin = gathered < self.pause.as_micros() as usize * THIN_BYTES_PER_MICRO;
        self.thin_pauses = if thin { self.thin_pauses + 1 } else { 0 };
        if self.thin_pauses >= THIN_PAUSES {
            self.catch_up(now);
            return None;
        }
        self.pause = if gathered > self.limits.gathered_max {
            (self.pause / 2).max(PAUSE_MIN)
        } else {
            (self.pause * 2).min(self.limits.pause_max)
        };
        Some(self.pause)
    }

    /// A read that found nothing has waited so long since.
    pub(super) fn waited(&mut self, silence: Duration, now: Instant) {
        if self.behind && silence >= SILENCE {
            self.catch_up(now);
        }
    }

    /// Whether a block begun at `since` has waited long enough.
    pub(super) fn is_due(&self, since: Instant, now: Instant) -> bool {
        self.behind && now - since >= BLOCK_AGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(limits: Limits, at: Instant) -> Pace {
        let mut pace = Pace::new(limits, at);
        (0..READS_BEHIND).for_each(|_| assert_eq!(pace.read(100, at), None));
        assert!(pace.is_behind());
        pace
    }

    #[test]
    fn many_reads_in_a_short_time_mean_behind() {
        let start = Instant::now();
        let mut pace = Pace::new(Limits::SAME_MACHINE, start);
        for i in 0..100 {
            pace.read(100, start + Duration::from_millis(i));
        }
        assert!(!pace.is_behind());
        let later = start + Duration::from_secs(1);
        (0..READS_BEHIND).for_each(|_| assert_eq!(pace.read(100, later), None));
        assert!(pace.is_behind());
        assert!(pace.is_due(later, later + BLOCK_AGE_MAX));
    }

    /// Plays reads of 100 bytes, 20 µs apart, of transactions of 5 messages, and returns how many
    /// pauses were asked for and how long they were together.
    fn play(pace: &mut Pace, start: Instant, transactions: u32, age: i64) -> (u32, Duration) {
        let (mut now, mut pauses, mut paused) = (start, 0, Duration::ZERO);
        for _ in 0..transactions * 5 {
            now += Duration::from_micros(20);
            if let Some(pause) = pace.read(100, now) {
                pauses += 1;
                paused += pause;
                now += pause;
            }
            pace.sent(Some(age), now);
        }
        (pauses, paused)
    }

    #[test]
    fn a_burst_of_fresh_transactions_is_no_backlog() {
        let start = Instant::now();
        let mut pace = Pace::new(Limits::SAME_MACHINE, start);
        pace.sent(Some(400), start);
        for burst in 0..50 {
            // A slow sync of the server lets some wait for almost as long as old ones have.
            let age = if burst % 10 == 0 { OLD_MICROS - 1 } else { 800 };
            let at = start + Duration::from_millis(2 * burst);
            assert_eq!(play(&mut pace, at, 20, age), (0, Duration::ZERO), "burst {burst}");
            assert!(!pace.is_behind());
        }
    }

    #[test]
    fn old_transactions_are_a_backlog_until_one_is_fresh() {
        let start = Instant::now();
        let mut pace = Pace::new(Limits::SAME_MACHINE, start);
        let (pauses, _) = play(&mut pace, start, 4, 3_600_000_000);
        assert!(pauses > 0 && pace.is_behind());
        pace.sent(Some(OLD_MICROS - 1), start);
        assert!(pace.is_behind(), "it has nearly caught up");
        pace.sent(Some(FRESH_MICROS - 1), start);
        assert!(!pace.is_behind());
        assert_eq!(play(&mut pace, start, 20, FRESH_MICROS - 1), (0, Duration::ZERO));
    }

    #[test]
    fn a_transaction_in_progress_is_gathered() {
        let start = Instant::now();
        let mut pace = Pace::new(Limits::SAME_MACHINE, start);
        pace.sent(Some(400), start);
        pace.sent(None, start);
        (0..READS_BEHIND).for_each(|_| assert_eq!(pace.read(100, start), None));
        assert!(pace.is_behind());
        assert!(pace.read(100, start).is_some());
    }

    #[test]
    fn a_moment_without_bytes_is_not_the_end_of_the_backlog() {
        let start = Instant::now();
        let mut pace = behind(Limits::NETWORK, start);
        pace.waited(SILENCE / 2, start);
        assert!(pace.is_behind());
        pace.waited(SILENCE, start);
        assert!(!pace.is_behind());
    }

    #[test]
    fn fruitless_pauses_are_the_end_of_the_backlog() {
        let start = Instant::now();
        let mut pace = behind(Limits::SAME_MACHINE, start);
        (1..THIN_PAUSES).for_each(|_| assert!(pace.read(100, start).is_some()));
        assert!(pace.read(SHORT_READ_BYTES - 1, start).is_some());
        (1..THIN_PAUSES).for_each(|_| assert!(pace.read(100, start).is_some()));
        assert!(pace.is_behind());
        assert_eq!(pace.read(100, start), None);
        assert!(!pace.is_behind());
    }

    #[test]
    fn pauses_grow_while_they_gather_less_than_the_server_can_hold() {
        let start = Instant::now();
        for limits in [Limits::NETWORK, Limits::SAME_MACHINE] {
            let mut pace = behind(limits, start);
            let longest = (0..5).filter_map(|_| pace.read(SHORT_READ_BYTES / 2, start)).last();
            assert_eq!(longest, Some(limits.pause_max));
        }
    }

    #[test]
    fn pauses_shrink_when_they_gather_more() {
        let start = Instant::now();
        for limits in [Limits::NETWORK, Limits::SAME_MACHINE] {
            let mut pace = behind(limits, start);
            let mut last = None;
            for _ in 0..10 {
                assert_eq!(pace.read(limits.gathered_max, start), None);
                last = pace.read(SHORT_READ_BYTES / 2, start);
            }
            assert_eq!(last, Some(PAUSE_MIN));
        }
    }
}
