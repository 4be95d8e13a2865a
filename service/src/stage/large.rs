//! `integrate` with a transaction that is too large to be held: it is read, judged and written in
//! pieces, within one transaction of the store. Whatever comes before its end leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crossdock_apply::{CanonicalStore, PostgresStore, Progress};
use crossdock_canonical::{Large, Piece, RECORD_NOTES, ROW_NOTES, Rules, Unreadable, Workspace};
use crossdock_model::ChangeEvent;
use crossdock_model::canonical::{Loaded, Name, Needs, Outcome, Tally};

use super::StageError;
use super::guards::Guards;
use super::integrate::{IntegrateStage, Reading};
use super::journals::{Run, Transaction};
use super::overlap::OverlappedStore;
use crate::clock::now_micros;
use crate::crash_points::pass;

/// Of a transaction that is being judged in pieces, about as much of the journal is read at once.
const PIECE_BYTES: usize = 512 * 1024;
/// Events that are folded at once.
const PIECE_EVENTS: usize = 1_000;

/// What a commit came to, as far as it is told.
#[derive(Default)]
pub struct Summary {
    /// Counts.
    pub tallies: BTreeMap<Tally, u64>,
    /// The first moment at which one of its records is to be looked at again.
    pub due_micros: Option<i64>,
    /// Deliveries by target.
    pub owed: BTreeMap<Name, u64>,
}

impl Summary {
    /// Adds what follows from an outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        for (tally, n) in &outcome.tallies {
            *self.tallies.entry(tally.clone()).or_default() += n;
        }
        let deadlines = outcome.deadlines.iter().filter(|d| !d.raised && !d.gone);
        self.due_micros = deadlines.map(|d| d.due_micros).chain(self.due_micros).min();
        for delivery in &outcome.deliveries {
            *self.owed.entry(delivery.target.clone()).or_default() += 1;
        }
    }
}

/// What is written while the transaction of the store is open.
struct Writing<'w> {
    store: &'w mut PostgresStore,
    rules: &'w Rules,
    installation: &'w str,
    guards: &'w mut Guards,
    summary: Summary,
    /// How far what is being written will have come.
    progress: Vec<Progress>,
}

impl IntegrateStage {
    /// Integrates a run that does not end with the end of a transaction, and those after it until
    /// one does.
    pub async fn integrate_large(
        &mut self,
        store: &mut OverlappedStore,
        reading: &mut Reading,
        first: Run,
    ) -> Result<(), StageError> {
        self.settle(store).await?;
        let source = first.source.clone();
        let rules = self.rules.clone();
        self.upkeep.keep_history(store.writer()?).await?;
        store.forget();
        store.writer()?.begin_pieces().await?;
        tracing::info!(%source, "a transaction is too large to be held; it is integrated in pieces");
        let mut guards = std::mem::take(&mut self.guards);
        let mut resynced = Vec::new();
        let mut writing = Writing {
            store: store.writer()?,
            rules: &rules,
            installation: &self.name,
            guards: &mut guards,
            summary: Summary::default(),
            progress: Vec::new(),
        };
        let mut large = None;
        let mut run = first;
        loop {
            resynced.append(&mut run.resynced);
            writing.progress = vec![run.progress.clone()];
            let transactions = std::mem::take(&mut run.transactions);
            writing.take(&source, &mut large, transactions, run.open).await?;
            if !run.open {
                break;
            }
            let Some(next) = self.next_of(reading, &source).await? else {
                writing.store.abandon_pieces().await?;
                self.guards = Guards::load(store.writer()?, &rules).await?;
                return Ok(store.look_again().await?);
            };
            run = next;
        }
        let Writing { summary, mut progress, .. } = writing;
        if !resynced.is_empty() {
            // What is looked for in the store moves the progress when it is done.
            progress.clear();
        }
        pass("integrate.before_commit");
        store.writer()?.end_pieces(&progress).await?;
        pass("integrate.after_commit");
        store.look_again().await?;
        self.guards = guards;
        self.board.set_stopped(self.guards.stopped());
        reading.look_for_gone(&mut Run { resynced, ..run });
        self.tell(&summary, &progress)
    }

    /// Tells everybody what is in the store now.
    pub(super) fn tell(
        &mut self,
        summary: &Summary,
        progress: &[Progress],
    ) -> Result<(), StageError> {
        self.count(&summary.tallies);
        self.next_due = summary.due_micros.into_iter().chain(self.next_due).min();
        for target in &self.board.targets {
            let owed = summary.owed.get(&*target.name).copied().unwrap_or(0);
            target.pending.fetch_add(owed, Ordering::Relaxed);
        }
        for progress in progress {
            self.note(&progress.source, progress.seq);
        }
        if !summary.owed.is_empty() {
            self.committed.send_modify(|n| *n += 1);
        }
        self.checkpoint(progress)
    }

