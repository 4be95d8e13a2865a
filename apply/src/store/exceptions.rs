//! Exceptions as people see them: looked at, let go, discarded, with a note of who did it.

use crossdock_model::canonical::{Name, RecordKey};
use serde::Serialize;
use serde_json::Value as Json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::PostgresStore;
use super::encoding::Micros;
use super::load::Cells;
use super::parked::{DELIVERY_KINDS, failed, lock, settle};
use crate::ApplyError;

const COLUMNS: &str = "
SELECT e.id, e.kind, coalesce(e.entity, ''), coalesce(e.key, ''), e.source, e.rule, e.team, e.text,
    e.context, e.count, e.open, e.first_at, e.last_at,
    (SELECT count(*) FROM crossdock.parked p
     WHERE p.exception = e.id AND p.state IN ('behind', 'again', 'withheld'))
FROM crossdock.exception e";

/// Of withheld reverts of a field the last one is made: all of them write what the record says.
const RETRY: &str = "
UPDATE crossdock.parked p SET changed_at = now(), state = CASE
    WHEN p.state = 'failed' THEN 'behind'
    WHEN EXISTS (
        SELECT FROM crossdock.delivery this
        JOIN crossdock.delivery d ON d.target = this.target AND d.entity = this.entity
            AND d.key = this.key AND d.reverts = this.reverts AND d.seq > this.seq
        WHERE this.seq = p.seq) THEN 'discarded'
    ELSE 'behind' END
WHERE target = $1 AND exception = $2 AND state IN ('failed', 'withheld')";

/// Which exceptions are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this kind alone.
    pub kind: Option<String>,
    /// Caused by this source, or about deliveries to this target, alone.
    pub source: Option<String>,
    /// Closed ones, too.
    pub closed: bool,
    /// At most so many.
    pub limit: usize,
}

/// An exception.
#[derive(Clone, Debug, Serialize)]
pub struct ExceptionLine {
    /// Identity.
    pub id: Uuid,
    /// Kind: `ownership_violation`, `delivery_refused` …
    pub kind: Name,
    /// Entity of its record; empty without one.
    pub entity: Name,
    /// Key of its record; empty without one.
    pub key: Name,
    /// Source that caused it, or target that refused.
    pub source: Name,
    /// Rule that raised it, or whose delivery it is.
    pub rule: Name,
    /// Team; empty for the default.
    pub team: Name,
    /// One sentence.
    pub text: String,
    /// Everything known.
    pub context: Json,
    /// How often.
    pub count: u64,
    /// Nobody has closed it.
    pub open: bool,
    /// First time, microseconds since the Unix epoch.
    pub first_micros: i64,
    /// Last time.
    pub last_micros: i64,
    /// Deliveries that wait for it.
    pub waiting: u64,
}

/// What somebody did about an exception.
#[derive(Clone, Debug, Serialize)]
pub struct Action {
    /// `retry` or `discard`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// Who, as they said.
    pub by_person: String,
    /// Login in the store.
    pub by_login: String,
    /// When, microseconds since the Unix epoch.
    pub at_micros: i64,
}

impl ExceptionLine {
    /// It is about a delivery, which can be tried again or discarded.
    pub fn is_delivery(&self) -> bool {
        DELIVERY_KINDS.contains(&&*self.kind)
    }
}

/// How long a person waits for whoever delivers.
const LOCKED_SECONDS: u32 = 5;

impl PostgresStore {
    /// Exceptions, latest first.
    pub async fn exceptions(&mut self, filter: &Filter) -> Result<Vec<ExceptionLine>, ApplyError> {
        let sql = format!(
            "{COLUMNS} WHERE (e.open OR $3) AND ($1::text IS NULL OR e.kind = $1) \
             AND ($2::text IS NULL OR e.source = $2) ORDER BY e.last_at DESC, e.id LIMIT $4"
        );
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let rows = self
            .client
            .query(&sql, &[&filter.kind, &filter.source, &filter.closed, &limit])
            .await
            .map_err(failed(&self.name))?;
        self.read(rows, line)
    }

    /// Open exceptions about a record, latest first.
    pub async fn exceptions_about(
        &mut self,
        key: &RecordKey,
    ) -> Result<Vec<ExceptionLine>, ApplyError> {
        let sql = format!(
            "{COLUMNS} WHERE e.open AND e.entity = $1 AND e.key = $2 ORDER BY e.last_at DESC, e.id"
        );
        let rows = self
            .client
            .query(&sql, &[&&*key.entity, &&*key.key])
            .await
            .map_err(failed(&self.name))?;
        self.read(rows, line)
    }

