//! Values in Debezium's JSON, by the type of their column.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bigdecimal::RoundingMode;
use serde_json::{Value as Json, json};

use crate::debezium::{Connector, UNAVAILABLE};
use crate::{Value, time, value};

/// Microseconds of a month in a duration: a twelfth of 365.25 days.
const MONTH_MICROS: i64 = 2_629_800_000_000;
/// What Debezium writes for `infinity` and `-infinity`, in microseconds.
const INFINITY_MICROS: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY_MICROS: i64 = -9_223_372_036_832_400_000;
/// A scale beyond this is none that a database declares.
const SCALE_MAX: i64 = 20_000;

/// A type's name without its modifiers, and these: `numeric(12,3)` is `numeric` and 12, 3.
struct Type<'t> {
    base: Cow<'t, str>,
    modifiers: [Option<i64>; 2],
    array: bool,
}

impl<'t> Type<'t> {
    fn parse(name: &'t str) -> Self {
        let array = name.ends_with("[]");
        let name = name.trim_end_matches("[]");
        let (base, modifiers) = match name.split_once('(') {
            None => (name, ""),
            Some((base, rest)) => (base, rest.split_once(')').map_or("", |(inner, _)| inner)),
        };
        let mut numbers = modifiers.split(',').map(|n| n.trim().parse().ok());
        let modifiers = [numbers.next().flatten(), numbers.next().flatten()];
        let base = base.trim();
        let base = match base.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(base.to_ascii_lowercase()),
            false => Cow::Borrowed(base),
        };
        Self { base, modifiers, array }
    }

    /// The first word of the name.
    fn word(&self) -> &str {
        self.base.split(' ').next().unwrap_or("")
    }

    /// Declared decimals of a second; `default` when there are none.
    fn precision(&self, default: i64) -> i64 {
        self.modifiers[0].unwrap_or(default)
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A value of a column of this type.
pub(super) fn encode(value: &Value<'_>, type_name: &str, connector: Connector) -> Json {
    of_type(value, &Type::parse(type_name), connector)
}

/// What stands for a column that has not changed; `None` when the type cannot hold it.
pub(super) fn unavailable(type_name: &str) -> Option<Json> {
    let kind = Type::parse(type_name);
    let text = match kind.word() {
        "text" | "character" | "varchar" | "char" | "citext" | "json" | "jsonb" | "xml"
        | "hstore" | "tinytext" | "mediumtext" | "longtext" => Json::from(UNAVAILABLE),
        "bytea" | "blob" | "tinyblob" | "mediumblob" | "longblob" | "varbinary" => {
            Json::from(base64(UNAVAILABLE.as_bytes()))
        }
        _ => return None,
    };
    Some(if kind.array { Json::Array(vec![text]) } else { text })
}

fn of_type(value: &Value<'_>, kind: &Type<'_>, connector: Connector) -> Json {
    let postgres = connector == Connector::Postgres;
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => Json::Bool(*v),
        Value::Int(v) => Json::from(*v),
        Value::UInt(v) => Json::from(*v),
        // By its shortest text, so that 0.1 does not become 0.10000000149011612.
        Value::Float32(v) => float(v.to_string().parse().unwrap_or(f64::from(*v))),
        Value::Float(v) => float(*v),
        Value::Decimal(v) => decimal(v, kind),
        Value::Text(v) => match (kind.word(), postgres) {
            ("money", true) => money(v),
            ("point", true) => point_text(v),
            _ => Json::from(&**v),
        },
        Value::Bytes(v) => bytes(v, kind, postgres),
        Value::Json(v) => Json::from(&**v),
        Value::Uuid(_) => value.to_text().into(),
        Value::Date(v) => Json::from(*v),
        Value::Time(v) => match postgres && kind.precision(6) <= 3 {
            true => Json::from(v.div_euclid(1_000)),
            false => Json::from(*v),
        },
        Value::TimeTz(v, offset) => {
            let utc = (v - i64::from(*offset) * 1_000_000).rem_euclid(time::DAY_MICROS);
            Json::from(time::time_text(utc) + "Z")
        }
        Value::Timestamp(v) => {
            let micros = match *v {
                i64::MAX => INFINITY_MICROS,
                i64::MIN => MINUS_INFINITY_MICROS,
                micros => micros,
            };
            match kind.precision(if postgres { 6 } else { 0 }) <= 3 {
                true => Json::from(micros.div_euclid(1_000)),
                false => Json::from(micros),
            }
        }
        Value::TimestampTz(v) => zoned(*v, kind.precision(if postgres { 6 } else { 0 })),
        Value::Interval(months, days, micros) => {
            let months = i64::from(*months).saturating_mul(MONTH_MICROS);
            let days = i64::from(*days).saturating_mul(time::DAY_MICROS);
            Json::from(months.saturating_add(days).saturating_add(*micros))
        }
        Value::Bits(1, v) if kind.precision(1) == 1 && kind.base == "bit" => {
            Json::Bool(v.first().is_some_and(|b| b & 0x80 != 0))
        }
        Value::Bits(count, v) => Json::from(base64(&little_endian(*count, v, postgres))),
        Value::Array(v) => v.iter().map(|v| of_type(v, kind, connector)).collect(),
    }
}

