//! The types of canonical fields, and how values of databases become values of them.

use std::fmt;

use crossdock_model::{Str, Value, time, value};
use serde::{Deserialize, Serialize};

/// Longest number that is taken for one by its digits alone.
const PLAIN_BYTES_MAX: usize = 1_000;

/// Type of a canonical field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Any text.
    Text,
    /// Whole number.
    Integer,
    /// Exact decimal number, kept without trailing zeros; never a float.
    Decimal,
    /// True or false.
    Boolean,
    /// Calendar day.
    Date,
    /// Point in time, kept in UTC.
    Instant,
    /// A JSON document.
    Json,
}

impl FieldType {
    /// Reads the word used in entities files.
    pub fn parse(word: &str) -> Option<FieldType> {
        Some(match word {
            "text" => FieldType::Text,
            "integer" => FieldType::Integer,
            "decimal" => FieldType::Decimal,
            "boolean" => FieldType::Boolean,
            "date" => FieldType::Date,
            "instant" => FieldType::Instant,
            "json" => FieldType::Json,
            _ => return None,
        })
    }

    /// The word used in entities files.
    pub fn word(self) -> &'static str {
        match self {
            FieldType::Text => "text",
            FieldType::Integer => "integer",
            FieldType::Decimal => "decimal",
            FieldType::Boolean => "boolean",
            FieldType::Date => "date",
            FieldType::Instant => "instant",
            FieldType::Json => "json",
        }
    }

    /// The value as one of this type; NULL stays NULL.
    ///
    /// One meaning has one result, whichever database it came from: `5.00`, `"5"` and `5` are the
    /// same decimal. A wall-clock time is not an instant: the mapping knows its zone and converts
    /// it first. `Err` when the value cannot be read as this type without guessing; it carries
    /// nothing, because the caller must not repeat the value.
    #[allow(clippy::result_unit_err)]
    pub fn coerce(self, value: &Value<'_>) -> Result<Value<'static>, ()> {
        if let Value::Null = value {
            return Ok(Value::Null);
        }
        match self {
            FieldType::Text => text(value),
            FieldType::Integer => integer(value),
            FieldType::Decimal => decimal(value),
            FieldType::Boolean => boolean(value),
            FieldType::Date => date(value),
            FieldType::Instant => instant(value),
            FieldType::Json => json(value),
        }
        .ok_or(())
    }

    /// Whether a value is of this type already, so that [`FieldType::coerce`] would copy it.
    pub fn has(self, value: &Value<'_>) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (FieldType::Text, Value::Text(_))
            | (FieldType::Integer, Value::Int(_))
            | (FieldType::Boolean, Value::Bool(_))
            | (FieldType::Date, Value::Date(_))
            | (FieldType::Instant, Value::TimestampTz(_)) => true,
            (FieldType::Decimal, Value::Decimal(text)) => is_normal(text),
            _ => false,
        }
    }

    /// The value of a field as the canonical store keeps it, the inverse of
    /// [`Value::to_json`](crossdock_model::Value::to_json). JSON that does not fit the type (the
    /// type was another one once) is given as it is.
    pub fn from_json(self, json: &serde_json::Value) -> Value<'static> {
        if json.is_null() {
            return Value::Null;
        }
        if self == FieldType::Json {
            return Value::Json(json.to_string().into());
        }
        let plain = scalar(json).unwrap_or_else(|| Value::Json(json.to_string().into()));
        self.coerce(&plain).unwrap_or(plain)
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The plain value of a JSON scalar; `None` for lists and objects.
fn scalar(json: &serde_json::Value) -> Option<Value<'static>> {
    use serde_json::Value as Json;
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(v) => Value::Bool(*v),
        Json::String(v) => Value::Text(Str::kept(v)),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(v), _) => Value::Int(v),
            (None, Some(v)) => Value::UInt(v),
            (None, None) => Value::Decimal(value::normal_decimal(&n.to_string()).into()),
        },
        Json::Array(_) | Json::Object(_) => return None,
    })
}

/// The scalar inside a JSON value, as a member of a JSON column is one.
fn scalar_of_document(document: &str) -> Option<Value<'static>> {
    scalar(&serde_json::from_str(document).ok()?)
}

