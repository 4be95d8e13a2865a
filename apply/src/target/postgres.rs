//! PostgreSQL as a target.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crossdock_model::canonical::{Name, WriteKind};
use crossdock_model::mark::{PREFIX, PROGRESS_TABLE};
use crossdock_model::{TableName, Value};
use tokio_postgres::{Client, Statement};

use super::group::{Group, groups, mark};
use super::postgres_text::{ColumnType, text};
use super::{Target, TargetBatch, TargetProgress};
use crate::pipeline::{self, Param, execute, simple};
pub(super) use crate::sql_text::quoted;
use crate::{ApplyError, ConnectOptions, classify, connect, points};

/// More rows than this go into a further statement of the same transaction.
const ROWS_MAX: usize = 5_000;
/// Prepared statements kept; there are a few for each table written to.
const STATEMENTS_MAX: usize = 500;
const EMIT: &str = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)";
/// Locks the stream's row, and touches nothing when the batch has been applied already.
const ADVANCE: &str = "
INSERT INTO crossdock.crossdock_progress AS p (stream, seq, applied_at)
VALUES ($1, $2, clock_timestamp())
ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, applied_at = excluded.applied_at
WHERE p.seq < excluded.seq";

pub(super) type Columns = HashMap<String, ColumnType>;

/// A PostgreSQL database that is written to. One connection, not repaired: after a transient
/// error connect anew.
pub struct PostgresTarget {
    name: String,
    installation: String,
    pub(super) client: Client,
    tables: HashMap<TableName, Arc<Columns>>,
    statements: HashMap<String, Statement>,
    /// A call was cancelled between BEGIN and COMMIT.
    half_done: bool,
    /// The last batch has left its transaction open for the next one.
    open: bool,
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The statements that make the progress table.
pub(super) fn progress_ddl() -> [String; 2] {
    [
        "CREATE SCHEMA crossdock".to_string(),
        format!(
            "CREATE TABLE crossdock.{PROGRESS_TABLE} (stream varchar(200) PRIMARY KEY, \
             seq bigint NOT NULL, mark text, applied_at timestamptz NOT NULL)"
        ),
    ]
}

impl PostgresTarget {
    /// Connects, and makes the progress table where it is missing and the grants allow it.
    pub async fn connect(options: &ConnectOptions, installation: &str) -> Result<Self, ApplyError> {
        let mut client = connect::postgres(options).await?;
        ensure_progress_table(&mut client, options).await?;
        Ok(Self {
            name: options.name.clone(),
            installation: installation.to_string(),
            client,
            tables: HashMap::new(),
            statements: HashMap::new(),
            half_done: false,
            open: false,
        })
    }

