//! Reads tables in parts beside the stream: ranges of the primary key, each in one short
//! transaction. No table is locked.
//!
//! A chunk must have seen all that the stream had handed over when it was asked for, and what it
//! has seen must lie before the place it is given. MariaDB says which place of the log a
//! transaction sees. MySQL is asked whether the GTIDs handed over have been executed, before the
//! rows are read, and for the end of its log after.

use std::sync::Arc;
use std::time::Duration;

use crossdock_model::{LogOrder, Position, TableName, TableSchema, Value};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Cell};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::catalog::{self, Table};
use super::charset::Charset;
use super::connect::{self, Server, ident, literal, server_error};
use super::kind::Kind;
use super::snapshot;
use crate::{CaptureError, SourceOptions};

const ROWS_MIN: usize = 16;
const ROWS_MAX: usize = 50_000;
const ROWS_FIRST: usize = 1_000;
/// The next chunk has fewer rows when one is larger than this.
const CHUNK_BYTES_GOAL: usize = 4 * 1024 * 1024;
/// How often and how long to wait until a server shows what is in its log.
const VISIBLE_TRIES: u32 = 1_000;
const VISIBLE_PAUSE: Duration = Duration::from_millis(5);

/// What the stream asks for. An answer comes to each.
pub(super) enum Request {
    /// Look whether this table can be read.
    Prepare(TableName),
    /// Its next chunk.
    Chunk(Box<Wanted>),
}

/// The chunk that is wanted.
pub(super) struct Wanted {
    pub(super) table: TableName,
    pub(super) filter: Option<String>,
    pub(super) after: Option<Vec<String>>,
    /// Where the stream is on this server.
    pub(super) place: LogOrder,
    /// The GTIDs that it has handed over.
    pub(super) executed: String,
}

pub(super) enum Answer {
    /// The table can be read.
    Ready {
        key: Vec<usize>,
        rows_estimated: u64,
    },
    Piece(Box<Piece>),
    Refused(Refusal),
}

/// Why a chunk could not be read.
pub(super) enum Refusal {
    /// The table can't be read at all.
    Table(String),
    /// It may go better the next time.
    Again(String),
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Transient { what, .. } => Self::Again(what),
            other => Self::Table(other.to_string()),
        }
    }
}

/// A chunk as it was read.
pub(super) struct Piece {
    pub(super) schema: Arc<TableSchema>,
    pub(super) rows: Vec<Vec<Value<'static>>>,
    /// Where the next one begins; `None` behind the last.
    pub(super) next: Option<Vec<String>>,
    /// The place on this server before which all lies that it has seen.
    pub(super) high: LogOrder,
}

/// Answers requests until nobody asks any more.
pub(super) async fn serve(
    options: SourceOptions,
    mut requests: UnboundedReceiver<Request>,
    answers: UnboundedSender<Answer>,
) {
    let mut reader = ChunkReader { options, link: None, rows_max: ROWS_FIRST };
    while let Some(request) = requests.recv().await {
        let answer = match request {
            Request::Prepare(name) => reader.prepare(&name).await,
            Request::Chunk(wanted) => reader.chunk(&wanted).await,
        };
        let answer = answer.unwrap_or_else(|refusal| {
            reader.link = None;
            Answer::Refused(refusal)
        });
        if answers.send(answer).is_err() {
            return;
        }
    }
}

struct ChunkReader {
    options: SourceOptions,
    /// The connection, while it is good.
    link: Option<(Conn, Server)>,
    rows_max: usize,
}

impl ChunkReader {
    async fn table(&mut self, name: &TableName) -> Result<Arc<Table>, Refusal> {
        if self.link.is_none() {
            let mut conn = connect::connect(&self.options).await?;
            let server = connect::server(&self.options, &mut conn).await?;
            self.link = Some((conn, server));
        }
        let Some((conn, server)) = &mut self.link else { return Err(lost()) };
        let table = catalog::table(&self.options, server, conn, name).await?;
        table.ok_or_else(|| Refusal::Table("it does not exist, or may not be seen".into()))
    }

    async fn prepare(&mut self, name: &TableName) -> Result<Answer, Refusal> {
        self.rows_max = ROWS_FIRST;
        let table = self.table(name).await?;
        let key = ordered_key(&table).map_err(Refusal::Table)?;
        let Some((conn, _)) = &mut self.link else { return Err(lost()) };
        let rows_estimated = snapshot::estimate(&self.options, conn, name).await?;
        Ok(Answer::Ready { key, rows_estimated })
    }

    async fn chunk(&mut self, wanted: &Wanted) -> Result<Answer, Refusal> {
        let table = self.table(&wanted.table).await?;
        let key = ordered_key(&table).map_err(Refusal::Table)?;
        let Some((conn, server)) = &mut self.link else { return Err(lost()) };
        let doing = format!("reading rows of {}", wanted.table);
        let fail = |error| Refusal::from(server_error(&self.options, &doing, error));
        let seen = see(&self.options, server, conn, wanted).await?;
        let mut conditions = Vec::new();
        conditions.extend(wanted.filter.as_ref().map(|filter| format!("({filter})")));
        conditions.extend(wanted.after.as_ref().map(|after| beyond(&table, &key, after)));
        let limit = self.rows_max;
        let sql = format!(
            "{}{} LIMIT {limit}",
            snapshot::select(&wanted.table, &table, &conditions),
            snapshot::order_by(&table, &key),
        );
        let mut result = conn.query_iter(sql).await.map_err(fail)?;
        let (mut rows, mut last, mut bytes) = (Vec::new(), None, 0);
        while let Some(row) = result.next().await.map_err(fail)? {
            bytes += size(&row);
            rows.push(snapshot::values(&table, &row)?);
            last = Some(row);
        }
        drop(result);
        conn.query_drop("COMMIT").await.map_err(fail)?;
        let high = match seen {
            Some(place) => place,
            None => snapshot::head(&self.options, conn).await?.order(0),
        };
        let next = match last.filter(|_| rows.len() == limit) {
            Some(row) => Some(literals(&table, &key, &row).ok_or_else(|| {
                Refusal::Table("its key has a value that can't be written down".into())
            })?),
            None => None,
        };
        self.rows_max = match bytes {
            CHUNK_BYTES_GOAL.. => limit / 2,
            _ if bytes < CHUNK_BYTES_GOAL / 4 => limit * 2,
            _ => limit,
        }
        .clamp(ROWS_MIN, ROWS_MAX);
        let schema = table.schema.clone();
        Ok(Answer::Piece(Box::new(Piece { schema, rows, next, high })))
    }
}