    /// Exceptions whose id begins with a text, at most two.
    pub async fn exceptions_like(&mut self, id: &str) -> Result<Vec<ExceptionLine>, ApplyError> {
        let sql = format!("{COLUMNS} WHERE starts_with(e.id::text, $1) ORDER BY e.id LIMIT 2");
        let rows = self.client.query(&sql, &[&id]).await.map_err(failed(&self.name))?;
        self.read(rows, line)
    }

    /// What has been done about an exception, first things first.
    pub async fn exception_actions(&mut self, id: Uuid) -> Result<Vec<Action>, ApplyError> {
        let sql = "SELECT action, reason, by_person, by_login, at FROM crossdock.exception_action
                   WHERE exception = $1 ORDER BY id";
        let rows = self.query(sql, &[&id]).await?;
        self.read(rows, |row| {
            Ok(Action {
                action: row.get(0)?,
                reason: row.get(1)?,
                by_person: row.get(2)?,
                by_login: row.get(3)?,
                at_micros: row.get::<Micros>(4)?.0,
            })
        })
    }

    /// Lets the refused delivery of an exception be tried again, and then what waits behind it.
    /// Returns how many deliveries that are.
    pub async fn retry_exception(
        &mut self,
        exception: &ExceptionLine,
        by: &str,
    ) -> Result<u64, ApplyError> {
        let many = self.act(exception, "retry", "", by, RETRY).await?;
        Ok(if many == 0 { 0 } else { many + exception.waiting })
    }

    /// Closes an exception for good. A refused delivery is never applied; what waits behind it is.
    /// Returns false when there was nothing to close.
    pub async fn discard_exception(
        &mut self,
        exception: &ExceptionLine,
        reason: &str,
        by: &str,
    ) -> Result<bool, ApplyError> {
        let sql = match exception.is_delivery() {
            true => {
                "UPDATE crossdock.parked SET state = 'discarded', changed_at = now()
                 WHERE target = $1 AND exception = $2 AND state IN ('failed', 'withheld')"
            }
            false => {
                "UPDATE crossdock.exception SET open = false
                 WHERE source = $1 AND id = $2 AND open"
            }
        };
        Ok(self.act(exception, "discard", reason, by, sql).await? > 0)
    }

    /// Changes something about an exception, with a note of who did it. Without effect there is
    /// no note.
    async fn act(
        &mut self,
        exception: &ExceptionLine,
        action: &str,
        reason: &str,
        by: &str,
        sql: &str,
    ) -> Result<u64, ApplyError> {
        let failed = failed(&self.name);
        let target = &*exception.source;
        let tx = self.client.transaction().await.map_err(&failed)?;
        // Whoever delivers holds it for moments, unless it stands still.
        let patience = format!("SET LOCAL lock_timeout = '{LOCKED_SECONDS}s'");
        tx.batch_execute(&patience).await.map_err(&failed)?;
        lock(&tx, target).await.map_err(|e| held(target, &failed, e))?;
        let many = tx.execute(sql, &[&target, &exception.id]).await.map_err(&failed)?;
        if many > 0 {
            let note =
                "INSERT INTO crossdock.exception_action (exception, action, reason, by_person)
                        VALUES ($1, $2, $3, $4)";
            let note = tx.execute(note, &[&exception.id, &action, &reason, &by]).await;
            note.map_err(&failed)?;
            // What waited behind a discarded delivery waits for nothing now.
            settle(&tx, target).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)?;
        Ok(many)
    }
}

/// What to do when the deliveries of a target stay locked.
fn held(
    target: &str,
    failed: impl Fn(tokio_postgres::Error) -> ApplyError,
    error: tokio_postgres::Error,
) -> ApplyError {
    if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return failed(error);
    }
    ApplyError::Definite {
        what: format!("the deliveries to {target} have been locked for {LOCKED_SECONDS} seconds"),
        remedy: "a crossdock that stands still holds them: let it go on (kill -CONT) or end it, \
                 and repeat the command. If none does, the canonical store says who: SELECT pid, \
                 state, query FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            .into(),
    }
}

fn line(row: &Cells<'_>) -> Result<ExceptionLine, ApplyError> {
    Ok(ExceptionLine {
        id: row.get(0)?,
        kind: row.name(1)?,
        entity: row.name(2)?,
        key: row.name(3)?,
        source: row.name(4)?,
        rule: row.name(5)?,
        team: row.name(6)?,
        text: row.get(7)?,
        context: row.get(8)?,
        count: row.counter(9)?,
        open: row.get(10)?,
        first_micros: row.get::<Micros>(11)?.0,
        last_micros: row.get::<Micros>(12)?.0,
        waiting: row.counter(13)?,
    })
}
