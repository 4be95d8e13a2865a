//! One cell of a row, independent of the database it came from.

use std::borrow::Cow;
use std::fmt::Write as _;

use bigdecimal::BigDecimal;
use serde::{Deserialize, Serialize};

use crate::text::Str;
use crate::time;

/// A cell value. Borrowed while a log is decoded, owned (`Value<'static>`) afterwards.
///
/// There is no variant for "unchanged": a column that the log did not carry is `None` in
/// [`crate::RowImage::Partial`], so that it can never be taken for NULL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Boolean.
    Bool(bool),
    /// Signed integer of any width.
    Int(i64),
    /// Unsigned integer that may exceed `i64::MAX` (MySQL BIGINT UNSIGNED).
    UInt(u64),
    /// 32-bit float; kept apart so that it prints as the source prints it.
    Float32(f32),
    /// 64-bit float.
    Float(f64),
    /// Exact decimal in plain notation as the source gave it (`-12.500`), or `NaN`, `Infinity`,
    /// `-Infinity`. Never passes through a float.
    Decimal(Str<'a>),
    /// Text, already decoded to UTF-8. Also the carrier of every type that is not known.
    Text(Str<'a>),
    /// Raw bytes.
    Bytes(Cow<'a, [u8]>),
    /// A JSON document as the source wrote it.
    Json(Str<'a>),
    /// UUID, big-endian bytes.
    Uuid([u8; 16]),
    /// Days since 1970-01-01; `i32::MAX`/`i32::MIN` are PostgreSQL's infinities.
    Date(i32),
    /// Microseconds since midnight; MySQL TIME may be negative or beyond 24 h.
    Time(i64),
    /// Time of day with zone: microseconds since midnight and offset east of UTC in seconds.
    TimeTz(i64, i32),
    /// Wall-clock time without zone, microseconds since 1970-01-01 00:00:00;
    /// `i64::MAX`/`i64::MIN` are the infinities.
    Timestamp(i64),
    /// Instant, microseconds since the Unix epoch; `i64::MAX`/`i64::MIN` are the infinities.
    TimestampTz(i64),
    /// Months, days, microseconds: PostgreSQL's interval, not normalised.
    Interval(i32, i32, i64),
    /// Bit string: number of bits, then bytes with the first bit in the highest place.
    Bits(u32, Cow<'a, [u8]>),
    /// One-dimensional or nested array.
    Array(Vec<Value<'a>>),
}

impl Value<'_> {
    /// True for SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// An owned copy.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(v) => Value::Bool(v),
            Value::Int(v) => Value::Int(v),
            Value::UInt(v) => Value::UInt(v),
            Value::Float32(v) => Value::Float32(v),
            Value::Float(v) => Value::Float(v),
            Value::Decimal(v) => Value::Decimal(v.into_owned()),
            Value::Text(v) => Value::Text(v.into_owned()),
            Value::Bytes(v) => Value::Bytes(Cow::Owned(v.into_owned())),
            Value::Json(v) => Value::Json(v.into_owned()),
            Value::Uuid(v) => Value::Uuid(v),
            Value::Date(v) => Value::Date(v),
            Value::Time(v) => Value::Time(v),
            Value::TimeTz(v, o) => Value::TimeTz(v, o),
            Value::Timestamp(v) => Value::Timestamp(v),
            Value::TimestampTz(v) => Value::TimestampTz(v),
            Value::Interval(m, d, u) => Value::Interval(m, d, u),
            Value::Bits(n, v) => Value::Bits(n, Cow::Owned(v.into_owned())),
            Value::Array(v) => Value::Array(v.into_iter().map(Value::into_owned).collect()),
        }
    }

    /// The canonical text of a value, the same whichever database it came from: decimals without
    /// trailing zeros, instants in RFC 3339 UTC, wall-clock times without zone, UUID in lower
    /// case. `None` for NULL. Used for keys, comparison, digests and text protocols.
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(v) => v.to_string(),
            Value::Int(v) => itoa::Buffer::new().format(*v).to_string(),
            Value::UInt(v) => itoa::Buffer::new().format(*v).to_string(),
            Value::Float32(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Decimal(v) => normal_decimal(v),
            Value::Text(v) | Value::Json(v) => v.to_string(),
            Value::Bytes(v) => hex(v),
            Value::Uuid(v) => uuid::Uuid::from_bytes(*v).to_string(),
            Value::Date(v) => time::date_text(*v),
            Value::Time(v) => time::time_text(*v),
            Value::TimeTz(v, o) => format!("{}{}", time::time_text(*v), time::offset_text(*o)),
            Value::Timestamp(v) => time::timestamp_text(*v),
            Value::TimestampTz(v) => time::instant_text(*v),
            Value::Interval(m, d, u) => format!("{m} mon {d} d {u} us"),
            Value::Bits(n, v) => bit_text(*n, v),
            Value::Array(v) => {
                let items: Vec<_> = v.iter().map(|v| v.to_json().to_string()).collect();
                format!("[{}]", items.join(","))
            }
        })
    }

    /// Appends [`Value::to_text`]; `None` for NULL, and then nothing.
    pub fn push_text(&self, out: &mut String) -> Option<()> {
        match self {
            Value::Int(v) => out.push_str(itoa::Buffer::new().format(*v)),
            Value::UInt(v) => out.push_str(itoa::Buffer::new().format(*v)),
            other => out.push_str(&other.text()?),
        }
        Some(())
    }

    /// The same as [`Value::to_text`], borrowed where the value is that text.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Text(v) | Value::Json(v) => Some(Cow::Borrowed(v)),
            Value::Decimal(v) if is_normal(v) => Some(Cow::Borrowed(v)),
            other => other.to_text().map(Cow::Owned),
        }
    }

    /// The canonical JSON of a value: exact numbers that do not fit an `i64` are strings.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Bool(v) => Json::Bool(*v),
            Value::Int(v) => Json::from(*v),
            Value::UInt(v) => Json::from(*v),
            Value::Json(v) => {
                serde_json::from_str(v).unwrap_or_else(|_| Json::String(v.to_string()))
            }
            Value::Array(v) => Json::Array(v.iter().map(Value::to_json).collect()),
            other => other.to_text().map_or(Json::Null, Json::String),
        }
    }

    /// Appends [`Value::to_json`] as text, without building it: what is written for every change
    /// must not cost a tree.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
            Value::Int(_) | Value::UInt(_) => _ = self.push_text(out),
            Value::Text(v) => write_json_text(out, v),
            // A document is brought into its usual form, like everywhere.
            Value::Json(_) => out.push_str(&self.to_json().to_string()),
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            other => write_json_text(out, &other.text().unwrap_or_default()),
        }
    }

    /// Whether two values mean the same, although two databases may type them differently
    /// (`1.50` and `1.5`, an integer and a decimal, text and a number).
    pub fn same_as(&self, other: &Value<'_>) -> bool {
        if self == other {
            return true;
        }
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => false,
            (Value::Json(_), _) | (_, Value::Json(_)) => self.to_json() == other.to_json(),
            // Of one type, and not equal.
            (Value::Bool(_), Value::Bool(_))
            | (Value::Int(_), Value::Int(_))
            | (Value::UInt(_), Value::UInt(_))
            | (Value::Date(_), Value::Date(_))
            | (Value::Timestamp(_), Value::Timestamp(_))
            | (Value::TimestampTz(_), Value::TimestampTz(_)) => false,
            (a, b) => {
                let (Some(a), Some(b)) = (a.text(), b.text()) else { return false };
                // Of numbers in normal notation each has one.
                a == b
                    || !(is_normal(&a) && is_normal(&b))
                        && decimal(&a).is_some_and(|x| decimal(&b).is_some_and(|y| x == y))
            }
        }
    }
}

