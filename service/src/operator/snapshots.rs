//! Reading rows again, as operators ask for it: they change what the source's reader remembers,
//! while it stands still.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use crossdock_capture::{CaptureError, CopyState, Memory, Purpose, SourceOptions, TableCopy};
use crossdock_config::SnapshotMode;
use crossdock_model::{Position, TableName};
use crossdock_state::checkpoints::saved::{load, memory_key, save, start_key};
use serde::{Deserialize, Serialize};

use super::{Captured, Moved, Operator};
use crate::board::{StageState, lock};
use crate::clock::now_micros;
use crate::copies::{self, CopyLine};
use crate::gaps::{self, Gap};
use crate::stage::Ordered;

/// How long a command waits to see whether the source reads again.
const SETTLE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A condition is an expression, not a document.
const FILTER_BYTES_MAX: usize = 10_000;

/// Asks for rows of tables to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// Source.
    pub source: String,
    /// What to do.
    pub what: SnapshotCommand,
    /// Tables; empty for all that it makes sense for.
    pub tables: Vec<TableName>,
    /// With `Start`: only rows for which this SQL condition is true.
    pub filter: Option<String>,
}

/// What can be done about the reading of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotCommand {
    /// Read rows again, beside the stream.
    Start,
    /// Stop for now.
    Pause,
    /// Go on.
    Resume,
    /// Stop for good.
    Cancel,
}

/// Names a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRequest {
    /// Source.
    pub source: String,
}

/// A gap with its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GapLine {
    /// Source.
    pub source: String,
    /// The gap.
    #[serde(flatten)]
    pub gap: Gap,
}

impl Operator {
    /// How the reading of every table's rows stands.
    pub fn copies(&self) -> anyhow::Result<Vec<CopyLine>> {
        let mut lines = Vec::new();
        for source in self.sources.keys() {
            let memory: Option<Memory> = load(&*self.checkpoints, &memory_key(source))?;
            lines.extend(copies::lines(source, &memory.unwrap_or_default(), now_micros()));
        }
        Ok(lines)
    }

    /// All gaps on record.
    pub fn gaps(&self) -> anyhow::Result<Vec<GapLine>> {
        let mut lines = Vec::new();
        for source in self.sources.keys() {
            let gaps = gaps::list(&*self.checkpoints, source)?.into_iter();
            lines.extend(gaps.map(|gap| GapLine { source: source.clone(), gap }));
        }
        Ok(lines)
    }

    /// Starts, pauses, resumes or cancels the reading of rows.
    pub async fn snapshot(&self, request: SnapshotRequest) -> anyhow::Result<Moved> {
        let captured = self.captured(&request.source)?;
        self.can_be_read_again(&request.source, captured)?;
        let all = lock(&captured.tables).clone();
        if let Some(table) = request.tables.iter().find(|table| !all.contains(table)) {
            bail!(
                "table {table} is not captured from source {}; add it with: crossdock tables add \
                 --source {} {table}",
                request.source,
                request.source
            );
        }
        if request.what == SnapshotCommand::Start {
            check_start(&request)?;
            let asked = if request.tables.is_empty() { &all } else { &request.tables };
            tables_can_be_read(&captured.options, asked).await?;
        }
        let source = request.source.clone();
        let polled = captured.options.poll.is_some();
        let moved = self
            .change_memory(&source, move |memory| change(memory, &all, polled, &request))
            .await?;
        self.settled(&source).await?;
        Ok(moved)
    }

    /// Reads all tables of a source again from the present on, and takes rows that are gone for
    /// deleted: what is left to do after a gap.
    pub async fn resync(&self, source: &str) -> anyhow::Result<Moved> {
        is_streamed(source, self.captured(source)?)?;
        let (store, name) = (self.checkpoints.clone(), source.to_string());
        let moved = self
            .standing_still(&format!("ingest/{source}"), move || async move {
                gaps::resyncing(&*store, &name)?;
                save(&*store, &start_key(&name), &Ordered::Resync)?;
                Ok(format!("source {name}: all tables are read again, and deletes are looked for"))
            })
            .await?;
        tracing::info!(moved, "ordered by an operator");
        self.settled(source).await?;
        Ok(Moved { lines: vec![moved] })
    }

