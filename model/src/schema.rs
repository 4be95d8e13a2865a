//! What a table looks like at one point of its source's log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Schema and table. MySQL and MariaDB call the schema "database".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Schema (PostgreSQL) or database (MySQL, MariaDB).
    pub schema: Arc<str>,
    /// Table.
    pub table: Arc<str>,
}

impl TableName {
    /// A name from its two parts.
    pub fn new(schema: &str, table: &str) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// Reads `schema.table`; the first dot divides.
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, table) = text.split_once('.')?;
        (!schema.is_empty() && !table.is_empty()).then(|| Self::new(schema, table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name as the database has it.
    pub name: Arc<str>,
    /// The database's own name of the type, with its modifiers: `numeric(12,3)`, `enum('a','b')`.
    pub type_name: Arc<str>,
    /// False when the column is declared NOT NULL.
    pub nullable: bool,
    /// Place in the key (0 is first); `None` when the column is not part of it.
    pub key: Option<u16>,
    /// What the type is made of, where its name does not say: the base type of a domain with its
    /// modifiers (`numeric(12,2)`), an enum with its labels in order (`enum('a','b')`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_type: Option<Arc<str>>,
    /// The declared default as the database writes it: `'new'::text`, `1.25`, `nextval(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Arc<str>>,
}

/// A table as the log described it when a change was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Schema and table.
    pub name: TableName,
    /// Columns in the order of the row images.
    pub columns: Vec<Column>,
}

impl TableSchema {
    /// Index of a column by name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| &*c.name == name)
    }

    /// Indices of the key columns in key order; empty for a table without key.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut keys: Vec<_> =
            self.columns.iter().enumerate().filter_map(|(i, c)| c.key.map(|k| (k, i))).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, i)| i).collect()
    }

    /// Changes when, and only when, anything of the schema changes.
    pub fn fingerprint(&self) -> [u8; 8] {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let mut short = [0; 8];
        short.copy_from_slice(&Sha256::digest(&text)[..8]);
        short
    }
}
