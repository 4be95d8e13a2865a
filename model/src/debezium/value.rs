//! Values in Debezium's JSON, by the kind of their column.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bigdecimal::{BigDecimal, RoundingMode};
use serde_json::{Value as Json, json};

use crate::debezium::kind::Kind;
use crate::debezium::options::{
    BigintUnsignedMode, BinaryMode, DecimalMode, HstoreMode, IntervalMode, Options, TimeMode,
};
use crate::debezium::{Connector, UNAVAILABLE, clock, geometry, hstore, vector};
use crate::{Value, value};

/// `money` has two decimals.
pub(super) const MONEY_SCALE: i64 = 2;

/// What a date or time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milli,
    Micro,
    Nano,
}

impl Unit {
    /// The unit of a time or timestamp.
    pub fn of(kind: &Kind, mode: TimeMode) -> Self {
        let (digits, of_day) = match kind {
            Kind::Time(digits) => (*digits, true),
            Kind::Timestamp(digits) => (*digits, false),
            _ => (0, false),
        };
        match mode {
            TimeMode::Connect => Unit::Milli,
            TimeMode::Microseconds => Unit::Micro,
            TimeMode::Nanoseconds => Unit::Nano,
            TimeMode::AdaptiveTimeMicroseconds if of_day => Unit::Micro,
            _ if digits <= 3 => Unit::Milli,
            _ => Unit::Micro,
        }
    }

    fn count(self, micros: i64) -> Json {
        Json::from(match self {
            Unit::Milli => micros.div_euclid(1_000),
            Unit::Micro => micros,
            Unit::Nano => micros.saturating_mul(1_000),
        })
    }
}

/// Bytes as JSON carries them.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Writes values of one source.
#[derive(Clone, Copy)]
pub(super) struct Encoding<'o> {
    pub connector: Connector,
    pub options: &'o Options,
}

