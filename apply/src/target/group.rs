//! From single writes to statements for many rows, and the mark that describes them. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_model::mark::{Mark, RowDigest, digest};
use crossdock_model::{TableName, Value};

use super::TargetBatch;
use crate::ApplyError;

/// Consecutive writes that one statement can make.
#[derive(Debug)]
pub(super) struct Group<'b> {
    pub(super) table: &'b TableName,
    pub(super) kind: WriteKind,
    /// Names of the columns, the key's first.
    pub(super) columns: Vec<&'b Name>,
    /// How many of `columns` are the key.
    pub(super) keys: usize,
    /// Values in the order of `columns`; every key once.
    pub(super) rows: Vec<Vec<&'b Value<'static>>>,
    places: HashMap<Vec<Option<String>>, usize>,
}

/// Divides a batch into groups. The order of groups is that of the writes; within a group no key
/// appears twice, because a statement must not touch a row twice.
pub(super) fn groups<'b>(
    server: &str,
    batch: &'b TargetBatch,
) -> Result<Vec<Group<'b>>, ApplyError> {
    let mut groups: Vec<Group<'b>> = Vec::new();
    for (_, write) in &batch.writes {
        if write.key.is_empty() {
            // Without key an update would reach every row of the table.
            return Err(ApplyError::Definite {
                what: format!("{server}: a write to {} names no key column", write.table),
                remedy: "name the key columns in the rule that makes it".into(),
            });
        }
        let Some((kind, columns)) = shape(write) else { continue };
        let fits = groups.last().is_some_and(|g| {
            g.table == &write.table
                && g.kind == kind
                && g.keys == write.key.len()
                && g.columns == columns
        });
        if !fits {
            groups.push(Group {
                table: &write.table,
                kind,
                columns,
                keys: write.key.len(),
                rows: Vec::new(),
                places: HashMap::new(),
            });
        }
        if let Some(group) = groups.last_mut() {
            group.add(write);
        }
    }
    Ok(groups)
}

/// What a write amounts to, and its columns; `None` for an update of nothing.
fn shape(write: &RowWrite) -> Option<(WriteKind, Vec<&Name>)> {
    let kind = match write.kind {
        WriteKind::Update if write.columns.is_empty() => return None,
        WriteKind::Upsert if write.columns.is_empty() => WriteKind::Insert,
        kind => kind,
    };
    let keys = write.key.iter();
    let columns = match kind {
        WriteKind::Delete => keys.map(|(name, _)| name).collect(),
        _ => keys.chain(&write.columns).map(|(name, _)| name).collect(),
    };
    Some((kind, columns))
}

impl<'b> Group<'b> {
    fn add(&mut self, write: &'b RowWrite) {
        let key = write.key.iter().map(|(_, value)| value.to_text()).collect();
        let values: Vec<_> = write
            .key
            .iter()
            .chain(&write.columns)
            .map(|(_, v)| v)
            .take(self.columns.len())
            .collect();
        match self.places.entry(key) {
            Entry::Vacant(place) => {
                place.insert(self.rows.len());
                self.rows.push(values);
            }
            // The first insert of a key wins, the last of everything else.
            Entry::Occupied(place) if self.kind != WriteKind::Insert => {
                if let Some(row) = self.rows.get_mut(*place.get()) {
                    *row = values;
                }
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// The loop mark of a batch: what each of its rows will look like in the target's log.
pub(super) fn mark(installation: &str, groups: &[Group<'_>], hops: u8) -> Mark {
    let mut mark = Mark { by: installation.to_string(), rows: Vec::new(), hops };
    for group in groups {
        let table = group.table.to_string();
        let columns: Vec<String> = group.columns.iter().map(|c| c.to_string()).collect();
        let key: Vec<String> = columns.iter().take(group.keys).cloned().collect();
        mark.rows.extend(group.rows.iter().map(|row| RowDigest {
            table: table.clone(),
            key: key.clone(),
            columns: columns.clone(),
            values: digest(row.iter().copied()),
        }));
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn write(kind: WriteKind, key: i64, value: i64) -> (Uuid, RowWrite) {
        let write = RowWrite {
            table: TableName::new("public", "t"),
            kind,
            key: vec![("id".into(), Value::Int(key))],
            columns: vec![("v".into(), Value::Int(value))],
        };
        (Uuid::nil(), write)
    }

    fn batch(writes: Vec<(Uuid, RowWrite)>) -> TargetBatch {
        TargetBatch { stream: "s".into(), upto: 1, writes, ..TargetBatch::default() }
    }

    #[test]
    fn one_statement_never_touches_a_row_twice() {
        use WriteKind::{Delete, Insert, Update, Upsert};
        let batch = batch(vec![
            write(Upsert, 1, 10),
            write(Upsert, 2, 20),
            write(Upsert, 1, 11),
            write(Insert, 3, 30),
            write(Insert, 3, 31),
            write(Update, 1, 12),
            write(Delete, 1, 0),
            write(Upsert, 1, 13),
        ]);
        let groups = groups("t", &batch).unwrap();
        let seen: Vec<_> = groups
            .iter()
            .map(|g| {
                let rows: Vec<Vec<_>> = g
                    .rows
                    .iter()
                    .map(|r| r.iter().map(|v| v.to_text().unwrap()).collect())
                    .collect();
                (g.kind, rows.iter().map(|r| r.join(",")).collect::<Vec<_>>().join(" "))
            })
            .collect();
        let expected = [
            (Upsert, "1,11 2,20"),
            (Insert, "3,30"),
            (Update, "1,12"),
            (Delete, "1"),
            (Upsert, "1,13"),
        ];
        assert_eq!(seen, expected.map(|(kind, rows)| (kind, rows.to_string())));
        assert_eq!(mark("x", &groups, 0).rows.len(), 6);
    }

    #[test]
    fn a_write_without_key_is_refused() {
        let (id, mut write) = write(WriteKind::Update, 1, 1);
        write.key.clear();
        assert!(groups("t", &batch(vec![(id, write)])).is_err());
    }
}
