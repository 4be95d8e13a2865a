//! MySQL and MariaDB: the binlog becomes transactions.
//!
//! One task per source reads the dump, decodes row events straight into blocks and hands whole
//! blocks over. `decoder` is the heart of it and does no input or output; `kind` says what a
//! column stores, and both the stream (`cell`) and the snapshot (`text`) convert by it.

mod catalog;
mod cell;
mod charset;
mod check;
mod connect;
mod decoder;
mod difference;
mod event;
mod gtid;
mod jsonb;
mod kind;
mod payload;
mod probe;
mod rows;
mod snapshot;
mod statement;
mod stream;
mod table_map;
mod text;
mod wire;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(test)]
mod hostile;

use crossdock_model::{Block, Position, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{CaptureError, Memory, SourceOptions, Start};

pub use check::check;
pub use probe::{BinlogProbe, probe};

/// Blocks that may wait for the consumer.
const BLOCKS_WAITING_MAX: usize = 4;

/// Reads a binlog; see [`LogReader`](crate::LogReader) for the contract.
pub struct BinlogReader {
    blocks: mpsc::Receiver<Result<Block, CaptureError>>,
    task: JoinHandle<()>,
    acknowledged: Option<Position>,
    memory: Memory,
}

impl BinlogReader {
    /// Waits for the next block.
    pub async fn next(&mut self) -> Result<Block, CaptureError> {
        match self.blocks.recv().await {
            Some(block) => block,
            None => Err(CaptureError::Transient {
                what: "the reader of the binlog has ended".into(),
                source: None,
            }),
        }
    }

    /// A binlog is kept by age, not for its readers: the position is only noted.
    pub fn acknowledge(&mut self, position: &Position) {
        self.acknowledged = Some(position.clone());
    }

    /// What the next reader has to know; see [`LogReader`](crate::LogReader).
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The last position acknowledged.
    pub fn acknowledged(&self) -> Option<&Position> {
        self.acknowledged.as_ref()
    }
}

impl Drop for BinlogReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a reader. `memory` is what the last one of this source has left.
///
/// Errors of connecting and of the position (wrong password, purged log) are returned here or by
/// the first call of `next`.
pub async fn open(
    options: &SourceOptions,
    start: Start,
    memory: Memory,
) -> Result<BinlogReader, CaptureError> {
    let from = start.plain(&options.name)?;
    let (sender, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
    // Wrong addresses and passwords are told at once.
    connect::connect(options).await?.disconnect().await.ok();
    let options = options.clone();
    let task = tokio::spawn(async move {
        if let Err(stream::Stop::Failed(error)) = read(&options, from, &sender).await {
            // Without a listener nobody wants to know.
            sender.send(Err(error)).await.ok();
        }
    });
    Ok(BinlogReader { blocks, task, acknowledged: None, memory })
}

async fn read(
    options: &SourceOptions,
    from: Option<Position>,
    blocks: &stream::Blocks,
) -> Result<(), stream::Stop> {
    let from = match from {
        Some(from) => from,
        None => snapshot::run(options, blocks).await?,
    };
    stream::Stream::open(options, &from).await?.run(blocks).await
}

/// Reads the present schemas of the captured tables. A table that does not exist is left out.
pub async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    let mut schemas = Vec::new();
    for name in &options.tables {
        if let Some(table) = catalog::table(options, &server, &mut conn, name).await? {
            schemas.push((*table.schema).clone());
        }
    }
    conn.disconnect().await.ok();
    Ok(schemas)
}
