//! How values are kept in the store where they are read back: exactly typed.

use std::borrow::Cow;
use std::error::Error;

use bytes::{BufMut, BytesMut};
pub(crate) use crossdock_model::block::{decode_fields, encode_fields};
use crossdock_model::{LogOrder, Value};
use serde_json::Value as Json;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::ApplyError;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// PostgreSQL's last instant is in 294276; what is later is taken for infinity.
const MICROS_MAX: i64 = 9_000_000_000_000_000_000;
/// PostgreSQL's first instant is in 4714 BC.
const MICROS_MIN: i64 = -210_000_000_000_000_000;

/// An instant as `timestamptz`, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Micros(pub i64);

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(match self.0 {
            micros if micros > MICROS_MAX => i64::MAX,
            micros if micros < MICROS_MIN => i64::MIN,
            micros => micros - POSTGRES_EPOCH_MICROS,
        });
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match i64::from_be_bytes(raw.try_into()?) {
            i64::MAX => i64::MAX,
            i64::MIN => i64::MIN,
            micros => micros.saturating_add(POSTGRES_EPOCH_MICROS),
        }))
    }

    accepts!(TIMESTAMPTZ);
}

/// PostgreSQL text holds no NUL: its visible stand-in is kept instead.
pub(crate) fn text(given: &str) -> Cow<'_, str> {
    match given.contains('\0') {
        true => Cow::Owned(given.replace('\0', "\u{2400}")),
        false => Cow::Borrowed(given),
    }
}

/// A value of `fields_json`, as far as JSON knows its type.
pub(crate) fn value_of_json(given: Json) -> Value<'static> {
    match given {
        Json::Null => Value::Null,
        Json::Bool(v) => Value::Bool(v),
        Json::String(v) => Value::Text(v.into()),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(v), _) => Value::Int(v),
            (None, Some(v)) => Value::UInt(v),
            (None, None) => Value::Decimal(n.to_string().into()),
        },
        other @ (Json::Array(_) | Json::Object(_)) => Value::Json(other.to_string().into()),
    }
}

/// A place in a log as it is kept.
pub(crate) fn order(text: &str) -> Option<LogOrder> {
    LogOrder::from_sortable(text)
}

/// Something in the store that this build can't read.
pub(crate) fn unreadable(server: &str, what: &str) -> ApplyError {
    ApplyError::Definite {
        what: format!("{server}: {what} in the canonical store can't be read"),
        remedy: "restore the store, or rewind the sources to a savepoint from before it broke"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use crossdock_model::canonical::Fields;

    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            "-?[0-9]{1,20}\\.[0-9]{1,9}".prop_map(|t| Value::Decimal(t.into())),
            ".{0,20}".prop_map(|t| Value::Text(t.into())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Value::Bytes(b.into())),
            any::<i64>().prop_map(Value::TimestampTz),
            any::<i32>().prop_map(Value::Date),
        ]
    }

    proptest! {
        #[test]
        fn fields_round_trip(map in prop::collection::btree_map("[a-z_]{1,8}", value(), 0..8)) {
            let fields: Fields = map.into_iter().map(|(k, v)| (k.as_str().into(), v)).collect();
            prop_assert_eq!(decode_fields(&encode_fields(&fields)), Some(fields));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_fields(&bytes);
        }

        #[test]
        fn every_instant_has_a_place(micros in any::<i64>()) {
            let mut out = BytesMut::new();
            Micros(micros).to_sql(&Type::TIMESTAMPTZ, &mut out).unwrap();
            let back = Micros::from_sql(&Type::TIMESTAMPTZ, &out).unwrap();
            let expected = match micros {
                m if m > MICROS_MAX => i64::MAX,
                m if m < MICROS_MIN => i64::MIN,
                m => m,
            };
            prop_assert_eq!(back.0, expected);
        }
    }
}
