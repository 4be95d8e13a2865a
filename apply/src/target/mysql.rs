//! MySQL and MariaDB as targets.

use std::fmt;

use crossdock_model::TableName;
use crossdock_model::canonical::{Name, WriteKind};
use crossdock_model::mark::PROGRESS_TABLE;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params, Value as Given};

use super::group::{Group, groups, mark};
use super::mysql_values::{given, size};
use super::{Target, TargetBatch, TargetProgress};
use crate::{ApplyError, ConnectOptions, classify, connect, points};

/// Rows of one statement. A power of two: statements are made for powers of two only, so that
/// few different ones are prepared.
const ROWS_MAX: usize = 1_024;
/// Bytes of one statement; a server's `max_allowed_packet` is 16 MiB or more.
const STATEMENT_BYTES_MAX: usize = 4 << 20;
/// Parameters of one statement; the protocol allows 65535.
const PARAMETERS_MAX: usize = 60_000;

/// A MySQL or MariaDB database that is written to. One connection, not repaired: after a
/// transient error connect anew.
pub struct MysqlTarget {
    pub(super) name: String,
    installation: String,
    progress_table: String,
    pub(super) conn: Conn,
    /// A transaction was begun and it is not known to have ended.
    half_done: bool,
    /// The last batch has left its transaction open for the next one.
    open: bool,
}

impl fmt::Debug for MysqlTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlTarget").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The statement that makes the progress table.
pub(super) fn progress_ddl(database: &str) -> String {
    format!(
        "CREATE TABLE {} (stream VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY \
         KEY, seq BIGINT UNSIGNED NOT NULL, mark LONGTEXT CHARACTER SET utf8mb4, applied_at \
         DATETIME(6) NOT NULL) ENGINE = InnoDB",
        table_sql(&TableName::new(database, PROGRESS_TABLE))
    )
}

/// Quotes a name.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a table's name.
pub(super) fn table_sql(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

impl MysqlTarget {
    /// Connects, and makes the progress table where it is missing and the grants allow it.
    pub async fn connect(options: &ConnectOptions, installation: &str) -> Result<Self, ApplyError> {
        let mut conn = connect::mysql(options).await?;
        ensure_progress_table(&mut conn, options).await?;
        Ok(Self {
            name: options.name.clone(),
            installation: installation.to_string(),
            progress_table: table_sql(&TableName::new(&options.database, PROGRESS_TABLE)),
            conn,
            half_done: false,
            open: false,
        })
    }

    /// Sets the progress of a stream back, so that what came after `seq` is applied again.
    /// Returns where it was; `None` when the stream has none.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        let Some(before) = self.progress(stream).await? else { return Ok(None) };
        let sql =
            format!("UPDATE {} SET seq = ? WHERE stream = ? AND seq > ?", self.progress_table);
        self.run(&sql, (seq, stream, seq).into(), "rewinding").await?;
        tracing::info!(target = %self.name, stream, from = before.seq, to = seq, "target rewound");
        Ok(Some(before.seq))
    }

    async fn run(&mut self, sql: &str, params: Params, doing: &str) -> Result<u64, ApplyError> {
        let done = self.conn.exec_drop(sql, params).await;
        done.map_err(|e| classify::mysql(&self.name, doing, e))?;
        Ok(self.conn.affected_rows())
    }

    /// Runs a statement; returns the rows that it touched.
    pub(super) async fn execute(
        &mut self,
        sql: &str,
        given: Vec<Given>,
        doing: &str,
    ) -> Result<u64, ApplyError> {
        let params = if given.is_empty() { Params::Empty } else { given.into() };
        self.run(sql, params, doing).await
    }

    async fn write(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        let groups = groups(&self.name, batch)?;
        let mark = mark(&self.installation, &groups, batch.hops).to_json();
        self.half_done = true;
        if !self.open {
            let begun = self.conn.query_drop("START TRANSACTION").await;
            begun.map_err(|e| classify::mysql(&self.name, "beginning", e))?;
        }
        // Locks the stream's row, and touches nothing when the batch has been applied already.
        // Assignments run from left to right: `seq` must come last.
        let advance = format!(
            "INSERT INTO {} (stream, seq, mark, applied_at) VALUES (?, ?, ?, UTC_TIMESTAMP(6)) \
             ON DUPLICATE KEY UPDATE mark = IF(VALUES(seq) > seq, VALUES(mark), mark), \
             applied_at = IF(VALUES(seq) > seq, VALUES(applied_at), applied_at), \
             seq = GREATEST(seq, VALUES(seq))",
            self.progress_table
        );
        let params = (batch.stream.as_str(), batch.upto, mark).into();
        if self.run(&advance, params, "writing the progress").await? == 0 {
            self.end("ROLLBACK").await?;
            return Ok(None);
        }
        let mut written = 0;
        for group in &groups {
            written += self.write_group(group).await?;
        }
        match batch.more {
            true => (self.open, self.half_done) = (true, false),
            false => {
                points::pass("mysql.before_commit", &self.name);
                self.end("COMMIT").await?;
            }
        }
        Ok(Some(written))
    }

    async fn end(&mut self, how: &'static str) -> Result<(), ApplyError> {
        let ended = self.conn.query_drop(how).await;
        ended.map_err(|e| classify::mysql(&self.name, how, e))?;
        (self.open, self.half_done) = (false, false);
        Ok(())
    }

    async fn write_group(&mut self, group: &Group<'_>) -> Result<u64, ApplyError> {
        let mut written = 0;
        if group.kind == WriteKind::Update {
            let sql = update_sql(group.table, &group.columns, group.keys);
            for row in &group.rows {
                let (keys, rest) = row.split_at(group.keys.min(row.len()));
                let params: Vec<Given> = rest.iter().chain(keys).map(|v| given(v)).collect();
                written += self.run(&sql, params.into(), "updating rows").await?;
            }
            return Ok(written);
        }
        let mut rest: Vec<Vec<Given>> =
            group.rows.iter().map(|row| row.iter().map(|v| given(v)).collect()).collect();
        while !rest.is_empty() {
            let later = rest.split_off(chunk(&rest));
            let count = rest.len();
            let sql = rows_sql(group, count);
            let params: Vec<Given> = rest.into_iter().flatten().collect();
            let touched = self.run(&sql, params.into(), "writing rows").await?;
            // An updated row counts twice for MySQL.
            written += if group.kind == WriteKind::Upsert { count as u64 } else { touched };
            rest = later;
        }
        Ok(written)
    }
}

