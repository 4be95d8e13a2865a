//! Reverts too many: a system that insists on its value is not written to for ever.

use std::time::Duration;

use super::parked::{Owed, PING_PONG, RAISE, failed, lock};
use super::postgres::PostgresStore;
use super::writes::number;
use crate::ApplyError;

/// Reverts of the same field of the same record that were owed shortly before, and whether one
/// of them was withheld and nobody has dealt with that.
const BEFORE: &str = "
SELECT count(*) FILTER (WHERE d.at >= this.at - $3 * interval '1 second'),
    coalesce(bool_or(p.state = 'withheld'), false)
FROM crossdock.delivery this
JOIN crossdock.delivery d ON d.target = this.target AND d.entity = this.entity
    AND d.key = this.key AND d.reverts = this.reverts AND d.seq < this.seq
LEFT JOIN crossdock.parked p ON p.target = d.target AND p.seq = d.seq
WHERE this.seq = $1 AND this.target = $2";

const WITHHOLD: &str = "
INSERT INTO crossdock.parked (target, seq, entity, key, state, exception)
VALUES ($1, $2, $3, $4, 'withheld', $5)
ON CONFLICT (target, seq) DO NOTHING";

impl PostgresStore {
    /// Whether a revert comes after `most` others of the same field of the same record within a
    /// span of time, or after one that was withheld.
    pub async fn is_ping_pong(
        &mut self,
        revert: &Owed,
        most: u64,
        within: Duration,
    ) -> Result<bool, ApplyError> {
        let seconds = within.as_secs_f64();
        let (seq, target) = (number(revert.seq), &*revert.delivery.target);
        let rows = self.query(BEFORE, &[&seq, &target, &seconds]).await?;
        let found = self.read(rows, |row| Ok((row.counter(0)?, row.get::<bool>(1)?)))?;
        Ok(found.first().is_some_and(|(count, withheld)| *withheld || *count >= most))
    }

    /// Whether there are reverts to a target that were not made and that nobody has dealt with.
    pub async fn has_withheld(&mut self, target: &str) -> Result<bool, ApplyError> {
        let sql = "SELECT EXISTS (SELECT FROM crossdock.parked
                                  WHERE target = $1 AND state = 'withheld')";
        let rows = self.query(sql, &[&target]).await?;
        Ok(self.read(rows, |row| row.get(0))?.pop().unwrap_or(false))
    }

    /// Does not make a revert, and raises an exception that says so. Durable on return.
    pub async fn withhold_revert(&mut self, revert: &Owed, most: u64) -> Result<(), ApplyError> {
        let Owed { seq, delivery, .. } = revert;
        let (target, record) = (&*delivery.target, &delivery.record);
        let field = delivery.reverts.as_deref().unwrap_or_default();
        let id = super::parked::derived(&[target, "revert", &record.key, field]);
        let (entity, key) = (&*record.entity, &*record.key);
        let text = format!(
            "{target} insists on its value of {field} of {key}: written back {most} times, and \
             not any more until somebody deals with this."
        );
        let context = serde_json::json!({
            "target": target, "field": field, "delivery": seq, "event_id": delivery.event_id,
            "writes": delivery.writes,
        });
        let context = context.to_string().replace("\\u0000", "\u{fffd}");
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let seq = number(*seq);
        let new = tx.execute(WITHHOLD, &[&target, &seq, &entity, &key, &Some(id)]).await;
        if new.map_err(&failed)? > 0 {
            let raise: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&id, &PING_PONG, &entity, &key, &target, &&*delivery.rule, &text, &context];
            tx.execute(RAISE, &raise).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }
}
