//! One step of `integrate`: journal → canonical store.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossdock_apply::{CanonicalStore, ConnectOptions, PostgresStore, Progress};
use crossdock_canonical::{Rules, Workspace};
use crossdock_model::canonical::{Name, Outcome, RecordKey, SourceRow, Tally};
use crossdock_model::{Position, TxHeader};
use crossdock_state::checkpoints::saved::{integrate_key, save};
use crossdock_state::{Journal, LocalJournal, SledCheckpoints, StageCheckpoint};
use tokio::sync::watch;

use super::StageError;
use super::drift::DriftWatch;
use super::guards::{self, Guards, Piece};
use super::journals::{Cursor, Journals, Lone, Resynced, Run, Step};
use super::large::Summary;
use super::overlap::{Committed, OverlappedStore};
use super::upkeep::{self, Upkeep};
use crate::board::{Board, StageState};
use crate::clock::now_micros;
use crate::in_force::InForce;
use crate::metrics::Metrics;
use crate::registry;
use crate::supervisor::Stage;

/// About as much of each source's journal is judged and committed at once.
const BATCH_BYTES: usize = 128 * 1024;
/// A transaction that takes more of the journal than this is not held, but judged in pieces.
const WHOLE_BYTES: usize = 1024 * 1024;
/// Records whose time has come, judged and committed at once.
const DUE_RECORDS: usize = 200;
/// A deadline that somebody changes in the store is seen after this long at the latest.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// Rows that are gone, judged and committed at once.
const GONE_ROWS: usize = 500;
/// The copies in sled are for listing; the store is the authority.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);

/// What `integrate` holds between its steps.
pub struct IntegrateStage {
    /// Installation.
    pub name: String,
    /// The canonical store.
    pub store: ConnectOptions,
    /// The rules, as they were when the store was opened.
    pub rules: Arc<Rules>,
    /// The rules in force.
    pub in_force: watch::Receiver<InForce>,
    /// What it reads.
    pub journals: Journals,
    /// Where copies of its progress are noted.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Where it says how it is.
    pub board: Arc<Board>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Told after every commit, so that `deliver` need not poll.
    pub committed: watch::Sender<u64>,
    /// What the store needs besides batches.
    pub upkeep: Upkeep,
    /// When the copies in sled were written last.
    pub checkpointed: Option<Instant>,
    /// Rate guards, as the store has them.
    pub guards: Guards,
    /// When the next deadline passes, microseconds since the Unix epoch.
    pub next_due: Option<i64>,
}

/// What comes next.
pub enum Next {
    /// Something that is judged and committed at once.
    Batch(Box<Batch>),
    /// A run of which the last transaction goes on: it is too large to be held.
    Large(Run),
}

/// What is judged and committed at once.
#[derive(Default)]
pub struct Batch {
    runs: Vec<Run>,
    gone: Option<Gone>,
    /// Of what a rate guard had stopped.
    piece: Option<Piece>,
    /// Records whose time has come.
    due: Vec<RecordKey>,
    progress: Vec<Progress>,
}

/// Rows of the store that are not in their source any more.
struct Gone {
    source: Name,
    header: TxHeader,
    rows: Vec<SourceRow>,
}

/// Where each journal is read, and what is looked for in the store before reading goes on.
pub struct Reading {
    cursors: Vec<Cursor>,
    looking: VecDeque<Looking>,
    /// Runs that were read and do not end with the end of a transaction.
    large: VecDeque<Run>,
    drift: DriftWatch,
}

/// A table was read again after a gap: its rows in the store that were not seen since are deleted,
/// piece by piece. Progress passes the place where this was found out when none is left, so that
/// an interruption begins it again.
struct Looking {
    source: Name,
    resynced: Resynced,
    /// Key of the last row that was found.
    after: Name,
    found: usize,
    /// Progress once this is done; with the last table of a block.
    progress: Option<Progress>,
}

impl Next {
    fn of(batch: Batch) -> Self {
        Self::Batch(Box::new(batch))
    }
}

impl Stage for IntegrateStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        crate::pipeline::integrate(self).await
    }
}

