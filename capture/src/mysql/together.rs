//! Several sessions that see one state of the database, and its place in the log.
//!
//! MariaDB says which place of its log a transaction sees, and opening one takes no lock: they are
//! opened at the same time, again and again, until all say the same place. On MySQL nobody commits
//! while they are opened: by a global read lock where that is granted, or else by a read lock on
//! the captured tables, which nobody can have written to without having committed.

use std::sync::Arc;

use crossdock_model::Position;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::task::spawn_blocking;

use super::connect::{Server, grants, server_error, table_ident};
use super::place::{self, ISOLATION, SEEN, START};
use super::request::gtids_at;
use super::session::Session;
use super::text;
use crate::snapshot::Halt;
use crate::{CaptureError, SourceOptions};

const DOING: &str = "starting the snapshot";
/// How often to try before one session has to do.
const TRIES: u32 = 100;
/// While a lock is waited for, all who write wait behind it.
const LOCK_PATIENCE: &str = "SET SESSION lock_wait_timeout = 10";

/// Sessions in transactions that see the same.
pub(super) struct Together {
    pub(super) sessions: Vec<Session>,
    /// What they see.
    pub(super) position: Position,
    /// The server's clock, microseconds since the Unix epoch.
    pub(super) micros: i64,
}

/// Opens so many sessions, or fewer, and begins a transaction in each.
pub(super) async fn begin(
    options: &Arc<SourceOptions>,
    server: &Server,
    conn: &mut Conn,
    halt: &Arc<dyn Halt + Send + Sync>,
    count: usize,
) -> Result<Together, CaptureError> {
    let (ours, halt) = (options.clone(), halt.clone());
    let opened = blocking(move || {
        let open = || {
            let mut session = Session::open(&ours, halt.clone())?;
            session.execute(DOING, ISOLATION)?;
            Ok::<_, CaptureError>(session)
        };
        (0..count.max(1)).map(|_| open()).collect::<Result<Vec<_>, _>>()
    });
    let sessions = opened.await?;
    let (sessions, position) = if server.mariadb {
        let ours = options.clone();
        let (sessions, (file, offset)) = blocking(move || alike(&ours, sessions)).await?;
        let gtid = gtids_at(options, conn, &file, offset).await?.to_string();
        (sessions, Position::Binlog { file, offset, gtid })
    } else {
        locked(options, conn, sessions).await?
    };
    let now: Option<String> =
        conn.query_first("SELECT NOW(6)").await.map_err(|e| server_error(options, DOING, e))?;
    let micros = now.and_then(|now| text::now_micros(&now)).unwrap_or(0);
    Ok(Together { sessions, position, micros })
}

/// Begins transactions until they see the same place; with one session when that does not come.
fn alike(
    options: &SourceOptions,
    mut sessions: Vec<Session>,
) -> Result<(Vec<Session>, (String, u64)), CaptureError> {
    for _ in 0..TRIES {
        begin_all(&mut sessions)?;
        let mut places = Vec::new();
        for session in &mut sessions {
            let status = session.texts(DOING, SEEN)?;
            places.push(place::seen(options, |name| {
                let named = |row: &&Vec<String>| {
                    row.first().is_some_and(|key| key.eq_ignore_ascii_case(name))
                };
                status.iter().find(named)?.get(1).map(String::as_str)
            })?);
        }
        let first = places.first().cloned().unwrap_or_default();
        if places.iter().all(|place| *place == first) {
            return Ok((sessions, first));
        }
        for session in &mut sessions {
            session.execute(DOING, "ROLLBACK")?;
        }
    }
    tracing::info!(source = %options.name, tries = TRIES,
        "the server commits too often for several connections to see one state: one reads");
    sessions.truncate(1);
    alike(options, sessions)
}

/// At the same time, so that little can be committed between the first and the last.
fn begin_all(sessions: &mut [Session]) -> Result<(), CaptureError> {
    for session in sessions.iter_mut() {
        session.ask(START)?;
    }
    for session in sessions {
        session.done(DOING)?;
    }
    Ok(())
}

/// Begins all transactions while nobody commits.
async fn locked(
    options: &SourceOptions,
    conn: &mut Conn,
    mut sessions: Vec<Session>,
) -> Result<(Vec<Session>, Position), CaptureError> {
    let fail = |error| server_error(options, DOING, error);
    conn.query_drop(LOCK_PATIENCE).await.map_err(fail)?;
    lock(options, conn).await?;
    let begun = async {
        let sessions = blocking(move || {
            begin_all(&mut sessions)?;
            Ok(sessions)
        });
        let sessions = sessions.await?;
        Ok((sessions, place::head(options, conn).await?))
    };
    let begun = begun.await;
    conn.query_drop("UNLOCK TABLES").await.map_err(fail)?;
    begun
}

async fn lock(options: &SourceOptions, conn: &mut Conn) -> Result<(), CaptureError> {
    let fail = |error| server_error(options, "locking for the beginning of the snapshot", error);
    match conn.query_drop("FLUSH TABLES WITH READ LOCK").await {
        Err(error) if is_denied(&error) => {}
        other => return other.map_err(fail),
    }
    let tables: Vec<_> =
        options.tables.iter().map(|name| format!("{} READ", table_ident(name))).collect();
    match conn.query_drop(format!("LOCK TABLES {}", tables.join(", "))).await {
        Err(Error::Server(error)) if is_denied(&Error::Server(error.clone())) => {
            Err(CaptureError::definite(
                format!(
                    "{}: the first snapshot needs a lock for the moment in which it begins: {}",
                    options.name, error.message
                ),
                format!(
                    "grant RELOAD, or LOCK TABLES on the captured databases: {}",
                    grants(options)
                ),
            ))
        }
        other => other.map_err(fail),
    }
}

/// Whether a privilege is missing.
fn is_denied(error: &Error) -> bool {
    matches!(error, Error::Server(error) if matches!(error.code, 1044 | 1045 | 1142 | 1227))
}

/// Runs what waits on sockets where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CaptureError> + Send + 'static,
) -> Result<T, CaptureError> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(CaptureError::stopped()))
}
