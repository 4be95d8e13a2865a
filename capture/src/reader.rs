//! The seam between a source's log and the rest of Crossdock.

use std::future::Future;
use std::time::Duration;

use crossdock_model::{Block, Position, TableName, TableSchema};

use crate::{
    CaptureError, DatabaseKind, Finding, Memory, SourceOptions, Start, mysql, poll, postgres,
};

/// Reads one source's log.
///
/// Contract:
/// - Blocks come in the order of the log. Transactions of a block at or before the position that
///   reading began from are left out.
/// - With [`Start::Snapshot`] it takes a consistent snapshot first: blocks with a
///   [`SnapshotPart`](crossdock_model::SnapshotPart) other than `Stream`, from `First` to `Last`,
///   then the stream that begins exactly where the snapshot was taken.
/// - A snapshot that was not finished is continued by [`Start::Resume`]: rows that are missing are
///   read beside the stream, every block is a `Middle`, and an empty `Last` ends it. Where that
///   can't be done (nothing is known of the snapshot, or a table without a key was not read whole)
///   the reader takes it anew by itself: its first block is a `First`, and what the caller has of
///   the old one is to be dropped.
/// - Tables that are pending in its [`Memory`] are read beside the stream, in pieces: a block whose
///   transactions are marked as snapshot, placed so that every row in it is as it was at that place
///   of the stream. A [`CopyMessage`](crate::CopyMessage) follows the last one. Rows may come more
///   than once, later ones being newer. A table that can't be read like this ends as `Failed` in
///   the memory; the stream goes on. To pause, cancel or ask for tables, open a new reader with
///   another memory.
/// - The memory may lag behind the blocks that were handed over, and never is ahead of them.
/// - An idle source's position moves too: when the log has gone on with nothing that is captured, a
///   block without transactions comes now and then (not more than about once a second), whose
///   `end` is how far the log has been seen. So lag is zero when nothing is missing.
/// - Nothing is durable on return; the server keeps everything after the last acknowledged
///   position.
/// - After an error the reader is spent: open a new one from the last durable position.
/// - `next` is cancel-safe: a block is handed over whole or not at all.
pub trait LogReader: Send {
    /// Waits for the next block.
    fn next(&mut self) -> impl Future<Output = Result<Block, CaptureError>> + Send;

    /// Says that everything up to `position` is durable here, so that the server may drop it.
    /// Returns at once; the server is told soon. Idle servers are told of keep-alive positions
    /// without being asked, once nothing is in flight.
    fn acknowledge(&mut self, position: &Position);

    /// What the next reader has to know, once everything that `next` has handed over is durable.
    fn memory(&self) -> &Memory;
}

/// A reader of either kind of log, or of none.
pub enum Reader {
    /// PostgreSQL.
    Postgres(postgres::PostgresReader),
    /// MySQL or MariaDB.
    Mysql(mysql::BinlogReader),
    /// A source without a log.
    Poll(poll::PollReader),
}

impl LogReader for Reader {
    async fn next(&mut self) -> Result<Block, CaptureError> {
        match self {
            Reader::Postgres(reader) => reader.next().await,
            Reader::Mysql(reader) => reader.next().await,
            Reader::Poll(reader) => reader.next().await,
        }
    }

    fn acknowledge(&mut self, position: &Position) {
        match self {
            Reader::Postgres(reader) => reader.acknowledge(position),
            Reader::Mysql(reader) => reader.acknowledge(position),
            Reader::Poll(reader) => reader.acknowledge(position),
        }
    }

    fn memory(&self) -> &Memory {
        match self {
            Reader::Postgres(reader) => reader.memory(),
            Reader::Mysql(reader) => reader.memory(),
            Reader::Poll(reader) => reader.memory(),
        }
    }
}

