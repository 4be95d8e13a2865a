//! What has been read of each table, carried beside the blocks: so that the reader's memory says
//! exactly what has been handed over.

use crossdock_model::Block;
use serde::{Deserialize, Serialize};

use crate::TableCopy;

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