fn lost() -> Refusal {
    Refusal::Again("the connection was lost".into())
}

/// Starts a transaction that sees all that was handed over. Returns the place that it sees, where
/// the server says it.
async fn see(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    wanted: &Wanted,
) -> Result<Option<LogOrder>, Refusal> {
    let fail = |error| Refusal::from(server_error(options, "starting to read rows", error));
    for _ in 0..VISIBLE_TRIES {
        if server.mariadb {
            let (file, offset) = snapshot::consistent(options, conn).await?;
            let place = Position::Binlog { file, offset, gtid: String::new() }.order(0);
            if place >= wanted.place {
                return Ok(Some(place));
            }
            conn.query_drop("ROLLBACK").await.map_err(fail)?;
        } else if server.gtids {
            let sql = format!("SELECT GTID_SUBSET({}, @@gtid_executed)", literal(&wanted.executed));
            let visible: Option<u8> = conn.query_first(sql).await.map_err(fail)?;
            if visible == Some(1) {
                snapshot::start(options, conn).await?;
                return Ok(None);
            }
        } else {
            // Waits for commits that are under way, and for nothing else.
            conn.query_drop("FLUSH TABLES WITH READ LOCK").await.map_err(fail)?;
            conn.query_drop("UNLOCK TABLES").await.map_err(fail)?;
            snapshot::start(options, conn).await?;
            return Ok(None);
        }
        tokio::time::sleep(VISIBLE_PAUSE).await;
    }
    Err(Refusal::Again("what is in the log can't be seen yet".into()))
}

/// The key by whose order the table can be read in parts.
pub(super) fn ordered_key(table: &Table) -> Result<Vec<usize>, String> {
    let key = table.schema.key_columns();
    if key.is_empty() {
        return Err("it has no primary key, so it can't be read in parts".into());
    }
    for column in &key {
        let codec = table.codecs.get(*column);
        if codec.is_none_or(|codec| !has_literals(&codec.kind)) {
            let name = table.schema.columns.get(*column).map_or("", |column| &*column.name);
            return Err(format!("its key column {name} has no order that can be written down"));
        }
    }
    Ok(key)
}

/// Whether a comparison with a value written down agrees with the order of the column.
pub(super) fn has_literals(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Float
            | Kind::Double
            | Kind::Bit { .. }
            | Kind::Enum { .. }
            | Kind::Set { .. }
            | Kind::BinaryJson { .. }
            | Kind::Geometry { .. }
            | Kind::Unknown(_)
    )
}

/// The key of a row as SQL.
pub(super) fn literals(table: &Table, key: &[usize], row: &Row) -> Option<Vec<String>> {
    let cell = |column: &usize| {
        let Some(Cell::Bytes(sent)) = row.as_ref(*column) else { return None };
        written(&table.codecs.get(*column)?.kind, sent)
    };
    key.iter().map(cell).collect()
}

fn written(kind: &Kind, sent: &[u8]) -> Option<String> {
    let binary = match kind {
        Kind::Char { charset, .. } | Kind::Varchar { charset, .. } | Kind::Blob { charset, .. } => {
            *charset == Charset::Binary
        }
        _ => false,
    };
    if binary {
        let digits: String = sent.iter().map(|byte| format!("{byte:02x}")).collect();
        return Some(format!("x'{digits}'"));
    }
    let text = std::str::from_utf8(sent).ok()?;
    match kind {
        Kind::Int { .. } | Kind::Year | Kind::Decimal { .. } => {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            (plain && !text.is_empty()).then(|| text.to_string())
        }
        _ => Some(literal(text)),
    }
}

/// A column's name, quoted.
pub(super) fn name(table: &Table, column: usize) -> String {
    ident(table.schema.columns.get(column).map_or("", |column| &*column.name))
}

/// The rows with greater keys, so that the server can use the index.
pub(super) fn beyond(table: &Table, key: &[usize], after: &[String]) -> String {
    let mut sql = String::new();
    let mut equal = String::new();
    for (i, (column, value)) in key.iter().zip(after).enumerate() {
        let column = name(table, *column);
        if i == 0 {
            sql.push_str(&format!("{column} >= {value} AND ("));
        } else {
            sql.push_str(" OR ");
        }
        sql.push_str(&format!("({equal}{column} > {value})"));
        equal.push_str(&format!("{column} = {value} AND "));
    }
    sql.push_str(if sql.is_empty() { "TRUE" } else { ")" });
    sql
}

/// Bytes of a row as it was sent.
pub(super) fn size(row: &Row) -> usize {
    let cells = (0..row.len()).filter_map(|at| row.as_ref(at));
    cells.map(|cell| if let Cell::Bytes(bytes) = cell { bytes.len() } else { 0 }).sum()
}