    /// Lets a source that has nothing yet begin after a place of its log, without a snapshot.
    pub fn begin_after(&self, source: &str, position: Position) -> anyhow::Result<Moved> {
        self.captured(source)?;
        let journal = self.journals.get(source).context("no journal")?;
        if journal.last().is_some() || journal.unfinished_snapshot().is_some() {
            bail!(
                "the journal of source {source} has data already: it goes on where it stands. To \
                 begin it anew move {source}'s folder out of the journal's folder, and choose \
                 another name for the source if the canonical store knows it"
            );
        }
        let line = format!("source {source} begins after {position}, without a snapshot");
        save(&*self.checkpoints, &start_key(source), &Ordered::After(position))?;
        Ok(Moved { lines: vec![line] })
    }

    pub(super) fn captured(&self, source: &str) -> anyhow::Result<&Captured> {
        self.sources.get(source).ok_or_else(|| {
            let known: Vec<_> = self.sources.keys().cloned().collect();
            anyhow!("there is no source {source}; there are: {}", known.join(", "))
        })
    }

    /// Rows can be read beside a stream only when there is one.
    fn can_be_read_again(&self, source: &str, captured: &Captured) -> anyhow::Result<()> {
        is_streamed(source, captured)?;
        if self.journals.get(source).is_none_or(|journal| journal.last().is_none()) {
            bail!(
                "the first snapshot of source {source} is not finished: it reads all tables, and \
                 is not paused or cancelled; to slow it down set `snapshot_rows_per_second` and \
                 restart"
            );
        }
        Ok(())
    }

    async fn change_memory<F>(&self, source: &str, change: F) -> anyhow::Result<Moved>
    where
        F: FnOnce(&mut Memory) -> anyhow::Result<Vec<String>> + Send + 'static,
    {
        let (store, name) = (self.checkpoints.clone(), source.to_string());
        let lines = self
            .standing_still(&format!("ingest/{source}"), move || async move {
                let key = memory_key(&name);
                let mut memory: Memory = load(&*store, &key)?.unwrap_or_default();
                let lines = change(&mut memory)?;
                save(&*store, &key, &memory)?;
                Ok(lines)
            })
            .await?;
        for line in &lines {
            tracing::info!(source, line, "ordered by an operator");
        }
        Ok(Moved { lines })
    }

