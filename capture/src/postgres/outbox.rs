//! Deletes rows of an outbox table that are read.

use crossdock_model::TableName;
use tokio_postgres::Client;

use super::{errors, sql};
use crate::{CaptureError, SourceOptions};

/// SQLSTATE: no privilege.
const NO_PRIVILEGE: &str = "42501";

/// Deletes rows of one outbox table by their ids. The login needs `SELECT` and `DELETE` on it.
pub struct OutboxCleaner {
    options: SourceOptions,
    table: TableName,
    client: Client,
    statement: String,
}

impl OutboxCleaner {
    /// Connects. `column` names a row's id.
    ///
    /// # Errors
    /// The table or the column is not there, or the server can't be reached.
    pub async fn open(
        options: &SourceOptions,
        table: &TableName,
        column: &str,
    ) -> Result<Self, CaptureError> {
        let client = sql::connect(options).await?;
        let name = sql::qualified(table);
        // Ids come as texts; compared as what they are, so that the index is used.
        let row = client
            .query_opt(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
                 WHERE attrelid = to_regclass($1) AND attname = $2 AND attnum > 0
                   AND NOT attisdropped",
                &[&name, &column],
            )
            .await
            .map_err(|e| errors::sql(options, &format!("looking up {table}"), e))?;
        let Some(row) = row else {
            return Err(CaptureError::definite(
                format!("source {}: there is no column {table}.{column}", options.name),
                "name the outbox table and the column of its ids",
            ));
        };
        let statement = format!(
            "DELETE FROM {name} WHERE {} = ANY ($1::text[]::{}[])",
            sql::identifier(column),
            row.get::<_, String>(0)
        );
        Ok(Self { options: options.clone(), table: table.clone(), client, statement })
    }

    /// Deletes the rows with these ids, in one transaction; returns how many there were. Rows that
    /// are gone already are no error.
    pub async fn delete(&mut self, ids: &[String]) -> Result<u64, CaptureError> {
        let deleted = self.client.execute(&self.statement, &[&ids]).await;
        deleted.map_err(|error| match error.as_db_error() {
            Some(db) if db.code().code() == NO_PRIVILEGE => CaptureError::definite(
                format!(
                    "source {}: user {} may not delete from {}",
                    self.options.name, self.options.user, self.table
                ),
                format!(
                    "GRANT SELECT, DELETE ON {} TO {};",
                    sql::qualified(&self.table),
                    sql::identifier(&self.options.user)
                ),
            ),
            _ => {
                let doing = format!("deleting from {}", self.table);
                errors::sql(&self.options, &doing, error)
            }
        })
    }
}
