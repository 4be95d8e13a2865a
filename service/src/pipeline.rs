//! The data's way through Crossdock, whole:
//!
//! ```text
//!  source log ─ ingest ─▶ JOURNAL ─ integrate ─▶ CANONICAL STORE ─ deliver ─▶ targets
//!                            └────────────── mirror ──────────────────────────▶
//! ```
//! Every loop has one shape: read → pure transformation → commit together with its own progress →
//! checkpoint. They share only durable things, so a slow or dead target never holds a source's
//! log, and recovery is the only start-up path: each loop begins by asking how far it had come.
//!
//! Retry is the supervisor's; batching, metrics and waiting live behind the calls made here.

use std::convert::Infallible;

use crate::stage::{DeliverStage, IngestStage, IntegrateStage, MirrorStage, Next, StageError};

/// Source log → journal. Acknowledged only what is durable (I1).
pub async fn ingest(stage: &mut IngestStage) -> Result<Infallible, StageError> {
    let mut reader = stage.open_reader().await?;
    loop {
        let blocks = stage.next_blocks(&mut reader).await?;
        let durable = stage.append(blocks)?;
        stage.checkpoint(&reader, &durable)?;
        stage.acknowledge(&mut reader, &durable);
    }
}

/// Journal → canonical store. What is committed includes how far it has come (I2); transactions
/// become visible whole and in order (I3). A batch is judged while the one before is committed.
pub async fn integrate(stage: &mut IntegrateStage) -> Result<Infallible, StageError> {
    let (mut store, mut reading) = stage.open_store().await?;
    loop {
        match stage.next_batch(&mut store, &mut reading).await? {
            Next::Batch(mut batch) => {
                let outcome = stage.judge(&mut store, &mut batch).await?;
                stage.commit(&mut store, outcome, *batch).await?;
            }
            // The same in pieces, within one transaction of the store.
            Next::Large(run) => stage.integrate_large(&mut store, &mut reading, run).await?,
        }
    }
}

/// Canonical store → target, at the target's own pace.
pub async fn deliver(stage: &mut DeliverStage) -> Result<Infallible, StageError> {
    let mut work = stage.open_target().await?;
    loop {
        let batch = stage.next_owed(&mut work).await?;
        let done = stage.apply(&mut work, &batch).await?;
        stage.checkpoint(done)?;
    }
}

/// Journal → target, tables as they are.
pub async fn mirror(stage: &mut MirrorStage) -> Result<Infallible, StageError> {
    let (mut target, mut done) = stage.open_target().await?;
    loop {
        let batch = stage.next_batch(done).await?;
        stage.apply(&mut target, &batch).await?;
        done = stage.checkpoint(&batch)?;
    }
}
