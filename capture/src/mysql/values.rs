//! The values of a column, each once.

use crossdock_model::TableName;
use mysql_async::prelude::Queryable;

use super::connect::{self, ident, server_error, table_ident};
use crate::{CaptureError, SourceOptions};

/// At most `most` values of a column as texts, NULL left out. Read-only; the server gives up after
/// `seconds`.
pub(crate) async fn distinct(
    options: &SourceOptions,
    table: &TableName,
    column: &str,
    most: usize,
    seconds: u64,
) -> Result<Vec<String>, CaptureError> {
    let mut conn = connect::connect(options).await?;
    let mariadb = connect::server(options, &mut conn).await?.mariadb;
    let what = format!("reading the values of {table}.{column}");
    let failed = |error| server_error(options, &what, error);
    let limit = match mariadb {
        true => format!("SET SESSION max_statement_time = {seconds}"),
        false => format!("SET SESSION max_execution_time = {}", seconds * 1000),
    };
    conn.query_drop(limit).await.map_err(failed)?;
    conn.query_drop("START TRANSACTION READ ONLY").await.map_err(failed)?;
    let (from, column) = (table_ident(table), ident(column));
    let query = format!(
        "SELECT DISTINCT CAST({column} AS CHAR) FROM {from} WHERE {column} IS NOT NULL LIMIT {most}"
    );
    let values = conn.query(query).await.map_err(failed)?;
    conn.disconnect().await.ok();
    Ok(values)
}
