//! PostgreSQL: logical replication with pgoutput over the replication protocol.
//!
//! ```text
//! open ─ prepare (SQL: tables, publication, slot) ─▶ one thread per source
//!   thread: [snapshot under the slot's own snapshot] ─▶ stream
//!           socket ─ frames in place ─ pgoutput ─ BlockBuilder ─▶ bounded channel ─▶ next()
//!                                      └ transactions in progress ─ disk ─┘ at commit
//!           acknowledge() ─ atomic ─▶ standby status updates
//! ```
//!
//! - The server is told a position as flushed only after the caller has acknowledged it. An idle
//!   source's position is moved by empty blocks, so that what the slot has dropped never is more
//!   than what the caller has made durable.
//! - Transactions that commit before the position that reading began from are left out.
//! - Nothing here retries: every error is sorted into transient, definite or gap and ends the
//!   reader.

mod catalog;
mod check;
mod connection;
mod control;
mod declared;
mod decoder;
mod errors;
mod identity;
mod image;
mod in_progress;
mod pace;
mod pgoutput;
mod prepare;
mod probe;
mod session;
mod slot;
mod slot_check;
mod snapshot;
mod sql;
mod status;
mod tls;
mod worker;

mod array;
mod temporal;
mod value;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossdock_model::{Block, Position, TableSchema};
use tokio::sync::mpsc;

use crate::{CaptureError, Finding, Memory, SourceOptions, Start};
use control::Control;
use worker::{BLOCKS_WAITING_MAX, Delivery, Worker};

pub use probe::{PostgresProbe, probe};

/// Reads one PostgreSQL database's log. Dropping it ends its thread and its connection.
pub struct PostgresReader {
    name: String,
    blocks: mpsc::Receiver<Delivery>,
    control: Arc<Control>,
    memory: Memory,
}

/// Opens a reader. `memory` is what the last one of this source has left.
pub async fn open(
    options: &SourceOptions,
    start: Start,
    memory: Memory,
) -> Result<PostgresReader, CaptureError> {
    let from = start.plain(&options.name)?;
    let from = from.map(|position| lsn_of(options, &position)).transpose()?;
    let known = memory.server.clone().filter(|_| from.is_some());
    let prepared = prepare::prepare(options, from, known.as_ref()).await?;
    let control = Arc::new(Control::default());
    let (sender, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
    let worker = Worker {
        options: Arc::new(options.clone()),
        control: control.clone(),
        prepared,
        known,
        blocks: sender,
        runtime: tokio::runtime::Handle::current(),
    };
    std::thread::Builder::new()
        .name(format!("capture {}", options.name))
        .spawn(move || worker.run(from))
        .map_err(|e| CaptureError::transient("starting a reading thread", e))?;
    Ok(PostgresReader { name: options.name.clone(), blocks, control, memory })
}

fn lsn_of(options: &SourceOptions, position: &Position) -> Result<u64, CaptureError> {
    match position {
        Position::Postgres { lsn } => Ok(*lsn),
        Position::Binlog { .. } => Err(CaptureError::definite(
            format!("source {}: {position} is no place in a PostgreSQL log", options.name),
            "rewind the source to an LSN, or forget its position",
        )),
    }
}

impl PostgresReader {
    /// Waits for the next block; see [`LogReader`](crate::LogReader).
    pub async fn next(&mut self) -> Result<Block, CaptureError> {
        match self.blocks.recv().await {
            Some(delivery) => {
                let block = delivery?;
                if let Some(server) = self.control.server.get() {
                    self.memory.server = Some(server.clone());
                }
                Ok(block)
            }
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

/// Reads the present schemas of the captured tables. A table that does not exist is left out.
pub async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    catalog::describe(options).await
}

/// Looks at everything that capture needs on the server. Changes nothing.
pub async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    check::check(options).await
}
