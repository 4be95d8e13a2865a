//! Tables that are read beside the stream: how the task that reads rows is asked. The order of
//! events is that of [`snapshot::Backfill`]; the reading itself is `chunk`.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crossdock_model::{Block, LogOrder, Position, SnapshotPart, TableName};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::chunk::{self, Answer, Request, Wanted};
use super::progress::{Advance, Cursor, News, Parcel};
use crate::snapshot::{self, Due, Side};
use crate::{CaptureError, CopyState, Memory, SourceOptions, TableCopy};

/// Where the stream is, between two transactions that have been handed over: with GTIDs, and in the
/// numbering of this server.
pub(super) type Here = snapshot::Here<LogOrder>;

/// All tables that are read beside one stream.
pub(super) struct Backfill(snapshot::Backfill<Rows>);

/// The task that reads rows.
struct Rows {
    source: String,
    requests: UnboundedSender<Request>,
    answers: UnboundedReceiver<Answer>,
    arrived: VecDeque<Answer>,
    task: JoinHandle<()>,
}

impl Backfill {
    /// Begins, if there is anything to do. `snapshot_open` when an interrupted snapshot goes on;
    /// `keys` are those of the tables that have been read in part.
    pub(super) fn begin(
        options: &SourceOptions,
        memory: &Memory,
        snapshot_open: bool,
        keys: &HashMap<TableName, Vec<usize>>,
    ) -> Option<Self> {
        let key = |name: &TableName| {
            options.tables.contains(name).then(|| keys.get(name).cloned().unwrap_or_default())
        };
        let side = || Rows::spawn(options);
        snapshot::Backfill::begin(options, memory, snapshot_open, None, key, side).map(Self)
    }

    /// Nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Which part of a snapshot the blocks are now.
    pub(super) fn part(&self) -> SnapshotPart {
        self.0.part()
    }

    /// Whether there is something to do at this place of the stream.
    pub(super) fn is_due(&self, place: LogOrder) -> bool {
        match self.0.due() {
            Due::Now => true,
            Due::At(time) => time <= Instant::now(),
            Due::Place(high) => high <= place,
            Due::Answer => self.0.side.has_answer(),
            Due::Never => false,
        }
    }

    /// Waits until there may be something to do; for ever when only the stream can bring it.
    pub(super) async fn wake(&mut self) {
        match self.0.due() {
            Due::At(time) => tokio::time::sleep_until(time.into()).await,
            Due::Answer => match self.0.side.answers.recv().await {
                Some(answer) => self.0.side.arrived.push_back(answer),
                None => std::future::pending().await,
            },
            Due::Now | Due::Place(_) | Due::Never => std::future::pending().await,
        }
    }

    /// Looks at a block of the stream that is about to be handed over. Returns what is to be
    /// remembered with it.
    pub(super) fn observe(&mut self, block: &Block) -> Result<News, CaptureError> {
        // Where the stream is after it is said with the next step.
        self.0.observe(block, None)
    }

    /// Goes on, at a place of the stream up to which all has been handed over. Returns what is to
    /// be handed over now.
    pub(super) fn step(&mut self, here: Here) -> Result<Vec<Parcel>, CaptureError> {
        self.0.step(Some(here), Instant::now())
    }
}

impl Rows {
    fn spawn(options: &SourceOptions) -> Self {
        let (requests, for_task) = unbounded_channel();
        let (from_task, answers) = unbounded_channel();
        let task = tokio::spawn(chunk::serve(options.clone(), for_task, from_task));
        let source = options.name.clone();
        Self { source, requests, answers, arrived: VecDeque::new(), task }
    }

    fn has_answer(&self) -> bool {
        !self.arrived.is_empty() || !self.answers.is_empty()
    }

    fn request(&self, request: Request) {
        // A task that is gone is noticed by its answers.
        let _ = self.requests.send(request);
    }
}

impl Side for Rows {
    type Place = LogOrder;
    type Cursor = Cursor;
    type Part = Advance;

    fn cursor(copy: &TableCopy) -> Cursor {
        Cursor::of(copy)
    }

    fn stored(cursor: &Cursor) -> serde_json::Value {
        cursor.to_json()
    }

    fn is_begun(cursor: &Cursor) -> bool {
        cursor.left.is_some()
    }

    fn begin_anew(cursor: &mut Cursor, key: Option<Vec<String>>) {
        cursor.left = None;
        cursor.key = key.or(cursor.key.take());
    }

    fn key_names(cursor: &Cursor) -> Option<&[String]> {
        cursor.key.as_deref()
    }

    fn whole_rows(_: &TableName) -> String {
        "SET GLOBAL binlog_row_image = 'FULL'".to_string()
    }

    fn prepare(&mut self, copy: &TableCopy) {
        self.request(Request::Prepare(copy.table.clone()));
    }

    fn chunk(&mut self, copy: &TableCopy, cursor: &Cursor, here: &Here) {
        let executed = match &here.position {
            Position::Binlog { gtid, .. } => gtid.clone(),
            Position::Postgres { .. } | Position::Poll { .. } => String::new(),
        };
        self.request(Request::Chunk(Box::new(Wanted {
            table: copy.table.clone(),
            filter: copy.filter.clone(),
            cursor: cursor.clone(),
            place: here.place,
            executed,
        })));
    }

    fn answer(&mut self) -> Result<Option<Answer>, CaptureError> {
        if let Some(answer) = self.arrived.pop_front().or_else(|| self.answers.try_recv().ok()) {
            return Ok(Some(answer));
        }
        if self.task.is_finished() {
            let what = format!("{}: the reading of rows has ended", self.source);
            return Err(CaptureError::Transient { what, source: None });
        }
        Ok(None)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tables whose rows are to be read, now or later.
pub(super) fn unfinished<'m>(
    options: &'m SourceOptions,
    memory: &'m Memory,
) -> impl Iterator<Item = &'m TableCopy> {
    let open = |copy: &&TableCopy| matches!(copy.state, CopyState::Pending | CopyState::Paused);
    memory.tables.iter().filter(open).filter(|copy| options.tables.contains(&copy.table))
}
