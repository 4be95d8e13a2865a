//! Progress of targets that keep none themselves.

use tokio_postgres::Client;

use super::encoding::Micros;
use super::writes::{counter, number};
use crate::target::TargetProgress;
use crate::{ApplyError, ConnectOptions, classify, connect};

/// How far one target has come, as the canonical store says. One connection, not repaired.
pub struct TargetLedger {
    store: String,
    target: String,
    client: Client,
}

impl TargetLedger {
    /// Connects to the store.
    pub async fn open(store: &ConnectOptions, target: &str) -> Result<Self, ApplyError> {
        let client = connect::postgres(store).await?;
        Ok(Self { store: store.name.clone(), target: target.to_string(), client })
    }

    /// Progress of a stream.
    pub async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        let sql = "SELECT seq, applied_at FROM crossdock.target_progress
                   WHERE target = $1 AND stream = $2";
        let row = self.client.query_opt(sql, &[&self.target, &stream]).await;
        let row = row.map_err(|e| classify::postgres(&self.store, "reading the progress", e))?;
        Ok(row.map(|row| TargetProgress {
            seq: counter(row.get(0)),
            applied_micros: row.get::<_, Micros>(1).0,
        }))
    }

    /// Notes progress; durable on return. It never goes back.
    pub async fn note(&mut self, stream: &str, seq: u64) -> Result<(), ApplyError> {
        let sql = "INSERT INTO crossdock.target_progress AS p (target, stream, seq)
                   VALUES ($1, $2, $3)
                   ON CONFLICT (target, stream) DO UPDATE SET
                       seq = greatest(p.seq, excluded.seq), applied_at = now()";
        let noted = self.client.execute(sql, &[&self.target, &stream, &number(seq)]).await;
        noted.map(|_| ()).map_err(|e| classify::postgres(&self.store, "noting the progress", e))
    }

    /// Sets progress back. Returns where it was.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        let Some(before) = self.progress(stream).await? else { return Ok(None) };
        let sql = "UPDATE crossdock.target_progress SET seq = $3
                   WHERE target = $1 AND stream = $2 AND seq > $3";
        let moved = self.client.execute(sql, &[&self.target, &stream, &number(seq)]).await;
        moved.map_err(|e| classify::postgres(&self.store, "rewinding", e))?;
        Ok(Some(before.seq))
    }
}