fn text(value: &Value<'_>) -> Option<Value<'static>> {
    let text = match value {
        Value::Array(_) => return None,
        Value::Json(document) => match scalar_of_document(document) {
            Some(plain) => match plain.to_text() {
                Some(text) => text,
                None => return Some(Value::Null),
            },
            None => document.to_string(),
        },
        other => other.to_text()?,
    };
    Some(Value::Text(text.into()))
}

fn integer(value: &Value<'_>) -> Option<Value<'static>> {
    match value {
        Value::Int(v) => Some(Value::Int(*v)),
        // Always the signed form where it fits, so that equal numbers are equal values.
        Value::UInt(v) => Some(i64::try_from(*v).map_or(Value::UInt(*v), Value::Int)),
        Value::Bool(v) => Some(Value::Int(i64::from(*v))),
        Value::Float32(_) | Value::Float(_) | Value::Decimal(_) | Value::Text(_) => {
            let Value::Decimal(plain) = decimal(value)? else { return None };
            if let Ok(v) = plain.parse::<i64>() {
                return Some(Value::Int(v));
            }
            plain.parse::<u64>().ok().map(Value::UInt)
        }
        Value::Json(document) => match scalar_of_document(document)? {
            Value::Null => Some(Value::Null),
            plain => integer(&plain),
        },
        _ => None,
    }
}

fn decimal(value: &Value<'_>) -> Option<Value<'static>> {
    let text = match value {
        Value::Int(v) => v.to_string(),
        Value::UInt(v) => v.to_string(),
        Value::Float32(v) if v.is_finite() => v.to_string(),
        Value::Float(v) if v.is_finite() => v.to_string(),
        Value::Decimal(v) if matches!(&**v, "NaN" | "Infinity" | "-Infinity") => v.to_string(),
        Value::Decimal(v) | Value::Text(v) => {
            let text = v.trim();
            if !is_plain(text) {
                value::decimal(text)?;
            }
            text.strip_prefix('+').unwrap_or(text).to_string()
        }
        Value::Json(document) => match scalar_of_document(document)? {
            Value::Null => return Some(Value::Null),
            plain => return decimal(&plain),
        },
        _ => return None,
    };
    Some(Value::Decimal(value::normal_decimal(&text).into()))
}

/// Digits, with a sign before and a point between at most: what needs no parser to be a decimal.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    text.len() <= PLAIN_BYTES_MAX && number(whole) && number(part)
}

/// A decimal in the only notation that canonical values have: no sign before zero, no zero before
/// digits or at the end of a fraction.
fn is_normal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "1"));
    let zero = whole == "0";
    is_plain(text) && (zero || !whole.starts_with('0')) && !fraction.ends_with('0') && text != "-0"
}

fn boolean(value: &Value<'_>) -> Option<Value<'static>> {
    let truth = match value {
        Value::Bool(v) => *v,
        Value::Int(0) | Value::UInt(0) => false,
        Value::Int(1) | Value::UInt(1) => true,
        Value::Bits(1, bytes) => bytes.first().is_some_and(|b| b & 0x80 != 0),
        Value::Text(v) | Value::Decimal(v) => match v.trim().to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => true,
            "0" | "f" | "false" => false,
            _ => return None,
        },
        Value::Json(document) => match scalar_of_document(document)? {
            Value::Null => return Some(Value::Null),
            plain => return boolean(&plain),
        },
        _ => return None,
    };
    Some(Value::Bool(truth))
}

