//! The thread that reads tables beside the stream: one request, one answer. The stream never waits
//! for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::chunk::{Piece, Reading};
use super::connection::Connection;
use super::control::Control;
use super::progress::Cursor;
use super::{errors, sql};
use crate::snapshot::Refusal;
use crate::{CaptureError, SourceOptions, TableCopy};

/// Prefix of the messages that let the stream move on while nobody writes. They are not captured.
pub(super) const WATERMARK_PREFIX: &str = "crossdock.watermark";
/// How long to wait before looking again whether earlier writers have ended.
const WRITERS_PAUSE: Duration = Duration::from_millis(20);
/// After so long, it is said that they are waited for.
const WRITERS_PATIENCE: Duration = Duration::from_secs(10);

/// What the stream asks for. An answer comes to each.
pub(super) enum Request {
    /// Make ready to read this table.
    Prepare(Box<TableCopy>),
    /// The next chunk of the table that was made ready.
    Chunk(Cursor),
}

pub(super) enum Answer {
    /// The table can be read.
    Ready {
        key_columns: Vec<usize>,
        key_names: Vec<String>,
    },
    Piece(Box<Piece>),
    Refused(Refusal),
    /// The server can't be reached.
    Failed(CaptureError),
}

pub(super) struct ChunkThread {
    pub options: Arc<SourceOptions>,
    pub control: Arc<Control>,
    pub runtime: tokio::runtime::Handle,
    pub standby: bool,
    pub requests: Receiver<Request>,
    pub answers: Sender<Answer>,
}

/// Connections, while they are good.
#[derive(Default)]
struct Links {
    rows: Option<Connection>,
    catalog: Option<Client>,
    /// The login may not write messages into the log.
    mute: bool,
}

impl ChunkThread {
    /// Runs until the stream asks no more.
    pub(super) fn run(self) {
        let mut links = Links::default();
        let mut reading = None;
        while let Ok(request) = self.requests.recv() {
            let answer = match request {
                Request::Prepare(copy) => self.prepare(&mut links, &copy, &mut reading),
                Request::Chunk(cursor) => self.chunk(&mut links, reading.as_mut(), &cursor),
            };
            let answer = answer.unwrap_or_else(Answer::Failed);
            if matches!(answer, Answer::Refused(_)) {
                links.rows = None;
            }
            let read = matches!(answer, Answer::Piece(_));
            if self.answers.send(answer).is_err() || self.control.stopped() {
                return;
            }
            if read {
                self.move_log(&mut links);
            }
        }
    }

    fn prepare(
        &self,
        links: &mut Links,
        copy: &TableCopy,
        reading: &mut Option<Reading>,
    ) -> Result<Answer, CaptureError> {
        let client = self.catalog(links)?;
        *reading = None;
        let prepared =
            self.runtime.block_on(Reading::prepare(client, &self.options, copy, self.standby));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Answer::Refused(refused)),
        };
        if !self.standby
            && let Err(error) = self.outwait_writers(client, &prepared)
        {
            return Ok(Answer::Refused(error.into()));
        }
        let key_columns = prepared.key_columns.clone();
        let key_names = prepared.key_names();
        *reading = Some(prepared);
        Ok(Answer::Ready { key_columns, key_names })
    }

    /// Waits until the transactions that have written to the table by now have ended. One that
    /// wrote before the table was in the publication is not in the stream; one whose commit an
    /// earlier reader has handed over may still be waiting to be seen. Both hold their lock.
    fn outwait_writers(&self, client: &Client, reading: &Reading) -> Result<(), CaptureError> {
        let doing = format!("waiting for those who write to {}", reading.name());
        let ask = |among: &[String]| {
            let oid = reading.oid();
            let among = among.to_vec();
            let rows = self.runtime.block_on(async move {
                client
                    .query(
                        "SELECT DISTINCT virtualtransaction FROM pg_locks
                         WHERE locktype = 'relation' AND granted AND pid IS DISTINCT FROM
                             pg_backend_pid()
                           AND database = (SELECT oid FROM pg_database
                                           WHERE datname = current_database())
                           AND (relation = $1 OR relation IN (SELECT relid FROM
                                                              pg_partition_tree($1::oid::regclass)))
                           AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock',
                                        'ExclusiveLock', 'AccessExclusiveLock')
                           AND ($2::text[] = '{}' OR virtualtransaction = ANY ($2))",
                        &[&oid, &among],
                    )
                    .await
            });
            let rows = rows.map_err(|e| errors::sql(&self.options, &doing, e))?;
            Ok::<_, CaptureError>(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
        };
        let start = Instant::now();
        let mut told = false;
        let mut writers = ask(&[])?;
        while !writers.is_empty() && !self.control.stopped() {
            if !told && start.elapsed() > WRITERS_PATIENCE {
                told = true;
                tracing::info!(source = self.options.name, table = %reading.name(),
                    transactions = writers.len(),
                    "waiting for transactions that wrote to the table before it is read");
            }
            self.nap(WRITERS_PAUSE);
            writers = ask(&writers)?;
        }
        Ok(())
    }

    fn chunk(
        &self,
        links: &mut Links,
        reading: Option<&mut Reading>,
        cursor: &Cursor,
    ) -> Result<Answer, CaptureError> {
        let Some(reading) = reading else {
            let what = "the table was not made ready".to_string();
            return Ok(Answer::Refused(Refusal::Again(what)));
        };
        self.catalog(links)?;
        if links.rows.is_none() {
            links.rows = Some(Connection::open(&self.options, &self.control, false)?);
        }
        let (Some(connection), Some(client)) = (&mut links.rows, &links.catalog) else {
            return Ok(Answer::Refused(Refusal::Again("no connection".to_string())));
        };
        Ok(match reading.chunk(connection, client, &self.runtime, cursor) {
            Ok(piece) => Answer::Piece(Box::new(piece)),
            Err(refused) => Answer::Refused(refused),
        })
    }

    fn catalog<'l>(&self, links: &'l mut Links) -> Result<&'l Client, CaptureError> {
        let client = match links.catalog.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.runtime.block_on(sql::connect(&self.options))?,
        };
        Ok(links.catalog.insert(client))
    }

    /// A chunk gets its place when the stream has come to where it was read. Where nobody writes,
    /// the log's end may not be on disk yet; the commit of this message brings it there. Without
    /// it, the server's own keep-alives do, after a while.
    fn move_log(&self, links: &mut Links) {
        if self.standby || links.mute {
            return;
        }
        let Ok(client) = self.catalog(links) else { return };
        let message = format!(
            "SET synchronous_commit = 'local'; \
             SELECT pg_logical_emit_message(true, '{WATERMARK_PREFIX}', '')"
        );
        if let Err(error) = self.runtime.block_on(client.batch_execute(&message)) {
            links.mute = error.as_db_error().is_some();
            tracing::debug!(source = self.options.name, %error, "no message for the log");
        }
    }

    /// Sleeps, but not longer than the reader lives.
    fn nap(&self, mut pause: Duration) {
        while !pause.is_zero() && !self.control.stopped() {
            std::thread::sleep(pause.min(WRITERS_PAUSE));
            pause = pause.saturating_sub(WRITERS_PAUSE);
        }
    }
}
