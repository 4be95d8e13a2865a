//! Versions of the schemas of source tables, as the log showed them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::{TableName, TableSchema};
use serde::{Deserialize, Serialize};

/// Versions kept of one table; the oldest goes when there is one more.
const VERSIONS_MAX: usize = 256;

/// Every version seen of every table of one source. In memory; the caller keeps it on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSchemas {
    /// By `schema.table`, each oldest first.
    tables: BTreeMap<String, Vec<SchemaVersion>>,
}

/// A table as it was from some place of its source's log on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaVersion {
    /// Fingerprint of the schema, 16 hexadecimal digits.
    pub fingerprint: String,
    /// Position of the log at which it was first seen.
    pub position: String,
    /// The schema.
    pub schema: TableSchema,
}

/// What an observation told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The table looks as it did before.
    Known,
    /// The table had not been seen before.
    New,
    /// The table has changed. All lists are empty when columns only changed places.
    Changed {
        /// Columns that it did not have.
        added: Vec<Arc<str>>,
        /// Columns that it has no more. A renamed column is removed and added.
        removed: Vec<Arc<str>>,
        /// Columns whose type, nullability or place in the key has changed.
        retyped: Vec<Retyped>,
    },
}

/// A column before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retyped {
    /// Column.
    pub column: Arc<str>,
    /// As it was: `numeric(12,3) not null key 0`.
    pub from: String,
    /// As it is.
    pub to: String,
}

impl SourceSchemas {
    /// Takes note of a table's schema at a position. Saying again what was said before changes
    /// nothing, so a log may be read twice.
    pub fn observe(&mut self, table: &TableSchema, position: &str) -> Observed {
        let fingerprint: String = table.fingerprint().iter().map(|b| format!("{b:02x}")).collect();
        let versions = self.tables.entry(table.name.to_string()).or_default();
        let replayed = |v: &SchemaVersion| v.fingerprint == fingerprint && v.position == position;
        let last = versions.last();
        if last.is_some_and(|v| v.fingerprint == fingerprint) || versions.iter().any(replayed) {
            return Observed::Known;
        }
        let observed = last.map_or(Observed::New, |last| difference(&last.schema, table));
        if versions.len() >= VERSIONS_MAX {
            versions.remove(0);
        }
        let position = position.to_string();
        versions.push(SchemaVersion { fingerprint, position, schema: table.clone() });
        observed
    }

    /// The versions of a table, oldest first; empty when it has not been seen.
    pub fn versions(&self, table: &TableName) -> &[SchemaVersion] {
        self.tables.get(&table.to_string()).map_or(&[], Vec::as_slice)
    }

    /// The latest version of every table, in the order of their names.
    pub fn latest(&self) -> impl Iterator<Item = &SchemaVersion> {
        self.tables.values().filter_map(|versions| versions.last())
    }
}

fn difference(old: &TableSchema, new: &TableSchema) -> Observed {
    let missing_in = |a: &TableSchema, b: &TableSchema| -> Vec<Arc<str>> {
        let names = a.columns.iter().map(|c| &c.name);
        names.filter(|name| b.column(name).is_none()).cloned().collect()
    };
    let mut retyped = Vec::new();
    for column in &new.columns {
        let before = old.column(&column.name).and_then(|i| old.columns.get(i));
        if let Some(before) = before.filter(|before| *before != column) {
            let (from, to) = (describe(before), describe(column));
            retyped.push(Retyped { column: column.name.clone(), from, to });
        }
    }
    Observed::Changed { added: missing_in(new, old), removed: missing_in(old, new), retyped }
}

fn describe(column: &crossdock_model::Column) -> String {
    let null = if column.nullable { "" } else { " not null" };
    let key = column.key.map_or_else(String::new, |k| format!(" key {k}"));
    format!("{}{null}{key}", column.type_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_model::Column;

    fn table(columns: &[(&str, &str)]) -> TableSchema {
        let columns = columns.iter().enumerate().map(|(i, (name, kind))| Column {
            name: (*name).into(),
            type_name: (*kind).into(),
            nullable: i > 0,
            key: (i == 0).then_some(0),
            base_type: None,
            default: None,
        });
        TableSchema { name: TableName::new("wms", "shipments"), columns: columns.collect() }
    }

    #[test]
    fn a_change_is_described_once() {
        let mut schemas = SourceSchemas::default();
        let first = table(&[("id", "int"), ("weight", "int"), ("seal", "text")]);
        let second = table(&[("id", "bigint"), ("seal", "text"), ("weight_kg", "numeric(12,3)")]);
        assert_eq!(schemas.observe(&first, "0/1"), Observed::New);
        assert_eq!(schemas.observe(&first, "0/2"), Observed::Known);
        let changed = Observed::Changed {
            added: vec!["weight_kg".into()],
            removed: vec!["weight".into()],
            retyped: vec![Retyped {
                column: "id".into(),
                from: "int not null key 0".into(),
                to: "bigint not null key 0".into(),
            }],
        };
        assert_eq!(schemas.observe(&second, "0/3"), changed);
        // Rewound and read again: the same story is no news.
        assert_eq!(schemas.observe(&first, "0/1"), Observed::Known);
        assert_eq!(schemas.observe(&second, "0/3"), Observed::Known);
        assert_eq!(schemas.versions(&first.name).len(), 2);
        assert_eq!(schemas.latest().map(|v| v.position.as_str()).collect::<Vec<_>>(), ["0/3"]);

        let stored = serde_json::to_string(&schemas).unwrap();
        assert_eq!(serde_json::from_str::<SourceSchemas>(&stored).unwrap(), schemas);
    }

    #[test]
    fn versions_are_bounded() {
        let mut schemas = SourceSchemas::default();
        for i in 0..VERSIONS_MAX + 10 {
            schemas.observe(&table(&[("id", "int"), (&format!("c{i}"), "int")]), &i.to_string());
        }
        assert_eq!(schemas.versions(&TableName::new("wms", "shipments")).len(), VERSIONS_MAX);
    }
}