    /// The next blocks of a source whose last transaction is not at its end; `None` when they must
    /// not be judged.
    async fn next_of(
        &self,
        reading: &mut Reading,
        source: &Name,
    ) -> Result<Option<Run>, StageError> {
        while let Some(cursor) = reading.reads_on(source) {
            let next = self.journals.next_runs(&[cursor], PIECE_BYTES, PIECE_BYTES).await?;
            let mut runs = next;
            self.hold_back(reading, &mut runs)?;
            if let Some(mut run) = runs.pop() {
                reading.passed(&run);
                // Blocks in which nothing is end no transaction.
                run.open |= run.transactions.is_empty();
                return Ok(Some(run));
            }
        }
        Ok(None)
    }
}

impl<'w> Writing<'w> {
    /// Takes transactions in their order. The first one goes on with `large`, if there is one; the
    /// last one goes on after them when they are `open`.
    async fn take(
        &mut self,
        source: &Name,
        large: &mut Option<Large<'w>>,
        transactions: Vec<Transaction>,
        open: bool,
    ) -> Result<(), StageError> {
        let count = transactions.len();
        let mut whole = Vec::new();
        for (at, (header, events)) in transactions.into_iter().enumerate() {
            let goes_on = open && at + 1 == count;
            if let Some(mut begun) = large.take() {
                self.fold(&mut begun, events).await?;
                match goes_on {
                    true => *large = Some(begun),
                    false => self.judge(begun).await?,
                }
            } else if goes_on {
                self.judge_whole(source, std::mem::take(&mut whole)).await?;
                let (guards, place) = (self.guards.states(), (source, header));
                let mut begun =
                    Large::begin(self.rules, self.installation, now_micros(), guards, place);
                self.fold(&mut begun, events).await?;
                *large = Some(begun);
            } else {
                whole.push((header, events));
            }
        }
        self.judge_whole(source, whole).await
    }

    /// Folds events of a large transaction.
    async fn fold(
        &mut self,
        large: &mut Large<'w>,
        events: Vec<ChangeEvent>,
    ) -> Result<(), StageError> {
        let mut events = events.into_iter();
        loop {
            let piece: Vec<ChangeEvent> = events.by_ref().take(PIECE_EVENTS).collect();
            if piece.is_empty() {
                return Ok(());
            }
            let rows = tokio::task::block_in_place(|| large.rows_of(&piece));
            let known = self.store.notes(ROW_NOTES, &rows).await?;
            let notes = tokio::task::block_in_place(|| large.fold(known, piece))?;
            self.store.keep_notes(&notes).await?;
            pass("integrate.piece");
        }
    }

    /// Judges a large transaction of which all events have been folded.
    async fn judge(&mut self, mut large: Large<'w>) -> Result<(), StageError> {
        large.end_of_events();
        self.store.notes_are_there().await?;
        while let Some(wanted) = large.wanted() {
            let notes = self.store.note_page(&wanted).await?;
            tokio::task::block_in_place(|| large.open(&notes))?;
            loop {
                let needs = tokio::task::block_in_place(|| large.needs())?;
                if needs.is_empty() {
                    break;
                }
                let loaded = self.load(&needs.store).await?;
                let notes = self.store.notes(RECORD_NOTES, &needs.notes).await?;
                tokio::task::block_in_place(|| large.provide(loaded, &notes))?;
            }
            let Piece { outcome, notes } = large.end_page();
            self.write(outcome).await?;
            self.store.keep_notes(&notes).await?;
            pass("integrate.piece");
        }
        Ok(())
    }

    /// Judges transactions that came with a large one, as usual.
    async fn judge_whole(
        &mut self,
        source: &Name,
        transactions: Vec<Transaction>,
    ) -> Result<(), StageError> {
        if transactions.is_empty() {
            return Ok(());
        }
        let mut work = Workspace::new(self.rules, self.installation, now_micros())
            .with_guards(self.guards.states());
        for (header, events) in transactions {
            work.take_in(source, &header, events);
        }
        loop {
            let needs = tokio::task::block_in_place(|| work.needs());
            if needs.is_empty() {
                break;
            }
            work.provide(self.load(&needs).await?);
        }
        self.write(tokio::task::block_in_place(|| work.finish())).await
    }

    async fn load(&mut self, needs: &Needs) -> Result<Loaded, StageError> {
        match needs.is_empty() {
            true => Ok(Loaded::default()),
            false => Ok(self.store.load(needs).await?),
        }
    }

    async fn write(&mut self, outcome: Outcome) -> Result<(), StageError> {
        self.store.write_piece(&outcome, &self.progress, self.rules.hash()).await?;
        self.guards.committed(&outcome);
        self.summary.add(&outcome);
        Ok(())
    }
}

impl From<Unreadable> for StageError {
    fn from(error: Unreadable) -> Self {
        Self::Transient(error.into())
    }
}
