//! Transactions that see one state of the database, and which place in the log that is.

use crossdock_model::Position;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::connect::server_error;
use crate::{CaptureError, SourceOptions};

/// What reads of a transaction have in common: one state, as of its beginning.
pub(super) const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
/// Begins it.
pub(super) const START: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
/// On MariaDB: where in the log the state of this session's transaction is.
pub(super) const SEEN: &str = "SHOW STATUS LIKE 'binlog_snapshot_%'";

/// Starts a transaction that sees one state.
pub(super) async fn start(options: &SourceOptions, conn: &mut Conn) -> Result<(), CaptureError> {
    for sql in [ISOLATION, START] {
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
        .query(SEEN)
        .await
        .map_err(|error| server_error(options, "starting the snapshot", error))?;
    seen(options, |name| {
        status.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    })
}

/// The place in the log that MariaDB's status of a transaction says.
pub(super) fn seen<'s>(
    options: &SourceOptions,
    status: impl Fn(&str) -> Option<&'s str>,
) -> Result<(String, u64), CaptureError> {
    let file = status("binlog_snapshot_file").unwrap_or_default();
    let offset = status("binlog_snapshot_position").and_then(|offset| offset.parse().ok());
    match offset.unwrap_or(0) {
        offset @ 1.. if !file.is_empty() => Ok((file.to_string(), offset)),
        _ => Err(no_binlog(options)),
    }
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
