//! One step of `deliver`: canonical store → target.
//!
//! A delivery that its target refuses is set aside (`refused`), later ones of its record wait
//! behind it, and all others go on.

mod again;
mod batch;
mod breaker;
mod coalesce;
mod lanes;
mod refused;
mod reverts;
mod workers;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossdock_apply::store::{Layout, Owed};
use crossdock_apply::target::AnyTarget;
use crossdock_apply::{ApplyError, ConnectOptions, PostgresStore, Target, TargetOptions};
use crossdock_canonical::Rules;
use crossdock_model::canonical::RecordKey;
use crossdock_state::checkpoints::saved::{save, target_key};
use crossdock_state::{SledCheckpoints, StageCheckpoint};
use tokio::sync::watch;
use tracing::info;

pub use self::breaker::Breaker;
use self::lanes::{Lane, Lanes};
pub use self::lanes::{present_streams, stream_names};
use self::refused::Parents;
use self::workers::{Outcome, Part, divided};
use super::StageError;
use crate::board::{StageState, TargetBoard};
use crate::clock::now_micros;
use crate::crash_points::pass_of;
use crate::in_force::InForce;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// Looks into the store this often even when nobody said that there is something new.
const POLL: Duration = Duration::from_secs(1);
/// In a maintenance window, the clock is looked at this often.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// A lane without work says in the target how far it has looked, not more often than this.
const IDLE_NOTED_EVERY: Duration = Duration::from_secs(10);
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
    /// Connections over which records are divided, at least 1.
    pub workers: usize,
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
    /// Lanes and maintenance windows, as of now.
    pub rules: Arc<Rules>,
    /// Rules that are to be used.
    pub in_force: watch::Receiver<InForce>,
    /// Changes after every commit of `integrate`.
    pub committed: watch::Receiver<u64>,
    /// Whether the target is left alone for now.
    pub breaker: Breaker,
}

/// Both ends, and how far it has come.
pub struct Work {
    store: PostgresStore,
    /// A connection for each worker, the first from the beginning.
    targets: Vec<AnyTarget>,
    lanes: Lanes,
    /// What lanes are like for later deliveries.
    later: VecDeque<Layout>,
    /// Records of which deliveries are parked.
    blocked: HashSet<RecordKey>,
    /// There are reverts that were not made, and that somebody may let go.
    withheld: bool,
    /// As [`lanes::Lane::limit`], of deliveries that are made after all.
    again_limit: usize,
    /// When idle lanes last said how far they have looked.
    noted: Instant,
    /// When it was last asked what is to be applied after all.
    looked: Option<Instant>,
    /// Lanes come next: what is made after all does not keep them waiting for ever.
    turn_of_lanes: bool,
    parents: Parents,
}

/// What is done at once.
pub struct Batch {
    parts: Vec<Part>,
    /// What comes next has a higher number.
    upto: u64,
    /// Deliveries that must wait behind parked ones.
    behind: Vec<u64>,
    /// The lane; `None` for deliveries that have left theirs, and are made after all.
    lane: Option<usize>,
}

impl Stage for DeliverStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        crate::pipeline::deliver(self).await
    }
}

