//! Sources without a log: tables and views are asked for their rows again and again, with nothing
//! but the right to SELECT.
//!
//! ```text
//! [snapshot: all rows] ─▶ round: rows whose cursor lies beyond where the last round may have
//!                         missed something, by cursor and key, a page at a time
//!                           └ those that are as they were handed over last are left out
//!                         reconcile now and then: all rows by key; what is not among them is gone
//! ```
//!
//! - At least once: after a restart, rows that were handed over may come again.
//! - A row says what it holds now (`u`, without a before). What it held between two rounds is not
//!   seen; a delete is seen by the next reconcile.
//! - All reading is done by one connection, one statement after the other, each of which sees all
//!   that the one before it saw: so what was read later is newer, and its place in the order of
//!   reading is its place in the stream.
//! - What is remembered of a table ([`State`](state::State)) is its [`TableCopy`]'s cursor.

mod check;
mod link;
mod output;
mod round;
mod run;
mod state;
mod table;
mod whole;
mod window;

use crossdock_model::{Block, Position, SnapshotPart, TableName, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::memory::now_micros;
use crate::{CaptureError, Head, Memory, PollTable, SourceOptions, Start, TableCopy};
use output::Stop;
use run::Run;

pub(crate) use check::check;
pub(crate) use link::{CHECK_SECONDS, Described, From, Link, PAGE_BYTES_MAX, Page, Wanted};

/// A block, and how tables stand once it is handed over.
type Parcel = (Block, Vec<TableCopy>);

/// Polls the tables of one source; see [`LogReader`](crate::LogReader) for the contract. Dropping
/// it ends its task and its connection.
pub struct PollReader {
    name: String,
    blocks: mpsc::Receiver<Result<Parcel, CaptureError>>,
    task: JoinHandle<()>,
    memory: Memory,
    /// Nothing follows the last block of the snapshot.
    snapshot_only: bool,
    /// Nothing follows any more.
    over: bool,
}

/// Opens a reader. `memory` is what the last one of this source has left.
pub async fn open(
    options: &SourceOptions,
    start: Start,
    memory: Memory,
) -> Result<PollReader, CaptureError> {
    let (sender, blocks) = mpsc::channel(options.blocks_waiting_max());
    // Wrong addresses and passwords are told at once.
    let link = Link::connect(options).await?;
    let snapshot_only = start == Start::SnapshotOnly;
    let mut run = Run::new(options.clone(), link, sender.clone(), &start, &memory)?;
    let task = tokio::spawn(async move {
        if let Err(Stop::Failed(error)) = run.run(start).await {
            // Without a listener nobody wants to know.
            sender.send(Err(error)).await.ok();
        }
    });
    Ok(PollReader { name: options.name.clone(), blocks, task, memory, snapshot_only, over: false })
}

impl PollReader {
    /// Waits for the next block; see [`LogReader`](crate::LogReader).
    pub async fn next(&mut self) -> Result<Block, CaptureError> {
        match self.blocks.recv().await {
            Some(parcel) => {
                let (block, news) = parcel?;
                self.memory.remember(news);
                self.over = self.snapshot_only && block.snapshot == SnapshotPart::Last;
                Ok(block)
            }
            None if self.over => std::future::pending().await,
            None => Err(CaptureError::Transient {
                what: format!("source {}: the reader has ended", self.name),
                source: None,
            }),
        }
    }

    /// Nothing is kept on the server for us.
    pub fn acknowledge(&mut self, _: &Position) {}

    /// What the next reader has to know; see [`LogReader`](crate::LogReader).
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for PollReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks whether the server is there. The head of a source without a log is the present: the lag of
/// a polled source is the time since its last complete round began.
pub struct PollProbe {
    link: Link,
}

/// Connects a probe.
pub async fn probe(options: &SourceOptions) -> Result<PollProbe, CaptureError> {
    Ok(PollProbe { link: Link::connect(options).await? })
}

impl PollProbe {
    /// The present, where everything would have been read.
    pub async fn head(&mut self) -> Result<Head, CaptureError> {
        self.link.now_micros().await?;
        let round = u64::try_from(now_micros()).unwrap_or(0);
        Ok(Head {
            position: Position::Poll { round, step: 0 },
            behind_bytes: 0,
            retained_bytes: 0,
            unread_bytes: 0,
            keep_limit_bytes: None,
            keep_limit_age: None,
        })
    }
}

/// Reads the present schemas of the polled tables and views, with the keys that they are polled
/// by. One that does not exist is left out.
pub async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    let mut link = Link::connect(options).await?;
    let mut schemas = Vec::new();
    for polled in polled(options) {
        if let Some(described) = link.describe(&polled.table).await? {
            schemas.push(table::keyed(&described.schema, &polled.key));
        }
    }
    Ok(schemas)
}

/// What is polled of the captured tables.
fn polled(options: &SourceOptions) -> impl Iterator<Item = &PollTable> {
    options.tables.iter().filter_map(|name| options.polled(name))
}

/// The error for a table or view that is not there.
pub(crate) fn missing(options: &SourceOptions, name: &TableName) -> CaptureError {
    CaptureError::definite(
        format!(
            "source {}: {name}, which is polled, does not exist or may not be seen",
            options.name
        ),
        "create it, grant SELECT on it (`crossdock check` prints the statement), or take it out \
         of the config",
    )
}