impl IntegrateStage {
    /// Opens the store, which says how far each source has been integrated.
    pub async fn open_store(&mut self) -> Result<(OverlappedStore, Reading), StageError> {
        let mut store = OverlappedStore::open(&self.store, &self.name).await?;
        let InForce { rules, by } = self.in_force.borrow().clone();
        self.rules = rules;
        let writer = store.writer()?;
        registry::register_entities(writer, self.rules.entities()).await?;
        writer.rules_in_force(self.rules.hash(), &by).await?;
        upkeep::show_entities(writer, self.rules.entities()).await?;
        self.upkeep.keep_history(writer).await?;
        self.board.set_rules(self.rules.hash());
        let progress = store.reader.progress().await?;
        let mut cursors = Vec::new();
        for (source, journal) in self.journals.iter() {
            let done = progress.iter().find(|p| p.source == *source);
            let seq = done.map_or(0, |p| p.seq);
            if let Some(done) = done {
                same_journal(journal, done)?;
            }
            self.note(source, seq);
            cursors.push(Cursor::new(source, seq));
            self.board.set_drift(source, None);
        }
        self.next_due = store.reader.next_due_micros().await?;
        self.guards = Guards::load(&mut store.reader, &self.rules).await?;
        self.board.set_stopped(self.guards.stopped());
        let drift = DriftWatch::new(self.rules.clone(), self.checkpoints.clone());
        self.board.integrate.set(StageState::Running, None);
        Ok((store, Reading { cursors, looking: VecDeque::new(), large: VecDeque::new(), drift }))
    }

    /// Waits for whole transactions of any source, or takes further rows that are gone.
    pub async fn next_batch(
        &mut self,
        store: &mut OverlappedStore,
        reading: &mut Reading,
    ) -> Result<Next, StageError> {
        // What is looked for in the store must not be on its way there.
        let looking = !reading.looking.is_empty() || self.guards.is_releasing();
        if looking || !self.journals.have_more(&reading.cursors) {
            self.settle(store).await?;
        }
        if let Some(batch) = look_further(&mut store.reader, reading).await? {
            return Ok(Next::of(batch));
        }
        if let Some(run) = reading.large.pop_front() {
            return Ok(Next::Large(run));
        }
        if let Some(piece) = self.guards.next_piece(&mut store.reader).await? {
            return Ok(Next::of(Batch { piece: Some(piece), ..Batch::default() }));
        }
        if let Some(batch) = self.due(&mut store.reader, reading).await? {
            return Ok(Next::of(batch));
        }
        let mut lone = Lone::default();
        // By source: what later blocks of the same source bring takes its place.
        let mut progress = BTreeMap::new();
        let mut runs;
        loop {
            runs = self.journals.next_runs(&reading.cursors, BATCH_BYTES, WHOLE_BYTES).await?;
            self.hold_back(reading, &mut runs)?;
            for run in &runs {
                reading.passed(run);
                if run.open {
                    continue;
                }
                // What is looked for later moves the progress when it is done.
                match run.resynced.is_empty() {
                    true => progress.insert(run.source.clone(), run.progress.clone()),
                    false => progress.remove(&run.source),
                };
            }
            let has_content = runs.iter().any(|run| !run.transactions.is_empty());
            if !lone.may_wait(has_content, Instant::now()) {
                break;
            }
            self.settle(store).await?;
            for run in &runs {
                self.note_read(&run.source, run.progress.seq);
            }
        }
        reading.large.extend(runs.extract_if(.., |run| run.open));
        for run in &mut runs {
            reading.look_for_gone(run);
        }
        let progress = progress.into_values().collect();
        Ok(Next::of(Batch { runs, progress, ..Batch::default() }))
    }

    /// Leaves out what must not be judged, because a table has changed under the files. What comes
    /// before it in the same journal is read once more, block by block.
    pub(super) fn hold_back(
        &self,
        reading: &mut Reading,
        runs: &mut Vec<Run>,
    ) -> Result<(), StageError> {
        let mut kept = Vec::with_capacity(runs.len());
        for run in runs.drain(..) {
            let found = tokio::task::block_in_place(|| reading.drift.look(&run))?;
            let cursor = reading.cursors.iter_mut().find(|c| c.source == run.source);
            match (found, cursor) {
                (Some(_), Some(cursor)) if cursor.step == Step::Batch => cursor.step = Step::Block,
                (Some(drift), Some(cursor)) => {
                    tracing::error!(source = %run.source, "{drift}");
                    cursor.step = Step::Halted;
                    self.board.set_drift(&run.source, Some(drift.to_string()));
                }
                _ => kept.push(run),
            }
        }
        *runs = kept;
        Ok(())
    }