/// The server's own view of its log.
#[derive(Clone, Debug)]
pub struct Head {
    /// End of the server's log now.
    pub position: Position,
    /// Bytes of log between the position asked about and the head.
    pub behind_bytes: u64,
    /// Bytes of log that the server keeps because of us (PostgreSQL), or at all (binlog).
    pub retained_bytes: u64,
    /// Bytes of log that the server must not drop, because they were not read yet. Files of a
    /// binlog count whole; 0 when all but the one that is being written were read.
    pub unread_bytes: u64,
    /// When `unread_bytes` grows beyond this, the server drops log that was not read yet
    /// (`max_slot_wal_keep_size`, `max_binlog_total_size`). `None`: it does not do so by size.
    pub keep_limit_bytes: Option<u64>,
    /// Log that is older than this may be dropped (`binlog_expire_logs_seconds`). `None`: log is
    /// not dropped by age, or nothing is unread that could be.
    pub keep_limit_age: Option<Duration>,
}

/// A connection of its own that asks the server about its log, so that lag is measured against
/// the server and not against the last event.
pub enum Probe {
    /// PostgreSQL.
    Postgres(postgres::PostgresProbe),
    /// MySQL or MariaDB.
    Mysql(mysql::BinlogProbe),
    /// A source without a log.
    Poll(poll::PollProbe),
}

impl Probe {
    /// Where the log ends, and how far behind it `at` is.
    pub async fn head(&mut self, at: Option<&Position>) -> Result<Head, CaptureError> {
        match self {
            Probe::Postgres(probe) => probe.head(at).await,
            Probe::Mysql(probe) => probe.head(at).await,
            Probe::Poll(probe) => probe.head().await,
        }
    }
}

/// Opens a reader. `memory` is what the last one of this source has left.
pub async fn open(
    options: &SourceOptions,
    start: Start,
    memory: Memory,
) -> Result<Reader, CaptureError> {
    if options.poll.is_some() {
        return Ok(Reader::Poll(poll::open(options, start, memory).await?));
    }
    Ok(match options.kind {
        DatabaseKind::Postgres => Reader::Postgres(postgres::open(options, start, memory).await?),
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            Reader::Mysql(mysql::open(options, start, memory).await?)
        }
    })
}

/// Connects a probe.
pub async fn probe(options: &SourceOptions) -> Result<Probe, CaptureError> {
    if options.poll.is_some() {
        return Ok(Probe::Poll(poll::probe(options).await?));
    }
    Ok(match options.kind {
        DatabaseKind::Postgres => Probe::Postgres(postgres::probe(options).await?),
        DatabaseKind::Mysql | DatabaseKind::Mariadb => Probe::Mysql(mysql::probe(options).await?),
    })
}

/// Reads the present schemas of the captured tables. A table that does not exist is left out.
pub async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    if options.poll.is_some() {
        return poll::describe(options).await;
    }
    match options.kind {
        DatabaseKind::Postgres => postgres::describe(options).await,
        DatabaseKind::Mysql | DatabaseKind::Mariadb => mysql::describe(options).await,
    }
}

/// The values of a column, each once, at most `most` of them, as texts; NULL is left out. Reads the
/// table's rows in a read-only transaction, for at most `seconds`: then the server gives up, and
/// an error is returned.
pub async fn distinct(
    options: &SourceOptions,
    table: &TableName,
    column: &str,
    most: usize,
    seconds: u64,
) -> Result<Vec<String>, CaptureError> {
    match options.kind {
        DatabaseKind::Postgres => {
            postgres::values::distinct(options, table, column, most, seconds).await
        }
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            mysql::values::distinct(options, table, column, most, seconds).await
        }
    }
}

/// Looks at everything that capture needs on the server. Changes nothing.
pub async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    if options.poll.is_some() {
        return poll::check(options).await;
    }
    match options.kind {
        DatabaseKind::Postgres => postgres::check(options).await,
        DatabaseKind::Mysql | DatabaseKind::Mariadb => mysql::check(options).await,
    }
}
