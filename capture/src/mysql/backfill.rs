//! Tables that are read beside the stream: which one, how far, and where in the stream their rows
//! go. Runs in the task of the stream, between its blocks; the reading itself is `chunk`.
//!
//! ```text
//! table ─ Prepare ▶ Ready ─ open window ─ Chunk ▶ Piece ─ fill window ─ stream at `high` ─ close ─▶
//!                              ▲                                              rows, cursor │
//!                              └───────────────── until the table's end ──────────────────┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crossdock_model::{Block, LogOrder, Position, SnapshotPart, TableName, block};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::chunk::{self, Answer, Piece, Refusal, Request, Wanted};
use super::progress::{Cursor, News, Parcel};
use crate::memory::now_micros;
use crate::snapshot::{Chunk, Found, Placed, Spoiled, Throttle, Window};
use crate::{CaptureError, CopyMessage, CopyState, Memory, Purpose, SourceOptions, TableCopy};

/// A table that can't be read so many times in a row is given up.
const TRIES_MAX: u32 = 10;
/// How often a table is begun anew because rows get other keys.
const RESTARTS_MAX: u32 = 5;
/// Longest rest before something is tried again.
const REST_MAX: Duration = Duration::from_secs(5);

/// Where the stream is, between two transactions that have been handed over.
pub(super) struct Here {
    /// The place, with GTIDs.
    pub(super) position: Position,
    /// The place in the numbering of this server.
    pub(super) order: LogOrder,
}

/// All tables that are read beside one stream.
pub(super) struct Backfill {
    source: String,
    block_bytes_max: usize,
    copies: Vec<Entry>,
    current: Option<Current>,
    throttle: Throttle,
    /// The snapshot was interrupted: its last block is yet to come.
    snapshot_open: bool,
    /// How tables stand, to be remembered with the next block.
    news: Vec<TableCopy>,
    requests: UnboundedSender<Request>,
    answers: UnboundedReceiver<Answer>,
    arrived: VecDeque<Answer>,
    task: JoinHandle<()>,
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
    Waiting { high: LogOrder, next: Option<Cursor> },
    /// The table is looked at again after this time.
    Retrying(Instant),
}

impl Backfill {
    /// Begins, if there is anything to do. `snapshot_open` when an interrupted snapshot goes on;
    /// `keys` are those of the tables that have been read in part.
    pub(super) fn begin(
        options: &SourceOptions,
        memory: &Memory,
        snapshot_open: bool,
        mut keys: HashMap<TableName, Vec<usize>>,
    ) -> Option<Self> {
        let entries = pending(options, memory).map(|copy| Entry {
            cursor: Cursor::of(copy),
            copy: copy.clone(),
            window: keys.remove(&copy.table).map(|key| Window::new(copy.table.clone(), key)),
            restarts: 0,
        });
        let copies: Vec<Entry> = entries.collect();
        if !snapshot_open && copies.is_empty() {
            return None;
        }
        let (requests, for_task) = unbounded_channel();
        let (from_task, answers) = unbounded_channel();
        Some(Self {
            source: options.name.clone(),
            block_bytes_max: options.block_bytes_max.max(1),
            copies,
            current: None,
            throttle: Throttle::new(options.snapshot.rows_per_second),
            snapshot_open,
            news: Vec::new(),
            requests,
            answers,
            arrived: VecDeque::new(),
            task: tokio::spawn(chunk::serve(options.clone(), for_task, from_task)),
        })
    }

