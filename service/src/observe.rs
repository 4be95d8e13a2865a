//! Looks from outside at how things stand, once a second: asks the servers where their logs end,
//! the store what is open, and lets journals drop what nobody needs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossdock_apply::{ConnectOptions, PostgresStore};
use crossdock_capture::{Probe, SourceOptions};
use crossdock_model::Position;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::board::{Board, SourceBoard, StageState, lock};
use crate::clock::now_micros;
use crate::forecast::Retained;
use crate::metrics::Metrics;
use crate::stage::Journals;
use crate::wiring::Consumers;

const PERIOD: Duration = Duration::from_millis(500);
/// Heads remembered for measuring lag: an hour of probes.
const HEADS_MAX: usize = 7_200;

/// Measures one source's lag against its server, for ever.
pub async fn source(options: SourceOptions, board: Arc<SourceBoard>) {
    let mut heads = Heads::default();
    let mut retained = Retained::default();
    let mut probe: Option<Probe> = None;
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut counted, mut counted_at) = (0, Instant::now());
    loop {
        tick.tick().await;
        let events = board.events.load(Ordering::Relaxed);
        let seconds = counted_at.elapsed().as_secs_f64();
        if seconds >= 1.0 {
            let rate = (events - counted) as f64 / seconds;
            board.events_per_second.store(rate as u64, Ordering::Relaxed);
            (counted, counted_at) = (events, Instant::now());
        }
        if board.stage.state() == StageState::Finished {
            // The log is not read any more: where it ends means nothing.
            heads = Heads::default();
            board.behind_bytes.store(0, Ordering::Relaxed);
            board.lag_millis.store(0, Ordering::Relaxed);
            board.probed.store(true, Ordering::Relaxed);
            continue;
        }
        let looked = look(&options, &board, &mut probe, &mut heads, &mut retained).await;
        if let Err(error) = looked {
            debug!(source = options.name, %error, "probe failed");
            probe = None;
            board.probed.store(false, Ordering::Relaxed);
        }
        board.lag_millis.store(heads.lag(Instant::now()).as_millis() as u64, Ordering::Relaxed);
    }
}

async fn look(
    options: &SourceOptions,
    board: &SourceBoard,
    probe: &mut Option<Probe>,
    heads: &mut Heads,
    retained: &mut Retained,
) -> Result<(), crossdock_capture::CaptureError> {
    let connected = match probe {
        Some(connected) => connected,
        None => probe.insert(crossdock_capture::probe(options).await?),
    };
    let durable = lock(&board.durable).clone();
    let head = connected.head(durable.as_ref()).await?;
    board.retained_bytes.store(head.retained_bytes, Ordering::Relaxed);
    let now = Instant::now();
    retained.saw(head.unread_bytes, now);
    let by_size = head.keep_limit_bytes.and_then(|limit| retained.time_left(limit, now));
    board.keep_limit_bytes.store(head.keep_limit_bytes.unwrap_or(0), Ordering::Relaxed);
    heads.saw(head.position, now);
    let behind = match lock(&board.durable).clone() {
        Some(durable) => {
            heads.reached(&durable);
            if heads.is_reached() { 0 } else { head.behind_bytes }
        }
        None => head.behind_bytes,
    };
    // What has not been read since the process began is at least as old as that.
    let by_age = head.keep_limit_age.map(|limit| limit.saturating_sub(heads.lag(now)));
    let left = by_size.into_iter().chain(by_age).min();
    *lock(&board.loss_in_seconds) = left.map(|left| left.as_secs());
    board.behind_bytes.store(behind, Ordering::Relaxed);
    board.probed.store(true, Ordering::Relaxed);
    Ok(())
}

/// Places where the server's log ended, and when, that have not been reached yet. The age of the
/// oldest is the lag: it needs neither the source's clock nor an event, so it tells the truth
/// about an idle source, a dead connection and a clock that is wrong.
#[derive(Default)]
struct Heads(VecDeque<(Instant, Position)>);

impl Heads {
    fn saw(&mut self, head: Position, now: Instant) {
        if self.0.back().is_some_and(|(_, last)| last.compare(&head).is_eq()) {
            return;
        }
        if self.0.len() == HEADS_MAX {
            // Hours behind: every second one is enough, and the oldest must stay.
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.0.push_back((now, head));
    }

    fn reached(&mut self, durable: &Position) {
        while self.0.front().is_some_and(|(_, head)| head.compare(durable).is_le()) {
            self.0.pop_front();
        }
    }

    fn is_reached(&self) -> bool {
        self.0.is_empty()
    }

    fn lag(&self, now: Instant) -> Duration {
        self.0.front().map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

/// Keeps the counts of the store on the board, and trims the journals, for ever.
pub async fn store(
    options: ConnectOptions,
    board: Arc<Board>,
    journals: Journals,
    metrics: Arc<Metrics>,
    consumers: Consumers,
) {
    let mut reader: Option<PostgresStore> = None;
    let mut tick = interval(2 * PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (source, journal) in journals.iter() {
            let age = journal.oldest_appended_micros().map_or(0, |at| now_micros() - at);
            metrics.journal(source, journal.bytes_on_disk(), age as f64 / 1e6);
            let passed = passed(&board, &consumers, source);
            if let Err(error) = tokio::task::block_in_place(|| journal.trim(passed)) {
                warn!(%source, %error, "could not trim the journal");
            }
        }
        // Before the schema exists there is nothing to read.
        if board.integrate.state() == StageState::Running
            && let Err(error) = read_store(&options, &board, &mut reader).await
        {
            debug!(%error, "could not read the store's counts");
            reader = None;
        }
    }
}

/// The last block that everybody who reads this journal has passed.
fn passed(board: &Board, consumers: &Consumers, source: &str) -> u64 {
    let integrated = board.source(source).map_or(0, |s| s.committed_seq.load(Ordering::Relaxed));
    let mirrors = consumers.mirrors.get(source).into_iter().flatten();
    mirrors.fold(integrated, |least, mirror| {
        let at = board.targets.iter().find(|t| t.name == *mirror);
        least.min(at.map_or(0, |t| t.seq.load(Ordering::Relaxed)))
    })
}

async fn read_store(
    options: &ConnectOptions,
    board: &Board,
    reader: &mut Option<PostgresStore>,
) -> Result<(), crossdock_apply::ApplyError> {
    let store = match reader {
        Some(store) => store,
        None => reader.insert(PostgresStore::open_reader(options).await?),
    };
    let attention = store.attention().await?;
    board.exceptions_open.store(attention.exceptions_open, Ordering::Relaxed);
    board.holds.store(attention.holds, Ordering::Relaxed);
    for target in &board.targets {
        let done = target.seq.load(Ordering::Relaxed);
        let oldest = store.oldest_owed_micros(&target.name, done).await?;
        let lag = oldest.map_or(0, |at| (now_micros() - at).max(0) / 1000);
        target.lag_millis.store(lag as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64) -> Position {
        Position::Postgres { lsn }
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_head_not_reached() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut heads = Heads::default();
        heads.saw(at(100), second(0));
        heads.saw(at(100), second(5));
        heads.saw(at(200), second(6));
        assert_eq!(heads.lag(second(10)), Duration::from_secs(10));
        heads.reached(&at(150));
        assert_eq!(heads.lag(second(10)), Duration::from_secs(4));
        heads.reached(&at(200));
        assert!(heads.is_reached());
        assert_eq!(heads.lag(second(10)), Duration::ZERO);
    }
}
