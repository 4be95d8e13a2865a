//! Values as MySQL and MariaDB take them in prepared statements.

use crossdock_model::Value;
use crossdock_model::time;
use mysql_async::Value as Given;

/// A parameter. Times are UTC, as the session is; MySQL has neither zones nor infinity.
pub(super) fn given(value: &Value<'_>) -> Given {
    let text = |t: &str| Given::Bytes(t.as_bytes().to_vec());
    match value {
        Value::Null => Given::NULL,
        Value::Bool(v) => Given::Int(i64::from(*v)),
        Value::Int(v) => Given::Int(*v),
        Value::UInt(v) => Given::UInt(*v),
        Value::Float32(v) => Given::Float(*v),
        Value::Float(v) => Given::Double(*v),
        Value::Decimal(v) | Value::Text(v) | Value::Json(v) => text(v),
        Value::Bytes(v) => Given::Bytes(v.to_vec()),
        Value::Timestamp(v) | Value::TimestampTz(v) => {
            text(&time::timestamp_text(*v).replacen('T', " ", 1))
        }
        Value::TimeTz(v, offset) => text(&time::time_text(v - i64::from(*offset) * 1_000_000)),
        Value::Bits(bits, bytes) if *bits <= 64 => Given::UInt(number(*bits, bytes)),
        Value::Bits(_, bytes) => Given::Bytes(bytes.to_vec()),
        Value::Uuid(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::Interval(..)
        | Value::Array(_) => value.to_text().map_or(Given::NULL, |t| text(&t)),
    }
}

/// How many bytes a parameter takes on the wire, about.
pub(super) fn size(value: &Given) -> usize {
    match value {
        Given::Bytes(bytes) => bytes.len() + 9,
        _ => 9,
    }
}

/// A bit string as the number that MySQL's BIT holds: its last bit is the lowest.
fn number(bits: u32, bytes: &[u8]) -> u64 {
    (0..bits as usize).fold(0, |number, i| {
        let bit = bytes.get(i / 8).is_some_and(|b| b & (0x80 >> (i % 8)) != 0);
        number << 1 | u64::from(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_given_as_mysql_reads_them() {
        let text = |t: &str| Given::Bytes(t.as_bytes().to_vec());
        assert_eq!(
            given(&Value::TimestampTz(1_795_414_530_500_000)),
            text("2026-11-23 06:15:30.5")
        );
        assert_eq!(given(&Value::Bool(true)), Given::Int(1));
        assert_eq!(given(&Value::Bits(5, vec![0b1010_1000].into())), Given::UInt(0b10101));
        assert_eq!(given(&Value::Decimal("1.50".into())), text("1.50"));
    }
}
