//! Deliveries that leave their target's order: refused ones, those that wait behind them, and
//! those that are applied after all.
//!
//! Whoever changes them holds the target's row in `crossdock.target`, and ends with [`settle`]:
//! what waits for nothing any more gets a number, and those numbers are the order in which it is
//! applied. Numbers of one target become visible in their order.

use crossdock_model::canonical::{Delivery, Record, RecordKey};
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::encoding::Micros;
use super::load::{Cells, delivery};
use super::postgres::PostgresStore;
use super::writes::{counter, number};
use crate::{ApplyError, classify};

/// Kinds of exceptions whose cause is a delivery.
pub(super) const DELIVERY_KINDS: [&str; 3] = [REFUSED, PARENT, PING_PONG];
const REFUSED: &str = "delivery_refused";
const PARENT: &str = "missing_parent";
pub(super) const PING_PONG: &str = "revert_ping_pong";

const OWED: &str = "
SELECT d.entity, d.key, d.seq, d.event_id, d.target, d.rule, d.writes, d.at,
    d.reverts, d.hops
FROM crossdock.delivery d
WHERE d.target = $1 AND d.seq > $2 AND d.seq <= $3 AND (d.rule = ANY ($4::text[])) = $5
  AND NOT EXISTS (SELECT FROM crossdock.parked p WHERE p.target = d.target AND p.seq = d.seq)
ORDER BY d.seq LIMIT $6";

const DUE_AGAIN: &str = "
SELECT d.entity, d.key, d.seq, d.event_id, d.target, d.rule, d.writes, d.at,
    d.reverts, d.hops, p.again, p.attempts > 0
FROM crossdock.parked p JOIN crossdock.delivery d ON d.seq = p.seq
WHERE p.target = $1 AND p.state = 'again' ORDER BY p.again LIMIT $2";

/// A repetition counts up and opens the exception again.
pub(super) const RAISE: &str = "
INSERT INTO crossdock.exception
    (id, kind, entity, key, source, rule, team, text, context, count, open)
VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8::text::jsonb, 1, true)
ON CONFLICT (id) DO UPDATE SET
    kind = excluded.kind, text = excluded.text, context = excluded.context, open = true,
    count = exception.count + 1, last_at = now()";

const PARK: &str = "
INSERT INTO crossdock.parked (target, seq, entity, key, state, exception, attempts)
VALUES ($1, $2, $3, $4, 'failed', $5, 1)
ON CONFLICT (target, seq) DO UPDATE SET
    state = 'failed', exception = excluded.exception, again = NULL,
    attempts = parked.attempts + 1, changed_at = now()";

const WAIT_BEHIND: &str = "
UPDATE crossdock.parked SET state = 'behind', exception = $5, again = NULL, changed_at = now()
WHERE target = $1 AND entity = $3 AND key = $4 AND seq > $2 AND state IN ('again', 'behind')";

const PARK_BEHIND: &str = "
INSERT INTO crossdock.parked (target, seq, entity, key, state, exception)
SELECT d.target, d.seq, d.entity, d.key, 'behind', first.exception
FROM crossdock.delivery d CROSS JOIN LATERAL (
    SELECT p.exception FROM crossdock.parked p
    WHERE p.target = d.target AND p.entity = d.entity AND p.key = d.key AND p.seq < d.seq
      AND p.state IN ('failed', 'behind', 'again')
    ORDER BY p.seq DESC LIMIT 1) AS first
WHERE d.target = $1 AND d.seq = ANY ($2::bigint[])
ON CONFLICT (target, seq) DO NOTHING
RETURNING seq";

