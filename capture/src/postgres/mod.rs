//! PostgreSQL: logical replication with pgoutput over the replication protocol.
//!
//! ```text
//! open ─ prepare (SQL: tables, publication, slot) ─▶ one thread per source
//!   thread: [snapshot under the slot's own snapshot, on several connections] ─▶ stream
//!           socket ─ frames in place ─ pgoutput ─ BlockBuilder ─▶ bounded channel ─▶ next()
//!                                      └ transactions in progress ─ disk ─┘ at commit
//!           acknowledge() ─ atomic ─▶ standby status updates
//!   thread: chunks of tables read beside the stream ─▶ window ─ between blocks of the stream
//! ```
//!
//! - The server is told a position as flushed only after the caller has acknowledged it. An idle
//!   source's position is moved by empty blocks, so that what the slot has dropped never is more
//!   than what the caller has made durable.
//! - Transactions that commit before the position that reading began from are left out.
//! - Nothing here retries: every error is sorted into transient, definite or gap and ends the
//!   reader.

mod backfill;
mod catalog;
mod check;
mod chunk;
mod chunk_thread;
mod connection;
mod control;
mod copy;
mod declared;
mod decoder;
mod errors;
mod identity;
mod image;
mod in_progress;
mod key_order;
mod listing;
mod outbox;
mod pace;
mod pgoutput;
mod poll;
mod prepare;
mod probe;
mod progress;
mod ranges;
mod session;
mod slot;
mod slot_check;
mod snapshot;
mod sql;
mod status;
mod tls;
mod visible;
mod worker;

mod array;
mod temporal;
mod value;
pub(crate) mod values;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossdock_model::{Block, Position, SnapshotPart, TableName, TableSchema};
use tokio::sync::mpsc;

use crate::listing::Reference;
use crate::{CaptureError, CopyState, Finding, Memory, Purpose, SourceOptions, Start, TableCopy};
use backfill::Task;
use control::Control;
use prepare::Prepared;
use progress::Parcel;
use snapshot::Keep;
use worker::{Begin, Delivery, Worker};

pub use outbox::OutboxCleaner;
pub(crate) use poll::PollLink;
pub use probe::{PostgresProbe, probe};

/// Reads one PostgreSQL database's log. Dropping it ends its thread and its connection.
pub struct PostgresReader {
    name: String,
    blocks: mpsc::Receiver<Delivery>,
    control: Arc<Control>,
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
) -> Result<PostgresReader, CaptureError> {
    let (mut begin, mut from) = match &start {
        Start::Snapshot => (Begin::Snapshot(Keep::Slot), None),
        Start::SnapshotOnly => (Begin::Snapshot(Keep::Nothing), None),
        Start::Now => (Begin::Now, None),
        Start::After(position) | Start::Resume(position) => {
            let lsn = lsn_of(options, position)?;
            (Begin::After(lsn), Some(lsn))
        }
    };
    let publish = start != Start::SnapshotOnly;
    let known = memory.server.clone().filter(|_| from.is_some());
    let mut prepared = prepare::prepare(options, from, known.as_ref(), publish).await?;
    let snapshot_open = matches!(start, Start::Resume(_));
    if snapshot_open && let Some(why) = why_not_resumed(&memory, &prepared) {
        tracing::warn!(source = options.name, why, "the snapshot is taken anew");
        (begin, from) = (Begin::Snapshot(Keep::Slot), None);
        prepared = prepare::prepare(options, from, None, publish).await?;
    }
    let control = Arc::new(Control::default());
    let (sender, blocks) = mpsc::channel(options.blocks_waiting_max());
    let worker = Worker {
        options: Arc::new(options.clone()),
        control: control.clone(),
        prepared,
        known,
        blocks: sender,
        runtime: tokio::runtime::Handle::current(),
        task: Task { memory: memory.clone(), snapshot_open },
    };
    std::thread::Builder::new()
        .name(format!("capture {}", options.name))
        .spawn(move || worker.run(begin))
        .map_err(|e| CaptureError::transient("starting a reading thread", e))?;
    let snapshot_only = start == Start::SnapshotOnly;
    let name = options.name.clone();
    Ok(PostgresReader { name, blocks, control, memory, snapshot_only, over: false })
}

/// Why an interrupted snapshot can't be continued beside the stream, if so.
fn why_not_resumed(memory: &Memory, prepared: &Prepared) -> Option<String> {
    let initial = || memory.tables.iter().filter(|copy| copy.purpose == Purpose::Initial);
    if initial().next().is_none() {
        return Some("nothing is known of how far it had come".to_string());
    }
    let pending = |copy: &&TableCopy| copy.state == CopyState::Pending;
    let keyless = initial().filter(pending).find(|copy| {
        prepared
            .tables
            .iter()
            .any(|(found, table)| found.name == copy.table && table.schema.key_columns().is_empty())
    });
    keyless.map(|copy| {
        format!(
            "{} has no key and was not read whole, it can't be read beside the stream",
            copy.table
        )
    })
}

fn lsn_of(options: &SourceOptions, position: &Position) -> Result<u64, CaptureError> {
    match position {
        Position::Postgres { lsn } => Ok(*lsn),
        Position::Binlog { .. } | Position::Poll { .. } => Err(CaptureError::definite(
            format!("source {}: {position} is no place in a PostgreSQL log", options.name),
            "rewind the source to an LSN, or forget its position",
        )),
    }
}

impl PostgresReader {
    /// Waits for the next block; see [`LogReader`](crate::LogReader).
    pub async fn next(&mut self) -> Result<Block, CaptureError> {
        match self.blocks.recv().await {
            Some(Ok(Parcel { block, news })) => {
                news.remember(&mut self.memory);
                if let Some(server) = self.control.server.get() {
                    self.memory.server = Some(server.clone());
                }
                self.over = self.snapshot_only && block.snapshot == SnapshotPart::Last;
                Ok(block)
            }
            Some(Err(error)) => Err(error),
            None if self.over => std::future::pending().await,
            None => Err(CaptureError::Transient {
                what: format!("source {}: the reader has ended", self.name),
                source: None,
            }),
        }
    }

    /// Says that everything up to `position` is durable; see [`LogReader`](crate::LogReader).
    pub fn acknowledge(&mut self, position: &Position) {
        if let Position::Postgres { lsn } = position {
            self.control.acknowledged.fetch_max(*lsn, Ordering::AcqRel);
        }
    }

    /// What the next reader has to know; see [`LogReader`](crate::LogReader).
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for PostgresReader {
    fn drop(&mut self) {
        self.control.stop();
    }
}

/// Tables that the login may read, and their foreign keys of one column.
pub async fn list(
    options: &SourceOptions,
    schema: Option<&str>,
) -> Result<(Vec<TableName>, Vec<Reference>), CaptureError> {
    listing::list(options, schema).await
}

/// Reads the present schemas of the captured tables. A table that does not exist is left out.
pub async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    catalog::describe(options).await
}

/// Looks at everything that capture needs on the server. Changes nothing.
pub async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    check::check(options).await
}