fn date(value: &Value<'_>) -> Option<Value<'static>> {
    let days = match value {
        Value::Date(v) => *v,
        Value::Timestamp(i64::MAX) => i32::MAX,
        Value::Timestamp(i64::MIN) => i32::MIN,
        Value::Timestamp(micros) => day_at_midnight(*micros)?,
        Value::Text(v) => match v.trim() {
            "infinity" => i32::MAX,
            "-infinity" => i32::MIN,
            text if text.len() == 10 => {
                // 31 February is read as 3 March: only what comes out as it went in is a date.
                time::parse_date(text).filter(|days| time::date_text(*days) == text)?
            }
            text => match time::parse_timestamp(text) {
                Some((micros, None)) => day_at_midnight(micros)?,
                Some((_, Some(_))) => return None,
                None => time::parse_date(text)?,
            },
        },
        Value::Json(document) => match scalar_of_document(document)? {
            Value::Null => return Some(Value::Null),
            plain => return date(&plain),
        },
        _ => return None,
    };
    Some(Value::Date(days))
}

/// A wall-clock time is a day only when nothing is lost by that.
fn day_at_midnight(micros: i64) -> Option<i32> {
    let midnight = micros.rem_euclid(time::DAY_MICROS) == 0;
    i32::try_from(micros.div_euclid(time::DAY_MICROS)).ok().filter(|_| midnight)
}

fn instant(value: &Value<'_>) -> Option<Value<'static>> {
    let micros = match value {
        Value::TimestampTz(v) => *v,
        Value::Timestamp(v @ (i64::MAX | i64::MIN)) => *v,
        Value::Text(v) => match v.trim() {
            "infinity" => i64::MAX,
            "-infinity" => i64::MIN,
            text => {
                let (micros, offset) = time::parse_timestamp(text)?;
                micros.checked_sub(i64::from(offset?) * 1_000_000)?
            }
        },
        Value::Json(document) => match scalar_of_document(document)? {
            Value::Null => return Some(Value::Null),
            plain => return instant(&plain),
        },
        _ => return None,
    };
    Some(Value::TimestampTz(micros))
}

fn json(value: &Value<'_>) -> Option<Value<'static>> {
    let document = match value {
        Value::Json(v) => v.to_string(),
        Value::Text(v) => {
            serde_json::from_str::<serde::de::IgnoredAny>(v).ok()?;
            v.to_string()
        }
        other => other.to_json().to_string(),
    };
    Some(Value::Json(document.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_value(text: &str) -> Value<'static> {
        Value::Text(text.to_string().into())
    }

    #[test]
    fn one_meaning_has_one_value() {
        let five = Value::Decimal("5".into());
        let decimals = [
            Value::Int(5),
            Value::UInt(5),
            Value::Float(5.0),
            Value::Decimal("5.000".into()),
            text_value(" 5.00 "),
            text_value("+5"),
            Value::Json("5".into()),
            Value::Json("\"5.0\"".into()),
        ];
        for value in &decimals {
            assert_eq!(FieldType::Decimal.coerce(value), Ok(five.clone()), "{value:?}");
            assert_eq!(FieldType::Integer.coerce(value), Ok(Value::Int(5)), "{value:?}");
        }
        assert_eq!(
            FieldType::Decimal.coerce(&text_value("0.10000000000000000000000000000000000001")),
            Ok(Value::Decimal("0.10000000000000000000000000000000000001".into()))
        );
        for yes in [Value::Int(1), Value::Bool(true), text_value("T"), text_value("true")] {
            assert_eq!(FieldType::Boolean.coerce(&yes), Ok(Value::Bool(true)));
        }
        let day = Value::Date(20_780);
        for value in [day.clone(), text_value("2026-11-23"), text_value("2026-11-23 00:00:00")] {
            assert_eq!(FieldType::Date.coerce(&value), Ok(day.clone()), "{value:?}");
        }
        let moment = Value::TimestampTz(1_795_414_530_500_000);
        for value in ["2026-11-23T08:15:30.5+02:00", "2026-11-23 06:15:30.500Z"] {
            assert_eq!(FieldType::Instant.coerce(&text_value(value)), Ok(moment.clone()));
        }
        assert_eq!(FieldType::Text.coerce(&Value::Int(7)), Ok(text_value("7")));
        assert_eq!(FieldType::Text.coerce(&Value::Json("\"AF\"".into())), Ok(text_value("AF")));
        assert_eq!(FieldType::Text.coerce(&Value::Json("null".into())), Ok(Value::Null));
    }

    #[test]
    fn nothing_is_guessed() {
        let refused = [
            (FieldType::Integer, text_value("5.5")),
            (FieldType::Integer, text_value("")),
            (FieldType::Decimal, text_value("12,5")),
            (FieldType::Decimal, text_value("NaN")),
            (FieldType::Decimal, Value::Float(f64::NAN)),
            (FieldType::Decimal, Value::Bool(true)),
            (FieldType::Boolean, Value::Int(2)),
            (FieldType::Boolean, text_value("maybe")),
            (FieldType::Date, text_value("2026-02-31")),
            (FieldType::Date, Value::Timestamp(1)),
            (FieldType::Date, Value::TimestampTz(0)),
            (FieldType::Instant, Value::Timestamp(0)),
            (FieldType::Instant, text_value("2026-11-23 08:15:30")),
            (FieldType::Instant, Value::Int(0)),
            (FieldType::Json, text_value("{")),
            (FieldType::Text, Value::Array(vec![])),
        ];
        for (kind, value) in &refused {
            assert_eq!(kind.coerce(value), Err(()), "{kind} {value:?}");
        }
    }

    fn typed() -> impl Strategy<Value = (FieldType, Value<'static>)> {
        prop_oneof![
            ".*".prop_map(|t| (FieldType::Text, Value::Text(t.into()))),
            any::<i64>().prop_map(|v| (FieldType::Integer, Value::Int(v))),
            any::<u64>().prop_map(|v| (FieldType::Integer, Value::UInt(v))),
            "-?[0-9]{1,40}(\\.[0-9]{1,40})?"
                .prop_map(|t| (FieldType::Decimal, Value::Decimal(t.into()))),
            any::<bool>().prop_map(|v| (FieldType::Boolean, Value::Bool(v))),
            (-700_000i32..2_900_000).prop_map(|v| (FieldType::Date, Value::Date(v))),
            (-62_000_000_000_000_000i64..250_000_000_000_000_000)
                .prop_map(|v| (FieldType::Instant, Value::TimestampTz(v))),
            Just((FieldType::Instant, Value::TimestampTz(i64::MAX))),
            Just((FieldType::Json, Value::Json("{\"a\":[1,null,\"x\"]}".into()))),
        ]
    }

    proptest! {
        #[test]
        fn the_store_gives_back_what_it_was_given((kind, value) in typed()) {
            let canonical = kind.coerce(&value).unwrap();
            prop_assert_eq!(kind.from_json(&canonical.to_json()), canonical.clone());
            prop_assert_eq!(kind.coerce(&canonical), Ok(canonical));
        }

        #[test]
        fn a_value_of_a_type_is_as_the_type_makes_it(text in "-?0{0,2}[0-9]{0,3}(\\.[0-9]{0,2}0{0,2})?") {
            let value = Value::Decimal(text.into());
            let made = FieldType::Decimal.coerce(&value);
            prop_assert_eq!(FieldType::Decimal.has(&value), made == Ok(value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            use FieldType::*;
            for kind in [Text, Integer, Decimal, Boolean, Date, Instant, Json] {
                let _ = kind.coerce(&Value::Text(text.as_str().into()));
            }
        }
    }
}
