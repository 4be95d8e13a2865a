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

use crate::{CaptureError, Memory, ServerIdentity, SourceOptions, Start};

pub use check::check;
pub use probe::{BinlogProbe, probe};

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
    mut memory: Memory,
) -> Result<BinlogReader, CaptureError> {
    let from = start.plain(&options.name)?;
    let (sender, blocks) = mpsc::channel(options.blocks_waiting_max());
    // Wrong addresses and passwords are told at once.
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    conn.disconnect().await.ok();
    let identity = ServerIdentity { id: server.identity.clone(), timeline: 0 };
    if let (Some(from), Some(last)) = (&from, memory.server.replace(identity)) {
        changed_server(options, from, &last, &server)?;
    }
    let options = options.clone();
    let task = tokio::spawn(async move {
        if let Err(stream::Stop::Failed(error)) = read(&options, from, &sender).await {
            // Without a listener nobody wants to know.
            sender.send(Err(error)).await.ok();
        }
    });
    Ok(BinlogReader { blocks, task, acknowledged: None, memory })
}

/// Another server than the last time: its files mean nothing here, its GTIDs do.
fn changed_server(
    options: &SourceOptions,
    from: &Position,
    last: &ServerIdentity,
    server: &connect::Server,
) -> Result<(), CaptureError> {
    if last.id == server.identity {
        return Ok(());
    }
    let Position::Binlog { gtid, .. } = from else { return Ok(()) };
    if server.gtids && !gtid.is_empty() {
        tracing::warn!(source = %options.name, last = %last.id, now = %server.identity,
            "another server than before; reading goes on by GTID");
        return Ok(());
    }
    Err(CaptureError::Gap {
        source_name: options.name.clone(),
        what: format!(
            "server {} was read until {from}, this is server {}: without GTIDs its log can't be \
             joined to that",
            last.id, server.identity
        ),
        remedy: "connect to the server that was read, or take the snapshot anew; turn on \
                 gtid_mode before the next failover"
            .into(),
    })
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
