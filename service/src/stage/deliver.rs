//! One step of `deliver`: canonical store → target.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossdock_apply::target::AnyTarget;
use crossdock_apply::{CanonicalStore, ConnectOptions, PostgresStore, Target, TargetBatch};
use crossdock_model::canonical::Delivery;
use crossdock_state::checkpoints::saved::{save, target_key};
use crossdock_state::{SledCheckpoints, StageCheckpoint};
use tokio::sync::watch;

use super::StageError;
use crate::board::{StageState, TargetBoard};
use crate::clock::now_micros;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// Looks into the store this often even when nobody said that there is something new.
const POLL: Duration = Duration::from_secs(2);

/// What `deliver` holds between its steps.
pub struct DeliverStage {
    /// Installation.
    pub name: String,
    /// Target.
    pub target: ConnectOptions,
    /// Deliveries in one transaction of the target, at most.
    pub batch_rows: usize,
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
    /// Connects to both ends; the target says how far it has come.
    pub async fn open_target(&mut self) -> Result<(PostgresStore, AnyTarget, u64), StageError> {
        let owed = PostgresStore::open_reader(&self.store).await?;
        let mut target = AnyTarget::connect(&self.target, &self.name).await?;
        let progress = target.progress(&stream_name(&self.name)).await?;
        let done = progress.map_or(0, |p| p.seq);
        self.board.seq.store(done, Ordering::Relaxed);
        self.board.stage.set(StageState::Running, None);
        Ok((owed, target, done))
    }

    /// Waits for deliveries after `done`.
    pub async fn next_owed(
        &mut self,
        owed: &mut PostgresStore,
        done: u64,
    ) -> Result<TargetBatch, StageError> {
        loop {
            self.committed.mark_unchanged();
            let deliveries = owed.deliveries(&self.target.name, done, self.batch_rows).await?;
            self.board.pending.store(deliveries.len() as u64, Ordering::Relaxed);
            if let Some(batch) = self.batch(deliveries) {
                return Ok(batch);
            }
            // Either there is news, or it is time to look anyway; both are the same to us.
            let _ = tokio::time::timeout(POLL, self.committed.changed()).await;
        }
    }

    fn batch(&self, deliveries: Vec<(u64, Delivery)>) -> Option<TargetBatch> {
        let upto = deliveries.last()?.0;
        let mut writes = Vec::new();
        for (_, delivery) in deliveries {
            writes.extend(delivery.writes.into_iter().map(|write| (delivery.event_id, write)));
        }
        Some(TargetBatch { stream: stream_name(&self.name), upto, writes })
    }

    /// One transaction of the target: the writes, the progress, and the mark that says "ours".
    pub async fn apply(
        &mut self,
        target: &mut AnyTarget,
        batch: &TargetBatch,
    ) -> Result<(), StageError> {
        let rows = target.apply(batch).await?;
        self.metrics.delivered(&self.target.name, rows);
        Ok(())
    }

    /// Notes a copy of the progress in sled.
    pub fn checkpoint(&mut self, batch: &TargetBatch) -> Result<u64, StageError> {
        let checkpoint =
            StageCheckpoint { seq: batch.upto, commit_micros: 0, saved_micros: now_micros() };
        let key = target_key(&self.target.name);
        tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        self.board.seq.store(batch.upto, Ordering::Relaxed);
        Ok(batch.upto)
    }
}