    /// Waits until the source reads again; its error is the answer when it can't.
    pub(super) async fn settled(&self, source: &str) -> anyhow::Result<()> {
        let Some(board) = self.board.as_ref().and_then(|board| board.source(source)) else {
            return Ok(());
        };
        let begun = Instant::now();
        while begun.elapsed() < SETTLE {
            match board.stage.state() {
                StageState::Blocked => {
                    bail!("source {source}: {}", board.stage.error().unwrap_or_default())
                }
                StageState::Starting => tokio::time::sleep(LOOK_EVERY).await,
                // What is interrupted goes on by itself.
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Nothing can be put in order with a log that is not read.
fn is_streamed(source: &str, captured: &Captured) -> anyhow::Result<()> {
    if captured.mode == SnapshotMode::Only {
        bail!(
            "source {source} has `snapshot = \"only\"`: its log is not read, and nothing can be put \
             in order with it; write another mode into the config and restart"
        );
    }
    Ok(())
}

fn check_start(request: &SnapshotRequest) -> anyhow::Result<()> {
    let Some(filter) = &request.filter else { return Ok(()) };
    if request.tables.len() != 1 {
        bail!("a filter is about the columns of one table: name it with --table");
    }
    if filter.trim().is_empty() || filter.len() > FILTER_BYTES_MAX || filter.contains('\0') {
        bail!("the filter must be an SQL condition of 1 to {FILTER_BYTES_MAX} bytes");
    }
    Ok(())
}

/// Refuses at once what the reader would refuse later: a table that is gone, or one without a
/// key, whose rows can't be told apart. A server that is away is no reason to refuse.
async fn tables_can_be_read(options: &SourceOptions, tables: &[TableName]) -> anyhow::Result<()> {
    let asked = SourceOptions { tables: tables.to_vec(), ..options.clone() };
    let schemas = match crossdock_capture::describe(&asked).await {
        Ok(schemas) => schemas,
        Err(CaptureError::Transient { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for table in tables {
        match schemas.iter().find(|schema| schema.name == *table) {
            None => bail!("source {}: table {table} does not exist", options.name),
            Some(schema) if schema.key_columns().is_empty() => bail!(
                "source {}: table {table} has no primary key, so rows that are read can't be put \
                 in order with its changes; add a primary key",
                options.name
            ),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Changes what is remembered; all tables or none.
fn change(
    memory: &mut Memory,
    all: &[TableName],
    polled: bool,
    request: &SnapshotRequest,
) -> anyhow::Result<Vec<String>> {
    if request.what == SnapshotCommand::Start {
        let tables = if request.tables.is_empty() { all } else { &request.tables };
        return start(memory, tables, polled, request);
    }
    let fits = |copy: &TableCopy| match request.what {
        SnapshotCommand::Pause => copy.state == CopyState::Pending,
        SnapshotCommand::Resume => {
            matches!(copy.state, CopyState::Paused | CopyState::Failed(_))
        }
        _ => matches!(copy.state, CopyState::Pending | CopyState::Paused | CopyState::Failed(_)),
    };
    let (state, verb) = match request.what {
        SnapshotCommand::Pause => (CopyState::Paused, "paused"),
        SnapshotCommand::Resume => (CopyState::Pending, "resumed"),
        _ => (CopyState::Cancelled, "cancelled"),
    };
    for table in &request.tables {
        match memory.table(table) {
            None => bail!("the rows of {table} have not been read by a snapshot"),
            Some(copy) if !fits(copy) => {
                bail!("the reading of {table} is {}: it can't be {verb}", copies::state(copy))
            }
            Some(_) => {}
        }
    }
    let mut lines = Vec::new();
    for copy in &mut memory.tables {
        let asked = request.tables.is_empty() || request.tables.contains(&copy.table);
        if asked && fits(copy) {
            copy.state = state.clone();
            lines.push(format!("{}: {verb} after {} rows", copy.table, copy.rows));
        }
    }
    if lines.is_empty() {
        bail!("source {}: there is nothing that can be {verb}", request.source);
    }
    Ok(lines)
}

fn start(
    memory: &mut Memory,
    tables: &[TableName],
    polled: bool,
    request: &SnapshotRequest,
) -> anyhow::Result<Vec<String>> {
    let busy = |copy: &&TableCopy| matches!(copy.state, CopyState::Pending | CopyState::Paused);
    for table in tables {
        if let Some(copy) = memory.table(table).filter(busy) {
            bail!(
                "the rows of {table} are being read already ({}): cancel it first with: crossdock \
                 snapshot cancel --source {} --table {table}",
                copies::state(copy),
                request.source
            );
        }
    }
    let mut lines = Vec::new();
    for table in tables {
        let mut copy = TableCopy::new(table.clone(), Purpose::Requested);
        copy.filter.clone_from(&request.filter);
        if polled && let Some(known) = memory.table(table) {
            // Where rounds stand: they go on meanwhile.
            copy.cursor.clone_from(&known.cursor);
        }
        memory.tables.retain(|copy| copy.table != *table);
        memory.tables.push(copy);
        lines.push(format!("{table}: its rows are read again"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("public", name)
    }

    fn request(what: SnapshotCommand, tables: &[&str]) -> SnapshotRequest {
        let tables = tables.iter().map(|name| table(name)).collect();
        SnapshotRequest { source: "erp".into(), what, tables, filter: None }
    }

    #[test]
    fn commands_change_what_is_remembered_or_say_why_not() {
        let all = [table("a"), table("b")];
        let done = |name| TableCopy {
            state: CopyState::Done,
            ..TableCopy::new(table(name), Purpose::Initial)
        };
        let mut memory = Memory { server: None, tables: vec![done("a"), done("b")] };
        let mut run = |what, tables: &[&str]| {
            let lines = change(&mut memory, &all, false, &request(what, tables));
            let states: Vec<_> = all.iter().map(|t| memory.table(t).map(copies::state)).collect();
            (lines.map_err(|e| e.to_string()), states)
        };
        use SnapshotCommand::{Cancel, Pause, Resume, Start};
        let (said, _) = run(Pause, &[]);
        assert_eq!(said.unwrap_err(), "source erp: there is nothing that can be paused");
        let (_, states) = run(Start, &["b"]);
        assert_eq!(states, [Some("done"), Some("pending")]);
        let (said, _) = run(Start, &[]);
        assert!(said.unwrap_err().contains("public.b are being read already (pending)"));
        let (said, states) = run(Pause, &[]);
        assert_eq!(said.unwrap(), ["public.b: paused after 0 rows"]);
        assert_eq!(states, [Some("done"), Some("paused")]);
        let (said, _) = run(Resume, &["a"]);
        assert_eq!(said.unwrap_err(), "the reading of public.a is done: it can't be resumed");
        assert_eq!(run(Resume, &["b"]).1, [Some("done"), Some("pending")]);
        assert_eq!(run(Cancel, &[]).1, [Some("done"), Some("cancelled")]);
        assert_eq!(run(Start, &[]).1, [Some("pending"), Some("pending")]);
    }
}
