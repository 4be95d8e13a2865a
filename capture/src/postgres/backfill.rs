//! Tables that are read beside the stream: which one, how far, and where in the stream their rows
//! go. Runs in the thread of the stream, between its blocks; the reading itself is `chunk_thread`.
//!
//! ```text
//! table ─ Prepare ▶ Ready ─ open window ─ Chunk ▶ Piece ─ fill window ─ stream at `high` ─ close ─▶
//!                              ▲                                              rows, cursor │
//!                              └───────────────── until the table's end ──────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use crossdock_model::{Block, Position, SnapshotPart, block};

use super::chunk::{Piece, Refusal};
use super::chunk_thread::{Answer, ChunkThread, Request};
use super::control::Control;
use super::decoder::defect;
use super::prepare::Prepared;
use super::progress::{Cursor, News, Parcel};
use super::visible::Unseen;
use crate::memory::now_micros;
use crate::snapshot::{Chunk, Found as Look, Placed, Sees, Spoiled, Throttle, Window};
use crate::{CaptureError, CopyMessage, CopyState, Memory, Purpose, SourceOptions, TableCopy};

/// A table that can't be read so many times in a row is given up.
const TRIES_MAX: u32 = 10;
/// How often a table is begun anew because rows get other keys.
const RESTARTS_MAX: u32 = 5;
/// Longest rest before something is tried again.
const REST_MAX: Duration = Duration::from_secs(5);

/// What a reader is to do beside its stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Task {
    /// What its predecessor has left.
    pub memory: Memory,
    /// The predecessor's snapshot was interrupted and is continued.
    pub snapshot_open: bool,
}

/// All tables that are read beside one stream.
pub(super) struct Backfill {
    source: String,
    block_bytes_max: usize,
    copies: Vec<Entry>,
    current: Option<Current>,
    unseen: Unseen,
    throttle: Throttle,
    /// The snapshot was interrupted: its last block is yet to come.
    snapshot_open: bool,
    /// What has become of a table without a block to say it.
    news: Vec<TableCopy>,
    /// All that commits before this place has been handed over.
    place: u64,
    /// The last block did not end within a transaction.
    at_boundary: bool,
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    control: Arc<Control>,
}

/// A table of the memory that this reader captures.
struct Entry {
    copy: TableCopy,
    cursor: Cursor,
    /// Looks out for rows that move, from the table's first chunk to its last.
    window: Option<Window>,
    restarts: u32,
}

/// The table that is being read.
struct Current {
    index: usize,
    phase: Phase,
    tries: u32,
}

enum Phase {
    /// Asked whether it can be read.
    Preparing,
    /// The next chunk is not asked for before this time.
    Resting(Instant),
    /// A chunk was asked for.
    Reading,
    /// A chunk was asked for that is not wanted any more.
    Discarding,
    /// It is here and waits for the stream to come to `high`.
    Waiting { high: u64, next: Option<Cursor> },
    /// The table is looked at again after this time.
    Retrying(Instant),
}

impl Backfill {
    /// Begins, if there is anything to do.
    pub(super) fn begin(
        options: &Arc<SourceOptions>,
        above: &Arc<Control>,
        runtime: &tokio::runtime::Handle,
        prepared: &Prepared,
        task: &Task,
        from: u64,
    ) -> Option<Self> {
        let Prepared { standby, tables, .. } = prepared;
        let (memory, snapshot_open) = (&task.memory, task.snapshot_open);
        let table = |copy: &TableCopy| tables.iter().find(|(found, _)| found.name == copy.table);
        let entries = memory.tables.iter().filter_map(|copy| {
            let (_, table) = table(copy)?;
            matches!(copy.state, CopyState::Pending | CopyState::Paused).then(|| {
                let cursor = Cursor::of(copy);
                let key = table.schema.key_columns();
                let window = (cursor.after.is_some() && !key.is_empty())
                    .then(|| Window::new(copy.table.clone(), key));
                Entry { copy: copy.clone(), cursor, window, restarts: 0 }
            })
        });
        let copies: Vec<Entry> = entries.collect();
        if !snapshot_open && copies.iter().all(Entry::is_idle) {
            return None;
        }
        let control = Control::below(above);
        let (requests, for_thread) = channel();
        let (from_thread, answers) = channel();
        let thread = ChunkThread {
            options: options.clone(),
            control: control.clone(),
            runtime: runtime.clone(),
            standby: *standby,
            requests: for_thread,
            answers: from_thread,
        };
        let name = format!("rows {}", options.name);
        // Without a thread, the first request fails and says so.
        let _ = std::thread::Builder::new().name(name).spawn(move || thread.run());
        Some(Self {
            source: options.name.clone(),
            block_bytes_max: options.block_bytes_max.max(1),
            copies,
            current: None,
            unseen: Unseen::default(),
            throttle: Throttle::new(options.snapshot.rows_per_second),
            snapshot_open,
            news: Vec::new(),
            place: from,
            at_boundary: true,
            requests,
            answers,
            control,
        })
    }

