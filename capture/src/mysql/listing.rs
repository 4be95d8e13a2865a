//! Tables and foreign keys of a database.

use crossdock_model::TableName;
use mysql_async::prelude::Queryable;

use super::connect::{connect, server_error};
use crate::listing::{Reference, TABLES_MAX};
use crate::{CaptureError, SourceOptions};

const TABLES: &str = "SELECT table_schema AS s, table_name AS t FROM information_schema.tables \
    WHERE table_schema = ? AND table_type = 'BASE TABLE' ORDER BY 2 LIMIT ?";
const REFERENCES: &str = "SELECT MIN(table_schema), MIN(table_name), MIN(column_name), \
    MIN(referenced_table_schema), MIN(referenced_table_name), MIN(referenced_column_name) \
    FROM information_schema.key_column_usage \
    WHERE table_schema = ? AND referenced_table_name IS NOT NULL \
    GROUP BY table_schema, table_name, constraint_name HAVING COUNT(*) = 1 \
    ORDER BY 2, 3 LIMIT ?";

type ReferenceRow = (String, String, String, String, String, String);

/// Tables that the login may see, and their foreign keys of one column.
pub(super) async fn list(
    options: &SourceOptions,
    database: Option<&str>,
) -> Result<(Vec<TableName>, Vec<Reference>), CaptureError> {
    let mut conn = connect(options).await?;
    let fail = |error| server_error(options, "listing the tables", error);
    let of = database.unwrap_or(&options.database).to_string();
    let tables: Vec<(String, String)> =
        conn.exec(TABLES, (of.clone(), TABLES_MAX)).await.map_err(fail)?;
    let references: Vec<ReferenceRow> =
        conn.exec(REFERENCES, (of, TABLES_MAX * 10)).await.map_err(fail)?;
    conn.disconnect().await.ok();
    let tables = tables.iter().map(|(schema, table)| TableName::new(schema, table)).collect();
    let reference = |(schema, table, column, to_schema, to, to_column): ReferenceRow| Reference {
        table: TableName::new(&schema, &table),
        column,
        to: TableName::new(&to_schema, &to),
        to_column,
    };
    Ok((tables, references.into_iter().map(reference).collect()))
}