    /// Waits for changes or for the next deadline, whichever comes first. Gives records whose time
    /// has come; `None` when there are changes to be read first. What is in the journals comes
    /// before the clock: a state that has ended by now does not last too long.
    async fn due(
        &mut self,
        store: &mut PostgresStore,
        reading: &Reading,
    ) -> Result<Option<Batch>, StageError> {
        while let Some(due) = self.next_due {
            let left = u64::try_from(due.saturating_sub(now_micros())).unwrap_or(0);
            let left = Duration::from_micros(left).min(CLOCK_EVERY);
            let changes = self.journals.wait(&reading.cursors);
            if tokio::time::timeout(left, changes).await.is_ok() {
                return Ok(None);
            }
            let due = store.due_records(now_micros(), DUE_RECORDS).await?;
            if !due.is_empty() {
                return Ok(Some(Batch { due, ..Batch::default() }));
            }
            self.next_due = store.next_due_micros().await?;
        }
        Ok(None)
    }

    /// What the changes mean and who may write them.
    pub async fn judge(
        &mut self,
        store: &mut OverlappedStore,
        batch: &mut Batch,
    ) -> Result<Outcome, StageError> {
        let rules = self.rules.clone();
        let memory = std::mem::take(&mut store.memory);
        let mut work = Workspace::with(&rules, &self.name, now_micros(), memory)
            .with_guards(self.guards.states());
        let mut ended = None;
        match batch.piece.take() {
            Some(Piece::Rows(source, rows)) => {
                work.take_in_woken(&source, &fold_header(now_micros()), rows);
            }
            Some(Piece::End(state)) => ended = Some(state),
            None => {}
        }
        for run in &mut batch.runs {
            for (header, events) in run.transactions.drain(..) {
                work.take_in(&run.source, &header, events);
            }
        }
        work.take_in_due(batch.due.drain(..));
        if let Some(Gone { source, header, rows }) = batch.gone.take() {
            work.take_in_gone(&source, &header, rows);
        }
        loop {
            let needs = tokio::task::block_in_place(|| work.needs());
            if needs.is_empty() {
                let (mut outcome, memory) = tokio::task::block_in_place(|| work.end());
                store.memory = memory;
                if let Some(state) = ended {
                    guards::end(state, &mut outcome);
                }
                return Ok(outcome);
            }
            if work.must_be_committed(&needs) {
                self.settle(store).await?;
            }
            work.provide(store.load(&needs).await?);
        }
    }

    /// One transaction of the store: everything decided, and how far it has come. Begins once those
    /// before have ended well, and goes on while the next batches are judged.
    pub async fn commit(
        &mut self,
        store: &mut OverlappedStore,
        outcome: Outcome,
        batch: Batch,
    ) -> Result<(), StageError> {
        if self.upkeep.is_due() {
            self.settle(store).await?;
            self.upkeep.keep_history(store.writer()?).await?;
        }
        while store.is_full() {
            self.settle_one(store).await?;
        }
        if !outcome.guards.is_empty() {
            self.guards.committed(&outcome);
            self.board.set_stopped(self.guards.stopped());
        }
        store.begin(Committed { outcome, progress: batch.progress }, self.rules.hash());
        Ok(())
    }

    /// Waits until the store has all batches that are on their way there, and tells everybody.
    pub(super) async fn settle(&mut self, store: &mut OverlappedStore) -> Result<(), StageError> {
        while self.settle_one(store).await? {}
        Ok(())
    }

    /// The same for the first of them; false when there is none.
    async fn settle_one(&mut self, store: &mut OverlappedStore) -> Result<bool, StageError> {
        let Some(Committed { outcome, progress }) = store.settle().await? else {
            return Ok(false);
        };
        let mut summary = Summary::default();
        summary.add(&outcome);
        self.tell(&summary, &progress)?;
        Ok(true)
    }

    /// Notes copies of the progress in sled, not more often than is useful.
    pub(super) fn checkpoint(&mut self, progress: &[Progress]) -> Result<(), StageError> {
        if self.checkpointed.is_some_and(|at| at.elapsed() < CHECKPOINT_EVERY) {
            return Ok(());
        }
        self.checkpointed = Some(Instant::now());
        for progress in progress {
            let checkpoint = StageCheckpoint {
                seq: progress.seq,
                commit_micros: progress.commit_micros,
                saved_micros: now_micros(),
            };
            let key = integrate_key(&progress.source);
            tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        }
        Ok(())
    }

    pub(super) fn note(&self, source: &str, seq: u64) {
        self.note_read(source, seq);
        if let Some(board) = self.board.source(source) {
            board.committed_seq.store(seq, Ordering::Relaxed);
        }
    }

