//! Tables that are read beside the stream: which one, how far, and where in the stream their rows
//! go. Runs with the stream, between its blocks; the reading itself is the business of a
//! [`Side`], which every kind of database has its own of.
//!
//! ```text
//! table ─ prepare ▶ Ready ─ open window ─ chunk ▶ Piece ─ fill window ─ stream at `high` ─ close ─▶
//!                              ▲                                              rows, cursor │
//!                              └───────────────── until the table's end ──────────────────┘
//! ```

use std::time::{Duration, Instant};

use crossdock_model::{Block, SnapshotPart, TableName, block};

use super::side::{Answer, Due, Here, Piece, Refusal, Side};
use super::{Chunk, Found, News, Parcel, Placed, Spoiled, Throttle, Window};
use crate::memory::now_micros;
use crate::{CaptureError, CopyMessage, CopyState, Memory, Purpose, SourceOptions, TableCopy};

/// A table that can't be read so many times in a row is given up.
const TRIES_MAX: u32 = 10;
/// How often a table is begun anew because rows get other keys.
const RESTARTS_MAX: u32 = 5;
/// Longest rest before something is tried again.
const REST_MAX: Duration = Duration::from_secs(5);

/// All tables that are read beside one stream.
pub(crate) struct Backfill<S: Side> {
    pub(crate) side: S,
    source: String,
    block_bytes_max: usize,
    copies: Vec<Entry<S::Cursor>>,
    current: Option<Current<S>>,
    throttle: Throttle,
    /// The snapshot was interrupted: its last block is yet to come.
    snapshot_open: bool,
    /// How tables stand, to be remembered with the next block.
    news: Vec<TableCopy>,
    /// Where the stream is; `None` within a transaction that was handed over in part.
    here: Option<Here<S::Place>>,
}

/// A table of the memory that this reader captures.
struct Entry<C> {
    copy: TableCopy,
    cursor: C,
    /// Looks out for rows that move, from the table's first chunk to its last.
    window: Option<Window>,
    restarts: u32,
}

/// The table that is being read.
struct Current<S: Side> {
    index: usize,
    phase: Phase<S::Place, S::Cursor>,
    tries: u32,
}

enum Phase<P, C> {
    /// Asked whether it can be read.
    Preparing,
    /// The next chunk is not asked for before this time.
    Resting(Instant),
    /// A chunk was asked for.
    Reading,
    /// A chunk was asked for that is not wanted any more.
    Discarding,
    /// It is here and waits for the stream to come to `high`.
    Waiting { high: P, next: Option<C> },
    /// The table is looked at again after this time.
    Retrying(Instant),
}

impl<S: Side> Backfill<S> {
    /// Begins, if there is anything to do, where the stream is `here`. `snapshot_open` when an
    /// interrupted snapshot goes on. `key` gives the key columns of a table that is captured, as
    /// far as they are known; they have to be for tables that were read in part.
    pub(crate) fn begin(
        options: &SourceOptions,
        memory: &Memory,
        snapshot_open: bool,
        here: Option<Here<S::Place>>,
        key: impl Fn(&TableName) -> Option<Vec<usize>>,
        side: impl FnOnce() -> S,
    ) -> Option<Self> {
        let entries = memory.tables.iter().filter_map(|copy| {
            let key = key(&copy.table)?;
            matches!(copy.state, CopyState::Pending | CopyState::Paused).then(|| {
                let cursor = S::cursor(copy);
                let window = (S::is_begun(&cursor) && !key.is_empty())
                    .then(|| Window::new(copy.table.clone(), key));
                Entry { copy: copy.clone(), cursor, window, restarts: 0 }
            })
        });
        let copies: Vec<Entry<S::Cursor>> = entries.collect();
        if !snapshot_open && copies.iter().all(Entry::is_idle) {
            return None;
        }
        Some(Self {
            side: side(),
            source: options.name.clone(),
            block_bytes_max: options.block_bytes_max.max(1),
            copies,
            current: None,
            throttle: Throttle::new(options.snapshot.rows_per_second),
            snapshot_open,
            news: Vec::new(),
            here,
        })
    }

