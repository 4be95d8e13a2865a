//! The values of a column, each once.

use crossdock_model::TableName;

use super::{errors, sql};
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
    let client = sql::connect(options).await?;
    let what = format!("reading the values of {table}.{column}");
    let failed = |error| errors::sql(options, &what, error);
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = '{seconds}s'");
    client.batch_execute(&begin).await.map_err(failed)?;
    let (schema, name) = (sql::identifier(&table.schema), sql::identifier(&table.table));
    let column = sql::identifier(column);
    let query = format!(
        "SELECT DISTINCT {column}::text FROM {schema}.{name} WHERE {column} IS NOT NULL LIMIT {most}"
    );
    let rows = client.query(&query, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
}
