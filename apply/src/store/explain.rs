//! Where the value of a field comes from.

use crossdock_model::canonical::{Loaded, Name, Needs, RecordKey};
use serde_json::Value as Json;

use super::encoding::Micros;
use super::{CanonicalStore, PostgresStore};
use crate::ApplyError;

/// The change of a record that gave a field its present value.
#[derive(Clone, Debug, PartialEq)]
pub struct LastChange {
    /// Version of the record since.
    pub version: u64,
    /// Source whose change it was.
    pub source: Name,
    /// The source's transaction.
    pub transaction: Name,
    /// Place of that transaction in the source's log.
    pub position: Name,
    /// Commit time, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// Hash of the rule files that decided.
    pub ruleset: Name,
    /// `[old, new]`.
    pub values: Json,
}

impl PostgresStore {
    /// A record with all that it is made of.
    pub async fn record_state(&mut self, key: &RecordKey) -> Result<Loaded, ApplyError> {
        self.load(&Needs { records: vec![key.clone()], ..Needs::default() }).await
    }

    /// The last change of a field; `None` when it has never had a value.
    pub async fn last_change(
        &mut self,
        key: &RecordKey,
        field: &str,
    ) -> Result<Option<LastChange>, ApplyError> {
        let sql = "SELECT version, source, transaction, position, committed_at, ruleset,
                          changes -> $3::text
                   FROM crossdock.history
                   WHERE entity = $1 AND key = $2 AND changes ? $3::text
                   ORDER BY version DESC, id DESC LIMIT 1";
        let rows = self.query(sql, &[&&*key.entity, &&*key.key, &field]).await?;
        let changes = self.read(rows, |row| {
            Ok(LastChange {
                version: row.counter(0)?,
                source: row.name(1)?,
                transaction: row.name(2)?,
                position: row.name(3)?,
                commit_micros: row.get::<Micros>(4)?.0,
                ruleset: row.name(5)?,
                values: row.get(6)?,
            })
        })?;
        Ok(changes.into_iter().next())
    }
}
