//! Rate guards: what they have counted and stopped.

use crossdock_model::canonical::{GuardState, RowKey, SourceRow};

use super::json_text::json_of;
use super::load;
use super::writes::Write;
use super::{PostgresStore, sql};
use crate::ApplyError;
use crate::pipeline::Param;

impl PostgresStore {
    /// All rate guards that have counted something.
    pub async fn guards(&mut self) -> Result<Vec<GuardState>, ApplyError> {
        let rows = self.query("SELECT state FROM crossdock.rate_guard ORDER BY rule", &[]).await?;
        self.read(rows, |row| row.json(0))
    }

    /// Lets what a guard has stopped go on: `integrate` takes it when it opens the store next.
    /// False when the guard has stopped nothing.
    pub async fn release_guard(&mut self, rule: &str) -> Result<bool, ApplyError> {
        let sql = "UPDATE crossdock.rate_guard SET state = jsonb_set(state, '{releasing}', 'true')
                   WHERE rule = $1 AND jsonb_typeof(state -> 'stopped') = 'object' RETURNING 1::bigint";
        Ok(!self.query(sql, &[&rule]).await?.is_empty())
    }

    /// Rows that wait for another row, or refer to it; at most `limit`, in the order of their keys.
    pub async fn referring_rows(
        &mut self,
        on: &RowKey,
        limit: usize,
    ) -> Result<Vec<SourceRow>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (source, table, pk) = (&*on.source, &*on.table, &*on.pk);
        let rows = self.query(sql::GET_REFERRING_SOME, &[&source, &table, &pk, &limit]).await?;
        self.read(rows, load::source_row)
    }
}

/// Puts guards as they are now.
pub(super) fn put<'a>(out: &mut Vec<Write<'a>>, guards: &'a [GuardState]) {
    if guards.is_empty() {
        return;
    }
    let column = |of: fn(&GuardState) -> String| -> Param<'a> {
        Box::new(guards.iter().map(of).collect::<Vec<_>>())
    };
    let params =
        vec![column(|g| g.rule.to_string()), column(|g| g.source.to_string()), column(json_of)];
    out.push((sql::PUT_GUARDS, params));
}
