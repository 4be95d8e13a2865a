//! The rows that are there when the slot is made, read under the very snapshot that the slot
//! begins with: what a transaction wrote is either in the snapshot or in the stream.
//!
//! Several connections share that snapshot. Each takes one range of pages after the other.

use std::collections::VecDeque;

use crossdock_model::{BlockBuilder, Position, SnapshotPart, TxHeader};

use super::catalog::Found;
use super::connection::Connection;
use super::control::Control;
use super::copy::{RowWriter, copy};
use super::image::Table;
use super::progress::{Cursor, News, Range, SnapshotCursor};
use super::ranges::{self, Work};
use super::worker::Worker;
use super::{slot, sql};
use crate::snapshot::{Crew, Hand, WORKERS_MAX};
use crate::{CaptureError, TableCopy};

/// What becomes of the slot that a snapshot is taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The stream goes on from it.
    Slot,
    /// It goes with the connection that made it.
    Nothing,
}

/// Makes the slot, reads all tables and hands them over. Returns where the stream begins.
pub(super) fn take(worker: &Worker, keep: Keep) -> Result<u64, CaptureError> {
    let options = &worker.options;
    let mut replication = Connection::open(options, &worker.control, true)?;
    let made = slot::create(&mut replication, &worker.prepared, keep == Keep::Nothing)?;
    let (point, name) = (made.consistent_point, made.snapshot);
    let crew_control = Control::below(&worker.control);
    let mut first = Connection::open(options, &crew_control, false)?;
    let seen = import(&mut first, &name)?;
    let header = TxHeader {
        id: "snapshot".to_string(),
        commit: Position::Postgres { lsn: point },
        commit_micros: server_micros(&mut first)?,
        origin: None,
        snapshot: true,
    };
    let (copies, work) = plan(worker, &mut first, &header, xmin(&seen))?;
    let workers = options.snapshot.workers.clamp(1, WORKERS_MAX).min(work.len().max(1));
    let mut connections = vec![first];
    while connections.len() < workers {
        let mut connection = Connection::open(options, &crew_control, false)?;
        // One that reads under another snapshot would lose rows or have them twice.
        if import(&mut connection, &name)? != seen {
            return Err(CaptureError::definite(
                format!("source {}: a connection did not take over the snapshot", options.name),
                "let Crossdock connect to the server itself and not to a pooler",
            ));
        }
        connections.push(connection);
    }
    // The exported snapshot lives as long as the connection that exported it is left alone; from
    // here on ours do not need it. The stream gets a fresh connection: a long snapshot would
    // leave this one silent for longer than many networks allow.
    drop(replication);
    tracing::info!(source = options.name, at = %header.commit, workers, ranges = work.len(),
        "snapshot begins");
    let (blocks, tables) = (&worker.blocks, &worker.prepared.tables);
    let crew = Crew::new(options, blocks, &*crew_control, header, work);
    crew.edge(SnapshotPart::First, News::Begun(copies))?;
    let hand = |connection| PageReader { connection, tables };
    crew.read(connections.into_iter().map(hand).collect())?;
    crew.edge(SnapshotPart::Last, News::Nothing)?;
    Ok(point)
}

/// Makes a slot that begins now, without reading anything.
pub(super) fn begin_now(worker: &Worker) -> Result<u64, CaptureError> {
    let mut connection = Connection::open(&worker.options, &worker.control, true)?;
    Ok(slot::create(&mut connection, &worker.prepared, false)?.consistent_point)
}

/// Begins a transaction under the exported snapshot; returns what it sees, as the server says it.
fn import(connection: &mut Connection, name: &str) -> Result<String, CaptureError> {
    const DOING: &str = "beginning the snapshot";
    connection.query(DOING, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    connection.query(DOING, &format!("SET TRANSACTION SNAPSHOT {}", sql::literal(name)))?;
    let rows = connection.query(DOING, "SELECT pg_current_snapshot()")?;
    rows.into_iter().flatten().flatten().next().ok_or_else(|| connection.odd(b'D'))
}

/// `xmin:xmax:xip,…`
fn xmin(snapshot: &str) -> u64 {
    snapshot.split(':').next().and_then(|xmin| xmin.parse().ok()).unwrap_or(0)
}

fn server_micros(connection: &mut Connection) -> Result<i64, CaptureError> {
    let rows = connection.query(
        "asking for the time",
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8",
    )?;
    let text = rows.into_iter().flatten().flatten().next();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| connection.odd(b'D'))
}

/// What is to be read. Tables without a key come first: when a snapshot is interrupted, what is
/// missing of them can't be read beside the stream.
fn plan(
    worker: &Worker,
    connection: &mut Connection,
    header: &TxHeader,
    xmin: u64,
) -> Result<(Vec<TableCopy>, VecDeque<Work>), CaptureError> {
    let options = &worker.options;
    let tables = &worker.prepared.tables;
    let mut work = VecDeque::new();
    let mut copies = Vec::with_capacity(tables.len());
    let mut order: Vec<usize> = (0..tables.len()).collect();
    let has_key = |index: &usize| {
        tables.get(*index).is_some_and(|(_, table)| !table.schema.key_columns().is_empty())
    };
    order.sort_by_key(has_key);
    for index in order {
        let Some((found, table)) = tables.get(index) else { continue };
        let pages = options.snapshot.chunk_pages;
        let version = worker.prepared.version;
        let plan = ranges::plan(connection, version, pages, index, (found, table), &mut work)?;
        let nothing_to_read = plan.parts.is_empty();
        let snapshot = Some(SnapshotCursor { xmin, parts: plan.parts });
        let cursor = Cursor { snapshot, ..Cursor::default() };
        let since = header.commit.clone();
        let mut copy = TableCopy::begun(found.name.clone(), plan.rows_estimated, since);
        copy.cursor = cursor.to_json();
        if nothing_to_read {
            copy.finish();
        }
        copies.push(copy);
    }
    Ok((copies, work))
}

/// A connection that reads pages under the snapshot.
struct PageReader<'w> {
    connection: Connection,
    tables: &'w [(Found, Table)],
}

impl Hand<Work, Range> for PageReader<'_> {
    fn read(
        &mut self,
        crew: &Crew<'_, Work, Range>,
        builder: &mut BlockBuilder,
        work: Work,
    ) -> Result<(), CaptureError> {
        let Some((found, table)) = self.tables.get(work.table) else { return Ok(()) };
        let mut writer = RowWriter::new(table);
        let mut rows = 0;
        copy(&mut self.connection, &format!("reading {}", found.name), &work.sql, |line| {
            if !builder.in_transaction() {
                builder.begin(&crew.header, true);
            }
            writer.row(builder, line)?;
            rows += 1;
            if builder.len() >= crew.block_bytes_max {
                crew.hand_over(builder, &found.name, std::mem::take(&mut rows), None)?;
            }
            Ok(())
        })?;
        tracing::debug!(source = self.connection.options.name, table = %found.name,
            oid = work.range.oid, from = work.range.from, "pages read");
        crew.hand_over(builder, &found.name, rows, Some(work.range))
    }

    fn end(&mut self) -> Result<(), CaptureError> {
        self.connection.query("ending the snapshot", "COMMIT").map(drop)
    }
}
