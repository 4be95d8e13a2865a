//! Tables that are read beside the stream: how PostgreSQL is asked for their rows, and what the
//! chunks have seen. The order of events is that of [`snapshot::Backfill`]; the reading itself is
//! `chunk_thread`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;

use crossdock_model::{Block, Position, SnapshotPart, TableName};

use super::chunk::Piece;
use super::chunk_thread::{Answer, ChunkThread, Request};
use super::control::Control;
use super::prepare::Prepared;
use super::progress::{Cursor, News, Parcel, Range};
use super::visible::Unseen;
use crate::snapshot::{self, Due, Here, Sees, Side};
use crate::{CaptureError, Memory, SourceOptions, TableCopy};

/// What a reader is to do beside its stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Task {
    /// What its predecessor has left.
    pub memory: Memory,
    /// The predecessor's snapshot was interrupted and is continued.
    pub snapshot_open: bool,
}

/// All tables that are read beside one stream.
pub(super) struct Backfill(snapshot::Backfill<Rows>);

/// The thread that reads rows.
struct Rows {
    source: String,
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    control: Arc<Control>,
    unseen: Unseen,
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
        let key = |name: &TableName| {
            let table = prepared.tables.iter().find(|(found, _)| found.name == *name);
            table.map(|(_, table)| table.schema.key_columns())
        };
        let side = || Rows::spawn(options, above, runtime, prepared.standby);
        let (memory, open) = (&task.memory, task.snapshot_open);
        snapshot::Backfill::begin(options, memory, open, Some(here(from)), key, side).map(Self)
    }

    /// Nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// The place that the stream has to reach next.
    pub(super) fn waits_for(&self) -> Option<u64> {
        match self.0.due() {
            Due::Place(high) => Some(high),
            Due::Now | Due::At(_) | Due::Answer | Due::Never => None,
        }
    }

    /// Which part of a snapshot the blocks are now.
    pub(super) fn part(&self) -> SnapshotPart {
        self.0.part()
    }

    /// Looks at a block of the stream that is about to be handed over, with the transactions that
    /// end in it. Returns what is to be remembered with it.
    pub(super) fn observe(&mut self, block: &Block, xids: &[u32]) -> Result<News, CaptureError> {
        self.0.side.unseen.handed_over(xids);
        let end = match block.end {
            Position::Postgres { lsn } if block.boundary => Some(here(lsn)),
            _ => None,
        };
        self.0.observe(block, end)
    }

    /// Goes on. `place` is where the stream is, when everything up to there has been handed over.
    /// Returns what is to be handed over now, which is all at `place`.
    pub(super) fn step(
        &mut self,
        place: Option<u64>,
        now: Instant,
    ) -> Result<Vec<Parcel>, CaptureError> {
        self.0.step(place.map(here), now)
    }
}

fn here(lsn: u64) -> Here<u64> {
    Here { position: Position::Postgres { lsn }, place: lsn }
}

impl Rows {
    fn spawn(
        options: &Arc<SourceOptions>,
        above: &Arc<Control>,
        runtime: &tokio::runtime::Handle,
        standby: bool,
    ) -> Self {
        let control = Control::below(above);
        let (requests, for_thread) = channel();
        let (from_thread, answers) = channel();
        let thread = ChunkThread {
            options: options.clone(),
            control: control.clone(),
            runtime: runtime.clone(),
            standby,
            requests: for_thread,
            answers: from_thread,
        };
        let name = format!("rows {}", options.name);
        // Without a thread, the first request fails and says so.
        let _ = std::thread::Builder::new().name(name).spawn(move || thread.run());
        let source = options.name.clone();
        Self { source, requests, answers, control, unseen: Unseen::default() }
    }

    fn request(&self, request: Request) {
        // A thread that is gone is noticed by its answers.
        let _ = self.requests.send(request);
    }

    fn piece(&mut self, piece: Piece) -> snapshot::Answer<u64, Cursor> {
        if !piece.standby && !self.unseen.all_seen(&piece.visible) {
            return snapshot::Answer::NotYet;
        }
        let visible = piece.visible;
        // A standby does not say which transactions were running.
        let sees: Sees = if piece.standby {
            Box::new(|_| false)
        } else {
            Box::new(move |header| visible.sees_transaction(header))
        };
        snapshot::Answer::Piece(Box::new(snapshot::Piece {
            schema: piece.schema,
            rows: piece.rows,
            sees,
            high: piece.high,
            next: piece.next,
            rows_estimated: piece.rows_estimated,
        }))
    }
}

impl Side for Rows {
    type Place = u64;
    type Cursor = Cursor;
    type Part = Range;

    fn cursor(copy: &TableCopy) -> Cursor {
        Cursor::of(copy)
    }

    fn stored(cursor: &Cursor) -> serde_json::Value {
        cursor.to_json()
    }

    fn is_begun(cursor: &Cursor) -> bool {
        cursor.after.is_some()
    }

    fn begin_anew(cursor: &mut Cursor, key: Option<Vec<String>>) {
        cursor.after = None;
        cursor.key = key.or(cursor.key.take());
    }

    fn key_names(cursor: &Cursor) -> Option<&[String]> {
        cursor.key.as_deref()
    }

    fn whole_rows(table: &TableName) -> String {
        format!("ALTER TABLE {table} REPLICA IDENTITY FULL")
    }

    fn prepare(&mut self, copy: &TableCopy) {
        self.request(Request::Prepare(Box::new(copy.clone())));
    }

    fn chunk(&mut self, _: &TableCopy, cursor: &Cursor, _: &Here<u64>) {
        self.unseen.open();
        self.request(Request::Chunk(cursor.clone()));
    }

    fn answer(&mut self) -> Result<Option<snapshot::Answer<u64, Cursor>>, CaptureError> {
        match self.answers.try_recv() {
            Ok(Answer::Failed(error)) => Err(error),
            Ok(Answer::Ready { key_columns, key_names }) => {
                Ok(Some(snapshot::Answer::Ready { key_columns, key_names, rows_estimated: 0 }))
            }
            Ok(Answer::Piece(piece)) => Ok(Some(self.piece(*piece))),
            Ok(Answer::Refused(refusal)) => Ok(Some(snapshot::Answer::Refused(refusal))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(CaptureError::Transient {
                what: format!("source {}: the thread that reads rows ended", self.source),
                source: None,
            }),
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Release);
    }
}
