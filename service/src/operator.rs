//! What operators may do: look at progress, name it, move it back; have rows read again
//! (`snapshots`), and more tables captured (`tables`).
//!
//! Moving back is safe (I8): the store and the targets recognise what they already have. The same
//! code serves a running process, whose stages stand still meanwhile, and a stopped one.

mod rules;
mod snapshots;
mod tables;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use crossdock_apply::target::AnyTarget;
use crossdock_apply::{CanonicalStore, ConnectOptions, PostgresStore, Target, TargetOptions};
use crossdock_capture::SourceOptions;
use crossdock_config::SnapshotMode;
use crossdock_model::Position;
use crossdock_model::canonical::Name;
use crossdock_state::checkpoints::saved::{
    integrate_key, load, load_all, save, savepoint_key, target_key,
};
use crossdock_state::{
    BlockMeta, LocalJournal, Savepoint, SledCheckpoints, SourceCheckpoint, StageCheckpoint,
};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::clock::now_micros;
use crate::stage::{Journals, TableList, present_streams, stream_names};
use crate::supervisor::Handle;

pub use rules::{ReleaseRequest, ReloadRequest, Reloading};
pub use snapshots::{GapLine, SnapshotCommand, SnapshotRequest, SourceRequest};
pub use tables::TableRequest;

/// Which progress is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage", content = "name")]
pub enum Which {
    /// Everything that reads one source's journal.
    Source(String),
    /// The integration of all sources.
    Integrate,
    /// The deliveries to one target.
    Target(String),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Source(name) => write!(f, "source {name}"),
            Which::Integrate => f.write_str("integrate"),
            Which::Target(name) => write!(f, "target {name}"),
        }
    }
}

/// One line of `checkpoints list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// `source`, `integrate`, `target`, `savepoint`.
    pub kind: String,
    /// Name of the source, target or savepoint.
    pub name: String,
    /// Journal block, or number of the delivery.
    pub number: u64,
    /// Position in the source's log, where there is one.
    pub position: String,
    /// When it was reached or saved, microseconds since the Unix epoch; 0 when unknown.
    pub at_micros: i64,
    /// Empty, or why this is only the last known value.
    pub note: String,
}

/// What a rewind did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moved {
    /// One sentence for each progress that was moved.
    pub lines: Vec<String>,
}

/// Everything an operator's command needs.
pub struct Operator {
    /// Installation.
    pub name: String,
    /// Checkpoints.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Journals.
    pub journals: Journals,
    /// The canonical store.
    pub store: ConnectOptions,
    /// Targets by name.
    pub targets: BTreeMap<String, TargetOptions>,
    /// Sources by name.
    pub sources: BTreeMap<String, Captured>,
    /// Running stages: `ingest/NAME`, `integrate`, `target/NAME`. Empty when the process is
    /// stopped.
    pub handles: BTreeMap<String, Handle>,
    /// How rules are reloaded; `None` when the process is stopped.
    pub reloading: Option<Reloading>,
    /// How the running stages are; `None` when the process is stopped.
    pub board: Option<Arc<Board>>,
}

/// What commands need to know of a source.
pub struct Captured {
    /// How it is reached.
    pub options: SourceOptions,
    /// Tables that are captured.
    pub tables: TableList,
    /// Which rows are read that were there before.
    pub mode: SnapshotMode,
}

