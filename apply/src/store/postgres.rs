//! The canonical store in PostgreSQL.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crossdock_model::LogOrder;
use crossdock_model::canonical::{Delivery, Loaded, Name, Needs, Outcome, SourceRow};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::encoding::Micros;
use super::load::{self, Cells, Reader};
use super::presence::Asked;
use super::writes::{self, counter, number};
use super::{CanonicalStore, Progress, migrate, sql};
use crate::pipeline::{self, execute, simple};
use crate::{ApplyError, ConnectOptions, classify, connect};

/// The canonical store in schema `crossdock` of a PostgreSQL database.
///
/// One connection, not repaired: after a transient error open it anew.
pub struct PostgresStore {
    pub(super) name: String,
    pub(super) client: Client,
    /// `None` for a reader.
    epoch: Option<i64>,
    statements: HashMap<&'static str, Statement>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("name", &self.name)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// What a commit writes, put into the store's form: that takes its time, and needs no connection.
pub struct PreparedCommit<'o>(Vec<writes::Write<'o>>);

impl<'o> PreparedCommit<'o> {
    /// Of what [`CanonicalStore::commit`] takes.
    pub fn of(outcome: &'o Outcome, progress: &'o [Progress], ruleset: &'o str) -> Self {
        Self(writes::all(outcome, progress, ruleset))
    }
}

impl fmt::Debug for PreparedCommit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what is written.
        f.debug_struct("PreparedCommit").field("statements", &self.0.len()).finish()
    }
}

/// What needs attention, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// Exceptions that nobody has closed.
    pub exceptions_open: u64,
    /// Releases that are held back.
    pub holds: u64,
}

impl PostgresStore {
    /// Opens the store as its only writer: makes or updates the schema and takes the fencing
    /// epoch, so that every commit of whoever had it before fails with [`ApplyError::Fenced`].
    ///
    /// `installation` is the name of this Crossdock; a store that belongs to another is refused.
    pub async fn open(options: &ConnectOptions, installation: &str) -> Result<Self, ApplyError> {
        let mut client = connect::postgres(options).await?;
        let epoch = migrate::take_over(&mut client, options, installation).await?;
        Ok(Self::with(options, client, Some(epoch)))
    }

    /// Opens the store for reading (`deliver`, the command line) without disturbing its writer.
    /// Transient error as long as nobody has opened it for writing.
    pub async fn open_reader(options: &ConnectOptions) -> Result<Self, ApplyError> {
        let client = connect::postgres(options).await?;
        migrate::verify(&client, options).await?;
        Ok(Self::with(options, client, None))
    }

    fn with(options: &ConnectOptions, client: Client, epoch: Option<i64>) -> Self {
        Self { name: options.name.clone(), client, epoch, statements: HashMap::new() }
    }

    /// As [`CanonicalStore::load`], for what is known of the store already.
    pub async fn load_asked(&mut self, asked: &Asked) -> Result<Loaded, ApplyError> {
        load::load(self, &asked.needs, &asked.plain_records).await
    }

    /// As [`CanonicalStore::commit`], of what is prepared already.
    pub async fn commit_prepared(
        &mut self,
        PreparedCommit(writes): &PreparedCommit<'_>,
    ) -> Result<(), ApplyError> {
        let epoch = self.writing_epoch()?;
        let mut statements = Vec::with_capacity(writes.len());
        for (sql, _) in writes {
            statements.push(self.prepared(sql).await?);
        }
        let fence = self.prepared("SELECT crossdock.fence($1)").await?;
        let mine: Vec<pipeline::Param<'_>> = vec![Box::new(epoch)];
        let mut steps = vec![simple(&self.client, "BEGIN"), execute(&self.client, &fence, &mine)];
        for (statement, (_, params)) in statements.iter().zip(writes) {
            steps.push(execute(&self.client, statement, params));
        }
        // After a failed statement this rolls back.
        steps.push(simple(&self.client, "COMMIT"));
        let done = pipeline::run(steps).await;
        done.map_err(|e| classify::postgres(&self.name, "committing to the canonical store", e))?;
        Ok(())
    }

    /// Counts of what needs attention; cheap enough for every second.
    pub async fn attention(&mut self) -> Result<Attention, ApplyError> {
        let sql = "SELECT (SELECT count(*) FROM crossdock.exception WHERE open),
                          (SELECT count(*) FROM crossdock.release WHERE NOT released)";
        let counts = self.query(sql, &[]).await?;
        let read =
            |r: &Cells<'_>| Ok(Attention { exceptions_open: r.counter(0)?, holds: r.counter(1)? });
        Ok(self.read(counts, read)?.pop().unwrap_or_default())
    }

    /// Records that are not deleted, by entity. Counts every record: not for every second.
    pub async fn record_counts(&mut self) -> Result<BTreeMap<Name, u64>, ApplyError> {
        let sql = "SELECT entity, count(*) FROM crossdock.record WHERE NOT deleted GROUP BY entity";
        let records = self.query(sql, &[]).await?;
        Ok(self.read(records, |r| Ok((r.name(0)?, r.counter(1)?)))?.into_iter().collect())
    }

