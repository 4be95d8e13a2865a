//! Asks the server about its log, on a connection of its own.

use std::sync::Arc;

use crossdock_model::Position;
use tokio_postgres::Client;

use super::{errors, sql};
use crate::{CaptureError, Head, SourceOptions};

/// A connection that measures lag against the server.
pub struct PostgresProbe {
    options: Arc<SourceOptions>,
    client: Client,
}

/// Connects a probe.
pub async fn probe(options: &SourceOptions) -> Result<PostgresProbe, CaptureError> {
    let client = sql::connect(options).await?;
    Ok(PostgresProbe { options: Arc::new(options.clone()), client })
}

impl PostgresProbe {
    /// Where the log ends (on a standby: where it has been replayed to), and how far behind it
    /// `at` is. After a transient error the probe is spent: connect a new one.
    pub async fn head(&mut self, at: Option<&Position>) -> Result<Head, CaptureError> {
        let row = self
            .client
            .query_one(
                "SELECT (h.lsn - '0/0')::int8, greatest(h.lsn - s.restart_lsn, 0)::int8,
                        s.safe_wal_size,
                        (SELECT setting::int8 FROM pg_settings
                         WHERE name = 'max_slot_wal_keep_size')
                 FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                   ELSE pg_current_wal_lsn() END) AS h(lsn)
                 LEFT JOIN pg_replication_slots s ON s.slot_name = $1",
                &[&self.options.slot],
            )
            .await
            .map_err(|e| errors::sql(&self.options, "asking for the head of the log", e))?;
        let bytes = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
        let lsn = bytes(row.get(0)).unwrap_or(0);
        let retained_bytes = bytes(row.get(1)).unwrap_or(0);
        let behind_bytes = match at {
            Some(Position::Postgres { lsn: at }) => lsn.saturating_sub(*at),
            Some(Position::Binlog { .. } | Position::Poll { .. }) | None => 0,
        };
        Ok(Head {
            position: Position::Postgres { lsn },
            behind_bytes,
            retained_bytes,
            unread_bytes: retained_bytes,
            keep_limit_age: None,
            keep_limit_bytes: keep_limit(retained_bytes, row.get(2), row.get(3)),
        })
    }
}

/// How much the server keeps at most. What it calls safe to write is exact, since log goes by
/// whole segments; where it does not say, for want of a slot, the setting (in MB) is near it.
fn keep_limit(retained: u64, safe_to_write: Option<i64>, setting: Option<i64>) -> Option<u64> {
    const MEGABYTE: u64 = 1024 * 1024;
    match safe_to_write {
        Some(safe) => Some(retained.saturating_add(u64::try_from(safe).unwrap_or(0))),
        None => u64::try_from(setting?).ok().map(|megabytes| megabytes.saturating_mul(MEGABYTE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_at_most_is_known_where_there_is_a_limit() {
        assert_eq!(keep_limit(100, Some(50), Some(1)), Some(150));
        assert_eq!(keep_limit(100, Some(-7), Some(1)), Some(100));
        assert_eq!(keep_limit(100, None, Some(2)), Some(2 * 1024 * 1024));
        assert_eq!(keep_limit(100, None, Some(-1)), None);
    }
}
