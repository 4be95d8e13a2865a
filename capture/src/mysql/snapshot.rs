//! A consistent snapshot of the captured tables, and the place in the log where it was taken.

use std::sync::Arc;

use crossdock_model::{
    BlockBuilder, ImageKind, Op, Position, SnapshotPart, TableName, TxHeader, Value,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Cell};

use super::catalog::{self, Table};
use super::connect::{self, Server, ident, server_error, table_ident};
use super::kind::Kind;
use super::stream::{Blocks, Stop, gtids_at, send};
use super::text;
use crate::{CaptureError, SourceOptions};

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
    let mut builder = BlockBuilder::new();
    send(blocks, builder.finish(position.clone(), SnapshotPart::First)).await?;
    for name in &options.tables {
        match catalog::table(options, &server, &mut conn, name).await? {
            None => tracing::warn!(source = %options.name, table = %name, "no such table"),
            Some(table) => {
                copy(options, &mut conn, name, &table, &header, blocks, &mut builder).await?;
            }
        }
    }
    let last = builder.finish(position.clone(), SnapshotPart::Last);
    if let Err(error) = conn.query_drop("COMMIT").await {
        tracing::debug!(source = %options.name, %error, "ending the snapshot's transaction");
    }
    send(blocks, last).await?;
    Ok(position)
}

/// Starts the transaction that sees one state, and finds that state's place in the log.
async fn begin(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
) -> Result<(Position, i64), CaptureError> {
    let fail = |error| server_error(options, "starting the snapshot", error);
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    let start = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
    conn.query_drop(isolation).await.map_err(fail)?;
    let position = if server.mariadb {
        // MariaDB ties the snapshot to the log by itself: no lock.
        conn.query_drop(start).await.map_err(fail)?;
        let status: Vec<(String, String)> =
            conn.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await.map_err(fail)?;
        let of = |name: &str| {
            let found = status.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let file = of("binlog_snapshot_file");
        let offset = of("binlog_snapshot_position").parse().unwrap_or(0);
        if file.is_empty() || offset == 0 {
            return Err(no_binlog(options));
        }
        let gtid = gtids_at(options, conn, &file, offset).await?.to_string();
        Position::Binlog { file, offset, gtid }
    } else {
        conn.query_drop("FLUSH TABLES WITH READ LOCK").await.map_err(fail)?;
        let locked = async {
            conn.query_drop(start).await.map_err(fail)?;
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

/// Sends all rows of one table.
async fn copy(
    options: &SourceOptions,
    conn: &mut Conn,
    name: &TableName,
    table: &Arc<Table>,
    header: &TxHeader,
    blocks: &Blocks,
    builder: &mut BlockBuilder,
) -> Result<(), Stop> {
    let fail = |error| server_error(options, &format!("copying {name}"), error);
    let mut result = conn.query_iter(select(name, table)).await.map_err(fail)?;
    let mut ordinal = 0;
    while let Some(row) = result.next().await.map_err(fail)? {
        if !builder.in_transaction() {
            builder.begin(header, true);
            ordinal = 0;
        }
        add(builder, table, &row, ordinal)?;
        ordinal += 1;
        if builder.len() >= options.block_bytes_max {
            builder.end();
            let block = builder.finish(header.commit.clone(), SnapshotPart::Middle);
            send(blocks, block).await?;
        }
    }
    if builder.in_transaction() {
        builder.end();
        let block = builder.finish(header.commit.clone(), SnapshotPart::Middle);
        send(blocks, block).await?;
    }
    Ok(())
}

/// The statement that reads a table. A FLOAT is asked for as a double, because its text has only
/// six digits.
fn select(name: &TableName, table: &Table) -> String {
    let columns = table.schema.columns.iter().zip(&table.codecs);
    let expressions: Vec<_> = columns
        .map(|(column, codec)| match codec.kind {
            Kind::Float => format!("({} + 0e0)", ident(&column.name)),
            _ => ident(&column.name),
        })
        .collect();
    format!("SELECT {} FROM {}", expressions.join(", "), table_ident(name))
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
    for (at, codec) in table.codecs.iter().enumerate() {
        match row.as_ref(at) {
            Some(Cell::Bytes(sent)) => match codec.parse(sent) {
                Ok(value) => builder.value(&value),
                Err(what) => {
                    let column = table.schema.columns.get(at).map_or("", |column| &*column.name);
                    return Err(CaptureError::definite(
                        format!("{}.{column}: {what}", table.schema.name),
                        "leave the table out, or report it with the column's definition",
                    ));
                }
            },
            _ => builder.value(&Value::Null),
        }
    }
    Ok(())
}
