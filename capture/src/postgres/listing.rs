//! Tables and foreign keys of a database.

use crossdock_model::TableName;
use tokio_postgres::Row;

use super::{errors, sql};
use crate::listing::{Reference, TABLES_MAX};
use crate::{CaptureError, SourceOptions};

const TABLES: &str = "SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'crossdock')
      AND ($1::text IS NULL OR n.nspname = $1)
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1, 2 LIMIT $2";

const REFERENCES: &str = "SELECT n.nspname, c.relname, a.attname, tn.nspname, t.relname, ta.attname
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
    JOIN pg_attribute ta ON ta.attrelid = t.oid AND ta.attnum = k.confkey[1]
    WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND NOT c.relispartition
      AND ($1::text IS NULL OR n.nspname = $1)
    ORDER BY 1, 2, 3, k.conname LIMIT $2";

/// Tables that the login may read, and their foreign keys of one column.
pub(super) async fn list(
    options: &SourceOptions,
    schema: Option<&str>,
) -> Result<(Vec<TableName>, Vec<Reference>), CaptureError> {
    let client = sql::connect(options).await?;
    let fail = |error| errors::sql(options, "listing the tables", error);
    let name =
        |row: &Row, at: usize| TableName::new(row.get::<_, &str>(at), row.get::<_, &str>(at + 1));
    let tables = client.query(TABLES, &[&schema, &TABLES_MAX]).await.map_err(fail)?;
    let tables = tables.iter().map(|row| name(row, 0)).collect();
    let most = TABLES_MAX * 10;
    let references = client.query(REFERENCES, &[&schema, &most]).await.map_err(fail)?;
    let reference = |row: &Row| Reference {
        table: name(row, 0),
        column: row.get(2),
        to: name(row, 3),
        to_column: row.get(5),
    };
    Ok((tables, references.iter().map(reference).collect()))
}
