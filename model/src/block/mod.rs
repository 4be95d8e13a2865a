//! The compact form in which change events travel from `capture` into the journal and out again.
//!
//! A block is a run of whole transactions, or a fragment of one that is larger than a block. It
//! carries the schemas that it uses, so that any block can be read without its predecessors.
//!
//! ```text
//! block   := version(1) item*
//! item    := SCHEMA  length json            defines the next table number, from 0
//!          | BEGIN   header first_ordinal   opens a transaction, or its next fragment
//!          | EVENT   op table ordinal image image          before, after
//!          | MESSAGE ordinal prefix content
//!          | END                            the transaction is complete
//! image   := NONE | (FULL | KEY | PARTIAL) count value*
//! ```
//! Numbers are LEB128 varints, signed ones zigzag; texts and bytes are length and content.

use std::sync::Arc;

mod decode;
mod encode;
mod fields;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_value};
pub use encode::encode_value;
pub use fields::{decode_fields, encode_fields};

use encode::{put_bytes, put_position, put_signed, put_unsigned, put_value};

use crate::event::{ChangeEvent, Op, RowImage, TxHeader};
use crate::schema::TableName;
use crate::{Position, TableSchema, Value};

const VERSION: u8 = 1;
const SCHEMA: u8 = 1;
const BEGIN: u8 = 2;
const EVENT: u8 = 3;
const MESSAGE: u8 = 4;
const END: u8 = 5;
/// A cell that the log did not carry.
const MISSING: u8 = 0xff;

/// A finished block and what is known of it without decoding.
#[derive(Clone, Debug)]
pub struct Block {
    /// The encoded items.
    pub bytes: Vec<u8>,
    /// Where reading goes on once this block is durable. Meaningful only at a `boundary`.
    pub end: Position,
    /// True when the block ends with a whole transaction.
    pub boundary: bool,
    /// Which part of a snapshot this is, if any.
    pub snapshot: SnapshotPart,
    /// Commit time of the last transaction in it, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// Transactions that end in it.
    pub transactions: u32,
    /// Row changes by table and operation.
    pub counts: Vec<(TableName, Op, u64)>,
}

/// Consumers see a snapshot only once its last block is in the journal; see the journal's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// Not a snapshot: the stream.
    Stream,
    /// First block of a snapshot; may be empty of rows.
    First,
    /// Neither first nor last.
    Middle,
    /// Last block of a snapshot; may be empty of rows. Its `end` is where the stream begins.
    Last,
}

/// Part of a transaction, in the order of the log; most transactions are one fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// The transaction.
    pub header: TxHeader,
    /// Its changes, or the part of them that fitted into this block.
    pub events: Vec<ChangeEvent>,
    /// True for the first fragment of the transaction.
    pub first: bool,
    /// True when the transaction ends here.
    pub last: bool,
}

/// Bytes that are not a block of this version. The journal's checksum was right, so this is a
/// defect of the writer or a block of a newer Crossdock.
#[derive(Debug, thiserror::Error)]
#[error("journal block cannot be decoded at byte {at}: {what}")]
pub struct BlockError {
    /// Offset into the block.
    pub at: usize,
    /// What was expected.
    pub what: &'static str,
}

/// Encodes changes as they are decoded from a log, without building them in memory first.
///
/// Order of calls: `begin` (`event` `image`|`no_image` … twice, `message`)* `end`, then `finish`.
#[derive(Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    tables: Vec<(Arc<TableSchema>, [u64; 5])>,
    open: bool,
    commit_micros: i64,
    transactions: u32,
}

/// Which columns an image carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// Every column; `missing` must not be called.
    Full = 1,
    /// Key columns only.
    Key = 2,
    /// Unchanged columns are missing.
    Partial = 3,
}