    /// When the oldest delivery with a number above `after` was owed to a target, microseconds
    /// since the Unix epoch; `None` when nothing is owed.
    pub async fn oldest_owed_micros(
        &mut self,
        target: &str,
        after: u64,
    ) -> Result<Option<i64>, ApplyError> {
        let sql = "SELECT (extract(epoch FROM at) * 1000000)::bigint FROM crossdock.delivery
                   WHERE target = $1 AND seq > $2 ORDER BY seq LIMIT 1";
        let rows = self.query(sql, &[&target, &number(after)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Number of the last delivery owed to a target; 0 when there is none.
    pub async fn deliveries_head(&mut self, target: &str) -> Result<u64, ApplyError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM crossdock.delivery WHERE target = $1";
        self.one_number(sql, &[&target]).await
    }

    /// Number of the last delivery that was owed at a time (microseconds since the Unix epoch);
    /// 0 when there is none. A target rewound to it gets again what came later.
    pub async fn delivery_seq_at(&mut self, time_micros: i64) -> Result<u64, ApplyError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM crossdock.delivery WHERE at <= $1";
        self.one_number(sql, &[&Micros(time_micros)]).await
    }

    /// Sets the progress of `integrate` with a source back to a journal block, and keeps a note of
    /// it in `crossdock.rewind`. Returns where it was. A running writer is fenced, so that it
    /// cannot set it forward again unknowingly; a writer that rewinds itself is not.
    pub async fn rewind(&mut self, source: &str, seq: u64) -> Result<u64, ApplyError> {
        let epoch = self.epoch;
        let name = self.name.clone();
        let failed = |e| classify::postgres(&name, "rewinding", e);
        let tx = self.client.transaction().await.map_err(failed)?;
        match epoch {
            Some(epoch) => tx.execute("SELECT crossdock.fence($1)", &[&epoch]).await,
            None => tx.execute("UPDATE crossdock.meta SET epoch = epoch + 1", &[]).await,
        }
        .map_err(failed)?;
        let sql = "SELECT seq FROM crossdock.progress
                   WHERE stage = 'integrate' AND source = $1 FOR UPDATE";
        let row = tx.query_opt(sql, &[&source]).await.map_err(failed)?;
        let before = row.map_or(0, |row| counter(row.get(0)));
        if seq > before {
            return Err(ApplyError::Definite {
                what: format!("{name}: {source} has been integrated up to {before} only"),
                remedy: format!("name a block that is not above {before}"),
            });
        }
        let set = "UPDATE crossdock.progress SET seq = $2, position = '', at = now()
                   WHERE stage = 'integrate' AND source = $1";
        tx.execute(set, &[&source, &number(seq)]).await.map_err(failed)?;
        let note = "INSERT INTO crossdock.rewind (stage, source, from_seq, to_seq)
                    VALUES ('integrate', $1, $2, $3)";
        tx.execute(note, &[&source, &number(before), &number(seq)]).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        tracing::info!(store = %self.name, source, from = before, to = seq, "integration rewound");
        Ok(before)
    }

    /// The epoch that every commit checks.
    pub(super) fn writing_epoch(&self) -> Result<i64, ApplyError> {
        self.epoch.ok_or_else(|| ApplyError::Definite {
            what: format!("{}: the canonical store was opened for reading", self.name),
            remedy: "report this: a stage that reads has tried to commit".into(),
        })
    }

    /// A prepared statement, kept for the life of the connection.
    pub(super) async fn prepared(&mut self, sql: &'static str) -> Result<Statement, ApplyError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self
            .client
            .prepare(sql)
            .await
            .map_err(|e| classify::postgres(&self.name, "preparing a statement", e))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ApplyError> {
        let statement = self.prepared(sql).await?;
        let rows = self.client.query(&statement, params).await;
        rows.map_err(|e| classify::postgres(&self.name, "reading the canonical store", e))
    }

    pub(super) fn read<T>(
        &self,
        rows: Vec<Row>,
        read: impl Fn(&Cells<'_>) -> Result<T, ApplyError>,
    ) -> Result<Vec<T>, ApplyError> {
        Reader { server: &self.name, rows }.all(read)
    }

    async fn one_number(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, ApplyError> {
        let rows = self.query(sql, params).await?;
        Ok(self.read(rows, |r| r.counter(0))?.first().copied().unwrap_or(0))
    }
}

impl CanonicalStore for PostgresStore {
    async fn progress(&mut self) -> Result<Vec<Progress>, ApplyError> {
        let rows = self.query(sql::GET_PROGRESS, &[]).await?;
        self.read(rows, load::progress)
    }

    async fn load(&mut self, needs: &Needs) -> Result<Loaded, ApplyError> {
        load::load(self, needs, &[]).await
    }

    async fn stale_rows(
        &mut self,
        (source, table): (&str, &str),
        before: LogOrder,
        after: &str,
        limit: usize,
    ) -> Result<Vec<SourceRow>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let before = before.to_sortable();
        let rows =
            self.query(sql::GET_STALE_ROWS, &[&source, &table, &before, &after, &limit]).await?;
        self.read(rows, load::source_row)
    }

    async fn commit(
        &mut self,
        outcome: &Outcome,
        progress: &[Progress],
        ruleset: &str,
    ) -> Result<(), ApplyError> {
        self.commit_prepared(&PreparedCommit::of(outcome, progress, ruleset)).await
    }

    async fn deliveries(
        &mut self,
        target: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Delivery)>, ApplyError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(sql::GET_DELIVERIES, &[&target, &number(after), &limit]).await?;
        self.read(rows, load::delivery)
    }
}