impl Operator {
    /// All progress and all savepoints.
    pub async fn list(&self) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for (source, journal) in self.journals.iter() {
            if let Some((number, meta)) = journal.last() {
                let at_micros = meta.appended_micros;
                lines.push(line("source", source, number, &meta.position, at_micros, ""));
            }
        }
        lines.extend(self.integrate_lines().await?);
        for (name, options) in &self.targets {
            lines.push(self.target_line(name, options).await?);
        }
        for (name, point) in self.savepoints()? {
            lines.push(line("savepoint", &name, 0, "", point.saved_micros, ""));
        }
        Ok(lines)
    }

    async fn integrate_lines(&self) -> anyhow::Result<Vec<Line>> {
        let mut lines = Vec::new();
        match self.integrated().await {
            Ok(progress) => {
                for (source, (seq, position, at)) in progress {
                    lines.push(line("integrate", &source, seq, &position, at, ""));
                }
            }
            Err(error) => {
                let note = format!("as last noted here; the store says: {error:#}");
                for (source, _) in self.journals.iter() {
                    let key = integrate_key(source);
                    if let Some(copy) = load::<StageCheckpoint>(&*self.checkpoints, &key)? {
                        let at = copy.saved_micros;
                        lines.push(line("integrate", source, copy.seq, "", at, &note));
                    }
                }
            }
        }
        Ok(lines)
    }

    async fn integrated(&self) -> anyhow::Result<BTreeMap<String, (u64, String, i64)>> {
        let mut store = PostgresStore::open_reader(&self.store).await?;
        let progress = store.progress().await?;
        let entry = |p: crossdock_apply::Progress| {
            (p.source.to_string(), (p.seq, p.position, p.commit_micros))
        };
        Ok(progress.into_iter().map(entry).collect())
    }

    async fn target_line(&self, name: &str, options: &TargetOptions) -> anyhow::Result<Line> {
        match self.delivered(options).await {
            Ok((seq, at)) => Ok(line("target", name, seq, "", at, "")),
            Err(error) => {
                let copy: Option<StageCheckpoint> = load(&*self.checkpoints, &target_key(name))?;
                let (seq, at) = copy.map_or((0, 0), |c| (c.seq, c.saved_micros));
                let note = format!("as last noted here; the target says: {error:#}");
                Ok(line("target", name, seq, "", at, &note))
            }
        }
    }

    async fn delivered(&self, options: &TargetOptions) -> anyhow::Result<(u64, i64)> {
        let mut store = PostgresStore::open_reader(&self.store).await?;
        let mut target = AnyTarget::open(options, &self.name, &self.store).await?;
        delivered(&mut store, &mut target, &self.name, options.name()).await
    }

    fn savepoints(&self) -> anyhow::Result<BTreeMap<String, Savepoint>> {
        Ok(load_all(&*self.checkpoints, "savepoint/")?)
    }

    /// Gives the present progress a name.
    pub async fn save(&self, name: &str) -> anyhow::Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            bail!("a savepoint's name has 1 to 64 letters, digits, `-`, `_`, `.` or `:`");
        }
        let saved_micros = now_micros();
        let stage = |seq, commit_micros| StageCheckpoint { seq, commit_micros, saved_micros };
        let integrated = self.integrated().await.context("ask the store for its progress")?;
        let mut targets = BTreeMap::new();
        for (name, options) in &self.targets {
            let (seq, at) = self.delivered(options).await.with_context(|| format!("ask {name}"))?;
            targets.insert(name.clone(), stage(seq, at));
        }
        let sources = self.journals.iter().filter_map(|(source, journal)| {
            let (seq, meta) = journal.last()?;
            let BlockMeta { position, commit_micros, .. } = meta;
            let at = SourceCheckpoint { position, seq, commit_micros, saved_micros };
            Some((source.to_string(), at))
        });
        let integrate =
            integrated.into_iter().map(|(source, (seq, _, at))| (source, stage(seq, at)));
        let point = Savepoint {
            name: name.to_string(),
            saved_micros,
            sources: sources.collect(),
            integrate: integrate.collect(),
            targets,
        };
        save(&*self.checkpoints, &savepoint_key(name), &point)?;
        Ok(())
    }

    /// Moves progress back to a savepoint, a position, a time, or a number, and lets what follows
    /// be done again.
    pub async fn rewind(&self, which: &Which, to: &str) -> anyhow::Result<Moved> {
        let point = self.savepoints()?.remove(to);
        match which {
            Which::Source(source) => self.rewind_source(source, to, point.as_ref()).await,
            Which::Integrate => {
                let mut lines = Vec::new();
                let sources: Vec<Name> = self.journals.iter().map(|(s, _)| s.clone()).collect();
                for source in sources {
                    lines.extend(self.rewind_source(&source, to, point.as_ref()).await?.lines);
                }
                Ok(Moved { lines })
            }
            Which::Target(target) => self.rewind_target(target, to, point.as_ref()).await,
        }
    }

    async fn rewind_source(
        &self,
        source: &str,
        to: &str,
        point: Option<&Savepoint>,
    ) -> anyhow::Result<Moved> {
        let journal = self.journals.get(source).with_context(|| {
            let known: Vec<_> = self.journals.iter().map(|(s, _)| s.to_string()).collect();
            format!("there is no source {source}; there are: {}", known.join(", "))
        })?;
        let seq = match point {
            Some(point) => point.integrate.get(source).map_or(0, |c| c.seq),
            None => match destination(to)? {
                Destination::Number(seq) => seq,
                Destination::Time(micros) => before(journal, journal.find_time(micros)?),
                Destination::Position(position) => {
                    // The first block that ends behind the position holds what comes after it.
                    let found = journal.find_position(|meta: &BlockMeta| {
                        let at = meta.position.parse::<Position>();
                        let at = at.map_or(Ordering::Less, |at| at.compare(&position));
                        at.then(Ordering::Less)
                    })?;
                    before(journal, found)
                }
            },
        };
        let oldest = journal.oldest_seq();
        if seq + 1 < oldest {
            bail!(
                "the journal of {source} begins with block {oldest}; {to} lies before it. Rewind \
                 less far, or keep more (journal.retain)"
            );
        }
        let (store, which) = (self.store.clone(), source.to_string());
        let moved = self
            .standing_still("integrate", move || async move {
                let mut store = PostgresStore::open_reader(&store).await?;
                let progress = store.progress().await?;
                let now = progress.iter().find(|p| *p.source == *which).map_or(0, |p| p.seq);
                if seq > now {
                    bail!("{which} is at block {now}: {seq} lies ahead of it, and nothing may be skipped");
                }
                store.rewind(&which, seq).await?;
                Ok(format!("source {which}: from block {now} back to block {seq}"))
            })
            .await?;
        tracing::info!(moved, "rewound by an operator");
        Ok(Moved { lines: vec![moved] })
    }

    async fn rewind_target(
        &self,
        target: &str,
        to: &str,
        point: Option<&Savepoint>,
    ) -> anyhow::Result<Moved> {
        let options = self.targets.get(target).with_context(|| {
            let known: Vec<_> = self.targets.keys().cloned().collect();
            format!("there is no target {target}; there are: {}", known.join(", "))
        })?;
        let seq = match point {
            Some(point) => point.targets.get(target).map_or(0, |c| c.seq),
            None => match destination(to)? {
                Destination::Number(seq) => seq,
                Destination::Time(micros) => {
                    let mut store = PostgresStore::open_reader(&self.store).await?;
                    store.delivery_seq_at(micros).await?
                }
                Destination::Position(_) => {
                    bail!("a target is rewound to a savepoint, a time or the number of a delivery")
                }
            },
        };
        let (options, name, store) = (options.clone(), self.name.clone(), self.store.clone());
        let moved = self
            .standing_still(&format!("target/{target}"), move || async move {
                let mut target = AnyTarget::open(&options, &name, &store).await?;
                let mut store = PostgresStore::open_reader(&store).await?;
                let (now, _) = delivered(&mut store, &mut target, &name, options.name()).await?;
                if seq > now {
                    bail!("{} is at delivery {now}: {seq} lies ahead of it, and nothing may be skipped", options.name());
                }
                for stream in stream_names(&name, &store.layouts(options.name()).await?) {
                    target.rewind(&stream, seq).await?;
                }
                store.forget_applied(options.name(), seq).await?;
                Ok(format!("target {}: from delivery {now} back to {seq}", options.name()))
            })
            .await?;
        tracing::info!(moved, "rewound by an operator");
        Ok(Moved { lines: vec![moved] })
    }

    /// Runs `work` while the stage stands still, or at once when the process is not running.
    async fn standing_still<T, F, W>(&self, stage: &str, work: W) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
        W: FnOnce() -> F + Send + 'static,
    {
        match self.handles.get(stage) {
            None => work().await,
            Some(handle) => handle
                .while_stopped(work)
                .await
                .ok_or_else(|| anyhow!("stage {stage} has ended"))?,
        }
    }
}

