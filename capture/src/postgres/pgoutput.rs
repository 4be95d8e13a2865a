//! The messages of pgoutput, protocol versions 1, 2 and 4, parsed in place.
//!
//! Source: PostgreSQL manual, "Logical Replication Message Formats". Integers are big-endian.

use super::in_progress::Commit;

/// Microseconds between the Unix epoch and PostgreSQL's (2000-01-01).
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Bytes that are not a pgoutput message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The message's type byte, 0 when there was none.
    pub tag: u8,
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) enum Message<'a> {
    Begin { final_lsn: u64, commit_micros: i64, xid: u32 },
    Commit { end_lsn: u64 },
    Origin { name: &'a str },
    Relation(RelationMessage<'a>),
    Type,
    Insert { relation: u32, new: Tuple<'a> },
    Update { relation: u32, old: Option<Old<'a>>, new: Tuple<'a> },
    Delete { relation: u32, old: Old<'a> },
    Truncate { relations: Vec<u32> },
    Logical { lsn: u64, prefix: &'a str, content: &'a [u8] },
}

/// What says where a transaction in progress begins, pauses and ends. Its changes come as
/// [`Message`]s with the sub-transaction before them; see [`parse_streamed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streaming {
    Start { xid: u32, first: bool },
    Stop,
    Commit(Commit),
    Abort { xid: u32, subxid: u32 },
}

/// A table as the log describes it before its first change.
#[derive(Debug, PartialEq)]
pub(super) struct RelationMessage<'a> {
    /// OID of the table.
    pub oid: u32,
    pub schema: &'a str,
    pub table: &'a str,
    /// In the order of the tuples.
    pub columns: Vec<RelationColumn<'a>>,
}

/// A column of a [`RelationMessage`].
#[derive(Debug, PartialEq)]
pub(super) struct RelationColumn<'a> {
    /// Part of the replica identity.
    pub identity: bool,
    pub name: &'a str,
    /// OID of the type; a domain's own.
    pub type_oid: u32,
    /// Type modifier, -1 for none.
    pub type_modifier: i32,
}

/// An old tuple.
#[derive(Debug, PartialEq)]
pub(super) enum Old<'a> {
    /// Replica identity only; the other cells are NULL and mean nothing.
    Key(Tuple<'a>),
    /// The whole row.
    Full(Tuple<'a>),
}

/// A row, checked to be well formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tuple<'a> {
    /// Number of cells.
    pub count: usize,
    cells: &'a [u8],
}

/// One cell of a [`Tuple`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// An unchanged TOASTed value that is not in the log.
    Unchanged,
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// The cells in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let mut input = Input { bytes: self.cells, tag: 0 };
        std::iter::from_fn(move || input.cell().ok())
    }

    /// Whether a cell is missing because it did not change.
    pub(super) fn has_unchanged(&self) -> bool {
        self.cells().any(|cell| cell == Cell::Unchanged)
    }
}

/// Parses one message. An unknown type byte is an error: nothing is skipped unseen.
pub(super) fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut input = Input::new(bytes)?;
    let message = input.message()?;
    input.end(message)
}

/// Parses one message of a transaction in progress: all but the origin name the sub-transaction
/// that they belong to.
pub(super) fn parse_streamed(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut input = Input::new(bytes)?;
    if input.tag != b'O' {
        input.u32()?;
    }
    let message = input.message()?;
    input.end(message)
}

/// Parses a message about a transaction in progress.
pub(super) fn parse_streaming(bytes: &[u8]) -> Result<Streaming, Malformed> {
    let mut input = Input::new(bytes)?;
    let message = input.streaming()?;
    input.end(message)
}

struct Input<'a> {
    bytes: &'a [u8],
    tag: u8,
}

impl<'a> Input<'a> {
    fn new(message: &'a [u8]) -> Result<Self, Malformed> {
        let (&tag, bytes) = message.split_first().ok_or(Malformed { tag: 0 })?;
        Ok(Self { bytes, tag })
    }

    /// Nothing may follow what was understood.
    fn end<T>(&self, message: T) -> Result<T, Malformed> {
        if self.bytes.is_empty() { Ok(message) } else { Err(self.malformed()) }
    }

