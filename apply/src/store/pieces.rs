//! A transaction of a source that is too large to be held: written piece by piece, within one
//! transaction of the store. What has to be remembered between the pieces is kept in a temporary
//! table of that transaction, and is gone with it.

use crossdock_model::canonical::Outcome;
use crossdock_model::notes::{After, Note, NotePage};
use tokio_postgres::types::ToSql;

use super::load::Cells;
use super::{PostgresStore, Progress, sql, writes};
use crate::pipeline::{self, Param, execute, simple};
use crate::{ApplyError, classify};

/// Notes; the order of their keys is that of the bytes.
const MAKE: &str = "
CREATE TEMPORARY TABLE crossdock_note (
    shelf smallint NOT NULL,
    key text COLLATE \"C\" NOT NULL,
    place bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (shelf, key)
) ON COMMIT DROP;
CREATE INDEX ON crossdock_note (shelf, place) WHERE place > 0";
const PUT: &str = "
INSERT INTO pg_temp.crossdock_note (shelf, key, place, body)
SELECT a, b, c, d FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[]) AS n(a, b, c, d)
ON CONFLICT (shelf, key) DO UPDATE SET body = excluded.body";
const GET: &str = "
SELECT shelf, key, place, body FROM pg_temp.crossdock_note WHERE shelf = $1 AND key = ANY ($2::text[])";
const PAGE_BY_KEY: &str = "
SELECT shelf, key, place, body FROM pg_temp.crossdock_note
WHERE shelf = $1 AND key > $2 ORDER BY key LIMIT $3";
const PAGE_BY_PLACE: &str = "
SELECT shelf, key, place, body FROM pg_temp.crossdock_note
WHERE shelf = $1 AND place > $2 AND place > 0 ORDER BY place LIMIT $3";

impl PostgresStore {
    /// Begins the transaction. Until [`PostgresStore::end_pieces`] everything that this connection
    /// reads and writes belongs to it; after an error the connection is of no more use, and what
    /// was written is not there.
    pub async fn begin_pieces(&mut self) -> Result<(), ApplyError> {
        let epoch = self.writing_epoch()?;
        let fence = self.prepared("SELECT crossdock.fence($1)").await?;
        let mine: Vec<Param<'_>> = vec![Box::new(epoch)];
        let steps = vec![
            simple(&self.client, "BEGIN"),
            execute(&self.client, &fence, &mine),
            simple(&self.client, MAKE),
        ];
        let begun = pipeline::run(steps).await;
        begun.map(|_| ()).map_err(|e| self.failed_piece("beginning a large transaction", e))
    }

    /// Keeps notes, each key once.
    pub async fn keep_notes(&mut self, notes: &[Note]) -> Result<(), ApplyError> {
        if notes.is_empty() {
            return Ok(());
        }
        let put = self.prepared(PUT).await?;
        let params: Vec<Param<'_>> = vec![
            Box::new(notes.iter().map(|n| n.shelf).collect::<Vec<_>>()),
            Box::new(notes.iter().map(|n| n.key.as_str()).collect::<Vec<_>>()),
            Box::new(notes.iter().map(|n| n.place).collect::<Vec<_>>()),
            Box::new(notes.iter().map(|n| n.body.as_str()).collect::<Vec<_>>()),
        ];
        let kept = pipeline::run(vec![execute(&self.client, &put, &params)]).await;
        kept.map(|_| ()).map_err(|e| self.failed_piece("keeping notes", e))
    }

    /// The notes of a shelf with some keys, as far as there are any, in no order.
    pub async fn notes(&mut self, shelf: i16, keys: &[String]) -> Result<Vec<Note>, ApplyError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.query(GET, &[&shelf, &keys]).await?;
        self.read(rows, note)
    }

    /// Some notes of a shelf, in order.
    pub async fn note_page(&mut self, page: &NotePage) -> Result<Vec<Note>, ApplyError> {
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let (sql, after): (_, &(dyn ToSql + Sync)) = match &page.after {
            After::Key(key) => (PAGE_BY_KEY, key),
            After::Place(place) => (PAGE_BY_PLACE, place),
        };
        let rows = self.query(sql, &[&page.shelf, after, &limit]).await?;
        self.read(rows, note)
    }

    /// Tells the database how many notes there are, once there are many.
    pub async fn notes_are_there(&mut self) -> Result<(), ApplyError> {
        let done = self.client.batch_execute("ANALYZE pg_temp.crossdock_note").await;
        done.map_err(|e| self.failed_piece("looking at notes", e))
    }

    /// Writes what a piece comes to. `progress` is where the whole will bring the source; it is
    /// not noted yet.
    pub async fn write_piece(
        &mut self,
        outcome: &Outcome,
        progress: &[Progress],
        ruleset: &str,
    ) -> Result<(), ApplyError> {
        let mut writes = writes::all(outcome, progress, ruleset);
        writes.retain(|(sql, _)| *sql != sql::PUT_PROGRESS);
        self.write_all(&writes, None).await
    }

    /// Notes the progress and commits.
    pub async fn end_pieces(&mut self, progress: &[Progress]) -> Result<(), ApplyError> {
        let nothing = Outcome::default();
        self.write_all(&writes::all(&nothing, progress, ""), Some("COMMIT")).await
    }

    /// Undoes everything since the beginning.
    pub async fn abandon_pieces(&mut self) -> Result<(), ApplyError> {
        self.write_all(&[], Some("ROLLBACK")).await
    }

    async fn write_all(
        &mut self,
        writes: &[writes::Write<'_>],
        end: Option<&'static str>,
    ) -> Result<(), ApplyError> {
        let mut statements = Vec::with_capacity(writes.len());
        for (sql, _) in writes {
            statements.push(self.prepared(sql).await?);
        }
        let params = statements.iter().zip(writes);
        let steps = params.map(|(statement, (_, params))| execute(&self.client, statement, params));
        let steps = steps.chain(end.map(|sql| simple(&self.client, sql))).collect();
        let done = pipeline::run(steps).await;
        done.map(|_| ()).map_err(|e| self.failed_piece("writing a large transaction", e))
    }

    fn failed_piece(&self, doing: &str, error: tokio_postgres::Error) -> ApplyError {
        classify::postgres(&self.name, doing, error)
    }
}

fn note(row: &Cells<'_>) -> Result<Note, ApplyError> {
    Ok(Note { shelf: row.get(0)?, key: row.get(1)?, place: row.get(2)?, body: row.get(3)? })
}
