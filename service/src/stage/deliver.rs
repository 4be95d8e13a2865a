//! One step of `deliver`: canonical store → target.
//!
//! A delivery that its target refuses is set aside (`refused`), later ones of its record wait
//! behind it, and all others go on.

mod breaker;
mod refused;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossdock_apply::store::{Again, Owed, RuleFilter};
use crossdock_apply::target::AnyTarget;
use crossdock_apply::{
    ApplyError, ConnectOptions, PostgresStore, Target, TargetBatch, TargetOptions, Told,
};
use crossdock_model::canonical::RecordKey;
use crossdock_state::checkpoints::saved::{save, target_key};
use crossdock_state::{SledCheckpoints, StageCheckpoint};
use tokio::sync::watch;

pub use self::breaker::Breaker;
use self::refused::Parents;
use super::StageError;
use crate::board::{StageState, TargetBoard};
use crate::clock::now_micros;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// Looks into the store this often even when nobody said that there is something new.
const POLL: Duration = Duration::from_secs(1);
/// The store may need a moment to notice that whoever delivered before is gone.
const CLAIM_TRIES: u32 = 30;
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// What `deliver` holds between its steps.
pub struct DeliverStage {
    /// Installation.
    pub name: String,
    /// Target.
    pub target: TargetOptions,
    /// Deliveries in one transaction of the target, at most.
    pub batch_rows: usize,
    /// Refused deliveries that nobody has dealt with, at most.
    pub exceptions_max: u64,
    /// Reverts of the same field of the same record within `reverts_within`, at most.
    pub reverts_max: u64,
    /// See `reverts_max`.
    pub reverts_within: Duration,
    /// The canonical store.
    pub store: ConnectOptions,
    /// Where copies of its progress are noted.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Where it says how it is.
    pub board: Arc<TargetBoard>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Changes after every commit of `integrate`.
    pub committed: watch::Receiver<u64>,
    /// Whether the target is left alone for now.
    pub breaker: Breaker,
}

/// Both ends, and how far it has come.
pub struct Work {
    store: PostgresStore,
    target: AnyTarget,
    /// Number of the last delivery applied, or set aside.
    done: u64,
    /// Records of which deliveries are parked.
    blocked: HashSet<RecordKey>,
    /// Deliveries in the next batch, at most: fewer after a refusal, until it is clear which one
    /// it is about.
    limit: usize,
    /// When it was last asked what is to be applied after all.
    looked: Option<Instant>,
    parents: Parents,
}

/// What is done at once.
pub struct Batch {
    write: TargetBatch,
    owed: Vec<Owed>,
    /// Deliveries that must wait behind parked ones.
    behind: Vec<u64>,
    /// These have left their order, and are applied after all.
    again: bool,
}

impl Stage for DeliverStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        crate::pipeline::deliver(self).await
    }
}

/// Name of the progress row of `deliver` in a target.
pub fn stream_name(installation: &str) -> String {
    format!("{installation}/deliver")
}

impl DeliverStage {
    fn again_stream(&self) -> String {
        format!("{}/again", stream_name(&self.name))
    }

    /// Connects to both ends; the target says how far it has come.
    pub async fn open_target(&mut self) -> Result<Work, StageError> {
        self.breaker.wait(&self.board).await;
        let mut store = PostgresStore::open_reader(&self.store).await?;
        self.claim(&mut store).await?;
        let mut target = AnyTarget::open(&self.target, &self.name, &self.store).await?;
        let done = target.progress(&stream_name(&self.name)).await?.map_or(0, |p| p.seq);
        // What was applied after all, and not noted because the process ended.
        let again = target.progress(&self.again_stream()).await?.map_or(0, |p| p.seq);
        store.again_done(self.target.name(), again).await?;
        let blocked = store.parked_records(self.target.name()).await?.into_iter().collect();
        self.board.seq.store(done, Ordering::Relaxed);
        self.board.stage.set(StageState::Running, None);
        let (limit, looked, parents) = (self.batch_rows, None, Parents::default());
        Ok(Work { store, target, done, blocked, limit, looked, parents })
    }

