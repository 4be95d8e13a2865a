//! Versions of the schemas of source tables, as the log showed them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::{Column, TableName, TableSchema};
use serde::{Deserialize, Serialize};

/// Versions kept of one table; the oldest goes when there is one more.
const VERSIONS_MAX: usize = 32;

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
    /// Its values may be of another kind than before: texts instead of numbers, not more digits.
    pub is_other_kind: bool,
}

impl SourceSchemas {
    /// How a table differs from its latest version. One that looks as it did at any time is known:
    /// a log may be read twice.
    pub fn compare(&self, table: &TableSchema) -> Observed {
        let versions = self.versions(&table.name);
        let fingerprint = text(table.fingerprint());
        if versions.iter().any(|v| v.fingerprint == fingerprint) {
            return Observed::Known;
        }
        versions.last().map_or(Observed::New, |last| difference(&last.schema, table))
    }

    /// Takes note of a table's schema, first seen at a position, as its latest version. Saying
    /// again what was said before changes nothing.
    pub fn accept(&mut self, table: &TableSchema, position: &str) {
        let fingerprint = text(table.fingerprint());
        let versions = self.tables.entry(table.name.to_string()).or_default();
        if versions.iter().any(|v| v.fingerprint == fingerprint) {
            return;
        }
        if versions.len() >= VERSIONS_MAX {
            versions.remove(0);
        }
        let position = position.to_string();
        versions.push(SchemaVersion { fingerprint, position, schema: table.clone() });
    }

    /// The versions of a table, oldest first; empty when it has not been seen.
    pub fn versions(&self, table: &TableName) -> &[SchemaVersion] {
        self.tables.get(&table.to_string()).map_or(&[], Vec::as_slice)
    }

    /// Every version of every table, in the order of their names, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &SchemaVersion> {
        self.tables.values().flatten()
    }
}

fn text(fingerprint: [u8; 8]) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether values of the one type may be values of another kind than those of the other: a longer
/// text or a wider number is the same kind.
fn is_other_kind(from: &Column, to: &Column) -> bool {
    let kind = |column: &Column| kind(column.base_type.as_ref().unwrap_or(&column.type_name));
    kind(from) != kind(to)
}

/// The kind of a type, by its name without modifiers: `numeric(12,3)` and `integer` are numbers.
fn kind(type_name: &str) -> String {
    let mut words = String::new();
    let mut depth = 0_u32;
    for c in type_name.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => words.extend(c.to_lowercase()),
            _ => {}
        }
    }
    let plain = words.replace("unsigned", "").replace("zerofill", "");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let kind = match plain.as_str() {
        "smallint" | "integer" | "int" | "bigint" | "tinyint" | "mediumint" | "numeric"
        | "decimal" => "number",
        "real" | "double precision" | "double" | "float" => "float",
        "text" | "character varying" | "varchar" | "character" | "char" | "bpchar" | "citext"
        | "tinytext" | "mediumtext" | "longtext" | "enum" => "text",
        "json" | "jsonb" => "json",
        "bytea" | "blob" | "tinyblob" | "mediumblob" | "longblob" | "binary" | "varbinary" => {
            "bytes"
        }
        // MySQL's `timestamp` is a point in time, PostgreSQL's is a wall clock; neither changes
        // into the other, since a table stays on its server.
        other => other,
    };
    kind.to_string()
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
            let is_other_kind = is_other_kind(before, column);
            retyped.push(Retyped { column: column.name.clone(), from, to, is_other_kind });
        }
    }
    Observed::Changed { added: missing_in(new, old), removed: missing_in(old, new), retyped }
}

fn describe(column: &Column) -> String {
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
        assert_eq!(schemas.compare(&first), Observed::New);
        schemas.accept(&first, "0/1");
        assert_eq!(schemas.compare(&first), Observed::Known);
        let changed = Observed::Changed {
            added: vec!["weight_kg".into()],
            removed: vec!["weight".into()],
            retyped: vec![Retyped {
                column: "id".into(),
                from: "int not null key 0".into(),
                to: "bigint not null key 0".into(),
                is_other_kind: false,
            }],
        };
        assert_eq!(schemas.compare(&second), changed);
        schemas.accept(&second, "0/3");
        // Rewound and read again: the same story is no news.
        for known in [&first, &second] {
            assert_eq!(schemas.compare(known), Observed::Known);
            schemas.accept(known, "0/1");
        }
        let positions: Vec<_> = schemas.iter().map(|v| v.position.as_str()).collect();
        assert_eq!(positions, ["0/1", "0/3"]);

        let stored = serde_json::to_string(&schemas).unwrap();
        assert_eq!(serde_json::from_str::<SourceSchemas>(&stored).unwrap(), schemas);
    }

    #[test]
    fn wider_is_the_same_kind_and_other_values_are_not() {
        for (from, to, other) in [
            ("integer", "numeric(12,3)", false),
            ("int(10) unsigned", "bigint(20)", false),
            ("varchar(20)", "text", false),
            ("timestamp(3) without time zone", "timestamp without time zone", false),
            ("enum('a','b')", "varchar(10)", false),
            ("integer", "text", true),
            ("text", "json", true),
            ("date", "timestamp with time zone", true),
            ("numeric(10,2)", "double precision", true),
            ("integer", "integer[]", true),
        ] {
            assert_eq!(kind(from) != kind(to), other, "{from} to {to}");
        }
    }

    #[test]
    fn versions_are_bounded() {
        let mut schemas = SourceSchemas::default();
        for i in 0..VERSIONS_MAX + 10 {
            schemas.accept(&table(&[("id", "int"), (&format!("c{i}"), "int")]), &i.to_string());
        }
        assert_eq!(schemas.versions(&TableName::new("wms", "shipments")).len(), VERSIONS_MAX);
    }
}