impl Target for MysqlTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        let sql = format!(
            "SELECT seq, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', applied_at) FROM {} \
             WHERE stream = ?",
            self.progress_table
        );
        let row: Result<Option<(u64, i64)>, _> = self.conn.exec_first(sql, (stream,)).await;
        let row = row.map_err(|e| classify::mysql(&self.name, "reading the progress", e))?;
        Ok(row.map(|(seq, applied_micros)| TargetProgress { seq, applied_micros }))
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        if self.half_done {
            return Err(ApplyError::Transient {
                what: format!("{}: an earlier batch was interrupted", self.name),
                source: None,
            });
        }
        let written = self.write(batch).await;
        if written.is_err() && self.half_done {
            // When this fails too, the connection is of no more use, and `half_done` says so.
            let _ = self.end("ROLLBACK").await;
        }
        written
    }
}

/// How many of the rows go into the next statement: a power of two within the limits.
fn chunk(rows: &[Vec<Given>]) -> usize {
    let mut bytes = 0;
    let mut parameters = 0;
    let fitting = rows
        .iter()
        .take(ROWS_MAX)
        .take_while(|row| {
            bytes += row.iter().map(size).sum::<usize>();
            parameters += row.len();
            bytes <= STATEMENT_BYTES_MAX && parameters <= PARAMETERS_MAX
        })
        .count();
    match fitting {
        0 => 1,
        n => 1 << n.ilog2(),
    }
}

/// The statement of an insert, upsert or delete of so many rows.
fn rows_sql(group: &Group<'_>, rows: usize) -> String {
    let table = table_sql(group.table);
    let names: Vec<String> = group.columns.iter().map(|c| quoted(c)).collect();
    let (keys, rest) = names.split_at(group.keys.min(names.len()));
    if group.kind == WriteKind::Delete {
        return delete_sql(&table, keys, rows);
    }
    let set = match group.kind {
        WriteKind::Upsert => {
            rest.iter().map(|c| format!("{c} = VALUES({c})")).collect::<Vec<_>>().join(", ")
        }
        // Unlike INSERT IGNORE this hides no other error.
        _ => keys.first().map_or(String::new(), |key| format!("{key} = {table}.{key}")),
    };
    let marks = format!("({})", vec!["?"; names.len()].join(", "));
    let all = vec![marks.as_str(); rows].join(", ");
    let names = names.join(", ");
    format!("INSERT INTO {table} ({names}) VALUES {all} ON DUPLICATE KEY UPDATE {set}")
}

fn delete_sql(table: &str, keys: &[String], rows: usize) -> String {
    if let [key] = keys {
        return format!("DELETE FROM {table} WHERE {key} IN ({})", vec!["?"; rows].join(", "));
    }
    // MariaDB reads the whole table for (a, b) IN ((1, 2), ...), but not for this.
    let one = keys.iter().map(|key| format!("{key} = ?")).collect::<Vec<_>>().join(" AND ");
    let all = vec![format!("({one})"); rows].join(" OR ");
    format!("DELETE FROM {table} WHERE {all}")
}

/// The statement that updates one row. Takes the columns first, then the key.
fn update_sql(table: &TableName, columns: &[&Name], keys: usize) -> String {
    let (keys, rest) = columns.split_at(keys.min(columns.len()));
    let list = |of: &[&Name], between: &str| {
        let items: Vec<String> = of.iter().map(|c| format!("{} = ?", quoted(c))).collect();
        items.join(between)
    };
    format!("UPDATE {} SET {} WHERE {}", table_sql(table), list(rest, ", "), list(keys, " AND "))
}

async fn ensure_progress_table(
    conn: &mut Conn,
    options: &ConnectOptions,
) -> Result<(), ApplyError> {
    let failed = |e| classify::mysql(&options.name, "making the progress table", e);
    let ask = "SELECT count(*) FROM information_schema.tables \
               WHERE table_schema = ? AND table_name = ?";
    let there: Option<u64> =
        conn.exec_first(ask, (&options.database, PROGRESS_TABLE)).await.map_err(failed)?;
    if there.is_some_and(|n| n > 0) {
        return Ok(());
    }
    let ddl = progress_ddl(&options.database);
    let made = conn.query_drop(ddl.replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)).await;
    made.map_err(|e| match failed(e) {
        ApplyError::Definite { what, .. } => ApplyError::Definite {
            what,
            remedy: format!(
                "run as administrator: {ddl}; GRANT SELECT, INSERT, UPDATE ON {} TO the login `{}`",
                table_sql(&TableName::new(&options.database, PROGRESS_TABLE)),
                options.user
            ),
        },
        other => other,
    })
}