    /// Nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.current.is_none()
            && !self.snapshot_open
            && self.news.is_empty()
            && self.copies.iter().all(Entry::is_idle)
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Due<S::Place> {
        match self.current.as_ref().map(|current| &current.phase) {
            None => {
                let pending = self.copies.iter().any(Entry::is_pending);
                let open = self.snapshot_open || !self.news.is_empty();
                if pending || open { Due::Now } else { Due::Never }
            }
            Some(Phase::Waiting { high, .. }) => Due::Place(*high),
            Some(Phase::Resting(until) | Phase::Retrying(until)) => Due::At(*until),
            Some(Phase::Preparing | Phase::Reading | Phase::Discarding) => Due::Answer,
        }
    }

    /// Which part of a snapshot the blocks are now.
    pub(crate) fn part(&self) -> SnapshotPart {
        if self.snapshot_open { SnapshotPart::Middle } else { SnapshotPart::Stream }
    }

    /// Looks at a block of the stream that is about to be handed over, and where the stream is
    /// after it. Returns what is to be remembered with it.
    pub(crate) fn observe(
        &mut self,
        block: &Block,
        here: Option<Here<S::Place>>,
    ) -> Result<News<S::Part>, CaptureError> {
        self.here = here;
        let concerned: Vec<usize> = (0..self.copies.len())
            .filter(|index| {
                let window = self.copies.get(*index).and_then(|entry| entry.window.as_ref());
                window.is_some_and(|window| {
                    block.counts.iter().any(|(table, ..)| table == window.table())
                })
            })
            .collect();
        if !concerned.is_empty() {
            let fragments = block::decode(&block.bytes).map_err(|error| {
                CaptureError::definite(format!("{}: {error}", self.source), "report this")
            })?;
            for index in concerned {
                let Some(entry) = self.copies.get_mut(index) else { continue };
                let Some(window) = &mut entry.window else { continue };
                if window.observe(fragments.clone()) == Found::Moved {
                    self.moved(index);
                }
            }
        }
        Ok(self.take_news())
    }

    /// What is to be remembered with the next block.
    fn take_news(&mut self) -> News<S::Part> {
        News::Copies(std::mem::take(&mut self.news))
    }

