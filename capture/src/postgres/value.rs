//! PostgreSQL's text output of a value becomes a [`Value`], in one pass and without allocation
//! where the text can be borrowed.
//!
//! Snapshot and stream use the same functions under the same session settings (`DateStyle` ISO,
//! `IntervalStyle` postgres, `TimeZone` UTC), so that one row gives one value either way.

use std::borrow::Cow;

use crossdock_model::{Str, Value};

use super::{array, temporal};

/// How the text of a type is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int,
    Float32,
    Float,
    Decimal,
    Text,
    Bytes,
    Json,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Bits,
}

/// How the text of a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The type, or that of an array's elements.
    pub scalar: Scalar,
    /// The delimiter of an array's elements; `None` when the column is no array.
    pub delimiter: Option<u8>,
}

impl Scalar {
    /// By the OID of a built-in base type. Everything else is text: enums, `citext`, `money`,
    /// ranges, geometry, types of extensions.
    pub(super) fn of(oid: u32) -> Self {
        // OIDs of built-in types never change: src/include/catalog/pg_type.dat.
        match oid {
            16 => Self::Bool,
            20 | 21 | 23 | 26 => Self::Int,
            700 => Self::Float32,
            701 => Self::Float,
            1700 => Self::Decimal,
            17 => Self::Bytes,
            114 | 3802 => Self::Json,
            2950 => Self::Uuid,
            1082 => Self::Date,
            1083 => Self::Time,
            1266 => Self::TimeTz,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1560 | 1562 => Self::Bits,
            _ => Self::Text,
        }
    }

    /// Reads one value; `None` when the text is not of this type.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Value<'_>> {
        // A number, a time or a UUID that is not ASCII fails its own parser below.
        let text = std::str::from_utf8(bytes).ok()?;
        Some(match self {
            Self::Bool => Value::Bool(match text {
                "t" => true,
                "f" => false,
                _ => return None,
            }),
            Self::Int => Value::Int(text.parse().ok()?),
            Self::Float32 => Value::Float32(text.parse().ok()?),
            Self::Float => Value::Float(text.parse().ok()?),
            Self::Decimal => Value::Decimal(Str::Borrowed(decimal(text)?)),
            Self::Text => Value::Text(Str::Borrowed(text)),
            Self::Bytes => Value::Bytes(Cow::Owned(hex(text.strip_prefix("\\x")?)?)),
            Self::Json => Value::Json(Str::Borrowed(text)),
            Self::Uuid => Value::Uuid(uuid(text)?),
            Self::Date => Value::Date(temporal::date(text)?),
            Self::Time => Value::Time(temporal::time(text)?),
            Self::TimeTz => {
                let (micros, offset) = temporal::time_with_zone(text)?;
                Value::TimeTz(micros, offset)
            }
            Self::Timestamp => match temporal::timestamp(text)? {
                Some(micros) => Value::Timestamp(micros),
                None => Value::Text(Str::Borrowed(text)),
            },
            Self::TimestampTz => match temporal::timestamp_with_zone(text)? {
                Some(micros) => Value::TimestampTz(micros),
                None => Value::Text(Str::Borrowed(text)),
            },
            Self::Interval => {
                let (months, days, micros) = temporal::interval(text)?;
                Value::Interval(months, days, micros)
            }
            Self::Bits => bits(bytes)?,
        })
    }
}

impl Kind {
    /// A type that is no array.
    pub(super) fn scalar(scalar: Scalar) -> Self {
        Self { scalar, delimiter: None }
    }

    /// Reads one value; `None` when the text is not of this type.
    #[inline]
    pub(super) fn decode<'a>(&self, bytes: &'a [u8]) -> Option<Value<'a>> {
        match self.delimiter {
            None => self.scalar.decode(bytes),
            Some(delimiter) => array::decode(bytes, delimiter, self.scalar),
        }
    }
}

fn decimal(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain || matches!(text, "NaN" | "Infinity" | "-Infinity")).then_some(text)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(hex_digit(*high)? << 4 | hex_digit(*low)?)).collect()
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    let mut digits = text.bytes().filter(|b| *b != b'-').map(hex_digit);
    for byte in &mut out {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    digits.next().is_none().then_some(out)
}

fn bits(text: &[u8]) -> Option<Value<'static>> {
    let mut packed = vec![0u8; text.len().div_ceil(8)];
    for (i, digit) in text.iter().enumerate() {
        match digit {
            b'0' => {}
            b'1' => *packed.get_mut(i / 8)? |= 0x80 >> (i % 8),
            _ => return None,
        }
    }
    Some(Value::Bits(u32::try_from(text.len()).ok()?, Cow::Owned(packed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Scalar; 16] = [
        Scalar::Bool,
        Scalar::Int,
        Scalar::Float32,
        Scalar::Float,
        Scalar::Decimal,
        Scalar::Text,
        Scalar::Bytes,
        Scalar::Json,
        Scalar::Uuid,
        Scalar::Date,
        Scalar::Time,
        Scalar::TimeTz,
        Scalar::Timestamp,
        Scalar::TimestampTz,
        Scalar::Interval,
        Scalar::Bits,
    ];

    #[test]
    fn texts_become_values() {
        let bits = Value::Bits(10, Cow::Owned(vec![0b1010_1010, 0b1100_0000]));
        for (scalar, text, value) in [
            (Scalar::Bool, "t", Value::Bool(true)),
            (Scalar::Int, "-9223372036854775808", Value::Int(i64::MIN)),
            (Scalar::Decimal, "-12.500", Value::Decimal("-12.500".into())),
            (Scalar::Decimal, "NaN", Value::Decimal("NaN".into())),
            (Scalar::Float, "Infinity", Value::Float(f64::INFINITY)),
            (Scalar::Float32, "0.1", Value::Float32(0.1)),
            (Scalar::Bytes, "\\x00ffAB", Value::Bytes(vec![0, 255, 171].into())),
            (Scalar::Bits, "1010101011", bits),
            (Scalar::Date, "0044-03-15 BC", Value::Date(-735_160)),
        ] {
            assert_eq!(scalar.decode(text.as_bytes()), Some(value), "{text}");
        }
    }

    #[test]
    fn wrong_texts_are_refused() {
        for (scalar, text) in [
            (Scalar::Bool, "true"),
            (Scalar::Int, "1.5"),
            (Scalar::Decimal, "1e5"),
            (Scalar::Bytes, "\\x0"),
            (Scalar::Uuid, "0000"),
            (Scalar::Bits, "102"),
            (Scalar::Date, "2026-02-"),
        ] {
            assert_eq!(scalar.decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Scalar::Text.decode(&[0xff]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for scalar in ALL {
                let _ = scalar.decode(&bytes);
                let _ = Kind { scalar, delimiter: Some(b',') }.decode(&bytes);
            }
        }

        #[test]
        fn no_plausible_text_panics(text in "[-+0-9:. BC{}\",\\\\a-z]{0,30}") {
            for scalar in ALL {
                let _ = scalar.decode(text.as_bytes());
                let _ = Kind { scalar, delimiter: Some(b',') }.decode(text.as_bytes());
            }
        }
    }
}