impl BlockBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing has been added since the last `finish`.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True between `begin` and `end`.
    pub fn in_transaction(&self) -> bool {
        self.open
    }

    /// Opens a transaction. For the later fragments of one that spans blocks, call it again after
    /// `finish` with the same header and `first` false.
    pub fn begin(&mut self, header: &TxHeader, first: bool) {
        debug_assert!(!self.open, "begin within a transaction");
        self.version();
        let out = &mut self.bytes;
        out.push(BEGIN);
        put_bytes(out, header.id.as_bytes());
        put_position(out, &header.commit);
        put_signed(out, header.commit_micros);
        match &header.origin {
            None => out.push(0),
            Some(origin) => {
                out.push(1);
                put_bytes(out, origin.as_bytes());
            }
        }
        out.push(u8::from(header.snapshot) | u8::from(first) << 1);
        self.open = true;
        self.commit_micros = header.commit_micros;
    }

    /// Starts a row change. Exactly two images must follow: before, then after.
    pub fn event(&mut self, op: Op, table: &Arc<TableSchema>, ordinal: u32) {
        debug_assert!(self.open, "event outside a transaction");
        let number = self.table(table);
        self.tables[number].1[op_code(op) as usize] += 1;
        self.bytes.push(EVENT);
        self.bytes.push(op_code(op));
        put_unsigned(&mut self.bytes, number as u64);
        put_unsigned(&mut self.bytes, u64::from(ordinal));
    }

    /// There is no image on this side.
    pub fn no_image(&mut self) {
        self.bytes.push(0);
    }

    /// Starts an image of `columns` cells; `value` or `missing` must follow for each.
    pub fn image(&mut self, kind: ImageKind, columns: usize) {
        self.bytes.push(kind as u8);
        put_unsigned(&mut self.bytes, columns as u64);
    }

    /// Adds a cell.
    #[inline]
    pub fn value(&mut self, value: &Value<'_>) {
        put_value(&mut self.bytes, value);
    }

    /// Adds a cell that the log did not carry.
    #[inline]
    pub fn missing(&mut self) {
        self.bytes.push(MISSING);
    }

    /// Adds a logical message.
    pub fn message(&mut self, ordinal: u32, prefix: &str, content: &[u8]) {
        debug_assert!(self.open, "message outside a transaction");
        self.bytes.push(MESSAGE);
        put_unsigned(&mut self.bytes, u64::from(ordinal));
        put_bytes(&mut self.bytes, prefix.as_bytes());
        put_bytes(&mut self.bytes, content);
    }

    /// Adds a whole event; for tests and for sources where speed does not matter.
    pub fn push(&mut self, event: &ChangeEvent) {
        let Some(table) = &event.table else {
            let (prefix, content) = event.message.as_ref().map_or(("", &[][..]), |(p, c)| (p, c));
            return self.message(event.ordinal, prefix, content);
        };
        self.event(event.op, table, event.ordinal);
        for image in [&event.before, &event.after] {
            match image {
                None => self.no_image(),
                Some(RowImage::Full(values)) => {
                    self.image(ImageKind::Full, values.len());
                    values.iter().for_each(|v| self.value(v));
                }
                Some(RowImage::Key(cells)) => self.cells(ImageKind::Key, cells),
                Some(RowImage::Partial(cells)) => self.cells(ImageKind::Partial, cells),
            }
        }
    }

    fn cells(&mut self, kind: ImageKind, cells: &[Option<Value<'static>>]) {
        self.image(kind, cells.len());
        for cell in cells {
            match cell {
                Some(value) => self.value(value),
                None => self.missing(),
            }
        }
    }

    /// The transaction is complete.
    pub fn end(&mut self) {
        debug_assert!(self.open, "end outside a transaction");
        self.bytes.push(END);
        self.open = false;
        self.transactions += 1;
    }

    /// Hands over the block and starts an empty one. `end` is where reading goes on.
    pub fn finish(&mut self, end: Position, snapshot: SnapshotPart) -> Block {
        self.version();
        let capacity = self.bytes.len();
        let mut counts = Vec::new();
        for (table, by_op) in self.tables.drain(..) {
            for (code, n) in by_op.into_iter().enumerate().filter(|(_, n)| *n > 0) {
                counts.push((table.name.clone(), OPS[code], n));
            }
        }
        Block {
            bytes: std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity)),
            end,
            boundary: !std::mem::take(&mut self.open),
            snapshot,
            commit_micros: self.commit_micros,
            transactions: std::mem::take(&mut self.transactions),
            counts,
        }
    }

    fn version(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
    }

    fn table(&mut self, table: &Arc<TableSchema>) -> usize {
        // Few tables a block: a scan beats a map, and the last one used is the likeliest.
        if let Some(at) = self.tables.iter().rposition(|(known, _)| Arc::ptr_eq(known, table)) {
            return at;
        }
        self.bytes.push(SCHEMA);
        put_bytes(&mut self.bytes, &serde_json::to_vec(&**table).unwrap_or_default());
        self.tables.push((table.clone(), [0; 5]));
        self.tables.len() - 1
    }
}

const OPS: [Op; 5] = [Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate];

fn op_code(op: Op) -> u8 {
    match op {
        Op::Read => 0,
        Op::Create => 1,
        Op::Update => 2,
        Op::Delete => 3,
        // A message is an item of its own and never gets here.
        Op::Truncate | Op::Message => 4,
    }
}
