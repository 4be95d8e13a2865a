//! Bytes of numbers, texts, values and positions.

use crate::{Position, Value};

/// Encodes one value as blocks do; for row images in the canonical store.
pub fn encode_value(out: &mut Vec<u8>, value: &Value<'_>) {
    put_value(out, value);
}

pub(super) fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
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

pub(super) fn put_position(out: &mut Vec<u8>, position: &Position) {
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
        Position::Poll { round, step } => {
            out.push(2);
            put_unsigned(out, *round);
            put_unsigned(out, *step);
        }
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_unsigned(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[inline]
pub(super) fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
