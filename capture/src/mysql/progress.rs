//! What has been read of each table, carried beside the blocks: so that the reader's memory says
//! exactly what has been handed over.

use std::time::{SystemTime, UNIX_EPOCH};

use crossdock_model::{Block, Position, TableName};
use serde::{Deserialize, Serialize};

use crate::{CopyState, Memory, Purpose, TableCopy};

/// A block, and how tables stand once it is handed over.
pub(super) struct Parcel {
    pub(super) block: Block,
    pub(super) news: Vec<TableCopy>,
}

impl From<Block> for Parcel {
    fn from(block: Block) -> Self {
        Self { block, news: Vec::new() }
    }
}

/// What [`TableCopy::cursor`] holds for MySQL and MariaDB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// All rows up to this key have been read: an SQL literal for each column of the key.
    pub(super) after: Option<Vec<String>>,
}

impl Cursor {
    /// Reads a stored cursor; one that can't be read means that nothing was read.
    pub(super) fn of(copy: &TableCopy) -> Self {
        serde_json::from_value(copy.cursor.clone()).unwrap_or_default()
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.after {
            Some(_) => serde_json::to_value(self).unwrap_or_default(),
            None => serde_json::Value::Null,
        }
    }
}

/// A table whose reading begins.
pub(super) fn begun(table: TableName, rows_estimated: u64, since: Position) -> TableCopy {
    TableCopy {
        since: Some(since),
        rows_estimated,
        started_micros: now_micros(),
        ..TableCopy::new(table, Purpose::Initial)
    }
}

/// All rows of the table have been handed over.
pub(super) fn finish(copy: &mut TableCopy) {
    copy.state = CopyState::Done;
    copy.rows_estimated = copy.rows;
    copy.finished_micros = now_micros();
    copy.cursor = serde_json::Value::Null;
}

/// Takes into the memory what a block brought.
pub(super) fn remember(memory: &mut Memory, news: Vec<TableCopy>) {
    for news in news {
        match memory.tables.iter_mut().find(|copy| copy.table == news.table) {
            Some(copy) => *copy = news,
            None => memory.tables.push(news),
        }
    }
}

/// The clock, microseconds since the Unix epoch.
pub(super) fn now_micros() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(unix.as_micros()).unwrap_or(i64::MAX)
}