const SETTLE: &str = "
WITH free AS (
    SELECT p.seq, row_number() OVER (ORDER BY p.seq) AS place
    FROM crossdock.parked p
    WHERE p.target = $1 AND p.state = 'behind' AND NOT EXISTS (
        SELECT FROM crossdock.parked f
        WHERE f.target = p.target AND f.entity = p.entity AND f.key = p.key
          AND f.state = 'failed' AND f.seq < p.seq)
), counter AS (
    UPDATE crossdock.target SET again = again + (SELECT count(*) FROM free)
    WHERE name = $1 RETURNING again - (SELECT count(*) FROM free) AS base
)
UPDATE crossdock.parked p SET state = 'again', again = base + place, changed_at = now()
FROM free, counter WHERE p.target = $1 AND p.seq = free.seq";

const CLOSE: &str = "
UPDATE crossdock.exception e SET open = false
WHERE e.open AND e.source = $1 AND e.kind = ANY ($2::text[]) AND NOT EXISTS (
    SELECT FROM crossdock.parked p
    WHERE p.exception = e.id AND p.state IN ('failed', 'behind', 'again', 'withheld'))";

/// Which rules' deliveries are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFilter {
    /// Names of rules.
    pub names: Vec<String>,
    /// True: theirs alone; false: all others.
    pub only: bool,
}

impl RuleFilter {
    /// Those of every rule.
    pub fn all() -> Self {
        Self { names: Vec::new(), only: false }
    }
}

/// A delivery that is owed.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Its number.
    pub seq: u64,
    /// When it was decided, microseconds since the Unix epoch.
    pub owed_micros: i64,
    /// What it is.
    pub delivery: Delivery,
}

/// A delivery that is applied after all.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// Its place in the order of those.
    pub number: u64,
    /// Its target has refused it before; otherwise it has waited for others.
    pub refused: bool,
    /// What is owed.
    pub owed: Owed,
}

/// Why a delivery is set aside.
#[derive(Clone, Debug)]
pub struct Parking<'p> {
    /// The delivery.
    pub owed: &'p Owed,
    /// A row that it refers to is not there.
    pub parent: bool,
    /// What the target said, without values.
    pub text: &'p str,
    /// Everything needed to decide, with values.
    pub context: serde_json::Value,
}

/// Refused deliveries of a target that nobody has dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// For good.
    pub refused: u64,
    /// Because another row is missing.
    pub parents: u64,
}

impl PostgresStore {
    /// Makes this connection the only one that delivers to a target, as long as it lives. False
    /// when another one does.
    pub async fn claim_target(&mut self, target: &str) -> Result<bool, ApplyError> {
        let sql = "INSERT INTO crossdock.target (name) VALUES ($1) ON CONFLICT DO NOTHING";
        let failed = |e| classify::postgres(&self.name, "claiming a target", e);
        self.client.execute(sql, &[&target]).await.map_err(failed)?;
        // Everything that is asked to deliver has its index. Plans are kept, and one that was made
        // while the tables were small would read them whole when there is a backlog.
        self.client.batch_execute("SET enable_seqscan = off").await.map_err(failed)?;
        let sql = "SELECT pg_try_advisory_lock(hashtextextended('crossdock deliver ' || $1, 0))";
        Ok(self.client.query_one(sql, &[&target]).await.map_err(failed)?.get(0))
    }

    /// Deliveries owed to a target by some rules, with numbers above `after` and up to `upto`, in
    /// order, at most `limit`. Parked ones are left out.
    pub async fn owed(
        &mut self,
        target: &str,
        rules: &RuleFilter,
        (after, upto): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Owed>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (after, upto) = (number(after), number(upto));
        let rows =
            self.query(OWED, &[&target, &after, &upto, &rules.names, &rules.only, &limit]).await?;
        self.read(rows, owed)
    }

    /// Records of which deliveries to a target are parked: later ones must wait.
    pub async fn parked_records(&mut self, target: &str) -> Result<Vec<RecordKey>, ApplyError> {
        let sql = "SELECT DISTINCT entity, key FROM crossdock.parked
                   WHERE target = $1 AND state IN ('failed', 'behind', 'again')";
        let rows = self.query(sql, &[&target]).await?;
        self.read(rows, |row| row.record_key(0))
    }