    /// Nobody else may deliver to this target: what one sets aside, the other would apply.
    async fn claim(&self, store: &mut PostgresStore) -> Result<(), StageError> {
        for _ in 0..CLAIM_TRIES {
            if store.claim_target(self.target.name()).await? {
                return Ok(());
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        }
        let target = self.target.name();
        Err(StageError::Transient(anyhow!(
            "another crossdock delivers to {target}; stop one of the two"
        )))
    }

    /// Waits for deliveries.
    pub async fn next_owed(&mut self, work: &mut Work) -> Result<Batch, StageError> {
        loop {
            if let Some(batch) = self.due_again(work).await? {
                return Ok(batch);
            }
            self.committed.mark_unchanged();
            let (rules, range) = (RuleFilter::all(), (work.done, u64::MAX));
            let owed = work.store.owed(self.target.name(), &rules, range, work.limit).await?;
            self.board.pending.store(owed.len() as u64, Ordering::Relaxed);
            if !owed.is_empty() {
                return self.in_order(work, owed).await;
            }
            // Either there is news, or it is time to look anyway; both are the same to us.
            let _ = tokio::time::timeout(POLL, self.committed.changed()).await;
        }
    }

    /// What is done with the next deliveries: those of blocked records wait, reverts too many are
    /// not made, the others are applied.
    async fn in_order(&self, work: &mut Work, owed: Vec<Owed>) -> Result<Batch, StageError> {
        // One mark stands for a whole batch.
        let hops = owed.first().map_or(0, |owed| owed.delivery.hops);
        let (mut behind, mut made, mut upto) = (Vec::new(), Vec::new(), work.done);
        for owed in owed.into_iter().take_while(|owed| owed.delivery.hops == hops) {
            upto = owed.seq;
            let revert = owed.delivery.reverts.is_some();
            if revert && self.is_withheld(work, &owed).await? {
                self.metrics.revert_withheld(self.target.name());
            } else if work.blocked.contains(&owed.delivery.record) {
                behind.push(owed.seq);
            } else {
                made.push(owed);
            }
        }
        let write = batch(stream_name(&self.name), upto, &made);
        Ok(Batch { write, owed: made, behind, again: false })
    }

    /// Whether a revert is one too many: then it is withheld now, and somebody must look at it.
    async fn is_withheld(&self, work: &mut Work, revert: &Owed) -> Result<bool, StageError> {
        let (most, within) = (self.reverts_max, self.reverts_within);
        if !work.store.is_ping_pong(revert, most, within).await? {
            return Ok(false);
        }
        work.store.withhold_revert(revert, most).await?;
        Ok(true)
    }

    /// What people, or rows that have arrived, have let go: looked for once in a while.
    async fn due_again(&mut self, work: &mut Work) -> Result<Option<Batch>, StageError> {
        let idle = work.looked.is_some_and(|at| at.elapsed() < POLL);
        if work.blocked.is_empty() || idle {
            return Ok(None);
        }
        let target = self.target.name();
        self.retry_parents(work).await?;
        let mut due = work.store.due_again(target, work.limit).await?;
        // A record once: of two writes of one row in a batch, only the last one is made.
        let mut seen = HashSet::new();
        let once = due.iter().take_while(|again| seen.insert(&again.owed.delivery.record)).count();
        due.truncate(once);
        let Some(upto) = due.last().map(|again| again.number) else {
            work.looked = Some(Instant::now());
            work.blocked = work.store.parked_records(target).await?.into_iter().collect();
            return Ok(None);
        };
        work.looked = None;
        let places: Vec<u64> = due.iter().map(|again| again.number).collect();
        let owed: Vec<Owed> = due.into_iter().map(|Again { owed, .. }| owed).collect();
        let mut write = batch(self.again_stream(), upto, &owed);
        write.told.iter_mut().zip(places).for_each(|(told, place)| told.place = place);
        Ok(Some(Batch { write, owed, behind: Vec::new(), again: true }))
    }

    /// One transaction of the target: the writes, the progress, and the mark that says "ours".
    /// Returns how far it has come.
    pub async fn apply(&mut self, work: &mut Work, batch: &Batch) -> Result<u64, StageError> {
        if !batch.behind.is_empty() {
            let parked = work.store.park_behind(self.target.name(), &batch.behind).await?;
            if parked.len() < batch.behind.len() {
                // What they waited for has been dealt with: they are read once more.
                self.look_anew(work).await?;
                return Ok(work.done);
            }
        }
        match work.target.apply(&batch.write).await {
            Ok(rows) => self.applied(work, batch, rows).await?,
            Err(refusal @ ApplyError::Refused { .. }) => self.refused(work, batch, refusal).await?,
            Err(error) => {
                self.breaker.failed(&error);
                return Err(error.into());
            }
        }
        self.breaker.worked();
        Ok(work.done)
    }

    async fn applied(
        &mut self,
        work: &mut Work,
        batch: &Batch,
        rows: Option<u64>,
    ) -> Result<(), StageError> {
        self.metrics.delivered(self.target.name(), rows.unwrap_or(0));
        work.limit = work.limit.saturating_mul(2).clamp(1, self.batch_rows);
        work.parents.something_applied();
        if batch.again {
            work.store.again_done(self.target.name(), batch.write.upto).await?;
            work.parents.something_released();
            return self.look_anew(work).await;
        }
        work.done = batch.write.upto;
        Ok(())
    }

    /// Asks which records are blocked, as after somebody has dealt with an exception.
    async fn look_anew(&self, work: &mut Work) -> Result<(), StageError> {
        let target = self.target.name();
        work.blocked = work.store.parked_records(target).await?.into_iter().collect();
        work.looked = None;
        let refusals = work.store.refusals(target).await?;
        self.board.refused.store(refusals.refused + refusals.parents, Ordering::Relaxed);
        Ok(())
    }

    /// Notes a copy of the progress in sled.
    pub fn checkpoint(&mut self, done: u64) -> Result<(), StageError> {
        if self.board.seq.swap(done, Ordering::Relaxed) == done {
            return Ok(());
        }
        let checkpoint =
            StageCheckpoint { seq: done, commit_micros: 0, saved_micros: now_micros() };
        let key = target_key(self.target.name());
        tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        Ok(())
    }
}

/// What is written for some deliveries.
fn batch(stream: String, upto: u64, owed: &[Owed]) -> TargetBatch {
    let hops = owed.iter().map(|owed| owed.delivery.hops).max().unwrap_or(0);
    let mut batch = TargetBatch { stream, upto, hops, ..TargetBatch::default() };
    for Owed { seq, owed_micros, delivery } in owed {
        let writes = delivery.writes.iter().cloned();
        batch.writes.extend(writes.map(|write| (delivery.event_id, write)));
        batch.told.push(Told {
            place: *seq,
            seq: *seq,
            event_id: delivery.event_id,
            rule: delivery.rule.clone(),
            record: delivery.record.clone(),
            owed_micros: *owed_micros,
            writes: delivery.writes.len(),
        });
    }
    batch
}
