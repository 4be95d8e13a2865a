//! Envelopes become plain rows, as `ExtractNewRecordState` does.

use serde_json::{Map, Value as Json};

use crate::debezium::Record;

/// What becomes of a delete (`delete.tombstone.handling.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteHandling {
    /// The tombstone only.
    Tombstone,
    /// Nothing.
    Drop,
    /// The old row, with `__deleted`.
    Rewrite,
    /// Both.
    RewriteWithTombstone,
    /// The delete becomes a tombstone, and the tombstone goes.
    DeleteToTombstone,
}

/// The transformation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrap {
    /// What becomes of a delete.
    pub deletes: DeleteHandling,
    /// Fields of the envelope to add to the row (`add.fields`): `op`, `table`, `source.ts_ms`.
    pub add_fields: Vec<String>,
}

impl Unwrap {
    /// What becomes of a record; what is no change of a row stays as it is. Records must be
    /// without schemas.
    pub fn apply(&self, record: Record) -> Option<Record> {
        use DeleteHandling::{DeleteToTombstone, Drop, Rewrite, RewriteWithTombstone, Tombstone};
        if record.table.is_none() {
            return Some(record);
        }
        if record.value.is_null() {
            return matches!(self.deletes, Tombstone | RewriteWithTombstone).then_some(record);
        }
        let deleted = record.value.get("op").and_then(Json::as_str) == Some("d");
        match (deleted, self.deletes) {
            (true, Tombstone | Drop) => None,
            (true, DeleteToTombstone) => Some(Record { value: Json::Null, ..record }),
            (true, Rewrite | RewriteWithTombstone) => self.row(record, "before", Some("true")),
            (false, Rewrite | RewriteWithTombstone) => self.row(record, "after", Some("false")),
            (false, _) => self.row(record, "after", None),
        }
    }

    /// The row of a record; a truncate has none.
    fn row(&self, mut record: Record, image: &str, deleted: Option<&str>) -> Option<Record> {
        let mut row: Map<String, Json> = match record.value.get_mut(image).map(Json::take) {
            Some(Json::Object(row)) => row,
            _ => return None,
        };
        if let Some(deleted) = deleted {
            row.insert("__deleted".into(), deleted.into());
        }
        for field in &self.add_fields {
            let name = format!("__{}", field.replace('.', "_"));
            row.insert(name, self.field(&record.value, field));
        }
        Some(Record { value: Json::Object(row), ..record })
    }

    /// A field of the envelope: one of its own, one of a block of it, or one of the source's.
    fn field(&self, envelope: &Json, name: &str) -> Json {
        let found = match name.split_once('.') {
            Some((block, field)) => envelope.get(block).and_then(|block| block.get(field)),
            None => {
                let of_source = || envelope.get("source").and_then(|source| source.get(name));
                envelope.get(name).or_else(of_source)
            }
        };
        found.cloned().unwrap_or_default()
    }
}
