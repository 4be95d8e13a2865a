//! Reading a block. Never panics, whatever the bytes, and allocates no more than they can fill.

use std::borrow::Cow;
use std::sync::Arc;

use super::{
    BEGIN, BlockError, END, EVENT, Fragment, ImageKind, MESSAGE, MISSING, OPS, SCHEMA, VERSION,
};
use crate::event::{ChangeEvent, Op, RowImage, TxHeader};
use crate::{Position, Str, TableSchema, Value};

/// Arrays nested deeper than this are refused (PostgreSQL allows 6 dimensions).
const ARRAY_DEPTH_MAX: u32 = 16;

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

    fn text(&mut self) -> Result<&'a str, BlockError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.error("UTF-8"))
    }

    fn position(&mut self) -> Result<Position, BlockError> {
        Ok(match self.byte()? {
            0 => Position::Postgres { lsn: self.unsigned()? },
            1 => Position::Binlog {
                file: self.text()?.to_owned(),
                offset: self.unsigned()?,
                gtid: self.text()?.to_owned(),
            },
            2 => Position::Poll { round: self.unsigned()?, step: self.unsigned()? },
            _ => return Err(self.error("a position")),
        })
    }

    fn header(&mut self) -> Result<(TxHeader, bool), BlockError> {
        let id = self.text()?.to_owned();
        let commit = self.position()?;
        let commit_micros = self.signed()?;
        let origin = match self.byte()? {
            0 => None,
            _ => Some(self.text()?.to_owned()),
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
        let message = Some((self.text()?.to_owned(), self.bytes()?.to_vec()));
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
            7 => Value::Decimal(Str::kept(self.text()?)),
            8 => Value::Text(Str::kept(self.text()?)),
            9 => Value::Bytes(Cow::Owned(self.bytes()?.to_vec())),
            10 => Value::Json(Str::kept(self.text()?)),
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