/// JSON has no words for what is not a finite number; these are Java's.
fn float(v: f64) -> Json {
    match v {
        v if v.is_nan() => Json::from("NaN"),
        v if v.is_infinite() => Json::from(if v > 0.0 { "Infinity" } else { "-Infinity" }),
        v => Json::from(v),
    }
}

/// The unscaled integer, big-endian two's complement in base64; with its scale where the type
/// does not say it. What is not a number has no such form and is null.
fn decimal(text: &str, kind: &Type<'_>) -> Json {
    let Some(number) = value::decimal(text) else { return Json::Null };
    let declared = kind.modifiers[0].map(|_| kind.modifiers[1].unwrap_or(0));
    let scale = declared.filter(|scale| scale.abs() <= SCALE_MAX);
    let scaled = match scale {
        // Nothing is rounded away: the database has rounded to this scale already.
        Some(scale) => number.with_scale_round(scale, RoundingMode::HalfEven),
        None => number,
    };
    let (unscaled, own_scale) = scaled.into_bigint_and_exponent();
    let encoded = base64(&unscaled.to_signed_bytes_be());
    match (scale, own_scale) {
        (Some(_), _) => Json::from(encoded),
        (None, own @ 0..) => json!({"scale": own, "value": encoded}),
        // Written with an exponent: 1e30 is a whole number.
        (None, _) => {
            let (whole, _) = bigdecimal::BigDecimal::new(unscaled, own_scale)
                .with_scale(0)
                .into_bigint_and_exponent();
            json!({"scale": 0, "value": base64(&whole.to_signed_bytes_be())})
        }
    }
}

/// `-$1,234.56` with two decimals; as text where the locale writes it otherwise.
fn money(text: &str) -> Json {
    let plain: String = text.chars().filter(|c| !matches!(c, '$' | ',' | ' ')).collect();
    match value::decimal(&plain) {
        Some(_) => decimal(&plain, &Type::parse("numeric(19,2)")),
        None => Json::from(text),
    }
}

fn bytes(bytes: &[u8], kind: &Type<'_>, postgres: bool) -> Json {
    if postgres {
        return Json::from(base64(bytes));
    }
    match kind.word() {
        "point" | "geometry" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" => geometry(bytes, kind.word() == "point"),
        "binary" => {
            // The log leaves out zeros at the end of a fixed length.
            let length = usize::try_from(kind.precision(1)).unwrap_or(0).min(255);
            let mut padded = bytes.to_vec();
            padded.resize(length.max(bytes.len()), 0);
            Json::from(base64(&padded))
        }
        _ => Json::from(base64(bytes)),
    }
}

/// MySQL's form: reference system (4 bytes), then well-known binary.
fn geometry(bytes: &[u8], point: bool) -> Json {
    let Some((srid, wkb)) = bytes.split_first_chunk::<4>() else { return Json::Null };
    let srid = match u32::from_le_bytes(*srid) {
        0 => Json::Null,
        srid => Json::from(srid),
    };
    let coordinate = |at: usize| {
        let bytes = wkb.get(at..)?.first_chunk::<8>()?;
        Some(float(f64::from_le_bytes(*bytes)))
    };
    match (point, coordinate(5), coordinate(13)) {
        (true, Some(x), Some(y)) => json!({"x": x, "y": y, "wkb": base64(wkb), "srid": srid}),
        _ => json!({"wkb": base64(wkb), "srid": srid}),
    }
}

/// PostgreSQL's `(1.5,2.5)`.
fn point_text(text: &str) -> Json {
    let inner = text.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let Some((x, y)) = inner.and_then(|inner| inner.split_once(',')) else {
        return Json::from(text);
    };
    let (Ok(x), Ok(y)) = (x.trim().parse::<f64>(), y.trim().parse::<f64>()) else {
        return Json::from(text);
    };
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend_from_slice(&x.to_le_bytes());
    wkb.extend_from_slice(&y.to_le_bytes());
    json!({"x": float(x), "y": float(y), "wkb": base64(&wkb), "srid": null})
}

/// `2026-05-01T11:14:15.123456Z` with as many decimals as are declared.
fn zoned(micros: i64, precision: i64) -> Json {
    if matches!(micros, i64::MAX | i64::MIN) {
        return Json::from(time::instant_text(micros));
    }
    let (year, month, day) = time::civil(micros.div_euclid(time::DAY_MICROS));
    let of_day = micros.rem_euclid(time::DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let year = match year {
        0..=9_999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", year.unsigned_abs()),
    };
    let digits = format!("{fraction:06}");
    let decimals = usize::try_from(precision).unwrap_or(6).min(6);
    let fraction = match digits.get(..decimals).filter(|shown| !shown.is_empty()) {
        Some(shown) => format!(".{shown}"),
        None => String::new(),
    };
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Json::from(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// A bit string as an integer, lowest byte first. PostgreSQL's connector leaves out zero bytes at
/// the end, the others keep them.
fn little_endian(count: u32, bytes: &[u8], trimmed: bool) -> Vec<u8> {
    let count = (count as usize).min(bytes.len() * 8);
    let mut out = vec![0_u8; count.div_ceil(8)];
    for place in 0..count {
        let from = count - 1 - place;
        let set = bytes.get(from / 8).is_some_and(|b| b & (0x80 >> (from % 8)) != 0);
        if let Some(byte) = out.get_mut(place / 8).filter(|_| set) {
            *byte |= 1 << (place % 8);
        }
    }
    while trimmed && out.last() == Some(&0) {
        out.pop();
    }
    out
}