    /// There is nothing to integrate up to this block; the store does not know it yet.
    fn note_read(&self, source: &str, seq: u64) {
        if let Some(board) = self.board.source(source) {
            board.integrated_seq.store(seq, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, tallies: &BTreeMap<Tally, u64>) {
        for (tally, count) in tallies {
            self.metrics.tally(tally, *count);
            match tally {
                Tally::Echo { .. } => &self.board.echo_dropped,
                Tally::Withheld { .. } => &self.board.withheld,
                // Only tables that we write into are captured without being mapped: a row of one
                // that was not recognised as ours is an echo that got through.
                Tally::Unmapped { source, table } if self.is_written(source, table) => {
                    &self.board.echo_leaked
                }
                _ => continue,
            }
            .fetch_add(*count, Ordering::Relaxed);
        }
    }

    fn is_written(&self, source: &str, table: &str) -> bool {
        let targets = self.rules.targets_of();
        targets.iter().any(|(target, name)| **target == *source && name.to_string() == table)
    }
}

impl Reading {
    /// The next block of a source is the one after this run.
    pub(super) fn passed(&mut self, run: &Run) {
        if let Some(cursor) = self.cursors.iter_mut().find(|c| c.source == run.source) {
            cursor.seq = run.progress.seq;
        }
    }

    /// Where a source is read on, unless its changes wait.
    pub(super) fn reads_on(&self, source: &Name) -> Option<Cursor> {
        let cursor = self.cursors.iter().find(|c| c.source == *source);
        cursor.filter(|c| c.step != Step::Halted).cloned()
    }

    /// Tables that were read again: what the store has beyond them is looked for.
    pub(super) fn look_for_gone(&mut self, run: &mut Run) {
        let mut resynced = std::mem::take(&mut run.resynced).into_iter().peekable();
        while let Some(table) = resynced.next() {
            let last = resynced.peek().is_none();
            self.looking.push_back(Looking {
                source: run.source.clone(),
                resynced: table,
                after: "".into(),
                found: 0,
                progress: last.then(|| run.progress.clone()),
            });
        }
    }
}

/// The next piece of what is looked for in the store; `None` when nothing is.
async fn look_further(
    store: &mut PostgresStore,
    reading: &mut Reading,
) -> Result<Option<Batch>, StageError> {
    let Some(looking) = reading.looking.front_mut() else { return Ok(None) };
    let (source, resynced) = (looking.source.clone(), &looking.resynced);
    let table = resynced.table.to_string();
    let before = resynced.since.order(0);
    let rows = store.stale_rows((&source, &table), before, &looking.after, GONE_ROWS).await?;
    let Some(last) = rows.last() else {
        tracing::info!(%source, table, rows = looking.found, "deleted what a resync did not find");
        let progress = looking.progress.take().into_iter().collect();
        reading.looking.pop_front();
        return Ok(Some(Batch { progress, ..Batch::default() }));
    };
    looking.after = last.key.pk.clone();
    looking.found += rows.len();
    let header = TxHeader { id: "resync".into(), snapshot: false, ..resynced.header.clone() };
    let gone = Some(Gone { source, header, rows });
    Ok(Some(Batch { gone, ..Batch::default() }))
}

/// What rows that go on are judged as: no transaction of the source, but an operator's doing.
fn fold_header(now_micros: i64) -> TxHeader {
    TxHeader {
        id: "release".into(),
        commit: Position::Postgres { lsn: 0 },
        commit_micros: now_micros,
        origin: None,
        snapshot: false,
    }
}

/// A journal that was lost and begun anew must not be taken for the one that the store has
/// integrated: its blocks have the same numbers and other contents.
fn same_journal(journal: &LocalJournal, done: &Progress) -> Result<(), StageError> {
    let oldest = journal.oldest_seq();
    // Rewound by an operator, or trimmed: nothing to compare with, or it was compared before.
    if done.position.is_empty() || done.seq < oldest {
        return Ok(());
    }
    let block = journal.read(done.seq, 1)?.into_iter().next();
    if block.is_some_and(|block| block.meta.position == done.position) {
        return Ok(());
    }
    let source = &done.source;
    Err(StageError::Definite(anyhow::anyhow!(
        "the journal of {source} is not the one of which the canonical store has integrated {} \
         blocks; restore the state folder, or integrate what is there from its beginning: \
         crossdock rewind --source {source} --to {}",
        done.seq,
        oldest - 1
    )))
}