/// Up to where a target has all that was owed to it, and when it came there.
async fn delivered(
    store: &mut PostgresStore,
    target: &mut AnyTarget,
    installation: &str,
    name: &str,
) -> anyhow::Result<(u64, i64)> {
    let (streams, from) = present_streams(installation, &store.layouts(name).await?);
    let mut least: Option<(u64, i64)> = None;
    for stream in streams {
        let found = target.progress(&stream).await?.map_or((0, 0), |p| (p.seq, p.applied_micros));
        let found = (found.0.max(from), found.1);
        least = Some(least.map_or(found, |least| least.min(found)));
    }
    Ok(least.unwrap_or((0, 0)))
}

fn line(kind: &str, name: &str, number: u64, position: &str, at_micros: i64, note: &str) -> Line {
    Line {
        kind: kind.to_string(),
        name: name.to_string(),
        number,
        position: position.to_string(),
        at_micros,
        note: note.to_string(),
    }
}

/// The block before the one that was found; the last one when all lie before.
fn before(journal: &LocalJournal, found: Option<u64>) -> u64 {
    found.map_or_else(|| journal.last().map_or(0, |(seq, _)| seq), |seq| seq - 1)
}

/// A duration that an operator wrote (`24h`), in microseconds.
pub fn span_micros(text: &str) -> anyhow::Result<i64> {
    let span: jiff::SignedDuration =
        text.parse().with_context(|| format!("`{text}` is no duration, like 24h or 30m"))?;
    Ok(i64::try_from(span.as_micros()).context("a shorter duration")?.abs())
}

enum Destination {
    Number(u64),
    Position(Position),
    Time(i64),
}

/// Reads what an operator wrote after `--to`, other than the name of a savepoint.
fn destination(text: &str) -> anyhow::Result<Destination> {
    if let Ok(number) = text.parse() {
        return Ok(Destination::Number(number));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Destination::Time(time.as_microsecond()));
    }
    if let Ok(span) = text.parse::<jiff::SignedDuration>() {
        let micros = i64::try_from(span.as_micros()).context("a shorter duration")?;
        return Ok(Destination::Time(now_micros() - micros.abs()));
    }
    if let Ok(position) = text.parse() {
        return Ok(Destination::Position(position));
    }
    bail!(
        "`{text}` is neither a savepoint (see `crossdock checkpoints list`) nor a position \
         (0/16B3748, binlog.000042:1093), a time (2026-11-23T08:00:00Z), a time ago (2h) or a \
         block number"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_apart() {
        assert!(matches!(destination("17").unwrap(), Destination::Number(17)));
        assert!(matches!(destination("0/16B3748").unwrap(), Destination::Position(_)));
        assert!(matches!(destination("binlog.000002:4").unwrap(), Destination::Position(_)));
        assert!(matches!(destination("2026-11-23T08:00:00Z").unwrap(), Destination::Time(_)));
        assert!(matches!(destination("2h").unwrap(), Destination::Time(_)));
        assert!(destination("yesterday").is_err());
    }
}
