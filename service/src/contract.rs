//! What the files read of a source's tables, on record, so that a change of the tables is seen
//! before it does harm: `SOURCE/tables.toml` in the folder of contracts.

use std::collections::BTreeMap;
use std::fmt::Write;

use crossdock_canonical::Rules;
use crossdock_model::canonical::Name;
use crossdock_model::{Column, Problem, TableName, TableSchema};
use crossdock_schema_registry::{Observed, Retyped, SourceSchemas};
use serde::Deserialize;

/// The columns of one source on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Source that it is about.
    pub source: String,
    /// By `schema.table` and column.
    #[serde(default)]
    pub tables: BTreeMap<String, BTreeMap<String, Recorded>>,
}

/// A column on record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The database's own name of the type, with its modifiers.
    #[serde(rename = "type")]
    type_name: String,
    /// What the type is made of, where its name does not say.
    base: Option<String>,
    /// False when it is declared NOT NULL.
    #[serde(default = "yes")]
    null: bool,
    /// Place in the primary key, from 0.
    key: Option<u16>,
}

fn yes() -> bool {
    true
}

/// Something that differs from what is on record, or that the files do not cope with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `wms.shipments.confirmed_at is gone`.
    pub what: String,
    /// Files and lines that it hits, each with what it does there.
    pub places: Vec<String>,
    /// False when values can still be read as the files read them.
    pub breaks: bool,
}

impl Contract {
    /// The columns that the files read, and key columns, as the database has them now.
    pub fn of(source: &str, rules: &Rules, schemas: &[TableSchema]) -> Self {
        let mut tables = BTreeMap::new();
        for schema in schemas {
            let read = |column: &&Column| {
                column.key.is_some()
                    || !rules.uses(source, schema, std::slice::from_ref(&column.name)).is_empty()
            };
            let columns: BTreeMap<String, Recorded> = schema
                .columns
                .iter()
                .filter(read)
                .map(|column| (column.name.to_string(), Recorded::of(column)))
                .collect();
            tables.insert(schema.name.to_string(), columns);
        }
        Self { source: source.to_owned(), tables }
    }

    /// The file, in an order that does not depend on the database.
    pub fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut file = format!(
            "# What the mapping and rule files read of source {0}, as its tables are.\n\
             # Written by `crossdock contract record --source {0}`, compared by\n\
             # `crossdock contract verify`.\n\nsource = {1}\n",
            self.source,
            quoted(&self.source)
        );
        for (table, columns) in &self.tables {
            // Writing to a text can't fail.
            let _ = write!(file, "\n[tables.{}]\n", quoted(table));
            for (name, column) in columns {
                let mut parts = vec![format!("type = {}", quoted(&column.type_name))];
                parts.extend(column.base.iter().map(|base| format!("base = {}", quoted(base))));
                if !column.null {
                    parts.push("null = false".to_owned());
                }
                parts.extend(column.key.map(|key| format!("key = {key}")));
                let _ = writeln!(file, "{} = {{ {} }}", quoted(name), parts.join(", "));
            }
        }
        file
    }

    /// How the database differs now from what is on record.
    pub fn compare(&self, rules: &Rules, schemas: &[TableSchema]) -> Vec<Difference> {
        let mut found = Vec::new();
        for (table, columns) in &self.tables {
            let Some(name) = TableName::parse(table) else { continue };
            let schema = schemas.iter().find(|schema| schema.name == name);
            match schema {
                Some(schema) => self.compare_table(rules, schema, columns, &mut found),
                None => found.push(Difference {
                    what: format!("table {table} is gone"),
                    places: Vec::new(),
                    breaks: true,
                }),
            }
        }
        for schema in schemas {
            if !self.tables.contains_key(&schema.name.to_string()) {
                let what = format!("table {} is not on record", schema.name);
                found.push(Difference { what, places: Vec::new(), breaks: false });
            }
        }
        found
    }

    fn compare_table(
        &self,
        rules: &Rules,
        schema: &TableSchema,
        columns: &BTreeMap<String, Recorded>,
        found: &mut Vec<Difference>,
    ) {
        let name = &schema.name;
        let recorded = TableSchema {
            name: name.clone(),
            columns: columns.iter().map(|(name, column)| column.to_column(name)).collect(),
        };
        let mut known = SourceSchemas::default();
        known.accept(&recorded, "");
        let Observed::Changed { removed, retyped, .. } = known.compare(&without_defaults(schema))
        else {
            return;
        };
        let mut note = |column: &Name, change: String, breaks: bool| {
            let uses = rules.uses(&self.source, schema, std::slice::from_ref(column));
            let place = |p: &Problem| format!("{}:{}: {}", p.file, p.line, p.what);
            let places: Vec<String> = uses.iter().map(place).collect();
            let what = format!("column {name}.{column} {change}");
            found.push(Difference { what, places, breaks });
        };
        for column in removed {
            note(&column, "is gone".to_owned(), true);
        }
        for Retyped { column, from, to, is_other_kind } in retyped {
            let was = recorded.column(&column).and_then(|at| recorded.columns.get(at));
            let is = schema.column(&column).and_then(|at| schema.columns.get(at));
            let (Some(was), Some(is)) = (was, is) else { continue };
            let may_be_null = is.nullable && !was.nullable;
            let breaks = is_other_kind || may_be_null || is.key != was.key;
            let more = match (is_other_kind, may_be_null) {
                (true, _) => "; its values are of another kind",
                (_, true) => "; it may be NULL now",
                _ if is.key != was.key => "; rows are told apart otherwise",
                _ => "",
            };
            note(&column, format!("was {from} and is {to}{more}"), breaks);
        }
    }

    /// Columns on record and tables.
    pub fn size(&self) -> (usize, usize) {
        (self.tables.values().map(BTreeMap::len).sum(), self.tables.len())
    }
}

impl Recorded {
    fn of(column: &Column) -> Self {
        Self {
            type_name: column.type_name.to_string(),
            base: column.base_type.as_ref().map(ToString::to_string),
            null: column.nullable,
            key: column.key,
        }
    }

    fn to_column(&self, name: &str) -> Column {
        Column {
            name: name.into(),
            type_name: self.type_name.as_str().into(),
            nullable: self.null,
            key: self.key,
            base_type: self.base.as_deref().map(Into::into),
            default: None,
        }
    }
}

/// What a column is when nobody says anything does not matter to readers.
fn without_defaults(schema: &TableSchema) -> TableSchema {
    let mut schema = schema.clone();
    schema.columns.iter_mut().for_each(|column| column.default = None);
    schema
}
