//! The loop mark: what Crossdock says about its own transactions in a target database, so that
//! the reader of that database's log knows them again.
//!
//! A mark travels inside the transaction that it describes: on PostgreSQL as a transactional
//! logical message with prefix [`PREFIX`], on MySQL and MariaDB in column `mark` of the progress
//! row. It carries a digest for every row written, so that the reader needs no memory: a row whose
//! written columns have the digested values is an echo; anything else in the transaction (a
//! trigger's row, a computed column) is a genuine change of that system.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Value;

/// Prefix of the logical message that carries a mark.
pub const PREFIX: &str = "crossdock";
/// Name of the table in a target database that holds the progress of `deliver`, and the mark.
pub const PROGRESS_TABLE: &str = "crossdock_progress";

/// What one of our transactions wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Which Crossdock wrote it: the name of the installation.
    pub by: String,
    /// A digest for each row written.
    pub rows: Vec<RowDigest>,
    /// How often Crossdock itself was the cause of what is written here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
}

fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

/// One row that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowDigest {
    /// `schema.table`.
    pub table: String,
    /// Names of the columns that identify the row; they need not be its primary key.
    pub key: Vec<String>,
    /// Names of all columns written, the key's included.
    pub columns: Vec<String>,
    /// Digest of the values of `columns`, see [`digest`].
    pub values: String,
}

impl Mark {
    /// The mark as it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a stored mark.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Digest of column values by their canonical text, so that it is the same whether computed from
/// what was written or from what the log says was stored.
pub fn digest<'v>(values: impl IntoIterator<Item = &'v Value<'v>>) -> String {
    let mut hash = Sha256::new();
    for value in values {
        match comparable(value) {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
    }
    hash.finalize()[..12].iter().map(|b| format!("{b:02x}")).collect()
}

/// A stored number may come back as integer, decimal or text, an instant with or without zone, a
/// boolean as 0 or 1: one text for all of them.
fn comparable(value: &Value<'_>) -> Option<String> {
    let text = match value {
        Value::Bool(v) => u8::from(*v).to_string(),
        Value::Json(_) => value.to_json().to_string(),
        other => other.to_text()?,
    };
    if crate::value::decimal(&text).is_some() {
        return Some(crate::value::normal_decimal(&text));
    }
    if let Some(micros) = crate::time::parse_instant(&text) {
        return Some(micros.to_string());
    }
    if text.starts_with(['{', '['])
        && let Ok(mut json) = serde_json::from_str::<serde_json::Value>(&text)
    {
        json.sort_all_objects();
        return Some(json.to_string());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_digest_in_every_database() {
        let same = [
            [Value::Decimal("5.00".into()), Value::Int(5)],
            [Value::Bool(true), Value::Int(1)],
            [Value::TimestampTz(1_000_000), Value::Timestamp(1_000_000)],
            [Value::Text("{\"b\":1,\"a\":2}".into()), Value::Json("{\"a\": 2, \"b\": 1}".into())],
        ];
        for [a, b] in &same {
            assert_eq!(digest([a]), digest([b]), "{a:?} {b:?}");
        }
        assert_ne!(digest([&Value::Null]), digest([&Value::Text("".into())]));
        let (a, b) = (Value::Text("ab".into()), Value::Text("".into()));
        let (c, d) = (Value::Text("a".into()), Value::Text("b".into()));
        assert_ne!(digest([&a, &b]), digest([&c, &d]));
    }
}
