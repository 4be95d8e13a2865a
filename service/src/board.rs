//! What every stage last said about itself; read by `/status`, `/readyz` and the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossdock_capture::{CopyState, Memory};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::clock::now_micros;
use crate::copies;
use crate::gaps::Gap;

/// What a stage is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Connecting and asking for its progress.
    #[default]
    Starting,
    /// Reading the first copy of the tables.
    Snapshot,
    /// At work, or waiting for work.
    Running,
    /// Interrupted; will try again by itself.
    Retrying,
    /// Left alone, since a rule file says so; goes on by itself.
    Maintenance,
    /// Stopped until a person mends something.
    Blocked,
    /// Everything that was wanted is done: a source of which only a snapshot is taken.
    Finished,
}

impl StageState {
    /// At work, or with nothing left to do.
    pub fn is_well(self) -> bool {
        matches!(self, StageState::Running | StageState::Finished | StageState::Maintenance)
    }
}

/// State and last error of one stage.
#[derive(Debug, Default)]
pub struct StageStatus(Mutex<(StageState, Option<String>)>);

impl StageStatus {
    /// Notes a state. An error stays readable until the stage runs again. Returns true when this
    /// is news.
    pub fn set(&self, state: StageState, error: Option<String>) -> bool {
        let mut inner = lock(&self.0);
        if inner.0 == state && (error.is_none() || inner.1 == error) {
            return false;
        }
        // Starting again after an error must not hide it from the operator.
        if error.is_some() || state.is_well() || state == StageState::Snapshot {
            let news = inner.1 != error;
            *inner = (state, error);
            return news || state != StageState::Blocked;
        }
        inner.0 = state;
        true
    }

    /// Present state.
    pub fn state(&self) -> StageState {
        lock(&self.0).0
    }

    /// Last error, if the stage has not run since.
    pub fn error(&self) -> Option<String> {
        lock(&self.0).1.clone()
    }
}

/// One source.
#[derive(Debug, Default)]
pub struct SourceBoard {
    /// Name.
    pub name: String,
    /// No log is read: its tables are asked for their rows again and again.
    pub polled: bool,
    /// State of `ingest`.
    pub stage: StageStatus,
    /// What is durable in the journal.
    pub durable: Mutex<Option<crossdock_model::Position>>,
    /// Row changes journaled since the start of the process.
    pub events: AtomicU64,
    /// Row changes a second, as of the last probe.
    pub events_per_second: AtomicU64,
    /// Bytes behind the server's head, as the server says.
    pub behind_bytes: AtomicU64,
    /// Bytes of log that the server keeps.
    pub retained_bytes: AtomicU64,
    /// Beyond this the server gives up log that was not read; 0 when it does not by size.
    pub keep_limit_bytes: AtomicU64,
    /// Seconds until that happens at the rate of the last minutes; `None` while what is kept does
    /// not grow.
    pub loss_in_seconds: Mutex<Option<u64>>,
    /// Milliseconds behind the server's head; of a polled source, since its last complete round
    /// began.
    pub lag_millis: AtomicU64,
    /// The last probe reached the server.
    pub probed: AtomicBool,
    /// Tables whose rows are read, or were.
    pub copies: Mutex<Memory>,
    /// Gaps on record.
    pub gaps: AtomicU64,
    /// The last of them is not closed.
    pub gap_open: AtomicBool,
    /// Last visible block of the journal.
    pub journal_seq: AtomicU64,
    /// Last integrated block. Behind it may be blocks without content that the store does not
    /// know to be passed.
    pub integrated_seq: AtomicU64,
    /// Last block that the store knows to be integrated: what comes later is kept for a restart.
    pub committed_seq: AtomicU64,
    /// Why its changes wait in the journal, when a table has changed under the files.
    pub drift: Mutex<Option<String>>,
}

/// One target (or mirror).
#[derive(Debug, Default)]
pub struct TargetBoard {
    /// Name.
    pub name: String,
    /// State of `deliver`.
    pub stage: StageStatus,
    /// Deliveries owed and not yet applied.
    pub pending: AtomicU64,
    /// Last delivery applied.
    pub seq: AtomicU64,
    /// It does not answer, or is busy, and is left alone for a while.
    pub circuit_open: AtomicBool,
    /// Refused deliveries that nobody has dealt with.
    pub refused: AtomicU64,
    /// Milliseconds since the oldest owed delivery was decided; 0 when nothing is owed.
    pub lag_millis: AtomicU64,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Board {
    /// Installation.
    pub name: String,
    /// Sources.
    pub sources: Vec<Arc<SourceBoard>>,
    /// State of `integrate`.
    pub integrate: Arc<StageStatus>,
    /// Targets.
    pub targets: Vec<Arc<TargetBoard>>,
    /// Open exceptions, as of the last look into the store.
    pub exceptions_open: AtomicU64,
    /// Held releases, likewise.
    pub holds: AtomicU64,
    /// Echoes dropped since the start of the process.
    pub echo_dropped: AtomicU64,
    /// Rows of ours that came back and were taken for foreign ones; must stay 0.
    pub echo_leaked: AtomicU64,
    /// Changes withheld since the start of the process.
    pub withheld: AtomicU64,
    /// Hash of the rules in force.
    pub rules_hash: Mutex<String>,
    /// Why the last attempt to reload the rules was refused; `None` when it was not.
    pub rules_refused: Mutex<Option<String>>,
    /// Rate guards that have stopped changes, a sentence each.
    pub stopped: Mutex<Vec<String>>,
    /// Attempts to reload the rules that were refused since the start of the process.
    pub reload_failures: AtomicU64,
}

impl Board {
    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<&Arc<SourceBoard>> {
        self.sources.iter().find(|s| s.name == name)
    }

