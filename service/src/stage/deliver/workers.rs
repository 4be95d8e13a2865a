//! Workers: connections to one target over which the records of a lane are divided.
//!
//! Deliveries are still read, put in order, held back and set aside by one loop. Only the writing
//! of a round is divided: each worker writes what is about its own records, in order, in one
//! transaction with a progress row of its own. The next round begins when all have ended. What a
//! quicker worker has made of a round that another one failed is left out when it is read again.

use std::time::Instant;

use crossdock_apply::store::Owed;
use crossdock_apply::target::AnyTarget;
use crossdock_apply::{ApplyError, Target, TargetBatch};
use crossdock_model::canonical::RecordKey;
use futures_util::future::join_all;

use super::batch::batch;
use super::lanes::Lane;
use super::{Batch, DeliverStage, IDLE_NOTED_EVERY, Work};
use crate::crash_points::pass_of;
use crate::stage::StageError;

/// A worker that has nothing to do says in the target how far it is when it was so far behind.
const UNNOTED_MAX: u64 = 10_000;

/// What one worker writes.
pub(super) struct Part {
    pub worker: usize,
    pub write: TargetBatch,
    pub owed: Vec<Owed>,
}

/// Names of the streams of a lane: its own, or one for each of several workers.
pub(super) fn streams(lane: &str, workers: usize) -> Vec<String> {
    match workers {
        0 | 1 => vec![lane.to_string()],
        many => (1..=many).map(|worker| format!("{lane}~{worker}of{many}")).collect(),
    }
}

/// The worker that a record is for: the same in every version of Crossdock, by the 64-bit hash
/// FNV-1a.
pub(super) fn worker_of(record: &RecordKey, workers: usize) -> usize {
    let bytes = record.entity.bytes().chain([0]).chain(record.key.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits alone are weak where keys differ in their last digit.
    let hash = hash ^ (hash >> 32);
    usize::try_from(hash % workers.max(1) as u64).unwrap_or(0)
}

/// Divides what is to be made up to a number, which every worker has then reached.
pub(super) fn divided(lane: &Lane, made: Vec<Owed>, upto: u64) -> Vec<Part> {
    let workers = lane.streams.len();
    let mut shares: Vec<Vec<Owed>> = (0..workers).map(|_| Vec::new()).collect();
    for owed in made {
        if let Some(share) = shares.get_mut(worker_of(&owed.delivery.record, workers)) {
            share.push(owed);
        }
    }
    let part = |(worker, owed): (usize, Vec<Owed>)| {
        let stream = lane.streams.get(worker).cloned().unwrap_or_default();
        let unnoted = lane.noted.get(worker).is_none_or(|noted| noted + UNNOTED_MAX < upto);
        let write = batch(stream, upto, &owed);
        (workers == 1 || !owed.is_empty() || unnoted).then_some(Part { worker, write, owed })
    };
    shares.into_iter().enumerate().filter_map(part).collect()
}

impl DeliverStage {
    /// Connects those workers that are missing.
    async fn connect_workers(&self, work: &mut Work) -> Result<(), StageError> {
        while work.targets.len() < work.lanes.workers {
            let more = AnyTarget::open(&self.target, &self.name, &self.store).await?;
            work.targets.push(more);
        }
        Ok(())
    }

    /// Every worker writes its part, in a transaction of its own, at the same time.
    pub(super) async fn apply_parts(
        &self,
        work: &mut Work,
        parts: &[Part],
    ) -> Result<Vec<Result<Option<u64>, ApplyError>>, StageError> {
        self.connect_workers(work).await?;
        pass_of("deliver.before_apply", self.target.name());
        let of = |(worker, target)| {
            let part = parts.iter().find(|part| part.worker == worker)?;
            Some(async move { AnyTarget::apply(target, &part.write).await })
        };
        let applied = join_all(work.targets.iter_mut().enumerate().filter_map(of)).await;
        pass_of("deliver.after_apply", self.target.name());
        Ok(applied)
    }

    /// Lanes and workers without work say in the target how far they have looked, so that the
    /// next start need not look again.
    pub(super) async fn note_idle(&self, work: &mut Work) -> Result<(), StageError> {
        if work.noted.elapsed() < IDLE_NOTED_EVERY {
            return Ok(());
        }
        work.noted = Instant::now();
        for lane in &mut work.lanes.all {
            let upto = lane.at();
            for (worker, stream) in lane.streams.clone().into_iter().enumerate() {
                if lane.noted.get(worker).is_some_and(|noted| *noted < upto)
                    && let Some(target) = work.targets.first_mut()
                {
                    let nothing = TargetBatch { stream, upto, ..TargetBatch::default() };
                    target.apply(&nothing).await?;
                    lane.noted(worker, upto);
                }
            }
        }
        Ok(())
    }

    /// Notes how far each worker has come. Returns the first failure.
    pub(super) fn note_made(
        &self,
        work: &mut Work,
        batch: &Batch,
        applied: Vec<Result<Option<u64>, ApplyError>>,
    ) -> Outcome {
        let mut outcome = Outcome { rows: 0, made: Vec::new(), failed: None };
        let lane = batch.lane.and_then(|at| work.lanes.all.get_mut(at));
        let mut ended = Vec::new();
        for (part, applied) in batch.parts.iter().zip(applied) {
            match applied {
                Ok(rows) => {
                    outcome.rows += rows.unwrap_or(0);
                    ended.push(part.worker);
                    outcome.made.push(part.worker);
                }
                // One that is refused will be met again; anything else comes first.
                Err(error) => match outcome.failed {
                    Some((_, ref first)) if !first.is_refused() || error.is_refused() => {}
                    _ => outcome.failed = Some((part.worker, error)),
                },
            }
        }
        let Some(lane) = lane else { return outcome };
        for worker in 0..lane.streams.len() {
            match batch.parts.iter().any(|part| part.worker == worker) {
                true if ended.contains(&worker) => lane.noted(worker, batch.upto),
                true => {}
                // There was nothing for it.
                false => lane.made(worker, batch.upto),
            }
        }
        outcome
    }
}

/// What came of a round.
pub(super) struct Outcome {
    /// Rows written.
    pub rows: u64,
    /// Workers that have made their part.
    pub made: Vec<usize>,
    /// A worker that has not, and why.
    pub failed: Option<(usize, ApplyError)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_one_worker_for_ever_and_all_have_some() {
        let key = |no: u32| RecordKey { entity: "parcel".into(), key: format!("par:{no}").into() };
        // Progress that is on record was made under these: they must never change.
        let first: Vec<usize> = (0..8).map(|no| worker_of(&key(no), 4)).collect();
        assert_eq!(first, [2, 1, 0, 3, 2, 1, 0, 3]);
        let mut had = [0; 4];
        (0..1_000).for_each(|no| had[worker_of(&key(no), 4)] += 1);
        assert!(had.iter().all(|had| *had > 150), "{had:?}");
        assert_eq!(worker_of(&key(7), 1), 0);
    }

    #[test]
    fn streams_say_how_many_there_are() {
        assert_eq!(streams("a/deliver", 1), ["a/deliver"]);
        assert_eq!(streams("a/deliver/bulk", 2), ["a/deliver/bulk~1of2", "a/deliver/bulk~2of2"]);
    }
}