/// The connection for everything that one alone does.
fn first(targets: &mut [AnyTarget]) -> Result<&mut AnyTarget, StageError> {
    targets.first_mut().ok_or_else(|| StageError::Transient(anyhow!("not connected")))
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
        self.rules = self.in_force.borrow_and_update().rules.clone();
        self.wait_for_window().await;
        self.breaker.wait(&self.board).await;
        let mut store = PostgresStore::open_reader(&self.store).await?;
        self.claim(&mut store).await?;
        let name = self.target.name();
        let mut target = AnyTarget::open(&self.target, &self.name, &self.store).await?;
        // What was applied after all, and not noted because the process ended.
        let again = target.progress(&self.again_stream()).await?.map_or(0, |p| p.seq);
        store.again_done(name, again).await?;
        let blocked = store.parked_records(name).await?.into_iter().collect();
        let layouts = lanes::layouts(&mut store, &self.rules, name, self.workers).await?;
        let mut later = VecDeque::from(layouts);
        let lanes = self.next_layout(&mut target, &mut later).await?;
        self.board.seq.store(lanes.at(), Ordering::Relaxed);
        self.board.stage.set(StageState::Running, None);
        let (again_limit, noted) = (self.batch_rows, Instant::now());
        let withheld = store.has_withheld(name).await?;
        let (looked, turn_of_lanes, parents) = (None, false, Parents::default());
        Ok(Work {
            store,
            targets: vec![target],
            lanes,
            later,
            blocked,
            withheld,
            again_limit,
            noted,
            looked,
            turn_of_lanes,
            parents,
        })
    }

    /// Other rules, perhaps other lanes: what is owed already goes through those that were.
    async fn take_rules(&mut self, work: &mut Work) -> Result<(), StageError> {
        self.rules = self.in_force.borrow_and_update().rules.clone();
        let (name, workers) = (self.target.name(), self.workers);
        let layouts = lanes::layouts(&mut work.store, &self.rules, name, workers).await?;
        work.later = VecDeque::from(layouts);
        work.lanes = self.next_layout(first(&mut work.targets)?, &mut work.later).await?;
        Ok(())
    }

    /// The first layout that is not through, with how far each lane has come.
    async fn next_layout(
        &self,
        target: &mut AnyTarget,
        later: &mut VecDeque<Layout>,
    ) -> Result<Lanes, StageError> {
        let deliver = stream_name(&self.name);
        loop {
            let none = Layout { from: 0, lanes: Vec::new(), workers: 1 };
            let layout = later.pop_front().unwrap_or(none);
            let end = later.front().map_or(u64::MAX, |next| next.from);
            let mut lanes = Lanes::new(&deliver, &layout, end, &self.rules, self.batch_rows);
            for lane in &mut lanes.all {
                for (worker, stream) in lane.streams.clone().iter().enumerate() {
                    let done = target.progress(stream).await?.map_or(0, |p| p.seq);
                    lane.noted(worker, done);
                }
            }
            if later.is_empty() || !lanes.are_through() {
                return Ok(lanes);
            }
        }
    }

    /// Waits while the target is to be left alone. True when that was so.
    async fn wait_for_window(&self) -> bool {
        let is_time = || {
            let now = now_micros();
            self.rules.maintenance(self.target.name()).any(|m| m.window.contains(now))
        };
        let mut waited = false;
        while is_time() {
            if !waited {
                info!(target = self.target.name(), "left alone: maintenance");
            }
            waited = true;
            self.board.stage.set(StageState::Maintenance, None);
            tokio::time::sleep(CLOCK_EVERY).await;
        }
        waited
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
            if self.in_force.has_changed().unwrap_or(false) {
                self.take_rules(work).await?;
            }
            if self.wait_for_window().await {
                self.board.stage.set(StageState::Running, None);
            }
            if !std::mem::take(&mut work.turn_of_lanes)
                && let Some(batch) = self.due_again(work).await?
            {
                work.turn_of_lanes = true;
                return Ok(batch);
            }
            self.committed.mark_unchanged();
            if let Some(batch) = self.next_of_lanes(work).await? {
                return Ok(batch);
            }
            if work.looked.is_none() && !work.blocked.is_empty() {
                continue;
            }
            if work.lanes.are_through() {
                let target = first(&mut work.targets)?;
                work.lanes = self.next_layout(target, &mut work.later).await?;
                continue;
            }
            // A lane without work has come as far as it has looked.
            self.checkpoint(work.lanes.at())?;
            self.note_idle(work).await?;
            first(&mut work.targets)?.idle()?;
            // Either there is news, or it is time to look anyway; both are the same to us.
            let _ = tokio::time::timeout(POLL, self.committed.changed()).await;
        }
    }

    /// The next deliveries of the lane whose turn it is; `None` when there are none, or when some
    /// were pulled out of their lanes.
    async fn next_of_lanes(&self, work: &mut Work) -> Result<Option<Batch>, StageError> {
        let alone = work.lanes.all.len() == 1 && work.lanes.end == u64::MAX;
        let head = match alone {
            true => u64::MAX,
            false => work.store.last_delivery().await?.min(work.lanes.end),
        };
        let mut pending = 0;
        for at in work.lanes.in_turn() {
            let limit = work.lanes.limit(at);
            let Some(lane) = work.lanes.all.get(at) else { continue };
            if !lane.may_move() {
                pending += u64::from(lane.at() < head);
                continue;
            }
            let range = (lane.at(), head);
            let mut owed = work.store.owed(self.target.name(), &lane.rules, range, limit).await?;
            let Some(upto) = owed.last().map(|last| last.seq) else {
                if !alone {
                    work.lanes.nothing_for(at, head);
                }
                continue;
            };
            // What one worker has made already, and another one of the same round has not.
            owed.retain(|owed| !lane.has(&owed.delivery.record, owed.seq));
            if owed.first().is_some_and(|first| lane.gathers(first.owed_micros)) {
                pending += owed.len() as u64;
                continue;
            }
            self.board.pending.store(owed.len() as u64, Ordering::Relaxed);
            if self.pull_earlier(work, at, &owed).await? {
                return Ok(None);
            }
            return self.in_order(work, at, owed, upto).await.map(Some);
        }
        self.board.pending.store(pending, Ordering::Relaxed);
        Ok(None)
    }

    /// Deliveries about one record are made in their order, whatever their lanes: what other
    /// lanes owe about it earlier is taken out of them, and made at once. True when that was so.
    async fn pull_earlier(
        &self,
        work: &mut Work,
        at: usize,
        owed: &[Owed],
    ) -> Result<bool, StageError> {
        let last = owed.last().map_or(0, |owed| owed.seq);
        if work.lanes.least_but(at) >= last {
            return Ok(false);
        }
        let target = self.target.name();
        let of: Vec<(&RecordKey, u64)> = owed.iter().map(|o| (&o.delivery.record, o.seq)).collect();
        let mut earlier = work.store.earlier(target, &of, &work.lanes.others(at)).await?;
        earlier.retain(|e| !work.lanes.have(&e.rule, &e.record, e.seq));
        if earlier.is_empty() {
            return Ok(false);
        }
        let records: HashSet<RecordKey> = earlier.iter().map(|e| e.record.clone()).collect();
        let own = owed.iter().filter(|o| records.contains(&o.delivery.record)).map(|o| o.seq);
        let pulled: Vec<u64> = earlier.iter().map(|e| e.seq).chain(own).collect();
        work.store.pull(target, &pulled).await?;
        pass_of("deliver.after_pull", target);
        self.metrics.pulled(target, pulled.len());
        work.blocked.extend(records);
        work.looked = None;
        Ok(true)
    }

    /// What is done with the next deliveries: those of blocked records wait, reverts too many are
    /// not made, the others are applied.
    async fn in_order(
        &self,
        work: &mut Work,
        at: usize,
        owed: Vec<Owed>,
        last: u64,
    ) -> Result<Batch, StageError> {
        // One mark stands for a whole batch.
        let hops = owed.first().map_or(0, |owed| owed.delivery.hops);
        let (mut behind, mut made, mut upto) = (Vec::new(), Vec::new(), last);
        for mut owed in owed {
            if owed.delivery.hops != hops {
                upto = owed.seq - 1;
                break;
            }
            let revert = owed.delivery.reverts.is_some();
            if revert && self.is_withheld(work, &owed).await? {
                self.metrics.revert_withheld(self.target.name());
            } else if work.blocked.contains(&owed.delivery.record) {
                behind.push(owed.seq);
            } else {
                self.renew(work, &mut owed).await?;
                made.push(owed);
            }
        }
        let lane = work.lanes.all.get(at);
        if lane.is_some_and(Lane::coalesces) {
            let gathered = coalesce::last_of_each(&mut made);
            self.metrics.coalesced(self.target.name(), gathered);
        }
        let parts = lane.map_or_else(Vec::new, |lane| divided(lane, made, upto));
        Ok(Batch { parts, upto, behind, lane: Some(at) })
    }

    /// One transaction of the target for each worker: its writes, its progress, and the mark that
    /// says "ours".
    /// Returns how far it has come.
    pub async fn apply(&mut self, work: &mut Work, batch: &Batch) -> Result<u64, StageError> {
        if !batch.behind.is_empty() {
            let parked = work.store.park_behind(self.target.name(), &batch.behind).await?;
            if parked.len() < batch.behind.len() {
                // What they waited for has been dealt with: they are read once more.
                self.look_anew(work).await?;
                return Ok(work.lanes.at());
            }
        }
        let begun = Instant::now();
        let applied = self.apply_parts(work, &batch.parts).await?;
        let outcome = self.note_made(work, batch, applied);
        self.metrics.delivered(self.target.name(), outcome.rows);
        if !outcome.made.is_empty() || batch.parts.is_empty() {
            self.applied(work, batch, &outcome, begun).await?;
        }
        match outcome.failed {
            None => {}
            // It may have met what another worker was about to write: the others have ended.
            Some((_, ApplyError::Refused { .. })) if !outcome.made.is_empty() => {}
            Some((worker, refusal @ ApplyError::Refused { .. })) => {
                self.refused(work, batch, worker, refusal).await?;
            }
            Some((_, error)) => {
                self.breaker.failed(&error);
                return Err(error.into());
            }
        }
        self.breaker.worked();
        Ok(work.lanes.at())
    }

    async fn applied(
        &mut self,
        work: &mut Work,
        batch: &Batch,
        outcome: &Outcome,
        begun: Instant,
    ) -> Result<(), StageError> {
        work.parents.something_applied();
        let more = |limit: usize| limit.saturating_mul(2).clamp(1, self.batch_rows);
        let Some(at) = batch.lane else {
            work.again_limit = more(work.again_limit);
            pass_of("deliver.before_again_done", self.target.name());
            work.store.again_done(self.target.name(), batch.upto).await?;
            work.parents.something_released();
            return self.look_anew(work).await;
        };
        let made = || {
            let made = batch.parts.iter().filter(|part| outcome.made.contains(&part.worker));
            made.flat_map(|part| &part.owed)
        };
        work.lanes.served(at, made().count(), begun);
        if let Some(lane) = work.lanes.all.get_mut(at) {
            if outcome.failed.is_none() {
                lane.limit = more(lane.limit);
            }
            let now = now_micros();
            let late = made().filter(|o| lane.is_late(o.owed_micros, now)).count();
            let waited = made().map(|o| (now - o.owed_micros) as f64 / 1e6);
            self.metrics.waited(self.target.name(), &lane.name, waited, late);
        }
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
        pass_of("deliver.after_checkpoint", self.target.name());
        Ok(())
    }
}
