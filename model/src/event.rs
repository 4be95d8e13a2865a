//! One change of one row, and the transaction it belongs to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Position, TableSchema, Value};

/// What happened. The letters are Debezium's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// `r`: read by a snapshot.
    Read,
    /// `c`: inserted.
    Create,
    /// `u`: updated.
    Update,
    /// `d`: deleted.
    Delete,
    /// `t`: the table was truncated; no images.
    Truncate,
    /// `m`: a logical message; `after` is empty, see [`ChangeEvent::message`].
    Message,
}

impl Op {
    /// Debezium's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Op::Read => "r",
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Truncate => "t",
            Op::Message => "m",
        }
    }
}

/// The columns of a row that the log carried, in the order of [`TableSchema::columns`].
#[derive(Clone, Debug, PartialEq)]
pub enum RowImage<'a> {
    /// Every column.
    Full(Vec<Value<'a>>),
    /// The key (replica identity) only; `None` for the other columns.
    Key(Vec<Option<Value<'a>>>),
    /// Some columns are not in the log: `None` means *unchanged*, never NULL.
    Partial(Vec<Option<Value<'a>>>),
}

impl<'a> RowImage<'a> {
    /// The value of a column, or `None` when the log did not carry it.
    pub fn get(&self, column: usize) -> Option<&Value<'a>> {
        match self {
            RowImage::Full(values) => values.get(column),
            RowImage::Key(values) | RowImage::Partial(values) => values.get(column)?.as_ref(),
        }
    }
}

/// One change of one row (or a truncate, or a logical message).
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeEvent {
    /// What happened.
    pub op: Op,
    /// The table; `None` only for [`Op::Message`].
    pub table: Option<Arc<TableSchema>>,
    /// The row before; absent unless the source logs it.
    pub before: Option<RowImage<'static>>,
    /// The row after; absent for delete, truncate and message.
    pub after: Option<RowImage<'static>>,
    /// Prefix and content of a logical message.
    pub message: Option<(String, Vec<u8>)>,
    /// Place within the transaction, from 0 (a message counts too).
    pub ordinal: u32,
}

/// What is known of a transaction when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TxHeader {
    /// The source's name of it: xid, GTID, or `snapshot`; of a polled source [`TxHeader::POLL`].
    pub id: String,
    /// Where it commits: for PostgreSQL the commit record's LSN, for a binlog the place of its
    /// GTID event, for a polled source when its rows were read. Orders transactions of one source;
    /// see [`LogOrder`](crate::LogOrder).
    pub commit: Position,
    /// Commit time at the source, microseconds since the Unix epoch; of a polled source its time
    /// when the rows were read.
    pub commit_micros: i64,
    /// Replication origin or server id that the log names, when it is not the source itself.
    pub origin: Option<String>,
    /// True when the rows were read by a snapshot.
    pub snapshot: bool,
}

impl TxHeader {
    /// The `id` of transactions whose rows were read beside the stream, and not by the snapshot
    /// before it.
    pub const BACKFILL: &str = "backfill";
    /// The `id` of transactions that say what rows hold which were found changed in a source
    /// without a log. What was committed together may come apart, and what a row held between two
    /// rounds of reading is not seen.
    pub const POLL: &str = "poll";
}