    /// How many refused deliveries of a target nobody has dealt with.
    pub async fn refusals(&mut self, target: &str) -> Result<Refusals, ApplyError> {
        let sql = "SELECT count(*) FILTER (WHERE e.kind <> $2), count(*) FILTER (WHERE e.kind = $2)
                   FROM crossdock.parked p JOIN crossdock.exception e ON e.id = p.exception
                   WHERE p.target = $1 AND p.state = 'failed'";
        let rows = self.query(sql, &[&target, &PARENT]).await?;
        let read = |r: &Cells<'_>| Ok(Refusals { refused: r.counter(0)?, parents: r.counter(1)? });
        Ok(self.read(rows, read)?.pop().unwrap_or_default())
    }

    /// Sets a refused delivery aside with an exception; what follows of its record waits. Durable
    /// on return.
    pub async fn park(&mut self, parking: &Parking<'_>) -> Result<(), ApplyError> {
        let Owed { seq, delivery, .. } = parking.owed;
        let (target, record) = (&*delivery.target, &delivery.record);
        let id = exception_id(target, *seq);
        let kind = if parking.parent { PARENT } else { REFUSED };
        let context = parking.context.to_string().replace("\\u0000", "\u{fffd}");
        let (entity, key, seq) = (&*record.entity, &*record.key, number(*seq));
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let raise: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [&id, &kind, &entity, &key, &target, &&*delivery.rule, &parking.text, &context];
        tx.execute(RAISE, &raise).await.map_err(&failed)?;
        let place: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&target, &seq, &entity, &key, &Some(id)];
        tx.execute(PARK, &place).await.map_err(&failed)?;
        tx.execute(WAIT_BEHIND, &place).await.map_err(&failed)?;
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// Sets deliveries aside that come after parked ones of their records. Returns those that
    /// were: what the others waited for has been dealt with in the meantime.
    pub async fn park_behind(
        &mut self,
        target: &str,
        seqs: &[u64],
    ) -> Result<Vec<u64>, ApplyError> {
        let seqs: Vec<i64> = seqs.iter().map(|seq| number(*seq)).collect();
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let mut parked = Vec::new();
        // One after the other: each may wait behind the one before.
        for seq in seqs {
            let rows = tx.query(PARK_BEHIND, &[&target, &vec![seq]]).await.map_err(&failed)?;
            parked.extend(rows.iter().map(|row| counter(row.get(0))));
        }
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(parked)
    }

