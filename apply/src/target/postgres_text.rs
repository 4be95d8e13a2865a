//! Values as PostgreSQL reads them, for a column of a certain type.

use crossdock_model::Value;

/// Type of a column in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnType {
    /// Name to cast to, without length: a cast to `varchar(3)` would cut, an assignment refuses.
    pub(super) sql: String,
    /// `pg_type.typcategory`: `A` array, `B` boolean, `N` number.
    pub(super) category: char,
}

/// The text of a value; `None` for NULL.
pub(super) fn text(value: &Value<'_>, column: &ColumnType) -> Option<String> {
    Some(match value {
        Value::Bool(v) if column.category == 'N' => u8::from(*v).to_string(),
        Value::Bytes(_) => format!("\\x{}", value.to_text()?),
        Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_) => year(value.to_text()?),
        Value::Array(items) if column.category == 'A' => array(items),
        other => other.to_text()?,
    })
}

/// Years beyond 9999 have no sign in PostgreSQL, and those before 1 are counted BC.
fn year(text: String) -> String {
    if let Some(late) = text.strip_prefix('+') {
        return late.trim_start_matches('0').to_string();
    }
    let early = text.strip_prefix('-').and_then(|rest| rest.split_once('-'));
    match early.and_then(|(year, rest)| Some((year.parse::<u32>().ok()?, rest))) {
        Some((year, rest)) => format!("{:04}-{rest} BC", year.saturating_add(1)),
        None if text.starts_with("0000-") => format!("0001{} BC", text.get(4..).unwrap_or("")),
        None => text,
    }
}

/// An array literal: `{1,"a b",NULL}`.
fn array(items: &[Value<'_>]) -> String {
    let element = ColumnType { sql: String::new(), category: 'U' };
    let items: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::Array(inner) => array(inner),
            other => match text(other, &element) {
                None => "NULL".to_string(),
                Some(t) => format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\"")),
            },
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_postgres_reads_them() {
        let any = ColumnType { sql: "text".into(), category: 'S' };
        let number = ColumnType { sql: "int".into(), category: 'N' };
        let many = ColumnType { sql: "text[]".into(), category: 'A' };
        let date = |y| Value::Date(i32::try_from(crossdock_model::time::days(y, 3, 1)).unwrap());
        for (value, column, expected) in [
            (Value::Bool(true), &any, "true"),
            (Value::Bool(true), &number, "1"),
            (Value::Bytes(vec![1, 255].into()), &any, "\\x01ff"),
            (date(12345), &any, "12345-03-01"),
            (date(-43), &any, "0044-03-01 BC"),
            (date(0), &any, "0001-03-01 BC"),
            (Value::Date(i32::MIN), &any, "-infinity"),
            (
                Value::Array(vec![Value::Text("a\"b".into()), Value::Null]),
                &many,
                r#"{"a\"b",NULL}"#,
            ),
            (Value::Array(vec![Value::Int(1)]), &any, "[1]"),
        ] {
            assert_eq!(text(&value, column).as_deref(), Some(expected));
        }
        assert_eq!(text(&Value::Null, &any), None);
    }
}