    /// Notes why a source's changes wait in the journal, or that they do not.
    pub fn set_drift(&self, source: &str, why: Option<String>) {
        if let Some(source) = self.source(source) {
            *lock(&source.drift) = why;
        }
    }

    /// Notes which rules are in force.
    pub fn set_rules(&self, hash: &str) {
        *lock(&self.rules_hash) = hash.to_string();
    }

    /// Notes what rate guards have stopped.
    pub fn set_stopped(&self, sentences: Vec<String>) {
        *lock(&self.stopped) = sentences;
    }

    /// Nothing is on its way: every source read to its head, integrated and delivered.
    pub fn caught_up(&self) -> bool {
        let sources = self.sources.iter().all(|s| {
            s.stage.state().is_well()
                && s.probed.load(Ordering::Relaxed)
                && load(&s.behind_bytes) == 0
                && !s.is_copying()
                && s.blocks_behind() == 0
        });
        let targets = self
            .targets
            .iter()
            .all(|t| t.stage.state() == StageState::Running && load(&t.pending) == 0);
        sources && targets && self.integrate.state() == StageState::Running
    }

    /// Every stage is at work. A source that takes its first snapshot is not ready yet.
    pub fn ready(&self) -> bool {
        self.integrate.state() == StageState::Running
            && self.sources.iter().all(|s| s.stage.state().is_well() && !s.has_drifted())
            && self.targets.iter().all(|t| t.stage.state().is_well())
    }

    /// The answer of `/status`.
    pub fn to_json(&self) -> Json {
        let sources: Vec<Json> = self.sources.iter().map(|s| s.to_json()).collect();
        let targets: Vec<Json> = self.targets.iter().map(|t| t.to_json()).collect();
        let behind: u64 = self.sources.iter().map(|s| s.blocks_behind()).sum();
        json!({
            "name": self.name,
            "ready": self.ready(),
            "caught_up": self.caught_up(),
            "sources": sources,
            "integrate": {
                "state": self.integrate.state(),
                "error": self.integrate.error(),
                "behind_blocks": behind,
            },
            "rules": {
                "stopped": *lock(&self.stopped),
                "hash": *lock(&self.rules_hash),
                "refused": *lock(&self.rules_refused),
                "reload_failures": load(&self.reload_failures),
            },
            "targets": targets,
            "exceptions_open": load(&self.exceptions_open),
            "holds": load(&self.holds),
            "withheld_total": load(&self.withheld),
            "echo_dropped_total": load(&self.echo_dropped),
            "echo_leaked_total": load(&self.echo_leaked),
        })
    }
}

impl SourceBoard {
    /// Journal blocks that have not been integrated.
    pub fn blocks_behind(&self) -> u64 {
        load(&self.journal_seq).saturating_sub(load(&self.integrated_seq))
    }

    /// Notes what the reader remembers of tables' rows.
    pub fn set_copies(&self, memory: &Memory) {
        lock(&self.copies).clone_from(memory);
    }

    /// Notes the gaps on record.
    pub fn set_gaps(&self, gaps: &[Gap]) {
        self.gaps.store(gaps.len() as u64, Ordering::Relaxed);
        let open = gaps.last().is_some_and(|gap| gap.outcome.is_open());
        self.gap_open.store(open, Ordering::Relaxed);
    }

    /// Hours until the server gives up log that was not read, if things go on like this.
    pub fn hours_until_loss(&self) -> Option<f64> {
        lock(&self.loss_in_seconds).map(|seconds| seconds as f64 / 3600.0)
    }

    /// Its changes wait in the journal, because a table has changed.
    pub fn has_drifted(&self) -> bool {
        lock(&self.drift).is_some()
    }

    /// Rows of a table are being read, or will be.
    pub fn is_copying(&self) -> bool {
        lock(&self.copies).tables.iter().any(|copy| copy.state == CopyState::Pending)
    }

    fn to_json(&self) -> Json {
        let mut snapshots = copies::lines(&self.name, &lock(&self.copies), now_micros());
        snapshots.retain(|line| line.state != "done" && line.state != "cancelled");
        json!({
            "name": self.name,
            "capture": if self.polled { "poll" } else { "log" },
            "state": self.stage.state(),
            "error": self.stage.error(),
            "drift": *lock(&self.drift),
            "snapshots": snapshots,
            "gaps": load(&self.gaps),
            "gap_open": self.gap_open.load(Ordering::Relaxed),
            "position": lock(&self.durable).as_ref().map(ToString::to_string),
            "lag_seconds": load(&self.lag_millis) as f64 / 1000.0,
            "behind_bytes": load(&self.behind_bytes),
            "retained_bytes": load(&self.retained_bytes),
            "keep_limit_bytes": Some(load(&self.keep_limit_bytes)).filter(|limit| *limit > 0),
            "hours_until_loss": self.hours_until_loss(),
            "events_total": load(&self.events),
            "events_per_second": load(&self.events_per_second),
            "journal_block": load(&self.journal_seq),
            "integrated_block": load(&self.integrated_seq),
        })
    }
}

impl TargetBoard {
    fn to_json(&self) -> Json {
        json!({
            "name": self.name,
            "state": self.stage.state(),
            "error": self.stage.error(),
            "pending": load(&self.pending),
            "delivered": load(&self.seq),
            "refused": load(&self.refused),
            "circuit_open": self.circuit_open.load(Ordering::Relaxed),
            "lag_seconds": load(&self.lag_millis) as f64 / 1000.0,
        })
    }
}

fn load(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

/// A poisoned lock only means that another thread panicked while it held it; these are plain
/// values and stay usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