/// Appends a text as a JSON string.
pub fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    let special = |b: u8| b < 0x20 || b == b'"' || b == b'\\';
    if !text.bytes().any(special) {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if u32::from(c) < 0x20 => _ = write!(out, "\\u{:04x}", u32::from(c)),
                c => out.push(c),
            }
        }
    }
    out.push('"');
}

/// Parses an exact decimal; `None` for `NaN`, the infinities and anything else.
pub fn decimal(text: &str) -> Option<BigDecimal> {
    let text = text.trim();
    let first = text.as_bytes().first()?;
    // Bounded: a hostile exponent must not allocate gigabytes.
    if text.len() > 132_000 || !(first.is_ascii_digit() || b"+-.".contains(first)) {
        return None;
    }
    if let Some(at) = text.find(['e', 'E']) {
        let exponent: i64 = text[at + 1..].parse().ok()?;
        if exponent.abs() > 20_000 {
            return None;
        }
    }
    text.parse().ok()
}

/// Whether a number is in plain notation already, without zeros that mean nothing.
fn is_normal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "1"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain(whole)
        && plain(part)
        && !part.ends_with('0')
        && (whole == "0" || !whole.starts_with('0'))
        && text != "-0"
}

/// Plain notation without trailing zeros: `12.500` becomes `12.5`, `-0.00` becomes `0`.
pub fn normal_decimal(text: &str) -> String {
    let simple = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    if !simple {
        return decimal(text)
            .map_or_else(|| text.to_string(), |d| normal_decimal(&d.to_plain_string()));
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    let whole = digits.split('.').next().unwrap_or("");
    let kept = &digits[whole.len() - whole.trim_start_matches('0').len()..];
    let kept = match kept.is_empty() || kept.starts_with('.') {
        true => format!("0{kept}"),
        false => kept.to_string(),
    };
    if kept == "0" { kept } else { format!("{sign}{kept}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn bit_text(bits: u32, bytes: &[u8]) -> String {
    (0..bits as usize)
        .map(|i| match bytes.get(i / 8).is_some_and(|b| b & (0x80 >> (i % 8)) != 0) {
            true => '1',
            false => '0',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_text() {
        for (given, text) in [
            ("12.500", "12.5"),
            ("-0.00", "0"),
            ("007", "7"),
            ("100", "100"),
            (".5", "0.5"),
            ("-.50", "-0.5"),
            ("1e3", "1000"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(normal_decimal(given), text, "{given}");
            assert_eq!(is_normal(given), given == text && given != "NaN", "{given}");
            assert!(text == "NaN" || is_normal(text), "{text}");
        }
    }

    #[test]
    fn json_is_written_as_it_is_built() {
        let odd = "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}ä€😀/";
        let all = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-7),
            Value::UInt(u64::MAX),
            Value::Float(1.5),
            Value::Decimal("12.500".into()),
            Value::Text(odd.into()),
            Value::Text("plain".into()),
            Value::Json("{\"b\": [1, 2.0], \"a\": null}".into()),
            Value::Json("broken".into()),
            Value::Bytes(vec![0, 255].into()),
            Value::TimestampTz(1_795_414_530_500_000),
            Value::Array(vec![Value::Int(1), Value::Text(odd.into()), Value::Null]),
        ];
        for value in all {
            let mut text = String::new();
            value.write_json(&mut text);
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read, value.to_json(), "{text}");
        }
    }

    #[test]
    fn databases_may_type_one_value_differently() {
        assert!(Value::Int(5).same_as(&Value::Decimal("5.000".into())));
        assert!(Value::Text("5".into()).same_as(&Value::Int(5)));
        assert!(Value::Json("{\"a\": 1}".into()).same_as(&Value::Json("{\"a\":1}".into())));
        assert!(!Value::Null.same_as(&Value::Text("".into())));
        assert!(!Value::Text("a".into()).same_as(&Value::Text("A".into())));
    }
}
