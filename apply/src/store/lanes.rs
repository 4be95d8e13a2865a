//! Lanes of a target: which deliveries wait together, and in which order records are served.

use crossdock_model::canonical::RecordKey;
use serde::{Deserialize, Serialize};

use super::parked::{failed, lock, settle};
use super::postgres::PostgresStore;
use super::writes::{counter, number};
use crate::ApplyError;

/// Deliveries of the given records that other lanes have not made yet. A lane's rules, and how
/// far it has come, stand side by side; `$5` is for rules that are not named. A server whose
/// statistics are from before a backlog would read all of it for each record, by the index of the
/// target; `|| ''` and `+ 0` leave it the index of records alone.
const EARLIER: &str = "
SELECT DISTINCT n.entity, n.key, d.seq, d.rule
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS n(entity, key, seq)
JOIN crossdock.delivery d ON d.key = n.key AND d.entity = n.entity AND d.seq + 0 < n.seq
LEFT JOIN unnest($6::text[], $7::bigint[]) AS r(rule, done) ON r.rule = d.rule
WHERE d.target || '' = $1 AND d.seq + 0 > coalesce(r.done, $5)
  AND NOT EXISTS (SELECT FROM crossdock.parked p WHERE p.target = d.target AND p.seq = d.seq)";

const PULL: &str = "
INSERT INTO crossdock.parked (target, seq, entity, key, state)
SELECT d.target, d.seq, d.entity, d.key, 'behind'
FROM crossdock.delivery d WHERE d.target = $1 AND d.seq = ANY ($2::bigint[])
ON CONFLICT (target, seq) DO NOTHING";

/// A lane of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRules {
    /// Name of the lane.
    pub name: String,
    /// The rules whose deliveries go through it; the last lane of a layout takes all others.
    pub rules: Vec<String>,
}

/// Lanes from a delivery on. No lane at all: all deliveries wait together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// It is for deliveries with higher numbers.
    pub from: u64,
    /// The lanes.
    pub lanes: Vec<LaneRules>,
    /// Over so many connections the records of each lane are divided, at least 1.
    pub workers: usize,
}

/// A delivery that another lane owes, and that comes before one that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// What it is about.
    pub record: RecordKey,
    /// Its number.
    pub seq: u64,
    /// The rule that owes it.
    pub rule: String,
}

/// How far other lanes have come: the rules that are named, and all others.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Rules and how far their lanes have come.
    pub named: Vec<(String, u64)>,
    /// How far the lane of all other rules has come.
    pub rest: u64,
}

impl PostgresStore {
    /// Layouts of a target, the oldest first.
    pub async fn layouts(&mut self, target: &str) -> Result<Vec<Layout>, ApplyError> {
        let sql = "SELECT from_seq, lanes, workers::bigint FROM crossdock.lane_layout
                   WHERE target = $1 ORDER BY from_seq";
        let rows = self.query(sql, &[&target]).await?;
        self.read(rows, |row| {
            let workers = usize::try_from(row.counter(2)?).unwrap_or(1).max(1);
            Ok(Layout { from: row.counter(0)?, lanes: row.json(1)?, workers })
        })
    }

    /// Makes a layout that of all deliveries that are owed from now on.
    pub async fn begin_layout(
        &mut self,
        target: &str,
        lanes: &[LaneRules],
        workers: usize,
    ) -> Result<(), ApplyError> {
        let lanes = serde_json::to_value(lanes).unwrap_or_default();
        let workers = i32::try_from(workers).unwrap_or(1);
        let sql = "INSERT INTO crossdock.lane_layout (target, from_seq, lanes, workers)
                   SELECT $1, coalesce(max(seq), 0), $2, $3 FROM crossdock.delivery
                   ON CONFLICT (target, from_seq) DO UPDATE SET
                       lanes = excluded.lanes, workers = excluded.workers";
        let begun = self.client.execute(sql, &[&target, &lanes, &workers]).await;
        begun.map(|_| ()).map_err(failed(&self.name))
    }

    /// Makes it quick to find what is owed about a record. Only installations with lanes ask
    /// that, so only they pay for it.
    pub async fn index_records(&mut self) -> Result<(), ApplyError> {
        let sql = "CREATE INDEX IF NOT EXISTS delivery_record ON crossdock.delivery (key, seq)";
        self.client.batch_execute(sql).await.map_err(failed(&self.name))
    }

    /// Number of the last delivery of all; 0 when there is none.
    pub async fn last_delivery(&mut self) -> Result<u64, ApplyError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM crossdock.delivery";
        let rows = self.query(sql, &[]).await?;
        Ok(self.read(rows, |row| row.counter(0))?.pop().unwrap_or(0))
    }

    /// Of some deliveries (record and number), those about whose records other lanes owe
    /// something earlier: what that is.
    pub async fn earlier(
        &mut self,
        target: &str,
        of: &[(&RecordKey, u64)],
        others: &Others,
    ) -> Result<Vec<Earlier>, ApplyError> {
        let entities: Vec<&str> = of.iter().map(|(record, _)| &*record.entity).collect();
        let keys: Vec<&str> = of.iter().map(|(record, _)| &*record.key).collect();
        let seqs: Vec<i64> = of.iter().map(|(_, seq)| number(*seq)).collect();
        let rules: Vec<&str> = others.named.iter().map(|(rule, _)| rule.as_str()).collect();
        let done: Vec<i64> = others.named.iter().map(|(_, done)| number(*done)).collect();
        let rest = number(others.rest);
        let rows =
            self.query(EARLIER, &[&target, &entities, &keys, &seqs, &rest, &rules, &done]).await?;
        self.read(rows, |row| {
            Ok(Earlier { record: row.record_key(0)?, seq: row.counter(2)?, rule: row.get(3)? })
        })
    }

    /// Takes deliveries out of their lanes, to be made at once and in the order of their numbers.
    pub async fn pull(&mut self, target: &str, seqs: &[u64]) -> Result<(), ApplyError> {
        let seqs: Vec<i64> = seqs.iter().map(|seq| number(*seq)).collect();
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        tx.execute(PULL, &[&target, &seqs]).await.map_err(&failed)?;
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// How many deliveries to a target were pulled out of their lanes and are not made yet.
    pub async fn pulled(&mut self, target: &str) -> Result<u64, ApplyError> {
        let sql = "SELECT count(*) FROM crossdock.parked WHERE target = $1 AND state = 'again'";
        let rows = self.query(sql, &[&target]).await?;
        Ok(rows.first().map_or(0, |row| counter(row.get(0))))
    }
}
