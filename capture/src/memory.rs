//! What a reader knows from its earlier runs: which server it read, and whose tables' rows are
//! read already. Kept by the caller beside the position; see [`LogReader`](crate::LogReader).

use std::time::{SystemTime, UNIX_EPOCH};

use crossdock_model::{Position, TableName};
use serde::{Deserialize, Serialize};

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// With a consistent snapshot of all captured tables; then the stream from exactly there.
    Snapshot,
    /// With a consistent snapshot, and nothing after it: once its last block is handed over,
    /// `next` waits for ever. Nothing is kept on the server for us.
    SnapshotOnly,
    /// With what is committed from now on. Makes the slot anew (PostgreSQL).
    Now,
    /// With what follows this place.
    After(Position),
    /// With what follows this place, within a snapshot that was interrupted: the rows that
    /// [`Memory`] says are missing are read beside the stream, and every block is a part of the
    /// snapshot until its last.
    Resume(Position),
}

impl From<Option<&Position>> for Start {
    fn from(from: Option<&Position>) -> Self {
        from.map_or(Start::Snapshot, |position| Start::After(position.clone()))
    }
}

/// What a reader remembers. It describes what has been handed over: to be stored after the blocks
/// are durable, and given to the next reader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Which server was read last.
    pub server: Option<ServerIdentity>,
    /// Tables whose rows are being read, or are to be read, in order of request. Those that are
    /// done stay, so that a table that is new in the configuration can be told.
    pub tables: Vec<TableCopy>,
}

/// Which server a log belongs to: positions of another one mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// PostgreSQL: the system identifier. MySQL: the server's UUID; MariaDB: its server id.
    pub id: String,
    /// PostgreSQL: the timeline, which every promotion of a standby raises; else 0.
    pub timeline: u32,
}

/// How far the rows of one table have been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableCopy {
    /// The table.
    pub table: TableName,
    /// Why its rows are read.
    pub purpose: Purpose,
    /// Only rows for which this SQL condition is true; all when absent.
    pub filter: Option<String>,
    /// How it stands.
    pub state: CopyState,
    /// Where the stream was when reading began.
    pub since: Option<Position>,
    /// Rows handed over so far.
    pub rows: u64,
    /// Rows expected, as the server estimates.
    pub rows_estimated: u64,
    /// When reading began, microseconds since the Unix epoch; 0 before.
    pub started_micros: i64,
    /// When it was done, microseconds since the Unix epoch; 0 before.
    pub finished_micros: i64,
    /// What has been read, in the words of the kind of database.
    pub cursor: serde_json::Value,
}

/// Why a table's rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The first snapshot of the source.
    Initial,
    /// The table was added to a running source.
    Added,
    /// Somebody asked for it.
    Requested,
    /// A gap: rows that are not found any more were deleted in it.
    Resync,
}

/// How the reading of a table's rows stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// To be read, or being read.
    Pending,
    /// Stopped by somebody, to be continued.
    Paused,
    /// All rows are handed over.
    Done,
    /// Not to be read any more.
    Cancelled,
    /// Can't be read: why and what to do. The stream goes on.
    Failed(String),
}

impl TableCopy {
    /// A table whose rows a first snapshot begins to read.
    pub(crate) fn begun(table: TableName, rows_estimated: u64, since: Position) -> Self {
        Self {
            since: Some(since),
            rows_estimated,
            started_micros: now_micros(),
            ..Self::new(table, Purpose::Initial)
        }
    }

    /// All rows of the table have been handed over.
    pub(crate) fn finish(&mut self) {
        self.state = CopyState::Done;
        self.rows_estimated = self.rows;
        self.finished_micros = now_micros();
        self.cursor = serde_json::Value::Null;
    }

    /// A table whose rows are to be read.
    pub fn new(table: TableName, purpose: Purpose) -> Self {
        Self {
            table,
            purpose,
            filter: None,
            state: CopyState::Pending,
            since: None,
            rows: 0,
            rows_estimated: 0,
            started_micros: 0,
            finished_micros: 0,
            cursor: serde_json::Value::Null,
        }
    }
}

impl Memory {
    /// Takes in how tables stand now.
    pub(crate) fn remember(&mut self, news: Vec<TableCopy>) {
        for news in news {
            match self.tables.iter_mut().find(|copy| copy.table == news.table) {
                Some(copy) => *copy = news,
                None => self.tables.push(news),
            }
        }
    }

    /// The entry of a table.
    pub fn table(&self, name: &TableName) -> Option<&TableCopy> {
        self.tables.iter().find(|copy| copy.table == *name)
    }
}

/// Prefix of the messages that reader itself puts into blocks, for those who read the journal.
pub const MESSAGE_PREFIX: &str = "crossdock.capture";

/// A message in a block of the stream, as JSON below [`MESSAGE_PREFIX`]: what happened to a
/// table's rows beside the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum CopyMessage {
    /// All rows of the table have been handed over before this message.
    Copied {
        /// The table.
        table: TableName,
        /// Why they were read.
        purpose: Purpose,
        /// The condition they were chosen by, if any.
        filter: Option<String>,
        /// Where the stream was when reading began: with `Purpose::Resync` and no filter, a row
        /// that was last seen before it and not since does not exist any more.
        since: Position,
    },
}

/// The clock, microseconds since the Unix epoch.
pub(crate) fn now_micros() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(unix.as_micros()).unwrap_or(i64::MAX)
}
