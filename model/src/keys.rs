//! What names things: sources, fields, records, rows. Names are shared and not copied.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Value;

/// A name that is shared a lot: of a source, entity, field, rule.
pub type Name = Arc<str>;

/// Identity of a canonical record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordKey {
    /// Entity: `shipment`.
    pub entity: Name,
    /// Natural key, printable and stable: `shp:EU:SHP-000812`.
    pub key: Name,
}

/// Names are shared: nearly always equal ones are the same piece of memory.
fn compare(a: &Name, b: &Name) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) }
}

impl Ord for RecordKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.entity, &other.entity).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.source, &other.source)
            .then_with(|| compare(&self.table, &other.table))
            .then_with(|| self.pk.cmp(&other.pk))
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl Hash for RecordKey {
    /// The key says which entity it is of, nearly always: hashing the entity, too, gains nothing.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Identity of a row in a source database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowKey {
    /// Source: `wms_eu`.
    pub source: Name,
    /// `schema.table`.
    pub table: Name,
    /// Canonical texts of the key columns, joined by U+001F; see [`RowKey::join`].
    pub pk: Name,
}

impl Hash for RowKey {
    /// Few sources have tables of the same name, and few tables of a source names that are of one
    /// length and end alike: hashing more than that of them gains nothing.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let table = self.table.as_bytes();
        let last = table.last_chunk::<4>().map_or(0, |end| u32::from_le_bytes(*end));
        state.write_u64((table.len() as u64) << 32 | u64::from(last));
        self.pk.hash(state);
    }
}

impl RowKey {
    /// Joins key values to the text used in `pk`. NULL becomes the empty text.
    pub fn join<'v>(values: impl IntoIterator<Item = &'v Value<'v>>) -> Name {
        let mut values = values.into_iter();
        let first = values.next().unwrap_or(&Value::Null);
        let Some(second) = values.next() else {
            return match first {
                Value::Int(v) => itoa::Buffer::new().format(*v).into(),
                other => other.text().unwrap_or_default().into(),
            };
        };
        let mut joined = String::new();
        // Of NULL nothing is written.
        let _ = first.push_text(&mut joined);
        for value in std::iter::once(second).chain(values) {
            joined.push('\u{1f}');
            let _ = value.push_text(&mut joined);
        }
        joined.into()
    }
}
