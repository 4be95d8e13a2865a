//! The history's parts: made ahead of time, dropped when they are old enough.

use std::time::Duration;

use super::PostgresStore;
use crate::ApplyError;

impl PostgresStore {
    /// Makes the parts of the history for the coming months, and drops those in which everything
    /// is older than `retain`; `None` keeps all. Cheap when there is nothing to do.
    pub async fn keep_history(&mut self, retain: Option<Duration>) -> Result<(), ApplyError> {
        let rows = self.query("SELECT crossdock.make_history_parts()", &[]).await?;
        let made: i32 = self.read(rows, |row| row.get(0))?.first().copied().unwrap_or(0);
        if made > 0 {
            tracing::info!(store = %self.name, parts = made, "made parts of the history");
        }
        let Some(retain) = retain else { return Ok(()) };
        let sql = "SELECT crossdock.drop_history(make_interval(secs => $1))";
        let rows = self.query(sql, &[&retain.as_secs_f64()]).await?;
        let dropped: i32 = self.read(rows, |row| row.get(0))?.first().copied().unwrap_or(0);
        if dropped > 0 {
            tracing::info!(store = %self.name, parts = dropped, "dropped parts of the history");
        }
        Ok(())
    }
}
