//! Asking a server for its log: what kind of replica this is, and from where.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Sid};

use super::connect::{Server, literal, server_error};
use super::gtid::Executed;
use crate::{CaptureError, SourceOptions};

/// An idle server says so this often.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// A server gives up a connection into which it could not write for so long. Until then, MariaDB
/// lets the next one with the same server id wait: not longer than we wait for a sign of life.
const WRITE_TIMEOUT_SECONDS: u32 = 20;

/// A text that is no GTID position.
pub(super) fn bad_gtid(options: &SourceOptions, gtid: &str) -> CaptureError {
    CaptureError::definite(
        format!("{}: `{gtid}` is not a GTID position", options.name),
        "check the checkpoint; MariaDB writes 0-1-42, MySQL uuid:1-42",
    )
}

/// MariaDB's GTID position of a place in a file.
pub(super) async fn gtids_at(
    options: &SourceOptions,
    conn: &mut Conn,
    file: &str,
    offset: u64,
) -> Result<Executed, CaptureError> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", literal(file));
    let text: Option<Option<String>> = conn
        .query_first(sql)
        .await
        .map_err(|error| server_error(options, "asking for the GTID position", error))?;
    let text = text.flatten().unwrap_or_default();
    Executed::parse(&text).ok_or_else(|| bad_gtid(options, &text))
}

/// Whether a file of MySQL is still the one that was read: it is there, and the server knows all
/// GTIDs that were read.
pub(super) async fn is_continued(
    options: &SourceOptions,
    conn: &mut Conn,
    file: &str,
    executed: &Executed,
) -> Result<bool, CaptureError> {
    let fail = |error| server_error(options, "asking for the binlog files", error);
    let rows: Vec<Row> = conn.query("SHOW BINARY LOGS").await.map_err(fail)?;
    let mut names = rows.iter().filter_map(|row| row.get_opt::<String, _>(0)?.ok());
    if !names.any(|name| name == file) {
        return Ok(false);
    }
    let sql = format!("SELECT GTID_SUBSET({}, @@gtid_executed)", literal(&executed.to_string()));
    let known: Option<u8> = conn.query_first(sql).await.map_err(fail)?;
    Ok(known == Some(1))
}

/// Statements that say what kind of replica this is, and from where a MariaDB is to send.
pub(super) fn settings(server: &Server, from: Option<&Executed>) -> Vec<String> {
    let beat = HEARTBEAT.as_nanos();
    let mut sql = vec![
        format!("SET @master_heartbeat_period = {beat}, @source_heartbeat_period = {beat}"),
        "SET @master_binlog_checksum = @@global.binlog_checksum, \
         @source_binlog_checksum = @@global.binlog_checksum"
            .to_string(),
        format!("SET SESSION net_write_timeout = {WRITE_TIMEOUT_SECONDS}"),
    ];
    if server.mariadb {
        sql.push("SET @mariadb_slave_capability = 4".into());
        if let Some(executed) = from {
            let state = literal(&executed.to_string());
            sql.push(format!("SET @slave_connect_state = {state}"));
            sql.push("SET @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0".into());
        }
    }
    sql
}

/// MySQL's executed set as the dump request wants it.
pub(super) fn sids(
    options: &SourceOptions,
    executed: &Executed,
) -> Result<Vec<Sid<'static>>, CaptureError> {
    let mut sids = Vec::new();
    for (source, intervals) in executed.sources() {
        let mut text = source.clone();
        for (from, to) in intervals {
            text.push_str(&format!(":{from}-{to}"));
        }
        sids.push(text.parse().map_err(|_| bad_gtid(options, &text))?);
    }
    Ok(sids)
}
