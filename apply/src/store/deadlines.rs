//! Records whose time has come.

use crossdock_model::canonical::{Deadline, RecordKey};

use super::encoding::Micros;
use super::load::Cells;
use super::{PostgresStore, sql};
use crate::ApplyError;

impl PostgresStore {
    /// Records with a deadline that has passed (`now_micros` since the Unix epoch) and has not
    /// been looked at, those that are due longest first; at most `limit` deadlines.
    pub async fn due_records(
        &mut self,
        now_micros: i64,
        limit: usize,
    ) -> Result<Vec<RecordKey>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(sql::GET_DUE, &[&Micros(now_micros), &limit]).await?;
        let mut records = self.read(rows, |row| row.record_key(0))?;
        records.sort();
        records.dedup();
        Ok(records)
    }

    /// When the next deadline passes that has not been looked at, microseconds since the Unix
    /// epoch; `None` when there is none.
    pub async fn next_due_micros(&mut self) -> Result<Option<i64>, ApplyError> {
        let rows = self.query(sql::GET_NEXT_DUE, &[]).await?;
        let times: Vec<Option<Micros>> = self.read(rows, |row| row.get(0))?;
        Ok(times.into_iter().next().flatten().map(|due| due.0))
    }
}

pub(super) fn deadline(row: &Cells<'_>) -> Result<Deadline, ApplyError> {
    Ok(Deadline {
        record: row.record_key(0)?,
        id: row.get(2)?,
        rule: row.name(3)?,
        due_micros: row.get::<Micros>(4)?.0,
        raised: row.get(5)?,
        gone: false,
    })
}
