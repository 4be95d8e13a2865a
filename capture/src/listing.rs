//! What a database has, from its catalog alone: for a first mapping of a system that nobody has
//! described yet. Reads no rows, and changes nothing.

use crossdock_model::{TableName, TableSchema};

use crate::{CaptureError, DatabaseKind, SourceOptions, mysql, postgres};

/// More tables than a person maps; a larger database is asked for one schema at a time.
pub(crate) const TABLES_MAX: i64 = 2_000;

/// Tables of a database and how they refer to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Tables that the login may read, in the order of their names.
    pub tables: Vec<TableSchema>,
    /// Foreign keys of one column.
    pub references: Vec<Reference>,
}

/// A foreign key of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table that refers.
    pub table: TableName,
    /// Its column.
    pub column: String,
    /// The table that is referred to.
    pub to: TableName,
    /// The column there.
    pub to_column: String,
}

/// Lists the tables of the database that the options name; on PostgreSQL of one schema, or of all
/// that are not the server's own.
pub async fn list(options: &SourceOptions, schema: Option<&str>) -> Result<Listing, CaptureError> {
    let (names, references) = match options.kind {
        DatabaseKind::Postgres => postgres::list(options, schema).await?,
        DatabaseKind::Mysql | DatabaseKind::Mariadb => mysql::list(options, schema).await?,
    };
    let asked = SourceOptions { tables: names, ..options.clone() };
    Ok(Listing { tables: crate::describe(&asked).await?, references })
}
