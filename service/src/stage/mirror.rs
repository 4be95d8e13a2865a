//! One step of `mirror`: journal → target, tables as they are.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossdock_apply::target::AnyTarget;
use crossdock_apply::{ConnectOptions, Target, TargetBatch};
use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_model::{ChangeEvent, Op, RowImage, TableName, TableSchema};
use crossdock_state::checkpoints::saved::save;
use crossdock_state::{SledCheckpoints, StageCheckpoint};
use uuid::Uuid;

use super::StageError;
use super::journals::{Cursor, Journals};
use crate::board::{StageState, TargetBoard};
use crate::clock::now_micros;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// About as much of the journal goes into one transaction of the target.
const BATCH_BYTES: usize = 512 * 1024;

/// What `mirror` holds between its steps.
pub struct MirrorStage {
    /// Name of the mirror.
    pub mirror: String,
    /// Installation.
    pub name: String,
    /// Source.
    pub source: Name,
    /// Tables that are mirrored.
    pub tables: Vec<TableName>,
    /// Target.
    pub target: ConnectOptions,
    /// What it reads.
    pub journals: Journals,
    /// Where copies of its progress are noted.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Where it says how it is.
    pub board: Arc<TargetBoard>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Stage for MirrorStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        crate::pipeline::mirror(self).await
    }
}

impl MirrorStage {
    fn stream(&self) -> String {
        format!("{}/mirror/{}", self.name, self.mirror)
    }

    /// Connects to the target, which says how far it has come.
    pub async fn open_target(&mut self) -> Result<(AnyTarget, u64), StageError> {
        let mut target = AnyTarget::connect(&self.target, &self.name).await?;
        let done = target.progress(&self.stream()).await?.map_or(0, |p| p.seq);
        self.board.seq.store(done, Ordering::Relaxed);
        self.board.stage.set(StageState::Running, None);
        Ok((target, done))
    }

    /// Waits for whole transactions after block `done`.
    pub async fn next_batch(&mut self, done: u64) -> Result<TargetBatch, StageError> {
        let cursor = Cursor { source: self.source.clone(), seq: done };
        let runs = self.journals.next_runs(&[cursor], BATCH_BYTES).await?;
        let mut batch = TargetBatch { stream: self.stream(), upto: done, writes: Vec::new() };
        for run in runs {
            batch.upto = run.progress.seq;
            for (_, events) in &run.transactions {
                for event in events {
                    self.writes(event, &mut batch.writes)?;
                }
            }
        }
        Ok(batch)
    }

    fn writes(
        &self,
        event: &ChangeEvent,
        out: &mut Vec<(Uuid, RowWrite)>,
    ) -> Result<(), StageError> {
        let Some(table) = event.table.as_ref().filter(|t| self.tables.contains(&t.name)) else {
            return Ok(());
        };
        if event.op == Op::Truncate {
            return Err(StageError::Definite(anyhow::anyhow!(
                "mirror {}: {} was truncated, which a mirror does not repeat; truncate the target's \
                 table, then restart",
                self.mirror,
                table.name
            )));
        }
        let key = |image: &RowImage<'static>| columns(table, image, true);
        let old = event.before.as_ref().map(key).filter(|k| !k.is_empty());
        match (&event.after, old) {
            (Some(after), old) => {
                let new = key(after);
                if let Some(old) = old.filter(|old| *old != new) {
                    out.push(write(table, WriteKind::Delete, old, Vec::new()));
                }
                out.push(write(table, WriteKind::Upsert, new, columns(table, after, false)));
            }
            (None, Some(old)) => out.push(write(table, WriteKind::Delete, old, Vec::new())),
            (None, None) => {}
        }
        Ok(())
    }

    /// One transaction of the target.
    pub async fn apply(
        &mut self,
        target: &mut AnyTarget,
        batch: &TargetBatch,
    ) -> Result<(), StageError> {
        let rows = target.apply(batch).await?;
        self.metrics.delivered(&self.mirror, rows);
        Ok(())
    }

    /// Notes a copy of the progress in sled.
    pub fn checkpoint(&mut self, batch: &TargetBatch) -> Result<u64, StageError> {
        let checkpoint =
            StageCheckpoint { seq: batch.upto, commit_micros: 0, saved_micros: now_micros() };
        let key = format!("mirror/{}", self.mirror);
        tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        self.board.seq.store(batch.upto, Ordering::Relaxed);
        Ok(batch.upto)
    }
}

type Cells = Vec<(Name, crossdock_model::Value<'static>)>;

/// Key columns, or the others, that the image carries. What it does not carry stays as it is.
fn columns(table: &TableSchema, image: &RowImage<'static>, key: bool) -> Cells {
    let cells = table.columns.iter().enumerate().filter(|(_, c)| c.key.is_some() == key);
    cells.filter_map(|(i, c)| Some((c.name.clone(), image.get(i)?.clone()))).collect()
}

fn write(table: &TableSchema, kind: WriteKind, key: Cells, columns: Cells) -> (Uuid, RowWrite) {
    (Uuid::nil(), RowWrite { table: table.name.clone(), kind, key, columns })
}
