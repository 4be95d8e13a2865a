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

use std::borrow::Cow;
use std::sync::Arc;

use crate::event::{ChangeEvent, Op, RowImage, TxHeader};
use crate::schema::TableName;
use crate::{Position, TableSchema, Value};

const VERSION: u8 = 1;
const SCHEMA: u8 = 1;
const BEGIN: u8 = 2;
const EVENT: u8 = 3;
const MESSAGE: u8 = 4;
const END: u8 = 5;
/// Arrays nested deeper than this are refused on decoding (PostgreSQL allows 6 dimensions).
const ARRAY_DEPTH_MAX: u32 = 16;

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

/// Encodes one value as blocks do; for row images in the canonical store.
pub fn encode_value(out: &mut Vec<u8>, value: &Value<'_>) {
    put_value(out, value);
}

/// Decodes one value and returns it with the number of bytes it took. Never panics.
pub fn decode_value(bytes: &[u8]) -> Result<(Value<'static>, usize), BlockError> {
    let mut input = Input { bytes, at: 0 };
    let value = input.value(0)?;
    Ok((value, input.at))
}

/// Decodes a block's bytes. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Vec<Fragment>, BlockError> {
    let mut input = Input { bytes, at: 0 };
    if input.byte()? != VERSION {
        return Err(input.error("block of another version"));
    }
    let mut tables: Vec<Arc<TableSchema>> = Vec::new();
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut open = false;
    while input.at < bytes.len() {
        let item = input.byte()?;
        if !open && matches!(item, EVENT | MESSAGE | END) {
            return Err(input.error("a transaction's begin"));
        }
        match item {
            SCHEMA => {
                let json = input.bytes()?;
                let table = serde_json::from_slice(json).map_err(|_| input.error("a schema"))?;
                tables.push(Arc::new(table));
            }
            BEGIN if !open => {
                let (header, first) = input.header()?;
                fragments.push(Fragment { header, events: Vec::new(), first, last: false });
                open = true;
            }
            EVENT => {
                let event = input.event(&tables)?;
                if let Some(fragment) = fragments.last_mut() {
                    fragment.events.push(event);
                }
            }
            MESSAGE => {
                let event = input.message()?;
                if let Some(fragment) = fragments.last_mut() {
                    fragment.events.push(event);
                }
            }
            END => {
                if let Some(fragment) = fragments.last_mut() {
                    fragment.last = true;
                }
                open = false;
            }
            _ => return Err(input.error("a known item")),
        }
    }
    Ok(fragments)
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

const MISSING: u8 = 0xff;

fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(false) => out.push(1),
        Value::Bool(true) => out.push(2),
        Value::Int(v) => {
            out.push(3);
            put_signed(out, *v);
        }
        Value::UInt(v) => {
            out.push(4);
            put_unsigned(out, *v);
        }
        Value::Float32(v) => {
            out.push(5);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        Value::Float(v) => {
            out.push(6);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        Value::Decimal(v) => {
            out.push(7);
            put_bytes(out, v.as_bytes());
        }
        Value::Text(v) => {
            out.push(8);
            put_bytes(out, v.as_bytes());
        }
        Value::Bytes(v) => {
            out.push(9);
            put_bytes(out, v);
        }
        Value::Json(v) => {
            out.push(10);
            put_bytes(out, v.as_bytes());
        }
        Value::Uuid(v) => {
            out.push(11);
            out.extend_from_slice(v);
        }
        Value::Date(v) => {
            out.push(12);
            put_signed(out, i64::from(*v));
        }
        Value::Time(v) => {
            out.push(13);
            put_signed(out, *v);
        }
        Value::TimeTz(v, offset) => {
            out.push(14);
            put_signed(out, *v);
            put_signed(out, i64::from(*offset));
        }
        Value::Timestamp(v) => {
            out.push(15);
            put_signed(out, *v);
        }
        Value::TimestampTz(v) => {
            out.push(16);
            put_signed(out, *v);
        }
        Value::Interval(months, days, micros) => {
            out.push(17);
            put_signed(out, i64::from(*months));
            put_signed(out, i64::from(*days));
            put_signed(out, *micros);
        }
        Value::Bits(bits, v) => {
            out.push(18);
            put_unsigned(out, u64::from(*bits));
            put_bytes(out, v);
        }
        Value::Array(values) => {
            out.push(19);
            put_unsigned(out, values.len() as u64);
            values.iter().for_each(|v| put_value(out, v));
        }
    }
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    match position {
        Position::Postgres { lsn } => {
            out.push(0);
            put_unsigned(out, *lsn);
        }
        Position::Binlog { file, offset, gtid } => {
            out.push(1);
            put_bytes(out, file.as_bytes());
            put_unsigned(out, *offset);
            put_bytes(out, gtid.as_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[inline]
fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn error(&self, what: &'static str) -> BlockError {
        BlockError { at: self.at, what }
    }

    fn byte(&mut self) -> Result<u8, BlockError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("one more byte"))?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], BlockError> {
        let end = self.at.checked_add(n).ok_or_else(|| self.error("a sane length"))?;
        let slice = self.bytes.get(self.at..end).ok_or_else(|| self.error("more bytes"))?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn unsigned(&mut self) -> Result<u64, BlockError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a number of at most 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, BlockError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn small<T: TryFrom<i64>>(&mut self) -> Result<T, BlockError> {
        T::try_from(self.signed()?).map_err(|_| self.error("a number of at most 32 bits"))
    }

    fn length(&mut self) -> Result<usize, BlockError> {
        let length = self.unsigned()?;
        usize::try_from(length)
            .ok()
            .filter(|n| *n <= self.bytes.len() - self.at)
            .ok_or_else(|| self.error("a length within the block"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], BlockError> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<Cow<'static, str>, BlockError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.error("UTF-8"))?;
        Ok(Cow::Owned(text.to_owned()))
    }

    fn position(&mut self) -> Result<Position, BlockError> {
        Ok(match self.byte()? {
            0 => Position::Postgres { lsn: self.unsigned()? },
            1 => Position::Binlog {
                file: self.text()?.into_owned(),
                offset: self.unsigned()?,
                gtid: self.text()?.into_owned(),
            },
            _ => return Err(self.error("a position")),
        })
    }

    fn header(&mut self) -> Result<(TxHeader, bool), BlockError> {
        let id = self.text()?.into_owned();
        let commit = self.position()?;
        let commit_micros = self.signed()?;
        let origin = match self.byte()? {
            0 => None,
            _ => Some(self.text()?.into_owned()),
        };
        let flags = self.byte()?;
        let header = TxHeader { id, commit, commit_micros, origin, snapshot: flags & 1 != 0 };
        Ok((header, flags & 2 != 0))
    }

    fn event(&mut self, tables: &[Arc<TableSchema>]) -> Result<ChangeEvent, BlockError> {
        let code = usize::from(self.byte()?);
        let op = *OPS.get(code).ok_or_else(|| self.error("an operation"))?;
        let number = self.unsigned()? as usize;
        let table = tables.get(number).ok_or_else(|| self.error("a table of this block"))?.clone();
        let ordinal = self.ordinal()?;
        let (before, after) = (self.image()?, self.image()?);
        Ok(ChangeEvent { op, table: Some(table), before, after, message: None, ordinal })
    }

    fn message(&mut self) -> Result<ChangeEvent, BlockError> {
        let ordinal = self.ordinal()?;
        let message = Some((self.text()?.into_owned(), self.bytes()?.to_vec()));
        Ok(ChangeEvent {
            op: Op::Message,
            table: None,
            before: None,
            after: None,
            message,
            ordinal,
        })
    }

    fn ordinal(&mut self) -> Result<u32, BlockError> {
        u32::try_from(self.unsigned()?).map_err(|_| self.error("an ordinal"))
    }

    fn image(&mut self) -> Result<Option<RowImage<'static>>, BlockError> {
        let kind = self.byte()?;
        if kind == 0 {
            return Ok(None);
        }
        let count = self.length()?;
        if kind == ImageKind::Full as u8 {
            let values: Result<_, _> = (0..count).map(|_| self.value(0)).collect();
            return Ok(Some(RowImage::Full(values?)));
        }
        let cells: Result<Vec<_>, _> = (0..count).map(|_| self.cell()).collect();
        match kind {
            k if k == ImageKind::Key as u8 => Ok(Some(RowImage::Key(cells?))),
            k if k == ImageKind::Partial as u8 => Ok(Some(RowImage::Partial(cells?))),
            _ => Err(self.error("a kind of image")),
        }
    }

    fn cell(&mut self) -> Result<Option<Value<'static>>, BlockError> {
        if self.bytes.get(self.at) == Some(&MISSING) {
            self.at += 1;
            return Ok(None);
        }
        self.value(0).map(Some)
    }

    fn value(&mut self, depth: u32) -> Result<Value<'static>, BlockError> {
        Ok(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(self.signed()?),
            4 => Value::UInt(self.unsigned()?),
            5 => Value::Float32(f32::from_bits(u32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from_bits(u64::from_le_bytes(self.array()?))),
            7 => Value::Decimal(self.text()?),
            8 => Value::Text(self.text()?),
            9 => Value::Bytes(Cow::Owned(self.bytes()?.to_vec())),
            10 => Value::Json(self.text()?),
            11 => Value::Uuid(self.array()?),
            12 => Value::Date(self.small()?),
            13 => Value::Time(self.signed()?),
            14 => Value::TimeTz(self.signed()?, self.small()?),
            15 => Value::Timestamp(self.signed()?),
            16 => Value::TimestampTz(self.signed()?),
            17 => Value::Interval(self.small()?, self.small()?, self.signed()?),
            18 => {
                let bits = self.ordinal()?;
                Value::Bits(bits, Cow::Owned(self.bytes()?.to_vec()))
            }
            19 if depth < ARRAY_DEPTH_MAX => {
                let count = self.length()?;
                let values: Result<_, _> = (0..count).map(|_| self.value(depth + 1)).collect();
                Value::Array(values?)
            }
            _ => return Err(self.error("a value")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::schema::Column;

    fn value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            (-1e6f32..1e6).prop_map(Value::Float32),
            (-1e12f64..1e12).prop_map(Value::Float),
            ".{0,9}".prop_map(|t| Value::Text(t.into())),
            "-?[0-9]{1,40}(\\.[0-9]{1,9})?".prop_map(|t| Value::Decimal(t.into())),
            vec(any::<u8>(), 0..9).prop_map(|b| Value::Bytes(b.into())),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            any::<i32>().prop_map(Value::Date),
            (any::<i64>(), any::<i32>()).prop_map(|(t, o)| Value::TimeTz(t, o)),
            any::<i64>().prop_map(Value::TimestampTz),
            (any::<i32>(), any::<i32>(), any::<i64>())
                .prop_map(|(m, d, u)| Value::Interval(m, d, u)),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
    }

    fn table(name: &str) -> Arc<TableSchema> {
        let column =
            |n: &str, key| Column { name: n.into(), type_name: "text".into(), nullable: true, key };
        let columns = vec![column("id", Some(0)), column("a", None)];
        Arc::new(TableSchema { name: TableName::new("s", name), columns })
    }

    fn image() -> impl Strategy<Value = Option<RowImage<'static>>> {
        prop_oneof![
            Just(None),
            vec(value(), 2).prop_map(|v| Some(RowImage::Full(v))),
            vec(proptest::option::of(value()), 2).prop_map(|v| Some(RowImage::Key(v))),
            vec(proptest::option::of(value()), 2).prop_map(|v| Some(RowImage::Partial(v))),
        ]
    }

    fn header(n: u64) -> TxHeader {
        TxHeader {
            id: n.to_string(),
            commit: Position::Postgres { lsn: n },
            commit_micros: -5,
            origin: (n.is_multiple_of(2)).then(|| "o".into()),
            snapshot: n.is_multiple_of(3),
        }
    }

    proptest! {
        #[test]
        fn blocks_round_trip(
            transactions in vec(vec((0usize..2, 0usize..4, image(), image()), 0..6), 0..4)
        ) {
            let tables = [table("a"), table("b")];
            let mut builder = BlockBuilder::new();
            let mut expected = Vec::new();
            for (n, rows) in transactions.into_iter().enumerate() {
                let header = header(n as u64);
                builder.begin(&header, true);
                let mut events = Vec::new();
                for (ordinal, (t, op, before, after)) in rows.into_iter().enumerate() {
                    let table = Some(tables[t].clone());
                    let ordinal = ordinal as u32;
                    let event =
                        ChangeEvent { op: OPS[op], table, before, after, message: None, ordinal };
                    builder.push(&event);
                    events.push(event);
                }
                builder.message(99, "p", b"\x00c");
                events.push(ChangeEvent {
                    op: Op::Message, table: None, before: None, after: None,
                    message: Some(("p".into(), b"\x00c".to_vec())), ordinal: 99,
                });
                builder.end();
                expected.push(Fragment { header, events, first: true, last: true });
            }
            let block = builder.finish(Position::Postgres { lsn: 9 }, SnapshotPart::Stream);
            prop_assert!(block.boundary);
            prop_assert_eq!(decode(&block.bytes).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(mut bytes in vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_large_transaction_spans_blocks() {
        let mut builder = BlockBuilder::new();
        builder.begin(&header(1), true);
        builder.event(Op::Create, &table("a"), 0);
        builder.no_image();
        builder.image(ImageKind::Full, 2);
        builder.value(&Value::Int(1));
        builder.value(&Value::Null);
        let first = builder.finish(Position::Postgres { lsn: 1 }, SnapshotPart::Stream);
        assert!(!first.boundary);
        builder.begin(&header(1), false);
        builder.end();
        let second = builder.finish(Position::Postgres { lsn: 2 }, SnapshotPart::Stream);
        assert!(second.boundary);
        let (a, b) = (decode(&first.bytes).unwrap(), decode(&second.bytes).unwrap());
        assert!(a[0].first && !a[0].last && !b[0].first && b[0].last);
        assert_eq!(first.counts, vec![(TableName::new("s", "a"), Op::Create, 1)]);
    }
}