    fn malformed(&self) -> Malformed {
        Malformed { tag: self.tag }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or(Malformed { tag: self.tag })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Malformed { tag: self.tag })?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.bytes.iter().position(|b| *b == 0).ok_or(self.malformed())?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| self.malformed())?;
        self.take(1)?;
        Ok(text)
    }

    fn micros(&mut self) -> Result<i64, Malformed> {
        let since_2000 = self.array().map(i64::from_be_bytes)?;
        since_2000.checked_add(EPOCH_MICROS).ok_or(self.malformed())
    }

    fn message(&mut self) -> Result<Message<'a>, Malformed> {
        Ok(match self.tag {
            b'B' => Message::Begin {
                final_lsn: self.u64()?,
                commit_micros: self.micros()?,
                xid: self.u32()?,
            },
            b'C' => {
                // Flags (unused), commit LSN (told by Begin), end LSN, commit time (told too).
                self.take(9)?;
                let end_lsn = self.u64()?;
                self.take(8)?;
                Message::Commit { end_lsn }
            }
            b'O' => {
                self.take(8)?;
                Message::Origin { name: self.text()? }
            }
            b'R' => Message::Relation(self.relation()?),
            b'Y' => {
                self.take(4)?;
                self.text()?;
                self.text()?;
                Message::Type
            }
            b'I' => {
                let relation = self.u32()?;
                self.expect(b'N')?;
                Message::Insert { relation, new: self.tuple()? }
            }
            b'U' => self.update()?,
            b'D' => {
                let relation = self.u32()?;
                let kind = self.u8()?;
                Message::Delete { relation, old: self.old(kind)? }
            }
            b'T' => {
                let count = self.u32()?;
                self.take(1)?;
                // Not preallocated by what the message claims.
                let relations = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
                Message::Truncate { relations }
            }
            b'M' => {
                self.take(1)?;
                let lsn = self.u64()?;
                let prefix = self.text()?;
                let length = self.u32()? as usize;
                Message::Logical { lsn, prefix, content: self.take(length)? }
            }
            _ => return Err(self.malformed()),
        })
    }

    fn streaming(&mut self) -> Result<Streaming, Malformed> {
        Ok(match self.tag {
            b'S' => Streaming::Start { xid: self.u32()?, first: self.u8()? == 1 },
            b'E' => Streaming::Stop,
            b'c' => {
                let xid = self.u32()?;
                // Flags, unused.
                self.take(1)?;
                let (lsn, end_lsn, micros) = (self.u64()?, self.u64()?, self.micros()?);
                Streaming::Commit(Commit { xid, lsn, end_lsn, micros })
            }
            b'A' => {
                let (xid, subxid) = (self.u32()?, self.u32()?);
                if !self.bytes.is_empty() {
                    // LSN and time, where `streaming` is `parallel`.
                    self.take(16)?;
                }
                Streaming::Abort { xid, subxid }
            }
            _ => return Err(self.malformed()),
        })
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.u8()? == byte { Ok(()) } else { Err(self.malformed()) }
    }

    fn relation(&mut self) -> Result<RelationMessage<'a>, Malformed> {
        let oid = self.u32()?;
        let schema = self.text()?;
        let table = self.text()?;
        // Replica identity setting: the columns' flags say the same.
        self.take(1)?;
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(RelationColumn {
                identity: self.u8()? & 1 != 0,
                name: self.text()?,
                type_oid: self.u32()?,
                type_modifier: self.array().map(i32::from_be_bytes)?,
            });
        }
        // The empty name is how pgoutput abbreviates pg_catalog.
        let schema = if schema.is_empty() { "pg_catalog" } else { schema };
        Ok(RelationMessage { oid, schema, table, columns })
    }

    fn update(&mut self) -> Result<Message<'a>, Malformed> {
        let relation = self.u32()?;
        let kind = self.u8()?;
        if kind == b'N' {
            return Ok(Message::Update { relation, old: None, new: self.tuple()? });
        }
        let old = self.old(kind)?;
        self.expect(b'N')?;
        Ok(Message::Update { relation, old: Some(old), new: self.tuple()? })
    }

    fn old(&mut self, kind: u8) -> Result<Old<'a>, Malformed> {
        match kind {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Full(self.tuple()?)),
            _ => Err(self.malformed()),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let count = usize::from(self.u16()?);
        let all = self.bytes;
        for _ in 0..count {
            self.cell()?;
        }
        let length = all.len() - self.bytes.len();
        Ok(Tuple { count, cells: all.get(..length).unwrap_or_default() })
    }

    #[inline]
    fn cell(&mut self) -> Result<Cell<'a>, Malformed> {
        match self.u8()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => {
                let length = self.u32()? as usize;
                Ok(Cell::Text(self.take(length)?))
            }
            // 'b' (binary) is never asked for.
            _ => Err(self.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_update_with_key_is_parsed() {
        let mut bytes = b"U\0\0\0\x07K\0\x02t\0\0\0\x011n".to_vec();
        bytes.extend_from_slice(b"N\0\x02t\0\0\0\x012u");
        let Ok(Message::Update { relation: 7, old: Some(Old::Key(old)), new }) = parse(&bytes)
        else {
            panic!("not an update with key");
        };
        assert_eq!(old.cells().collect::<Vec<_>>(), [Cell::Text(b"1"), Cell::Null]);
        assert_eq!(new.cells().collect::<Vec<_>>(), [Cell::Text(b"2"), Cell::Unchanged]);
        assert!(new.has_unchanged());
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn unknown_messages_are_errors() {
        assert_eq!(parse(b"S\0\0\0\x01\x01"), Err(Malformed { tag: b'S' }));
        assert_eq!(parse(b""), Err(Malformed { tag: 0 }));
        assert_eq!(parse_streaming(b"I\0\0\0\x01"), Err(Malformed { tag: b'I' }));
    }

    #[test]
    fn an_abort_may_carry_place_and_time() {
        let abort = Ok(Streaming::Abort { xid: 1, subxid: 2 });
        assert_eq!(parse_streaming(b"A\0\0\0\x01\0\0\0\x02"), abort);
        assert_eq!(parse_streaming(b"A\0\0\0\x01\0\0\0\x020123456789abcdef"), abort);
        assert!(parse_streaming(b"A\0\0\0\x01\0\0\0\x02012").is_err());
    }

    #[test]
    fn a_change_in_progress_names_its_sub_transaction() {
        let Ok(Message::Truncate { relations }) =
            parse_streamed(b"T\0\0\0\x09\0\0\0\x01\0\0\0\0\x07")
        else {
            panic!("not a truncate");
        };
        assert_eq!(relations, [7]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            tag in proptest::sample::select(&b"BCORYIUDTMXSEcA"[..]),
            body in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![tag];
            bytes.extend(body);
            if let Ok(Message::Insert { new, .. }) = parse(&bytes) {
                prop_assert_eq!(new.cells().count(), new.count);
            }
            let _ = parse_streamed(&bytes);
            let _ = parse_streaming(&bytes);
        }
    }
}
