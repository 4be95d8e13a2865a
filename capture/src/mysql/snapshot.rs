//! A consistent snapshot of the captured tables, and the place in the log where it was taken.

use std::sync::Arc;
use std::time::Instant;

use crossdock_model::{
    BlockBuilder, ImageKind, Op, Position, SnapshotPart, TableName, TxHeader, Value,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Cell};

use super::catalog::{self, Table};
use super::connect::{self, Server, ident, server_error, table_ident};
use super::kind::Kind;
use super::progress::{Cursor, Parcel};
use super::request::gtids_at;
use super::stream::{Blocks, Stop, send};
use super::{chunk, text};
use crate::snapshot::Throttle;
use crate::{CaptureError, SourceOptions, TableCopy};

/// Takes the snapshot and returns where the stream begins.
pub(super) async fn run(options: &SourceOptions, blocks: &Blocks) -> Result<Position, Stop> {
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    let (position, micros) = begin(options, &server, &mut conn).await?;
    tracing::info!(source = %options.name, %position, "taking a snapshot");
    let header = TxHeader {
        id: "snapshot".into(),
        commit: position.clone(),
        commit_micros: micros,
        origin: None,
        snapshot: true,
    };
    let mut tables = Vec::new();
    let mut copies = Vec::new();
    for name in &options.tables {
        match catalog::table(options, &server, &mut conn, name).await? {
            None => tracing::warn!(source = %options.name, table = %name, "no such table"),
            Some(table) => {
                let rows = estimate(options, &mut conn, name).await?;
                copies.push(TableCopy::begun(name.clone(), rows, position.clone()));
                tables.push(table);
            }
        }
    }
    let mut builder = BlockBuilder::new();
    let block = builder.finish(position.clone(), SnapshotPart::First);
    send(blocks, Parcel { block, news: copies.clone() }).await?;
    let throttle = Throttle::new(options.snapshot.rows_per_second);
    let mut copying = Copying { options, header: &header, blocks, builder, throttle };
    for (table, copy) in tables.iter().zip(copies) {
        copying.table(&mut conn, table, copy).await?;
    }
    let last = copying.builder.finish(position.clone(), SnapshotPart::Last);
    if let Err(error) = conn.query_drop("COMMIT").await {
        tracing::debug!(source = %options.name, %error, "ending the snapshot's transaction");
    }
    send(blocks, last.into()).await?;
    Ok(position)
}

/// Rows of a table, as the server estimates.
pub(super) async fn estimate(
    options: &SourceOptions,
    conn: &mut Conn,
    name: &TableName,
) -> Result<u64, CaptureError> {
    const ROWS: &str = "SELECT table_rows FROM information_schema.tables \
        WHERE table_schema = ? AND table_name = ?";
    let of = (name.schema.to_string(), name.table.to_string());
    let rows: Option<Option<u64>> = conn
        .exec_first(ROWS, of)
        .await
        .map_err(|error| server_error(options, &format!("counting the rows of {name}"), error))?;
    Ok(rows.flatten().unwrap_or(0))
}

/// Starts a transaction that sees one state.
pub(super) async fn start(options: &SourceOptions, conn: &mut Conn) -> Result<(), CaptureError> {
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    for sql in [isolation, "START TRANSACTION WITH CONSISTENT SNAPSHOT"] {
        conn.query_drop(sql)
            .await
            .map_err(|error| server_error(options, "starting a transaction", error))?;
    }
    Ok(())
}

/// Starts a transaction on MariaDB, which ties it to its log by itself: no lock. Returns the place
/// that it sees.
pub(super) async fn consistent(
    options: &SourceOptions,
    conn: &mut Conn,
) -> Result<(String, u64), CaptureError> {
    start(options, conn).await?;
    let status: Vec<(String, String)> = conn
        .query("SHOW STATUS LIKE 'binlog_snapshot_%'")
        .await
        .map_err(|error| server_error(options, "starting the snapshot", error))?;
    let of = |name: &str| {
        let found = status.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let file = of("binlog_snapshot_file");
    match of("binlog_snapshot_position").parse().unwrap_or(0) {
        offset @ 1.. if !file.is_empty() => Ok((file, offset)),
        _ => Err(no_binlog(options)),
    }
}

/// Starts the transaction that sees one state, and finds that state's place in the log.
async fn begin(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
) -> Result<(Position, i64), CaptureError> {
    let fail = |error| server_error(options, "starting the snapshot", error);
    let position = if server.mariadb {
        let (file, offset) = consistent(options, conn).await?;
        let gtid = gtids_at(options, conn, &file, offset).await?.to_string();
        Position::Binlog { file, offset, gtid }
    } else {
        conn.query_drop("FLUSH TABLES WITH READ LOCK").await.map_err(fail)?;
        let locked = async {
            start(options, conn).await?;
            head(options, conn).await
        };
        let position = locked.await;
        conn.query_drop("UNLOCK TABLES").await.map_err(fail)?;
        position?
    };
    let now: Option<String> = conn.query_first("SELECT NOW(6)").await.map_err(fail)?;
    Ok((position, now.and_then(|now| text::now_micros(&now)).unwrap_or(0)))
}

fn no_binlog(options: &SourceOptions) -> CaptureError {
    CaptureError::definite(
        format!("{}: the server writes no binlog", options.name),
        "set `log_bin = binlog` in the server's configuration and restart it",
    )
}

/// The end of the server's log.
pub(super) async fn head(
    options: &SourceOptions,
    conn: &mut Conn,
) -> Result<Position, CaptureError> {
    let mut found = Err(no_binlog(options));
    for sql in ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"] {
        let row: Result<Option<Row>, _> = conn.query_first(sql).await;
        match row {
            Ok(Some(row)) => {
                let text = |at: usize| row.get_opt::<String, _>(at).and_then(Result::ok);
                let file = text(0).unwrap_or_default();
                let offset = text(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                let gtid = text(4).unwrap_or_default().replace(['\n', ' '], "");
                return Ok(Position::Binlog { file, offset, gtid });
            }
            Ok(None) => {}
            // An older or newer server: the other statement is the right one.
            Err(mysql_async::Error::Server(e)) if e.code == 1064 => {}
            Err(error) => {
                found = Err(server_error(options, "asking for the end of the binlog", error));
            }
        }
    }
    found
}

/// Hands tables over, row by row.
struct Copying<'a> {
    options: &'a SourceOptions,
    header: &'a TxHeader,
    blocks: &'a Blocks,
    builder: BlockBuilder,
    throttle: Throttle,
}

