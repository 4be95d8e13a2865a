//! What becomes of a delivery that its target refuses.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossdock_apply::store::{Owed, Parking};
use crossdock_apply::target::{named, word};
use crossdock_apply::{ApplyError, Target, TargetBatch};
use serde_json::{Value as Json, json};
use tracing::warn;

use super::{Batch, DeliverStage, Work, first};
use crate::crash_points::pass_of;
use crate::stage::StageError;

/// Deliveries that wait for other rows are no fault by themselves: this many times as many as
/// refused ones may wait.
const PARENTS_FACTOR: u64 = 100;
/// Deliveries that wait for other rows and are tried again at once.
const PARENTS_AT_ONCE: usize = 100;
const PARENTS_PAUSE_MIN: Duration = Duration::from_secs(1);
const PARENTS_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Writes of a refused delivery whose rows are looked up in the target.
const LOOKED_UP_MAX: usize = 20;

/// When deliveries that wait for other rows are tried again: after others have been applied, and
/// ever less often while that does not help.
pub(super) struct Parents {
    waiting: bool,
    applied: bool,
    pause: Duration,
    next: Option<Instant>,
}

impl Default for Parents {
    fn default() -> Self {
        Self { waiting: true, applied: true, pause: PARENTS_PAUSE_MIN, next: None }
    }
}

impl Parents {
    pub(super) fn something_applied(&mut self) {
        self.applied = true;
    }

    pub(super) fn something_released(&mut self) {
        self.pause = PARENTS_PAUSE_MIN;
    }

    fn is_time(&self) -> bool {
        self.waiting && self.applied && self.next.is_none_or(|next| next <= Instant::now())
    }

    fn tried(&mut self, many: u64) {
        (self.waiting, self.applied) = (many > 0, false);
        self.next = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PARENTS_PAUSE_MAX);
    }
}

impl DeliverStage {
    /// Tries deliveries again that were refused because another row was missing.
    pub(super) async fn retry_parents(&self, work: &mut Work) -> Result<(), StageError> {
        if work.parents.is_time() {
            let many = work.store.retry_parents(self.target.name(), PARENTS_AT_ONCE).await?;
            work.parents.tried(many);
        }
        Ok(())
    }

    /// Finds the delivery that is refused, by ever smaller batches, and sets it aside.
    pub(super) async fn refused(
        &mut self,
        work: &mut Work,
        batch: &Batch,
        worker: usize,
        refusal: ApplyError,
    ) -> Result<(), StageError> {
        let Some(part) = batch.parts.iter().find(|part| part.worker == worker) else {
            return Ok(());
        };
        let [owed] = &part.owed[..] else {
            // A target without transactions has come as far as the one that it refuses.
            let now = progress(work, &part.write.stream).await?;
            let begin = part.write.told.first().map_or(0, |told| told.place);
            let limit = if now >= begin { 1 } else { (part.owed.len() / 2).max(1) };
            match batch.lane.and_then(|at| work.lanes.all.get_mut(at)) {
                Some(lane) => {
                    lane.limit = limit;
                    lane.noted(worker, now);
                }
                None => {
                    work.again_limit = limit;
                    work.store.again_done(self.target.name(), now).await?;
                }
            }
            return Ok(());
        };
        let ApplyError::Refused { what, remedy, code, parent } = refusal else { return Ok(()) };
        let target = self.target.name();
        if batch.lane.is_some() {
            self.within_budget(work, parent, &what).await?;
        }
        warn!(target, delivery = owed.seq, code, what, "refused: set aside, others go on");
        let context = self.context(work, owed, &code, &remedy).await?;
        work.store.park(&Parking { owed, parent, text: &what, context }).await?;
        pass_of("deliver.after_park", target);
        work.parents.refused(parent);
        if let Some(at) = batch.lane {
            self.pass_over(work, at, worker, owed.seq).await?;
        }
        self.look_anew(work).await
    }

    /// The target's own progress passes a delivery that was set aside.
    async fn pass_over(
        &self,
        work: &mut Work,
        at: usize,
        worker: usize,
        seq: u64,
    ) -> Result<(), StageError> {
        let Some(lane) = work.lanes.all.get_mut(at) else { return Ok(()) };
        let Some(stream) = lane.streams.get(worker).cloned() else { return Ok(()) };
        let nothing = TargetBatch { stream: stream.clone(), upto: seq, ..TargetBatch::default() };
        let passed = first(&mut work.targets)?.apply(&nothing).await?;
        pass_of("deliver.after_pass_over", self.target.name());
        match passed {
            Some(_) => lane.noted(worker, seq),
            None => {
                // A connection that was given up had applied it after all.
                work.store.unpark(self.target.name(), seq).await?;
                let now = progress(work, &stream).await?;
                if let Some(lane) = work.lanes.all.get_mut(at) {
                    lane.noted(worker, now);
                }
            }
        }
        Ok(())
    }

    /// Many refusals have one cause, which is not the data: better nothing than half of it.
    async fn within_budget(
        &self,
        work: &mut Work,
        parent: bool,
        what: &str,
    ) -> Result<(), StageError> {
        let target = self.target.name();
        let now = work.store.refusals(target).await?;
        let (open, most) = match parent {
            true => (now.parents, self.exceptions_max.saturating_mul(PARENTS_FACTOR)),
            false => (now.refused, self.exceptions_max),
        };
        if open < most {
            return Ok(());
        }
        Err(StageError::Definite(anyhow!(
            "{target} has refused {open} deliveries that nobody has dealt with, and now: {what}. \
             Nothing more is delivered to it until there are fewer (exceptions_max = {}): see \
             `crossdock exceptions list --source {target}`",
            self.exceptions_max
        )))
    }

    /// Everything needed to decide: what was to be written, what is there, what had changed.
    async fn context(
        &self,
        work: &mut Work,
        owed: &Owed,
        code: &str,
        remedy: &str,
    ) -> Result<Json, StageError> {
        let delivery = &owed.delivery;
        let mut writes = Vec::new();
        for (at, write) in delivery.writes.iter().enumerate() {
            let current = match at < LOOKED_UP_MAX {
                // A row that can't be looked up is not worth more trouble.
                true => first(&mut work.targets)?.current(write).await.ok().flatten(),
                false => None,
            };
            writes.push(json!({
                "table": write.table.to_string(),
                "write": word(write.kind),
                "key": named(&write.key),
                "new": named(&write.columns),
                "current": current,
            }));
        }
        let changes = work.store.changes_before(&delivery.record, owed.owed_micros).await?;
        Ok(json!({
            "target": self.target.name(),
            "delivery": owed.seq,
            "event_id": delivery.event_id,
            "code": code,
            "remedy": remedy,
            "writes": writes,
            "changes": changes,
        }))
    }
}

/// How far a stream has come, by the target's own account.
async fn progress(work: &mut Work, stream: &str) -> Result<u64, StageError> {
    Ok(first(&mut work.targets)?.progress(stream).await?.map_or(0, |p| p.seq))
}

impl Parents {
    fn refused(&mut self, parent: bool) {
        self.waiting |= parent;
    }
}
