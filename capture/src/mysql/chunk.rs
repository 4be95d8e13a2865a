//! Reads tables in parts beside the stream: ranges of the primary key, each in one short
//! transaction. No table is locked.
//!
//! A chunk must have seen all that the stream had handed over when it was asked for, and what it
//! has seen must lie before the place it is given. MariaDB says which place of the log a
//! transaction sees. MySQL is asked whether the GTIDs handed over have been executed, before the
//! rows are read, and for the end of its log after.

use std::sync::Arc;
use std::time::Duration;

use crossdock_model::{LogOrder, Position, TableName};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::catalog::{self, Table};
use super::connect::{self, Server, literal, server_error};
use super::progress::Cursor;
use super::select::{self, ordered_key};
use super::{place, spans};
use crate::SourceOptions;
use crate::snapshot::{self, Refusal};

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
    /// What has not been read.
    pub(super) cursor: Cursor,
    /// Where the stream is on this server.
    pub(super) place: LogOrder,
    /// The GTIDs that it has handed over.
    pub(super) executed: String,
}

pub(super) type Answer = snapshot::Answer<LogOrder, Cursor>;

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
        let rows_estimated = spans::size(&self.options, conn, name).await?.rows;
        let key_names = select::names(&table, &key);
        Ok(Answer::Ready { key_columns: key, key_names, rows_estimated })
    }

    async fn chunk(&mut self, wanted: &Wanted) -> Result<Answer, Refusal> {
        let table = self.table(&wanted.table).await?;
        let key = ordered_key(&table).map_err(Refusal::Table)?;
        let Some((conn, server)) = &mut self.link else { return Err(lost()) };
        let doing = format!("reading rows of {}", wanted.table);
        let fail = |error| Refusal::from(server_error(&self.options, &doing, error));
        let seen = see(&self.options, server, conn, wanted).await?;
        let mut conditions = select::within(&table, &key, &wanted.cursor.first());
        conditions.extend(wanted.filter.as_ref().map(|filter| format!("({filter})")));
        let limit = self.rows_max;
        let rows_in_order = select::by_key(&wanted.table, &table, &key, &conditions);
        let sql = format!("{rows_in_order} LIMIT {limit}");
        let mut result = conn.query_iter(sql).await.map_err(fail)?;
        let (mut rows, mut last, mut bytes) = (Vec::new(), None, 0);
        while let Some(row) = result.next().await.map_err(fail)? {
            bytes += select::size(&row);
            rows.push(select::values(&table, &row)?);
            last = Some(row);
        }
        drop(result);
        conn.query_drop("COMMIT").await.map_err(fail)?;
        let high = match seen {
            Some(place) => place,
            None => place::head(&self.options, conn).await?.order(0),
        };
        let read = match last.filter(|_| rows.len() == limit) {
            Some(row) => {
                Some(select::literals(&table, &key, |at| select::sent(&row, at)).ok_or_else(
                    || Refusal::Table("its key has a value that can't be written down".into()),
                )?)
            }
            None => None,
        };
        let next = wanted.cursor.after(read);
        self.rows_max = match bytes {
            CHUNK_BYTES_GOAL.. => limit / 2,
            _ if bytes < CHUNK_BYTES_GOAL / 4 => limit * 2,
            _ => limit,
        }
        .clamp(ROWS_MIN, ROWS_MAX);
        Ok(Answer::Piece(Box::new(snapshot::Piece {
            schema: table.schema.clone(),
            rows,
            // All changes up to the chunk's place are made to it, in their order: those that it has
            // seen already change nothing.
            sees: Box::new(|_| false),
            high,
            next,
            rows_estimated: 0,
        })))
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
            let (file, offset) = place::consistent(options, conn).await?;
            let place = Position::Binlog { file, offset, gtid: String::new() }.order(0);
            if place >= wanted.place {
                return Ok(Some(place));
            }
            conn.query_drop("ROLLBACK").await.map_err(fail)?;
        } else if server.gtids {
            let sql = format!("SELECT GTID_SUBSET({}, @@gtid_executed)", literal(&wanted.executed));
            let visible: Option<u8> = conn.query_first(sql).await.map_err(fail)?;
            if visible == Some(1) {
                place::start(options, conn).await?;
                return Ok(None);
            }
        } else {
            // Waits for commits that are under way, and for nothing else.
            conn.query_drop("FLUSH TABLES WITH READ LOCK").await.map_err(fail)?;
            conn.query_drop("UNLOCK TABLES").await.map_err(fail)?;
            place::start(options, conn).await?;
            return Ok(None);
        }
        tokio::time::sleep(VISIBLE_PAUSE).await;
    }
    Err(Refusal::Again("what is in the log can't be seen yet".into()))
}
