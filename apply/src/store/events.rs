//! Evidence in the order in which it was recorded, for those who are told of what has happened.

use std::collections::BTreeMap;

use crossdock_model::canonical::{Evidence, Name, RecordKey};
use uuid::Uuid;

use super::encoding::Micros;
use super::{PostgresStore, load, sql};
use crate::ApplyError;

/// A fact, and the links of the record that it is about.
pub type Event = (Evidence, BTreeMap<Name, RecordKey>);

impl PostgresStore {
    /// Evidence that was recorded at a time (microseconds since the Unix epoch) or later, behind
    /// the place `after` (time and id of the last one that was given), at most `limit`; of all
    /// entities or of one.
    pub async fn events(
        &mut self,
        entity: Option<&str>,
        after: (i64, Uuid),
        limit: usize,
    ) -> Result<Vec<Event>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (at, id) = (Micros(after.0), after.1);
        let rows = self.query(sql::GET_EVENTS, &[&entity, &at, &id, &limit]).await?;
        self.read(rows, |row| Ok((load::evidence(row)?, row.json(13)?)))
    }
}