    /// Nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.current.is_none()
            && !self.snapshot_open
            && self.news.is_empty()
            && self.copies.iter().all(Entry::is_idle)
    }

    /// The place that the stream has to reach next.
    pub(super) fn waits_for(&self) -> Option<u64> {
        match self.current.as_ref()?.phase {
            Phase::Waiting { high, .. } => Some(high),
            _ => None,
        }
    }

    /// Which part of a snapshot the blocks are now.
    pub(super) fn part(&self) -> SnapshotPart {
        if self.snapshot_open { SnapshotPart::Middle } else { SnapshotPart::Stream }
    }

    /// Looks at a block of the stream that is about to be handed over, with the transactions that
    /// end in it. Returns what is to be remembered with it.
    pub(super) fn observe(&mut self, block: &Block, xids: &[u32]) -> Result<News, CaptureError> {
        self.unseen.handed_over(xids);
        if let Position::Postgres { lsn } = block.end {
            self.place = self.place.max(lsn);
        }
        self.at_boundary = block.boundary;
        let concerned: Vec<usize> = (0..self.copies.len())
            .filter(|index| {
                self.copies.get(*index).and_then(|entry| entry.window.as_ref()).is_some_and(
                    |window| block.counts.iter().any(|(table, ..)| table == window.table()),
                )
            })
            .collect();
        if !concerned.is_empty() {
            let fragments = block::decode(&block.bytes).map_err(|e| defect(&e.to_string()))?;
            for index in concerned {
                let Some(entry) = self.copies.get_mut(index) else { continue };
                let Some(window) = &mut entry.window else { continue };
                if window.observe(fragments.clone()) == Look::Moved {
                    self.moved(index);
                }
            }
        }
        Ok(self.take_news())
    }

    /// What is to be remembered with the next block.
    fn take_news(&mut self) -> News {
        News::Copies(std::mem::take(&mut self.news))
    }

    /// Goes on. `place` is where the stream is, when everything up to there has been handed over.
    /// Returns what is to be handed over now, which is all at `place`.
    pub(super) fn step(
        &mut self,
        place: Option<u64>,
        now: Instant,
    ) -> Result<Vec<Parcel>, CaptureError> {
        loop {
            match self.answers.try_recv() {
                Ok(answer) => self.answered(answer, now)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(CaptureError::Transient {
                        what: format!("source {}: the thread that reads rows ended", self.source),
                        source: None,
                    });
                }
            }
        }
        self.again_if_spoiled(now);
        let mut parcels = Vec::new();
        if let Some(place) = place {
            self.close(place, now, &mut parcels);
            self.end_snapshot(place, &mut parcels);
        }
        if self.current.is_none() {
            self.begin_table();
        }
        self.ask(now);
        Ok(parcels)
    }

    fn begin_table(&mut self) {
        let Some(index) = self.copies.iter().position(Entry::is_pending) else { return };
        let Some(entry) = self.copies.get(index) else { return };
        tracing::info!(source = self.source, table = %entry.copy.table,
            purpose = ?entry.copy.purpose, "rows are read beside the stream");
        self.request(Request::Prepare(Box::new(entry.copy.clone())));
        self.current = Some(Current { index, phase: Phase::Preparing, tries: 0 });
    }

    fn request(&self, request: Request) {
        // A thread that is gone is noticed by its answers.
        let _ = self.requests.send(request);
    }

    /// Asks for what is next, when it is time.
    fn ask(&mut self, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let index = current.index;
        let Some(entry) = self.copies.get_mut(index) else { return };
        match (&current.phase, &mut entry.window) {
            (Phase::Retrying(until), _) if *until <= now => {
                current.phase = Phase::Preparing;
                let copy = entry.copy.clone();
                self.request(Request::Prepare(Box::new(copy)));
            }
            // Not within a transaction, whose first part the window would not have seen.
            (Phase::Resting(until), Some(window)) if *until <= now && self.at_boundary => {
                if window.open() == Look::Moved {
                    return self.moved(index);
                }
                if entry.restarts > RESTARTS_MAX {
                    let why = format!(
                        "rows get other keys again and again while the log leaves out their \
                         large columns: ALTER TABLE {} REPLICA IDENTITY FULL",
                        entry.copy.table
                    );
                    return self.give_up(why);
                }
                current.phase = Phase::Reading;
                entry.copy.since.get_or_insert(Position::Postgres { lsn: self.place });
                let cursor = entry.cursor.clone();
                self.unseen.open();
                self.request(Request::Chunk(cursor));
            }
            _ => {}
        }
    }

    fn answered(&mut self, answer: Answer, now: Instant) -> Result<(), CaptureError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let Some(entry) = self.copies.get_mut(current.index) else { return Ok(()) };
        match answer {
            Answer::Failed(error) => return Err(error),
            _ if matches!(current.phase, Phase::Discarding) => {
                current.phase = Phase::Resting(now);
            }
            Answer::Ready { key_columns, key_names } => {
                let table = entry.copy.table.clone();
                if entry.cursor.key.as_ref() != Some(&key_names) {
                    // Another key, another order: from the beginning.
                    entry.cursor.after = None;
                    entry.cursor.key = Some(key_names);
                }
                // A window that is there has been looking out for moved rows since the beginning.
                if entry.window.as_ref().is_none_or(|window| !window.has_key(&key_columns)) {
                    entry.window = Some(Window::new(table, key_columns));
                }
                if entry.copy.started_micros == 0 {
                    entry.copy.started_micros = now_micros();
                }
                current.phase = Phase::Resting(now);
            }
            Answer::Piece(piece) => self.piece(*piece, now),
            Answer::Refused(Refusal::Table(why)) => self.give_up(why),
            Answer::Refused(Refusal::Again(why)) => self.again(why, now),
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some(window) = &mut entry.window else { return };
        if !piece.standby && !self.unseen.all_seen(&piece.visible) {
            // A commit that the stream has is not visible yet: wait for it, however long.
            current.phase = Phase::Resting(now + rest(2));
            return;
        }
        entry.copy.rows_estimated = entry.copy.rows_estimated.max(piece.rows_estimated);
        let visible = piece.visible;
        // A standby does not say which transactions were running.
        let sees: Sees = if piece.standby {
            Box::new(|_| false)
        } else {
            Box::new(move |header| visible.sees_transaction(header))
        };
        current.phase = Phase::Waiting { high: piece.high, next: piece.next };
        let chunk = Chunk { schema: piece.schema, rows: piece.rows, sees };
        if window.fill(chunk) == Look::Moved {
            let index = current.index;
            self.moved(index);
        }
    }

    /// The chunk's place has come.
    fn close(&mut self, place: u64, now: Instant, parcels: &mut Vec<Parcel>) {
        let Some(current) = &mut self.current else { return };
        let Phase::Waiting { high, next } = &mut current.phase else { return };
        if *high > place {
            return;
        }
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some((schema, rows)) = entry.window.as_mut().and_then(Window::close) else { return };
        let next = next.take();
        current.tries = 0;
        entry.copy.rows += rows.len() as u64;
        entry.copy.rows_estimated = entry.copy.rows_estimated.max(entry.copy.rows);
        let wait = self.throttle.take(rows.len() as u64, now);
        let here = Position::Postgres { lsn: place };
        let mut out = Placed::new(&here, self.block_bytes_max, self.snapshot_open);
        for row in rows {
            out.row(schema.clone(), row);
        }
        match next {
            Some(cursor) => {
                entry.copy.cursor = cursor.to_json();
                entry.cursor = cursor;
                current.phase = Phase::Resting(now + wait);
            }
            None => {
                let since = entry.copy.since.clone().unwrap_or(here);
                out.message(&CopyMessage::Copied {
                    table: entry.copy.table.clone(),
                    purpose: entry.copy.purpose,
                    filter: entry.copy.filter.clone(),
                    since,
                });
                entry.copy.finish();
                entry.window = None;
                tracing::info!(source = self.source, table = %entry.copy.table,
                    rows = entry.copy.rows, "all rows are read");
                self.current = None;
            }
        }
        let copy = entry.copy.clone();
        self.remember(copy);
        let mut blocks = out.finish();
        if let Some(last) = blocks.pop() {
            parcels.extend(blocks.into_iter().map(|block| Parcel { block, news: News::Nothing }));
            parcels.push(Parcel { block: last, news: self.take_news() });
        }
    }

    /// The last block of a snapshot that was interrupted, when all its tables are read.
    fn end_snapshot(&mut self, place: u64, parcels: &mut Vec<Parcel>) {
        let open = |entry: &Entry| entry.is_pending() && entry.copy.purpose == Purpose::Initial;
        let ends = self.snapshot_open && !self.copies.iter().any(open);
        // A table that was given up has no block to say so.
        if ends || (!self.news.is_empty() && self.current.is_none()) {
            self.snapshot_open &= !ends;
            let here = Position::Postgres { lsn: place };
            let mut block = Placed::new(&here, self.block_bytes_max, self.snapshot_open).empty();
            if ends {
                block.snapshot = SnapshotPart::Last;
            }
            parcels.push(Parcel { block, news: self.take_news() });
        }
    }

    fn remember(&mut self, copy: TableCopy) {
        self.news.retain(|known| known.table != copy.table);
        self.news.push(copy);
    }

    /// A row may have left the part of the table that is yet to be read, and the log does not
    /// have all of it: the table is read from its beginning.
    fn moved(&mut self, index: usize) {
        let Some(entry) = self.copies.get_mut(index) else { return };
        entry.cursor.after = None;
        entry.copy.cursor = entry.cursor.to_json();
        entry.restarts += 1;
        let copy = entry.copy.clone();
        tracing::info!(source = self.source, table = %copy.table,
            "a row got another key, and the log has not all of it: reading from the beginning");
        self.remember(copy);
        let Some(current) = &mut self.current else { return };
        if current.index == index {
            match current.phase {
                Phase::Reading => current.phase = Phase::Discarding,
                Phase::Waiting { .. } => current.phase = Phase::Resting(Instant::now()),
                _ => {}
            }
        }
    }

    fn again_if_spoiled(&mut self, now: Instant) {
        let Some(current) = &self.current else { return };
        let entry = self.copies.get(current.index);
        let spoiled = entry.and_then(|entry| entry.window.as_ref()?.spoiled());
        if let (Phase::Waiting { .. }, Some(spoiled)) = (&current.phase, spoiled) {
            let why = match spoiled {
                Spoiled::Altered => "its columns were changed",
                Spoiled::TooManyChanges => "it changed too much while a chunk was read",
                Spoiled::KeyMissing => "the log gave a change without the key of the row",
            };
            self.again(why.to_string(), now);
        }
    }

    /// Begins the chunk anew, with a fresh look at the table; not for ever.
    fn again(&mut self, why: String, now: Instant) {
        let Some(current) = &mut self.current else { return };
        current.tries += 1;
        if current.tries > TRIES_MAX {
            return self.give_up(format!("{why} ({TRIES_MAX} times in a row)"));
        }
        tracing::debug!(source = self.source, why, tries = current.tries, "chunk is read again");
        current.phase = Phase::Retrying(now + rest(current.tries));
    }

    /// The table can't be read; the stream goes on.
    fn give_up(&mut self, why: String) {
        let Some(current) = self.current.take() else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        tracing::warn!(source = self.source, table = %entry.copy.table, why,
            "the rows of a table can't be read");
        entry.copy.state = CopyState::Failed(why);
        entry.copy.finished_micros = now_micros();
        entry.window = None;
        let copy = entry.copy.clone();
        self.remember(copy);
    }
}

impl Drop for Backfill {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Release);
    }
}

impl Entry {
    fn is_pending(&self) -> bool {
        self.copy.state == CopyState::Pending
    }

    /// Neither read nor, being paused on the way, looked after.
    fn is_idle(&self) -> bool {
        !self.is_pending() && self.window.is_none()
    }
}

/// How long to rest before the n-th try.
fn rest(tries: u32) -> Duration {
    Duration::from_millis(10).saturating_mul(1 << tries.min(12)).min(REST_MAX)
}
