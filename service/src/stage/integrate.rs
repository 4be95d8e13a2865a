//! One step of `integrate`: journal → canonical store.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossdock_apply::{CanonicalStore, ConnectOptions, PostgresStore, Progress};
use crossdock_canonical::{Rules, Workspace};
use crossdock_model::canonical::{Outcome, Tally};
use crossdock_state::checkpoints::saved::{integrate_key, save};
use crossdock_state::{Journal, LocalJournal, SledCheckpoints, StageCheckpoint};
use tokio::sync::watch;

use super::StageError;
use super::journals::{Cursor, Journals, Run};
use crate::board::{Board, StageState};
use crate::clock::now_micros;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// About as much of each source's journal is judged and committed at once.
const BATCH_BYTES: usize = 64 * 1024;
/// The copies in sled are for listing; the store is the authority.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);

/// What `integrate` holds between its steps.
pub struct IntegrateStage {
    /// Installation.
    pub name: String,
    /// The canonical store.
    pub store: ConnectOptions,
    /// The rules.
    pub rules: Arc<Rules>,
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
    /// When the copies in sled were written last.
    pub checkpointed: Option<Instant>,
}

/// What is judged and committed at once.
pub struct Batch {
    runs: Vec<Run>,
    progress: Vec<Progress>,
}

impl Stage for IntegrateStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        crate::pipeline::integrate(self).await
    }
}

impl IntegrateStage {
    /// Opens the store, which says how far each source has been integrated.
    pub async fn open_store(&mut self) -> Result<(PostgresStore, Vec<Cursor>), StageError> {
        let mut store = PostgresStore::open(&self.store, &self.name).await?;
        let progress = store.progress().await?;
        let mut cursors = Vec::new();
        for (source, journal) in self.journals.iter() {
            let done = progress.iter().find(|p| p.source == *source);
            let seq = done.map_or(0, |p| p.seq);
            if let Some(done) = done {
                same_journal(journal, done)?;
            }
            self.note(source, seq);
            cursors.push(Cursor { source: source.clone(), seq });
        }
        self.board.integrate.set(StageState::Running, None);
        Ok((store, cursors))
    }

    /// Waits for whole transactions of any source.
    pub async fn next_batch(&mut self, cursors: &mut [Cursor]) -> Result<Batch, StageError> {
        let runs = self.journals.next_runs(cursors, BATCH_BYTES).await?;
        for run in &runs {
            if let Some(cursor) = cursors.iter_mut().find(|c| c.source == run.source) {
                cursor.seq = run.progress.seq;
            }
        }
        let progress = runs.iter().map(|run| run.progress.clone()).collect();
        Ok(Batch { runs, progress })
    }

    /// What the changes mean and who may write them.
    pub async fn judge(
        &mut self,
        store: &mut PostgresStore,
        batch: &mut Batch,
    ) -> Result<Outcome, StageError> {
        let mut work = Workspace::new(&self.rules, &self.name, now_micros());
        for run in &mut batch.runs {
            for (header, events) in run.transactions.drain(..) {
                work.take_in(&run.source, &header, events);
            }
        }
        loop {
            let needs = tokio::task::block_in_place(|| work.needs());
            if needs.is_empty() {
                return Ok(tokio::task::block_in_place(|| work.finish()));
            }
            work.provide(store.load(&needs).await?);
        }
    }

    /// One transaction of the store: everything decided, and how far it has come.
    pub async fn commit(
        &mut self,
        store: &mut PostgresStore,
        outcome: &Outcome,
        batch: &Batch,
    ) -> Result<(), StageError> {
        store.commit(outcome, &batch.progress, self.rules.hash()).await?;
        self.count(outcome);
        for target in &self.board.targets {
            let owed = outcome.deliveries.iter().filter(|d| *d.target == *target.name).count();
            target.pending.fetch_add(owed as u64, Ordering::Relaxed);
        }
        for progress in &batch.progress {
            self.note(&progress.source, progress.seq);
        }
        if !outcome.deliveries.is_empty() {
            self.committed.send_modify(|n| *n += 1);
        }
        Ok(())
    }

    /// Notes copies of the progress in sled, not more often than is useful.
    pub fn checkpoint(&mut self, batch: &Batch) -> Result<(), StageError> {
        if self.checkpointed.is_some_and(|at| at.elapsed() < CHECKPOINT_EVERY) {
            return Ok(());
        }
        self.checkpointed = Some(Instant::now());
        for progress in &batch.progress {
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

    fn note(&self, source: &str, seq: u64) {
        if let Some(board) = self.board.source(source) {
            board.integrated_seq.store(seq, Ordering::Relaxed);
        }
    }

    fn count(&self, outcome: &Outcome) {
        for (tally, count) in &outcome.tallies {
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