    /// Sets the progress of a stream back, so that what came after `seq` is applied again.
    /// Returns where it was; `None` when the stream has none.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        let Some(before) = self.progress(stream).await? else { return Ok(None) };
        let sql = "UPDATE crossdock.crossdock_progress SET seq = $2
                   WHERE stream = $1 AND seq > $2";
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&stream, &signed(seq)];
        self.client.execute(sql, &params).await.map_err(|e| self.failed("rewinding", e))?;
        tracing::info!(target = %self.name, stream, from = before.seq, to = seq, "target rewound");
        Ok(Some(before.seq))
    }

    pub(super) fn failed(&self, doing: &str, error: tokio_postgres::Error) -> ApplyError {
        classify::postgres(&self.name, doing, error)
    }

    async fn prepared(&mut self, sql: String) -> Result<Statement, ApplyError> {
        if let Some(known) = self.statements.get(&sql) {
            return Ok(known.clone());
        }
        let prepared = self.client.prepare(&sql).await;
        let statement = prepared.map_err(|e| self.failed("preparing a statement", e))?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) async fn columns(&mut self, table: &TableName) -> Result<Arc<Columns>, ApplyError> {
        if let Some(known) = self.tables.get(table) {
            return Ok(known.clone());
        }
        let columns = Arc::new(read_columns(&self.client, &self.name, table).await?);
        self.tables.insert(table.clone(), columns.clone());
        Ok(columns)
    }

    /// The types of some columns of a table.
    pub(super) fn types_of<'c>(
        &self,
        table: &TableName,
        known: &'c Columns,
        columns: &[&Name],
    ) -> Result<Vec<&'c ColumnType>, ApplyError> {
        let missing = |column: &Name| ApplyError::Definite {
            what: format!("{}: table {table} has no column {column}", self.name),
            remedy: "add the column or take it out of the rule that writes it".into(),
        };
        columns.iter().map(|c| known.get(&***c).ok_or_else(|| missing(c))).collect()
    }

    /// Statements and parameters of all groups.
    async fn statements_of<'b>(
        &mut self,
        groups: &[Group<'b>],
    ) -> Result<Vec<(Statement, Vec<Param<'b>>)>, ApplyError> {
        let mut out = Vec::new();
        for group in groups {
            let columns = self.columns(group.table).await?;
            let types = self.types_of(group.table, &columns, &group.columns)?;
            let statement = self.prepared(sql(group, &types)).await?;
            for rows in group.rows.chunks(ROWS_MAX) {
                out.push((statement.clone(), arrays(rows, &types)));
            }
        }
        Ok(out)
    }

    /// Begins the transaction, or goes on with it, with the mark and the progress; false when the
    /// batch is old.
    async fn begin(&mut self, batch: &TargetBatch, mark: &str) -> Result<bool, ApplyError> {
        let emit = self.prepared(EMIT.into()).await?;
        let advance = self.prepared(ADVANCE.into()).await?;
        let emit_params: Vec<Param<'_>> = vec![Box::new(PREFIX), Box::new(mark)];
        let advance_params: Vec<Param<'_>> =
            vec![Box::new(batch.stream.as_str()), Box::new(signed(batch.upto))];
        let mut steps = Vec::with_capacity(3);
        if !self.open {
            steps.push(simple(&self.client, "BEGIN"));
        }
        steps.push(execute(&self.client, &emit, &emit_params));
        steps.push(execute(&self.client, &advance, &advance_params));
        self.half_done = true;
        let touched = pipeline::run(steps).await;
        let new = matches!(touched.as_deref(), Ok([.., 1]));
        if !new {
            self.roll_back().await;
        }
        touched.map_err(|e| self.failed("writing the progress", e))?;
        Ok(new)
    }

    /// Undoes the transaction. When this fails, the connection is of no more use, and `half_done`
    /// says so.
    async fn roll_back(&mut self) {
        self.open = false;
        let ended = self.client.batch_execute("ROLLBACK").await;
        self.half_done = ended.is_err();
    }

    /// Runs statements without parameters.
    pub(super) async fn run_script(&self, sql: &str, doing: &str) -> Result<(), ApplyError> {
        self.client.batch_execute(sql).await.map_err(|e| self.failed(doing, e))
    }

    /// Runs a statement without parameters; returns the rows that it touched.
    pub(super) async fn execute(&self, sql: &str, doing: &str) -> Result<u64, ApplyError> {
        self.client.execute(sql, &[]).await.map_err(|e| self.failed(doing, e))
    }

    /// Inserts rows into a table whose columns have the types of those of `like`.
    pub(super) async fn insert_texts(
        &mut self,
        into: &str,
        like: &TableName,
        columns: &[&Name],
        rows: &[Vec<&Value<'static>>],
    ) -> Result<(), ApplyError> {
        let known = self.columns(like).await?;
        let types = self.types_of(like, &known, columns)?;
        let names: Vec<String> = columns.iter().map(|c| quoted(c)).collect();
        let (casts, given) = unnested(&types);
        let sql = format!(
            "INSERT INTO {into} ({}) SELECT {} FROM {given}",
            names.join(", "),
            casts.join(", ")
        );
        let params = arrays(rows, &types);
        let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            params.iter().map(|p| &**p as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
        let done = self.client.execute(&sql, &params).await;
        done.map(|_| ()).map_err(|e| self.failed("writing keys", e))
    }

    async fn write(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        let groups = groups(&self.name, batch)?;
        let mark = mark(&self.installation, &groups, batch.hops).to_json();
        let statements = self.statements_of(&groups).await?;
        if !self.begin(batch, &mark).await? {
            return Ok(None);
        }
        points::pass("postgres.in_transaction", &self.name);
        let mut steps = Vec::with_capacity(statements.len() + 1);
        for (statement, params) in &statements {
            steps.push(execute(&self.client, statement, params));
        }
        if !batch.more {
            // After a failed statement this rolls back.
            steps.push(simple(&self.client, "COMMIT"));
        }
        let touched = pipeline::run(steps).await;
        self.half_done = false;
        self.open = batch.more;
        Ok(Some(touched.map_err(|e| self.failed("writing rows", e))?.iter().sum()))
    }
}

impl Target for PostgresTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        let sql = "SELECT seq, (extract(epoch FROM applied_at) * 1000000)::bigint
                   FROM crossdock.crossdock_progress WHERE stream = $1";
        let row = self.client.query_opt(sql, &[&stream]).await;
        let row = row.map_err(|e| self.failed("reading the progress", e))?;
        Ok(row.map(|row| TargetProgress {
            seq: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            applied_micros: row.get(1),
        }))
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        if self.half_done {
            return Err(ApplyError::Transient {
                what: format!("{}: an earlier batch was interrupted", self.name),
                source: None,
            });
        }
        let written = self.write(batch).await;
        if written.is_err() {
            if self.open {
                self.roll_back().await;
            }
            // A changed table may be why; look at it again next time.
            self.tables.clear();
            self.statements.clear();
        }
        written
    }
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