    /// Nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.current.is_none()
            && !self.snapshot_open
            && self.news.is_empty()
            && !self.copies.iter().any(Entry::is_pending)
    }

    /// Which part of a snapshot the blocks are now.
    pub(super) fn part(&self) -> SnapshotPart {
        if self.snapshot_open { SnapshotPart::Middle } else { SnapshotPart::Stream }
    }

    /// Whether there is something to do at this place of the stream.
    pub(super) fn is_due(&self, place: LogOrder) -> bool {
        let Some(current) = &self.current else { return !self.is_over() };
        match &current.phase {
            Phase::Waiting { high, .. } => *high <= place,
            Phase::Resting(until) | Phase::Retrying(until) => *until <= Instant::now(),
            _ => !self.arrived.is_empty() || !self.answers.is_empty(),
        }
    }

    /// Waits until there may be something to do; for ever when only the stream can bring it.
    pub(super) async fn wake(&mut self) {
        match self.current.as_ref().map(|current| &current.phase) {
            Some(Phase::Resting(until) | Phase::Retrying(until)) => {
                tokio::time::sleep_until((*until).into()).await;
            }
            Some(Phase::Waiting { .. }) | None => std::future::pending().await,
            Some(_) => match self.answers.recv().await {
                Some(answer) => self.arrived.push_back(answer),
                None => std::future::pending().await,
            },
        }
    }

    /// Looks at a block of the stream that is about to be handed over. Returns what is to be
    /// remembered with it.
    pub(super) fn observe(&mut self, block: &Block) -> Result<Vec<TableCopy>, CaptureError> {
        let mut fragments = None;
        for index in 0..self.copies.len() {
            let window = self.copies.get_mut(index).and_then(|entry| entry.window.as_mut());
            let Some(window) = window else { continue };
            if !block.counts.iter().any(|(table, ..)| table == window.table()) {
                continue;
            }
            if fragments.is_none() {
                fragments = Some(block::decode(&block.bytes).map_err(|error| {
                    CaptureError::definite(format!("{}: {error}", self.source), "report it")
                })?);
            }
            if window.observe(fragments.clone().unwrap_or_default()) == Found::Moved {
                self.moved(index);
            }
        }
        Ok(std::mem::take(&mut self.news))
    }

    /// Goes on, at a place of the stream up to which all has been handed over. Returns what is to
    /// be handed over now.
    pub(super) fn step(&mut self, here: &Here) -> Result<Vec<Parcel>, CaptureError> {
        while let Some(answer) = self.arrived.pop_front().or_else(|| self.answers.try_recv().ok()) {
            self.answered(answer);
        }
        if self.task.is_finished() {
            let what = format!("{}: the reading of rows has ended", self.source);
            return Err(CaptureError::Transient { what, source: None });
        }
        self.again_if_spoiled();
        let mut parcels = Vec::new();
        self.close(here, &mut parcels);
        self.end_snapshot(here, &mut parcels);
        if self.current.is_none() {
            self.begin_table();
        }
        self.ask(here);
        Ok(parcels)
    }

    fn begin_table(&mut self) {
        let Some(index) = self.copies.iter().position(Entry::is_pending) else { return };
        let Some(entry) = self.copies.get(index) else { return };
        tracing::info!(source = self.source, table = %entry.copy.table,
            purpose = ?entry.copy.purpose, "rows are read beside the stream");
        self.request(Request::Prepare(entry.copy.table.clone()));
        self.current = Some(Current { index, phase: Phase::Preparing, tries: 0 });
    }

    fn request(&self, request: Request) {
        // A task that is gone is noticed by the next step.
        let _ = self.requests.send(request);
    }

    /// Asks for what is next, when it is time.
    fn ask(&mut self, here: &Here) {
        let now = Instant::now();
        let Some(current) = &mut self.current else { return };
        let index = current.index;
        let Some(entry) = self.copies.get_mut(index) else { return };
        match (&current.phase, &mut entry.window) {
            (Phase::Retrying(until), _) if *until <= now => {
                current.phase = Phase::Preparing;
                let request = Request::Prepare(entry.copy.table.clone());
                self.request(request);
            }
            (Phase::Resting(until), Some(window)) if *until <= now => {
                if window.open() == Found::Moved {
                    return self.moved(index);
                }
                if entry.restarts > RESTARTS_MAX {
                    return self.give_up(
                        "rows get other keys again and again while the log leaves out columns: \
                         SET GLOBAL binlog_row_image = 'FULL'"
                            .into(),
                    );
                }
                current.phase = Phase::Reading;
                entry.copy.since.get_or_insert_with(|| here.position.clone());
                let Position::Binlog { gtid, .. } = &here.position else { return };
                let wanted = Wanted {
                    table: entry.copy.table.clone(),
                    filter: entry.copy.filter.clone(),
                    cursor: entry.cursor.clone(),
                    place: here.order,
                    executed: gtid.clone(),
                };
                self.request(Request::Chunk(Box::new(wanted)));
            }
            _ => {}
        }
    }

    fn answered(&mut self, answer: Answer) {
        let now = Instant::now();
        let Some(current) = &mut self.current else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        match answer {
            _ if matches!(current.phase, Phase::Discarding) => {
                current.phase = Phase::Resting(now);
            }
            Answer::Ready { key, rows_estimated } => {
                // A window that is there has been looking out for moved rows since the beginning.
                if entry.window.as_ref().is_none_or(|window| !window.has_key(&key)) {
                    entry.window = Some(Window::new(entry.copy.table.clone(), key));
                }
                if entry.copy.started_micros == 0 {
                    entry.copy.started_micros = now_micros();
                }
                entry.copy.rows_estimated = rows_estimated.max(entry.copy.rows);
                current.phase = Phase::Resting(now);
            }
            Answer::Piece(piece) => self.piece(*piece),
            Answer::Refused(Refusal::Table(why)) => self.give_up(why),
            Answer::Refused(Refusal::Again(why)) => self.again(why),
        }
    }

    fn piece(&mut self, piece: Piece) {
        let Some(current) = &mut self.current else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some(window) = &mut entry.window else { return };
        current.phase = Phase::Waiting { high: piece.high, next: piece.next };
        // All changes up to the chunk's place are made to it, in their order: those that it has
        // seen already change nothing.
        let chunk = Chunk { schema: piece.schema, rows: piece.rows, sees: Box::new(|_| false) };
        if window.fill(chunk) == Found::Moved {
            let index = current.index;
            self.moved(index);
        }
    }

    /// The chunk's place has come.
    fn close(&mut self, here: &Here, parcels: &mut Vec<Parcel>) {
        let Some(current) = &mut self.current else { return };
        let Phase::Waiting { high, next } = &mut current.phase else { return };
        if *high > here.order {
            return;
        }
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some((schema, rows)) = entry.window.as_mut().and_then(Window::close) else { return };
        let next = next.take();
        current.tries = 0;
        entry.copy.rows += rows.len() as u64;
        entry.copy.rows_estimated = entry.copy.rows_estimated.max(entry.copy.rows);
        let now = Instant::now();
        let wait = self.throttle.take(rows.len() as u64, now);
        let mut out = Placed::new(&here.position, self.block_bytes_max, self.snapshot_open);
        for row in rows {
            out.row(schema.clone(), row);
        }
        if let Some(cursor) = next {
            entry.copy.cursor = cursor.to_json();
            entry.cursor = cursor;
            current.phase = Phase::Resting(now + wait);
        } else {
            let since = entry.copy.since.clone().unwrap_or_else(|| here.position.clone());
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
        let copy = entry.copy.clone();
        self.remember(copy);
        let mut blocks = out.finish();
        if let Some(last) = blocks.pop() {
            parcels.extend(blocks.into_iter().map(Parcel::from));
            parcels.push(Parcel { block: last, news: News::Copies(std::mem::take(&mut self.news)) });
        }
    }

    /// The last block of a snapshot that was interrupted, when all its tables are read.
    fn end_snapshot(&mut self, here: &Here, parcels: &mut Vec<Parcel>) {
        let open = |entry: &Entry| entry.is_pending() && entry.copy.purpose == Purpose::Initial;
        let ends = self.snapshot_open && !self.copies.iter().any(open);
        // A table that was given up has no block to say so.
        if ends || (!self.news.is_empty() && self.current.is_none()) {
            self.snapshot_open &= !ends;
            let mut block =
                Placed::new(&here.position, self.block_bytes_max, self.snapshot_open).empty();
            if ends {
                block.snapshot = SnapshotPart::Last;
            }
            parcels.push(Parcel { block, news: News::Copies(std::mem::take(&mut self.news)) });
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
        entry.cursor = Cursor::default();
        entry.copy.cursor = entry.cursor.to_json();
        entry.restarts += 1;
        let copy = entry.copy.clone();
        tracing::info!(source = self.source, table = %copy.table,
            "a row got another key, and the log has not all of it: reading from the beginning");
        self.remember(copy);
        let Some(current) = self.current.as_mut().filter(|current| current.index == index) else {
            return;
        };
        match current.phase {
            Phase::Reading => current.phase = Phase::Discarding,
            Phase::Waiting { .. } => current.phase = Phase::Resting(Instant::now()),
            _ => {}
        }
    }

    fn again_if_spoiled(&mut self) {
        let Some(current) = &self.current else { return };
        let entry = self.copies.get(current.index);
        let spoiled = entry.and_then(|entry| entry.window.as_ref()?.spoiled());
        if let (Phase::Waiting { .. }, Some(spoiled)) = (&current.phase, spoiled) {
            let why = match spoiled {
                Spoiled::Altered => "its columns were changed",
                Spoiled::TooManyChanges => "it changed too much while a chunk was read",
                Spoiled::KeyMissing => "the log gave a change without the key of the row",
            };
            self.again(why.to_string());
        }
    }

    /// Begins the chunk anew, with a fresh look at the table; not for ever.
    fn again(&mut self, why: String) {
        let Some(current) = &mut self.current else { return };
        current.tries += 1;
        if current.tries > TRIES_MAX {
            return self.give_up(format!("{why} ({TRIES_MAX} times in a row)"));
        }
        tracing::debug!(source = self.source, why, tries = current.tries, "chunk is read again");
        current.phase = Phase::Retrying(Instant::now() + rest(current.tries));
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
        self.task.abort();
    }
}

impl Entry {
    fn is_pending(&self) -> bool {
        self.copy.state == CopyState::Pending
    }
}

/// Tables whose rows are to be read.
pub(super) fn pending<'m>(
    options: &'m SourceOptions,
    memory: &'m Memory,
) -> impl Iterator<Item = &'m TableCopy> {
    memory
        .tables
        .iter()
        .filter(|copy| copy.state == CopyState::Pending && options.tables.contains(&copy.table))
}

/// How long to rest before the n-th try.
fn rest(tries: u32) -> Duration {
    Duration::from_millis(10).saturating_mul(1 << tries.min(12)).min(REST_MAX)
}