    /// Takes a delivery back that was set aside just now: its target has it.
    pub async fn unpark(&mut self, target: &str, seq: u64) -> Result<(), ApplyError> {
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let sql = "DELETE FROM crossdock.parked WHERE target = $1 AND seq = $2";
        tx.execute(sql, &[&target, &number(seq)]).await.map_err(&failed)?;
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// Deliveries that are to be applied after all, in order, at most `limit`.
    pub async fn due_again(
        &mut self,
        target: &str,
        limit: usize,
    ) -> Result<Vec<Again>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(DUE_AGAIN, &[&target, &limit]).await?;
        let again = |row: &Cells<'_>| {
            Ok(Again { number: row.counter(10)?, refused: row.get(11)?, owed: owed(row)? })
        };
        self.read(rows, again)
    }

    /// Notes that those up to a number have been applied, lets go what waited behind them, and
    /// closes their exceptions.
    pub async fn again_done(&mut self, target: &str, upto: u64) -> Result<(), ApplyError> {
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let sql = "UPDATE crossdock.parked SET state = 'applied', changed_at = now()
                   WHERE target = $1 AND state = 'again' AND again <= $2";
        tx.execute(sql, &[&target, &number(upto)]).await.map_err(&failed)?;
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// Lets deliveries be tried again that were refused because another row was missing, those
    /// with the fewest attempts first, at most `limit`. Returns how many.
    pub async fn retry_parents(&mut self, target: &str, limit: usize) -> Result<u64, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let failed = failed(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        lock(&tx, target).await.map_err(&failed)?;
        let sql = "UPDATE crossdock.parked SET state = 'behind', changed_at = now()
                   WHERE target = $1 AND seq IN (
                       SELECT p.seq FROM crossdock.parked p
                       JOIN crossdock.exception e ON e.id = p.exception
                       WHERE p.target = $1 AND p.state = 'failed' AND e.kind = $2
                       ORDER BY p.attempts, p.seq LIMIT $3)";
        let many = tx.execute(sql, &[&target, &PARENT, &limit]).await.map_err(&failed)?;
        settle(&tx, target).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(many)
    }

    /// After a target was rewound: what was applied out of its order comes again in its order.
    pub async fn forget_applied(&mut self, target: &str, after: u64) -> Result<(), ApplyError> {
        let sql = "DELETE FROM crossdock.parked
                   WHERE target = $1 AND seq > $2 AND state = 'applied'";
        let done = self.client.execute(sql, &[&target, &number(after)]).await;
        done.map(|_| ()).map_err(failed(&self.name))
    }

    /// A record as it is now; `None` when there is none. Its values have the types of JSON.
    pub async fn record(&mut self, record: &RecordKey) -> Result<Option<Record>, ApplyError> {
        let (entities, keys) = (vec![&*record.entity], vec![&*record.key]);
        let rows = self.query(super::sql::GET_RECORDS, &[&entities, &keys]).await?;
        Ok(self.read(rows, super::load::record)?.pop())
    }

    /// What the last change of a record was when something was owed about it:
    /// `{field: [old, new]}`.
    pub async fn changes_before(
        &mut self,
        record: &RecordKey,
        owed_micros: i64,
    ) -> Result<Option<serde_json::Value>, ApplyError> {
        let sql = "SELECT changes FROM crossdock.history
                   WHERE entity = $1 AND key = $2 AND at <= $3
                   ORDER BY version DESC, id DESC LIMIT 1";
        let at = Micros(owed_micros);
        let rows = self.query(sql, &[&&*record.entity, &&*record.key, &at]).await?;
        Ok(self.read(rows, |row| row.get(0))?.pop())
    }
}

/// Identity of the exception about a delivery to a target: the same for every attempt.
fn exception_id(target: &str, seq: u64) -> Uuid {
    derived(&[target, &seq.to_string()])
}

/// An identity from its parts.
pub(super) fn derived(parts: &[&str]) -> Uuid {
    let namespace = Uuid::from_u128(0x3f1d_86aa_90c2_5e6b_8d1a_4f25_c0de_1b77);
    Uuid::new_v5(&namespace, parts.join("\u{1f}").as_bytes())
}

pub(super) fn failed(name: &str) -> impl Fn(tokio_postgres::Error) -> ApplyError + use<> {
    let name = name.to_string();
    move |error| classify::postgres(&name, "changing parked deliveries", error)
}

/// Everybody else waits until this transaction ends.
pub(super) async fn lock(tx: &Transaction<'_>, target: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT FROM crossdock.target WHERE name = $1 FOR UPDATE";
    tx.query_opt(sql, &[&target]).await.map(|_| ())
}

/// Lets go what waits for nothing any more, in order, and closes exceptions that nothing waits
/// for.
pub(super) async fn settle(
    tx: &Transaction<'_>,
    target: &str,
) -> Result<(), tokio_postgres::Error> {
    tx.execute(SETTLE, &[&target]).await?;
    tx.execute(CLOSE, &[&target, &DELIVERY_KINDS.as_slice()]).await?;
    Ok(())
}

fn owed(row: &Cells<'_>) -> Result<Owed, ApplyError> {
    let (seq, mut delivery) = delivery(row)?;
    delivery.reverts = row.get::<Option<&str>>(8)?.map(Into::into);
    delivery.hops = u8::try_from(row.get::<i16>(9)?).unwrap_or(u8::MAX);
    Ok(Owed { seq, owed_micros: row.get::<Micros>(7)?.0, delivery })
}