impl Encoding<'_> {
    /// A value of a column of this kind.
    pub fn encode(&self, value: &Value<'_>, kind: &Kind) -> Json {
        match (value, kind) {
            (Value::Array(values), Kind::Array(element)) => {
                values.iter().map(|v| self.encode(v, element)).collect()
            }
            // Nested deeper than the type's name tells.
            (Value::Array(values), kind) => values.iter().map(|v| self.encode(v, kind)).collect(),
            // A key or a NULL within an array.
            (value, Kind::Array(element)) => self.scalar(value, element),
            _ => self.scalar(value, kind),
        }
    }

    fn scalar(&self, value: &Value<'_>, kind: &Kind) -> Json {
        match value {
            Value::Null => Json::Null,
            Value::Bool(v) => Json::Bool(*v),
            Value::Int(v) => match kind {
                Kind::BigUnsigned => self.unsigned(u64::try_from(*v).unwrap_or(0)),
                _ => Json::from(*v),
            },
            Value::UInt(v) => self.unsigned(*v),
            // In its own width by its shortest text, so that 0.1 stays 0.1.
            Value::Float32(v) => match kind {
                Kind::Float64 => float(f64::from(*v)),
                _ => float(v.to_string().parse().unwrap_or(f64::from(*v))),
            },
            Value::Float(v) => float(*v),
            Value::Decimal(v) => self.decimal(v, kind),
            Value::Text(v) => self.text(v, kind),
            Value::Bytes(v) => match kind {
                Kind::Point | Kind::Geometry => geometry::of_mysql(v, *kind == Kind::Point),
                Kind::Bytes { pad } => self.bytes(v, *pad),
                _ => self.bytes(v, 0),
            },
            Value::Json(v) => Json::from(&**v),
            Value::Uuid(_) => value.to_text().into(),
            Value::Date(v) => match self.options.time {
                TimeMode::Isostring => clock::iso_date(*v),
                _ => Json::from(*v),
            },
            Value::Time(v) => match self.options.time {
                TimeMode::Isostring => clock::iso_time(*v),
                mode => Unit::of(kind, mode).count(*v),
            },
            Value::TimeTz(v, offset) => clock::zoned_time(*v, *offset),
            Value::Timestamp(v) => {
                let micros = clock::finite(*v);
                match self.options.time {
                    TimeMode::Isostring => clock::iso_timestamp(micros),
                    mode => Unit::of(kind, mode).count(micros),
                }
            }
            Value::TimestampTz(v) => match kind {
                Kind::TimestampTz(digits) => clock::zoned(*v, *digits),
                _ => clock::zoned(*v, 6),
            },
            Value::Interval(months, days, micros) => match self.options.interval {
                IntervalMode::Numeric => clock::duration(*months, *days, *micros),
                IntervalMode::String => clock::iso_interval(*months, *days, *micros),
            },
            Value::Bits(_, v) if *kind == Kind::Bool => {
                Json::Bool(v.first().is_some_and(|b| b & 0x80 != 0))
            }
            Value::Bits(count, v) => Json::from(base64(&self.little_endian(*count, v))),
            Value::Array(_) => Json::Null,
        }
    }

    fn unsigned(&self, value: u64) -> Json {
        match self.options.bigint_unsigned {
            BigintUnsignedMode::Long => Json::from(value),
            BigintUnsignedMode::Precise => {
                let kind = Kind::Decimal { precision: None, scale: Some(0) };
                precise(&value.to_string(), &kind)
            }
        }
    }

    fn decimal(&self, text: &str, kind: &Kind) -> Json {
        match self.options.decimal {
            DecimalMode::Precise => precise(text, kind),
            DecimalMode::Double => float(text.parse().unwrap_or(f64::NAN)),
            DecimalMode::String => Json::from(match text {
                "NaN" => "NAN",
                "Infinity" => "POSITIVE_INFINITY",
                "-Infinity" => "NEGATIVE_INFINITY",
                number => number,
            }),
        }
    }

    fn text(&self, text: &str, kind: &Kind) -> Json {
        match kind {
            Kind::Money => self.money(text),
            Kind::Point => geometry::of_postgres_point(text),
            Kind::Geometry | Kind::Geography => geometry::of_postgis(text),
            Kind::DoubleVector | Kind::FloatVector => vector::dense(text),
            Kind::SparseVector => vector::sparse(text),
            Kind::Hstore => match self.options.hstore {
                HstoreMode::Json => hstore::parse(text).map_or_else(
                    || Json::from(text),
                    |map| Json::from(Json::Object(map).to_string()),
                ),
                HstoreMode::Map => {
                    hstore::parse(text).map_or_else(|| Json::from(text), Json::Object)
                }
            },
            // What no calendar has (`0000-00-00`) has no place in a number.
            Kind::Date | Kind::Time(_) | Kind::Timestamp(_) => Json::Null,
            Kind::TimestampTz(_) if self.connector != Connector::Postgres => Json::Null,
            _ => Json::from(text),
        }
    }

    /// `-$1,234.56`; as text where the locale writes it otherwise.
    fn money(&self, text: &str) -> Json {
        let plain: String = text.chars().filter(|c| !matches!(c, '$' | ',' | ' ')).collect();
        match value::decimal(&plain) {
            Some(_) => self.decimal(&plain, &Kind::Money),
            None => Json::from(text),
        }
    }

    fn bytes(&self, bytes: &[u8], pad: usize) -> Json {
        let mut padded = std::borrow::Cow::Borrowed(bytes);
        if padded.len() < pad {
            // The log leaves out zeros at the end of a fixed length.
            padded.to_mut().resize(pad, 0);
        }
        Json::from(match self.options.binary {
            BinaryMode::Bytes | BinaryMode::Base64 => base64(&padded),
            BinaryMode::Base64UrlSafe => URL_SAFE.encode(&padded),
            BinaryMode::Hex => padded.iter().map(|b| format!("{b:02x}")).collect(),
        })
    }

    /// Content of a logical message.
    pub fn content(&self, bytes: &[u8]) -> Json {
        self.bytes(bytes, 0)
    }

    /// A bit string as an integer, lowest byte first. PostgreSQL's connector leaves out zero bytes
    /// at the end, the others keep them.
    fn little_endian(&self, count: u32, bytes: &[u8]) -> Vec<u8> {
        let count = (count as usize).min(bytes.len() * 8);
        let mut out = vec![0_u8; count.div_ceil(8)];
        for place in 0..count {
            let from = count - 1 - place;
            let set = bytes.get(from / 8).is_some_and(|b| b & (0x80 >> (from % 8)) != 0);
            if let Some(byte) = out.get_mut(place / 8).filter(|_| set) {
                *byte |= 1 << (place % 8);
            }
        }
        while self.connector == Connector::Postgres && out.last() == Some(&0) {
            out.pop();
        }
        out
    }

    /// What stands for a column that has not changed; `None` when the kind cannot hold it.
    pub fn unavailable(&self, kind: &Kind) -> Option<Json> {
        Some(match kind {
            Kind::Text | Kind::Json | Kind::Xml | Kind::Ltree | Kind::Tsvector => {
                Json::from(UNAVAILABLE)
            }
            Kind::Hstore => match self.options.hstore {
                HstoreMode::Json => Json::from(UNAVAILABLE),
                HstoreMode::Map => json!({ UNAVAILABLE: UNAVAILABLE }),
            },
            Kind::Bytes { .. } => self.bytes(UNAVAILABLE.as_bytes(), 0),
            Kind::Array(element) => match **element {
                Kind::Int16 | Kind::Int32 | Kind::Int64 => UNAVAILABLE.bytes().collect(),
                _ => Json::Array(vec![self.unavailable(element)?]),
            },
            _ => return None,
        })
    }

    /// What stands in a NOT NULL column of which the log carries nothing.
    pub fn zero(&self, kind: &Kind) -> Json {
        match kind {
            Kind::Bool => Json::Bool(false),
            Kind::Float32 | Kind::Float64 => Json::from(0.0),
            Kind::Decimal { .. } => self.decimal("0", kind),
            Kind::Money => self.decimal("0", kind),
            Kind::BigUnsigned => self.unsigned(0),
            Kind::Json => Json::from("{}"),
            Kind::Hstore => self.text("", kind),
            Kind::TimeTz => Json::from("00:00:00Z"),
            Kind::TimestampTz(digits) => clock::zoned(0, *digits),
            Kind::Date => self.scalar(&Value::Date(0), kind),
            Kind::Time(_) => self.scalar(&Value::Time(0), kind),
            Kind::Timestamp(_) => self.scalar(&Value::Timestamp(0), kind),
            Kind::Interval => self.scalar(&Value::Interval(0, 0, 0), kind),
            Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::Year => Json::from(0),
            Kind::Array(_) | Kind::DoubleVector | Kind::FloatVector => Json::Array(Vec::new()),
            Kind::Point | Kind::Geometry | Kind::Geography | Kind::SparseVector => Json::Null,
            Kind::Text
            | Kind::Bytes { .. }
            | Kind::Uuid
            | Kind::Xml
            | Kind::Ltree
            | Kind::Tsvector
            | Kind::Enum(_)
            | Kind::EnumSet(_)
            | Kind::Bits(_) => Json::from(""),
        }
    }

    /// A declared default that is a constant, as a value of this kind.
    pub fn constant(&self, text: &str, kind: &Kind) -> Option<Json> {
        let value = match kind {
            Kind::Bool => Value::Bool(match text {
                "true" | "t" | "1" => true,
                "false" | "f" | "0" => false,
                _ => return None,
            }),
            Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::Year => Value::Int(text.parse().ok()?),
            Kind::BigUnsigned => Value::UInt(text.parse().ok()?),
            Kind::Float32 | Kind::Float64 => Value::Float(text.parse().ok()?),
            Kind::Decimal { .. } => {
                value::decimal(text)?;
                Value::Decimal(text.into())
            }
            Kind::Uuid => Value::Uuid(uuid::Uuid::parse_str(text).ok()?.into_bytes()),
            Kind::Json => Value::Json(text.into()),
            Kind::Date => Value::Date(crate::time::parse_date(text)?),
            Kind::Time(_) => Value::Time(crate::time::parse_time(text)?),
            Kind::Timestamp(_) => Value::Timestamp(crate::time::parse_timestamp(text)?.0),
            Kind::TimestampTz(_) => Value::TimestampTz(crate::time::parse_instant(text)?),
            Kind::Text | Kind::Xml | Kind::Ltree | Kind::Hstore | Kind::Money => {
                Value::Text(text.into())
            }
            Kind::Enum(_) | Kind::EnumSet(_) => Value::Text(text.into()),
            _ => return None,
        };
        Some(self.scalar(&value, kind))
    }
}