async fn read_columns(
    client: &Client,
    server: &str,
    table: &TableName,
) -> Result<Columns, ApplyError> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, -1), t.typcategory::text
               FROM pg_catalog.pg_attribute a
               JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
               WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(sql, &[&&*table.schema, &&*table.table]).await;
    let rows = rows.map_err(|e| classify::postgres(server, "reading the catalog", e))?;
    if rows.is_empty() {
        return Err(ApplyError::Definite {
            what: format!("{server}: there is no table {table}"),
            remedy: "create it or correct the name in the rule that writes it".into(),
        });
    }
    let column = |row: &tokio_postgres::Row| {
        let category: String = row.get(2);
        let category = category.chars().next().unwrap_or('X');
        (row.get::<_, String>(0), ColumnType { sql: row.get(1), category })
    };
    Ok(rows.iter().map(column).collect())
}

/// One text array for each column.
fn arrays<'b>(rows: &[Vec<&'b Value<'static>>], types: &[&ColumnType]) -> Vec<Param<'b>> {
    types
        .iter()
        .enumerate()
        .map(|(at, column)| -> Param<'b> {
            let texts: Vec<Option<String>> =
                rows.iter().map(|row| row.get(at).and_then(|value| text(value, column))).collect();
            Box::new(texts)
        })
        .collect()
}

/// The statement of a group. It takes one text array for each column and casts to the types of
/// the table.
fn sql(group: &Group<'_>, types: &[&ColumnType]) -> String {
    let table = format!("{}.{}", quoted(&group.table.schema), quoted(&group.table.table));
    let names: Vec<String> = group.columns.iter().map(|c| quoted(c)).collect();
    let (casts, given) = unnested(types);
    let cast = |at: usize| casts.get(at).cloned().unwrap_or_default();
    let (keys, rest) = names.split_at(group.keys.min(names.len()));
    let same_key: Vec<String> =
        keys.iter().enumerate().map(|(at, name)| format!("t.{name} = {}", cast(at))).collect();
    let same_key = same_key.join(" AND ");
    let insert = || {
        let (names, casts, keys) = (names.join(", "), casts.join(", "), keys.join(", "));
        format!(
            "INSERT INTO {table} ({names}) SELECT {casts} FROM {given} ON CONFLICT ({keys}) DO "
        )
    };
    match group.kind {
        WriteKind::Insert => insert() + "NOTHING",
        WriteKind::Upsert => {
            let set: Vec<String> = rest.iter().map(|c| format!("{c} = EXCLUDED.{c}")).collect();
            format!("{}UPDATE SET {}", insert(), set.join(", "))
        }
        WriteKind::Update => {
            let set = rest.iter().enumerate();
            let set: Vec<String> =
                set.map(|(at, name)| format!("{name} = {}", cast(at + group.keys))).collect();
            format!("UPDATE {table} AS t SET {} FROM {given} WHERE {same_key}", set.join(", "))
        }
        WriteKind::Delete => format!("DELETE FROM {table} AS t USING {given} WHERE {same_key}"),
    }
}

/// The columns of arrays of texts, cast to types, and what they are selected from.
fn unnested(types: &[&ColumnType]) -> (Vec<String>, String) {
    let casts = types.iter().enumerate().map(|(at, t)| format!("n.c{at}::{}", t.sql)).collect();
    let arrays: Vec<String> = (1..=types.len()).map(|at| format!("${at}::text[]")).collect();
    let labels: Vec<String> = (0..types.len()).map(|at| format!("c{at}")).collect();
    (casts, format!("unnest({}) AS n({})", arrays.join(", "), labels.join(", ")))
}

async fn ensure_progress_table(
    client: &mut Client,
    options: &ConnectOptions,
) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&options.name, "making the progress table", e);
    let tx = client.transaction().await.map_err(failed)?;
    let [schema, table] = progress_ddl();
    let ask = format!(
        "SELECT to_regnamespace('crossdock') IS NULL,
                to_regclass('crossdock.{PROGRESS_TABLE}') IS NULL"
    );
    let missing = tx.query_one(&ask, &[]).await.map_err(failed)?;
    let (schema_missing, table_missing): (bool, bool) = (missing.get(0), missing.get(1));
    if !table_missing {
        return Ok(());
    }
    let user = quoted(&options.user);
    let may_not = |e: tokio_postgres::Error| match failed(e) {
        ApplyError::Definite { what, .. } => ApplyError::Definite {
            what,
            remedy: format!(
                "run as superuser in database {}: {}{table}; GRANT USAGE ON SCHEMA crossdock TO \
                 {user}; GRANT SELECT, INSERT, UPDATE ON crossdock.{PROGRESS_TABLE} TO {user}",
                options.database,
                if schema_missing { format!("{schema}; ") } else { String::new() }
            ),
        },
        other => other,
    };
    // Two streams into one target may start at once. The number is arbitrary, but stays.
    tx.batch_execute("SELECT pg_catalog.pg_advisory_xact_lock(7218413560113)")
        .await
        .map_err(failed)?;
    let missing = tx.query_one(&ask, &[]).await.map_err(failed)?;
    if missing.get(0) {
        tx.batch_execute(&schema).await.map_err(may_not)?;
    }
    if missing.get(1) {
        tx.batch_execute(&table).await.map_err(may_not)?;
    }
    tx.commit().await.map_err(failed)
}