    /// Goes on. `here` is where the stream is, when everything up to there has been handed over.
    /// Returns what is to be handed over now, which is all at `here`.
    pub(crate) fn step(
        &mut self,
        here: Option<Here<S::Place>>,
        now: Instant,
    ) -> Result<Vec<Parcel<S::Part>>, CaptureError> {
        while let Some(answer) = self.side.answer()? {
            self.answered(answer, now);
        }
        self.again_if_spoiled(now);
        let mut parcels = Vec::new();
        if let Some(here) = here {
            self.close(&here, now, &mut parcels);
            self.end_snapshot(&here, &mut parcels);
            self.here = Some(here);
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
        self.side.prepare(&entry.copy);
        self.current = Some(Current { index, phase: Phase::Preparing, tries: 0 });
    }

    /// Asks for what is next, when it is time.
    fn ask(&mut self, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let index = current.index;
        let Some(entry) = self.copies.get_mut(index) else { return };
        match (&current.phase, &mut entry.window, &self.here) {
            (Phase::Retrying(until), ..) if *until <= now => {
                current.phase = Phase::Preparing;
                self.side.prepare(&entry.copy);
            }
            // Not within a transaction, whose first part the window would not have seen.
            (Phase::Resting(until), Some(window), Some(here)) if *until <= now => {
                if window.open() == Found::Moved {
                    return self.moved(index);
                }
                if entry.restarts > RESTARTS_MAX {
                    let why = format!(
                        "rows get other keys again and again while the log leaves out columns of \
                         theirs: {}",
                        S::whole_rows(&entry.copy.table)
                    );
                    return self.give_up(why);
                }
                current.phase = Phase::Reading;
                entry.copy.since.get_or_insert_with(|| here.position.clone());
                self.side.chunk(&entry.copy, &entry.cursor, here);
            }
            _ => {}
        }
    }

    fn answered(&mut self, answer: Answer<S::Place, S::Cursor>, now: Instant) {
        let Some(current) = &mut self.current else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        match answer {
            _ if matches!(current.phase, Phase::Discarding) => {
                current.phase = Phase::Resting(now);
            }
            Answer::Ready { key_columns, key_names, rows_estimated } => {
                if S::key_names(&entry.cursor) != Some(&*key_names) {
                    // Another key, another order: from the beginning.
                    S::begin_anew(&mut entry.cursor, Some(key_names));
                }
                // A window that is there has been looking out for moved rows since the beginning.
                if entry.window.as_ref().is_none_or(|window| !window.has_key(&key_columns)) {
                    entry.window = Some(Window::new(entry.copy.table.clone(), key_columns));
                }
                if entry.copy.started_micros == 0 {
                    entry.copy.started_micros = now_micros();
                }
                entry.copy.rows_estimated = entry.copy.rows_estimated.max(rows_estimated);
                current.phase = Phase::Resting(now);
            }
            Answer::Piece(piece) => self.piece(*piece),
            // A commit that the stream has is not visible yet: wait for it, however long.
            Answer::NotYet => current.phase = Phase::Resting(now + rest(2)),
            Answer::Refused(Refusal::Table(why)) => self.give_up(why),
            Answer::Refused(Refusal::Again(why)) => self.again(why, now),
        }
    }

    fn piece(&mut self, piece: Piece<S::Place, S::Cursor>) {
        let Some(current) = &mut self.current else { return };
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some(window) = &mut entry.window else { return };
        entry.copy.rows_estimated = entry.copy.rows_estimated.max(piece.rows_estimated);
        current.phase = Phase::Waiting { high: piece.high, next: piece.next };
        let chunk = Chunk { schema: piece.schema, rows: piece.rows, sees: piece.sees };
        if window.fill(chunk) == Found::Moved {
            let index = current.index;
            self.moved(index);
        }
    }

    /// The chunk's place has come.
    fn close(&mut self, here: &Here<S::Place>, now: Instant, parcels: &mut Vec<Parcel<S::Part>>) {
        let Some(current) = &mut self.current else { return };
        let Phase::Waiting { high, next } = &mut current.phase else { return };
        if *high > here.place {
            return;
        }
        let Some(entry) = self.copies.get_mut(current.index) else { return };
        let Some((schema, rows)) = entry.window.as_mut().and_then(Window::close) else { return };
        let next = next.take();
        current.tries = 0;
        entry.copy.rows += rows.len() as u64;
        entry.copy.rows_estimated = entry.copy.rows_estimated.max(entry.copy.rows);
        let wait = self.throttle.take(rows.len() as u64, now);
        let mut out = Placed::new(&here.position, self.block_bytes_max, self.snapshot_open);
        for row in rows {
            out.row(schema.clone(), row);
        }
        match next {
            Some(cursor) => {
                entry.copy.cursor = S::stored(&cursor);
                entry.cursor = cursor;
                current.phase = Phase::Resting(now + wait);
            }
            None => {
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
        }
        let copy = entry.copy.clone();
        self.remember(copy);
        let mut blocks = out.finish();
        if let Some(last) = blocks.pop() {
            parcels.extend(blocks.into_iter().map(Parcel::from));
            parcels.push(Parcel { block: last, news: self.take_news() });
        }
    }

    /// The last block of a snapshot that was interrupted, when all its tables are read.
    fn end_snapshot(&mut self, here: &Here<S::Place>, parcels: &mut Vec<Parcel<S::Part>>) {
        let open = |entry: &Entry<_>| entry.is_pending() && entry.copy.purpose == Purpose::Initial;
        let ends = self.snapshot_open && !self.copies.iter().any(open);
        // A table that was given up has no block to say so.
        if ends || (!self.news.is_empty() && self.current.is_none()) {
            self.snapshot_open &= !ends;
            let placed = Placed::new(&here.position, self.block_bytes_max, self.snapshot_open);
            let mut block = placed.empty();
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
        S::begin_anew(&mut entry.cursor, None);
        entry.copy.cursor = S::stored(&entry.cursor);
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

impl<C> Entry<C> {
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