/// JSON has no words for what is not a finite number; these are Java's.
pub(super) fn float(v: f64) -> Json {
    match v {
        v if v.is_nan() => Json::from("NaN"),
        v if v.is_infinite() => Json::from(if v > 0.0 { "Infinity" } else { "-Infinity" }),
        v => Json::from(v),
    }
}

/// The unscaled integer, big-endian two's complement in base64; with its scale where the type
/// does not say it. What is not a number has no such form and is null.
fn precise(text: &str, kind: &Kind) -> Json {
    let Some(number) = value::decimal(text) else { return Json::Null };
    let scale = match kind {
        Kind::Decimal { scale, .. } => *scale,
        Kind::Money => Some(MONEY_SCALE),
        _ => None,
    };
    if let Some(scale) = scale {
        // Nothing is rounded away: the database has rounded to this scale already.
        let scaled = number.with_scale_round(scale, RoundingMode::HalfEven);
        return Json::from(base64(&scaled.into_bigint_and_exponent().0.to_signed_bytes_be()));
    }
    let (unscaled, own) = number.into_bigint_and_exponent();
    // Written with an exponent: 1e30 is a whole number.
    let (unscaled, own) = match own < 0 {
        true => BigDecimal::new(unscaled, own).with_scale(0).into_bigint_and_exponent(),
        false => (unscaled, own),
    };
    json!({"scale": own, "value": base64(&unscaled.to_signed_bytes_be())})
}
