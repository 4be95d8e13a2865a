//! A consistent snapshot of the captured tables, and the place in the log where it was taken.
//!
//! Several connections that see one state take one range of keys after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_model::{BlockBuilder, Position, SnapshotPart, TxHeader};
use mysql_async::Conn;

use super::catalog::{self, Table};
use super::connect::{self, Server};
use super::progress::{Advance, Cursor, News, Span};
use super::select::{self, literals, nth, ordered_key};
use super::session::Session;
use super::spans;
use super::stream::{Blocks, Stop};
use super::together::{self, Together, blocking};
use crate::snapshot::{Crew, Halt, Hand, WORKERS_MAX};
use crate::{CaptureError, SourceOptions, TableCopy};

/// Takes the snapshot and returns where the stream begins.
pub(super) async fn run(options: &SourceOptions, blocks: &Blocks) -> Result<Position, Stop> {
    let options = Arc::new(options.clone());
    let mut conn = connect::connect(&options).await?;
    let server = connect::server(&options, &mut conn).await?;
    let wanted = Arc::new(Wanted { blocks: blocks.clone(), failed: AtomicBool::new(false) });
    let halt: Arc<dyn Halt + Send + Sync> = wanted.clone();
    let workers = options.snapshot.workers.clamp(1, WORKERS_MAX);
    let begun = together::begin(&options, &server, &mut conn, &halt, workers).await?;
    let Together { mut sessions, position, micros } = begun;
    // The catalog is read after the snapshot has begun: of a table that is altered in between, the
    // server refuses to show the state before.
    let Plan { copies, work } = plan(&options, &server, &mut conn, &position).await?;
    conn.disconnect().await.ok();
    sessions.truncate(work.len().max(1));
    tracing::info!(source = %options.name, %position, workers = sessions.len(),
        ranges = work.len(), "taking a snapshot");
    let header = TxHeader {
        id: "snapshot".into(),
        commit: position.clone(),
        commit_micros: micros,
        origin: None,
        snapshot: true,
    };
    let blocks = blocks.clone();
    let read = blocking(move || {
        let crew = Crew::new(&options, &blocks, &*wanted, header, work);
        crew.edge(SnapshotPart::First, News::Begun(copies))?;
        crew.read(sessions)?;
        crew.edge(SnapshotPart::Last, News::Nothing)
    });
    read.await?;
    Ok(position)
}

/// What is to be read.
struct Plan {
    copies: Vec<TableCopy>,
    work: VecDeque<Work>,
}

/// One range of a table.
struct Work {
    table: Arc<Table>,
    /// The columns by whose order it is read; none where the table has no such key.
    key: Vec<usize>,
    span: Span,
}

/// Tables without a key come first: when a snapshot is interrupted, what is missing of them can't
/// be read beside the stream.
async fn plan(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    position: &Position,
) -> Result<Plan, CaptureError> {
    spans::refresh_sizes(server, conn).await;
    let mut tables = Vec::new();
    for name in &options.tables {
        match catalog::table(options, server, conn, name).await? {
            None => tracing::warn!(source = %options.name, table = %name, "no such table"),
            Some(table) => tables.push((ordered_key(&table).unwrap_or_default(), table)),
        }
    }
    tables.sort_by_key(|(key, _)| !key.is_empty());
    let mut plan = Plan { copies: Vec::new(), work: VecDeque::new() };
    for (key, table) in tables {
        let name = &table.schema.name;
        let size = spans::size(options, conn, name).await?;
        let spans = spans::spans(options, conn, &table, &key, &size).await?;
        let mut copy = TableCopy::begun(name.clone(), size.rows, position.clone());
        if !key.is_empty() {
            let key = Some(select::names(&table, &key));
            copy.cursor = Cursor { key, left: Some(spans.clone()) }.to_json();
        }
        plan.copies.push(copy);
        for span in spans {
            plan.work.push_back(Work { table: table.clone(), key: key.clone(), span });
        }
    }
    Ok(plan)
}

/// Somebody waits for blocks, and no worker has failed.
struct Wanted {
    blocks: Blocks,
    failed: AtomicBool,
}

impl Halt for Wanted {
    fn halt(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn is_halted(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.blocks.is_closed()
    }
}

impl Hand<Work, Advance> for Session {
    fn read(
        &mut self,
        crew: &Crew<'_, Work, Advance>,
        builder: &mut BlockBuilder,
        work: Work,
    ) -> Result<(), CaptureError> {
        let Work { table, key, span } = work;
        let name = &table.schema.name;
        let mut rows = 0;
        let sql = spans::statement(&table, &key, &span);
        self.select(&format!("reading {name}"), &sql, |row| {
            if !builder.in_transaction() {
                builder.begin(&crew.header, true);
            }
            select::write(builder, &table, row)?;
            rows += 1;
            if builder.len() >= crew.block_bytes_max {
                let after = literals(&table, &key, |at| nth(row, at));
                let part = after
                    .filter(|after| !after.is_empty())
                    .map(|after| Advance { upto: span.upto.clone(), after: Some(after) });
                crew.hand_over(builder, name, std::mem::take(&mut rows), part)?;
            }
            Ok(())
        })?;
        tracing::debug!(table = %name, upto = span.upto.is_some(), "a range is read");
        crew.hand_over(builder, name, rows, Some(Advance { upto: span.upto, after: None }))
    }

    fn end(&mut self) -> Result<(), CaptureError> {
        self.execute("ending the snapshot", "COMMIT")
    }
}