impl Copying<'_> {
    /// Sends all rows of one table, in the order of its key where that has one.
    async fn table(
        &mut self,
        conn: &mut Conn,
        table: &Arc<Table>,
        mut copy: TableCopy,
    ) -> Result<(), Stop> {
        let name = copy.table.clone();
        let fail = |error| server_error(self.options, &format!("copying {name}"), error);
        let key = chunk::ordered_key(table).unwrap_or_default();
        let sql = format!("{}{}", select(&name, table, &[]), order_by(table, &key));
        let mut result = conn.query_iter(sql).await.map_err(fail)?;
        let mut ordinal = 0;
        while let Some(row) = result.next().await.map_err(fail)? {
            if !self.builder.in_transaction() {
                self.builder.begin(self.header, true);
                ordinal = 0;
            }
            add(&mut self.builder, table, &row, ordinal)?;
            ordinal += 1;
            if self.builder.len() >= self.options.block_bytes_max {
                let after = chunk::literals(table, &key, &row).filter(|after| !after.is_empty());
                copy.cursor = Cursor { after }.to_json();
                copy.rows += u64::from(ordinal);
                copy.rows_estimated = copy.rows_estimated.max(copy.rows);
                self.send(copy.clone()).await?;
                let wait = self.throttle.take(u64::from(ordinal), Instant::now());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.blocks.closed() => return Err(Stop::Gone),
                }
            }
        }
        if self.builder.in_transaction() {
            copy.rows += u64::from(ordinal);
        }
        copy.finish();
        self.send(copy).await
    }

    async fn send(&mut self, copy: TableCopy) -> Result<(), Stop> {
        if self.builder.in_transaction() {
            self.builder.end();
        }
        let block = self.builder.finish(self.header.commit.clone(), SnapshotPart::Middle);
        Ok(send(self.blocks, Parcel { block, news: vec![copy] }).await?)
    }
}

/// The statement that reads a table. A FLOAT is asked for as a double, because its text has only
/// six digits.
pub(super) fn select(name: &TableName, table: &Table, conditions: &[String]) -> String {
    let columns = table.schema.columns.iter().zip(&table.codecs);
    let expressions: Vec<_> = columns
        .map(|(column, codec)| match codec.kind {
            Kind::Float => format!("({} + 0e0)", ident(&column.name)),
            _ => ident(&column.name),
        })
        .collect();
    let mut sql = format!("SELECT {} FROM {}", expressions.join(", "), table_ident(name));
    if !conditions.is_empty() {
        sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    sql
}

/// By the key's columns; nothing without a key.
pub(super) fn order_by(table: &Table, key: &[usize]) -> String {
    let names: Vec<_> = key
        .iter()
        .filter_map(|column| table.schema.columns.get(*column))
        .map(|column| ident(&column.name))
        .collect();
    if names.is_empty() { String::new() } else { format!(" ORDER BY {}", names.join(", ")) }
}

/// All columns of a row.
pub(super) fn values(table: &Table, row: &Row) -> Result<Vec<Value<'static>>, CaptureError> {
    (0..table.codecs.len()).map(|at| Ok(value(table, row, at)?.into_owned())).collect()
}

fn value<'r>(table: &Table, row: &'r Row, at: usize) -> Result<Value<'r>, CaptureError> {
    match (row.as_ref(at), table.codecs.get(at)) {
        (Some(Cell::Bytes(sent)), Some(codec)) => codec.parse(sent).map_err(|what| {
            let column = table.schema.columns.get(at).map_or("", |column| &*column.name);
            CaptureError::definite(
                format!("{}.{column}: {what}", table.schema.name),
                "leave the table out, or report it with the column's definition",
            )
        }),
        _ => Ok(Value::Null),
    }
}

fn add(
    builder: &mut BlockBuilder,
    table: &Arc<Table>,
    row: &Row,
    ordinal: u32,
) -> Result<(), CaptureError> {
    builder.event(Op::Read, &table.schema, ordinal);
    builder.no_image();
    builder.image(ImageKind::Full, table.codecs.len());
    for at in 0..table.codecs.len() {
        builder.value(&value(table, row, at)?);
    }
    Ok(())
}
