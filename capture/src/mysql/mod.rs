//! MySQL and MariaDB: the binlog becomes transactions.
//!
//! One task per source reads the dump, decodes row events straight into blocks and hands whole
//! blocks over. `decoder` is the heart of it and does no input or output; `kind` says what a
//! column stores, and both the stream (`cell`) and the snapshot (`text`) convert by it.

mod backfill;
mod catalog;
mod cell;
mod charset;
mod check;
mod checksum;
mod chunk;
mod connect;
mod decoder;
mod difference;
mod dump;
mod event;
mod gtid;
mod jsonb;
mod kind;
mod listing;
mod login;
mod mapping;
mod packets;
mod payload;
mod place;
mod poll;
mod probe;
mod progress;
mod request;
mod retention;
mod rows;
mod select;
mod session;
mod snapshot;
mod spans;
mod statement;
mod stream;
mod table_map;
mod text;
mod together;
pub(crate) mod values;
mod wire;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod recorded;

use crossdock_model::{Block, BlockBuilder, Position, SnapshotPart, TableName, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::listing::Reference;
use progress::Parcel;

use crate::{
    CaptureError, CopyState, Memory, Purpose, ServerIdentity, SourceOptions, Start, TableCopy,
};

pub use check::check;
pub(crate) use poll::PollLink;
pub use probe::{BinlogProbe, probe};

/// Reads a binlog; see [`LogReader`](crate::LogReader) for the contract.
pub struct BinlogReader {
    blocks: mpsc::Receiver<Result<Parcel, CaptureError>>,
    task: JoinHandle<()>,
    acknowledged: Option<Position>,
    memory: Memory,
}

impl BinlogReader {
    /// Waits for the next block.
    pub async fn next(&mut self) -> Result<Block, CaptureError> {
        match self.blocks.recv().await {
            Some(parcel) => {
                let Parcel { block, news } = parcel?;
                news.remember(&mut self.memory);
                Ok(block)
            }
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
    let (sender, blocks) = mpsc::channel(options.blocks_waiting_max());
    // Wrong addresses and passwords are told at once.
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    conn.disconnect().await.ok();
    let identity = ServerIdentity { id: server.identity.clone(), timeline: 0 };
    let last = memory.server.replace(identity);
    let same_server = last.as_ref().is_some_and(|last| last.id == server.identity);
    if let (Start::After(from) | Start::Resume(from), Some(last)) = (&start, last) {
        changed_server(options, from, &last, &server)?;
    }
    let (options, known) = (options.clone(), memory.clone());
    let task = tokio::spawn(async move {
        if let Err(stream::Stop::Failed(error)) =
            read(&options, start, (&known, same_server), &sender).await
        {
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
    start: Start,
    (memory, same_server): (&Memory, bool),
    blocks: &stream::Blocks,
) -> Result<(), stream::Stop> {
    let (from, resumes) = match start {
        Start::After(from) => (from, false),
        Start::Resume(from) => match why_not_resumed(options, memory).await? {
            None => (from, true),
            Some(why) => {
                tracing::warn!(source = %options.name, why, "the snapshot is taken anew");
                let from = snapshot::run(options, blocks).await?;
                return stream::Stream::open(options, &from, true).await?.run(blocks).await;
            }
        },
        Start::Now => {
            let from = now(options).await?;
            let block = BlockBuilder::new().finish(from.clone(), SnapshotPart::Stream);
            stream::send(blocks, block.into()).await?;
            (from, false)
        }
        Start::Snapshot | Start::SnapshotOnly => {
            let from = snapshot::run(options, blocks).await?;
            if start == Start::SnapshotOnly {
                blocks.closed().await;
                return Ok(());
            }
            return stream::Stream::open(options, &from, true).await?.run(blocks).await;
        }
    };
    let stream = stream::Stream::open(options, &from, same_server).await?;
    stream.with_tables(memory, resumes).await?.run(blocks).await
}

/// Where the log ends.
async fn now(options: &SourceOptions) -> Result<Position, CaptureError> {
    let mut conn = connect::connect(options).await?;
    let head = place::head(options, &mut conn).await?;
    conn.disconnect().await.ok();
    Ok(head)
}

/// Why an interrupted snapshot can't be continued beside the stream, if so.
async fn why_not_resumed(
    options: &SourceOptions,
    memory: &Memory,
) -> Result<Option<String>, CaptureError> {
    if !memory.tables.iter().any(|copy| copy.purpose == Purpose::Initial) {
        return Ok(Some("nothing is known of how far it had come".to_string()));
    }
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    let pending = |copy: &&TableCopy| copy.state == CopyState::Pending;
    for copy in backfill::unfinished(options, memory).filter(pending) {
        let table = catalog::table(options, &server, &mut conn, &copy.table).await?;
        let key = table.map_or(Ok(Vec::new()), |table| select::ordered_key(&table));
        if let Err(why) = key {
            return Ok(Some(format!("{}: {why}", copy.table)));
        }
    }
    conn.disconnect().await.ok();
    Ok(None)
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
