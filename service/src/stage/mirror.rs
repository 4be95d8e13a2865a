//! One step of `mirror`: journal → target, tables as they are.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossdock_apply::target::{AnyTarget, Seen};
use crossdock_apply::{ConnectOptions, Target, TargetBatch};
use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_model::{ChangeEvent, Op, Position, RowImage, TableName, TableSchema, block};
use crossdock_state::checkpoints::saved::save;
use crossdock_state::{Journal, SledCheckpoints, StageCheckpoint};
use uuid::Uuid;

use super::StageError;
use super::journals::{Cursor, Journals, Lone, Resynced};
use crate::board::{StageState, TargetBoard};
use crate::clock::now_micros;
use crate::crash_points::pass;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// About as much of the journal goes into one transaction of the target; a larger transaction of the
/// source is applied in pieces of this size, within one transaction of the target.
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
    /// The last batch did not end its transaction.
    pub unfinished: bool,
}

/// What one transaction of the target does, or a piece of it.
pub struct MirrorBatch {
    write: TargetBatch,
    /// Tables that were read again after a gap.
    resynced: Vec<Resynced>,
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
        self.unfinished = false;
        self.board.seq.store(done, Ordering::Relaxed);
        self.board.stage.set(StageState::Running, None);
        Ok((target, done))
    }

    /// Waits for transactions after block `done`; the last one may go on after them.
    pub async fn next_batch(&mut self, done: u64) -> Result<MirrorBatch, StageError> {
        let mut cursor = Cursor::new(&self.source, done);
        let write = TargetBatch { stream: self.stream(), upto: done, ..TargetBatch::default() };
        let mut batch = MirrorBatch { write, resynced: Vec::new() };
        let mut lone = Lone::default();
        loop {
            let cursors = [cursor.clone()];
            for run in self.journals.next_runs(&cursors, BATCH_BYTES, BATCH_BYTES).await? {
                batch.write.upto = run.progress.seq;
                // Blocks in which nothing is end no transaction.
                let nothing = run.transactions.is_empty();
                batch.write.more = run.open || (nothing && (batch.write.more || self.unfinished));
                for (_, events) in &run.transactions {
                    for event in events {
                        self.writes(event, &mut batch.write.writes)?;
                    }
                }
                batch.resynced.extend(run.resynced);
            }
            batch.resynced.retain(|resynced| self.tables.contains(&resynced.table));
            // What has been begun goes on with the next batch, even where there is nothing to write.
            let content = !batch.write.writes.is_empty() || !batch.resynced.is_empty();
            let has_content = content || batch.write.more || self.unfinished;
            if !lone.may_wait(has_content, Instant::now()) {
                return Ok(batch);
            }
            cursor.seq = batch.write.upto;
        }
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
        batch: &MirrorBatch,
    ) -> Result<(), StageError> {
        for (at, resynced) in batch.resynced.iter().enumerate() {
            self.delete_missing(target, at, resynced, batch.write.upto).await?;
        }
        pass("mirror.before_apply");
        let rows = target.apply(&batch.write).await?;
        pass("mirror.after_apply");
        self.metrics.delivered(&self.mirror, rows.unwrap_or(0));
        Ok(())
    }

    /// After a table was read again: deletes the rows that the journal has not seen since.
    async fn delete_missing(
        &self,
        target: &mut AnyTarget,
        at: usize,
        resynced: &Resynced,
        upto: u64,
    ) -> Result<(), StageError> {
        let seen = self.note_seen(target, at, resynced, upto).await?;
        let rows = target.delete_others(at, &seen).await?;
        let (mirror, table) = (&self.mirror, &seen.table);
        tracing::info!(mirror, %table, rows, "deleted what a resync did not find");
        Ok(())
    }

    /// Tells the target every key of a table that the journal has from a place to a block.
    async fn note_seen(
        &self,
        target: &mut AnyTarget,
        at: usize,
        resynced: &Resynced,
        upto: u64,
    ) -> Result<Seen, StageError> {
        let mut seen = Seen { table: resynced.table.clone(), key: Vec::new() };
        let Some(journal) = self.journals.get(&self.source) else { return Ok(seen) };
        let mut next = tokio::task::block_in_place(|| {
            journal.find_position(|meta| {
                let place = meta.position.parse::<Position>();
                place.map_or(std::cmp::Ordering::Less, |place| place.compare(&resynced.since))
            })
        })?
        .unwrap_or(upto);
        while next <= upto {
            let entries = tokio::task::block_in_place(|| journal.read(next, BATCH_BYTES))?;
            let Some(last) = entries.last().map(|entry| entry.seq) else { break };
            let mut keys = Vec::new();
            for entry in entries.iter().filter(|entry| entry.seq <= upto) {
                for event in block::decode(&entry.bytes)?.iter().flat_map(|f| &f.events) {
                    let Some(cells) = key_of(event, &resynced.table) else { continue };
                    if seen.key.is_empty() {
                        seen.key = cells.iter().map(|(name, _)| name.clone()).collect();
                        target.begin_seen(at, &seen).await?;
                    }
                    keys.push(cells.into_iter().map(|(_, value)| value).collect());
                }
            }
            target.note_seen(at, &seen, &keys).await?;
            next = last + 1;
        }
        Ok(seen)
    }

    /// Notes a copy of the progress in sled. What is not the end of a transaction is none.
    pub fn checkpoint(&mut self, batch: &MirrorBatch) -> Result<u64, StageError> {
        let batch = &batch.write;
        self.unfinished = batch.more;
        if batch.more {
            return Ok(batch.upto);
        }
        let checkpoint =
            StageCheckpoint { seq: batch.upto, commit_micros: 0, saved_micros: now_micros() };
        let key = format!("mirror/{}", self.mirror);
        tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        self.board.seq.store(batch.upto, Ordering::Relaxed);
        Ok(batch.upto)
    }
}

/// The key of a table's row after a change.
fn key_of(event: &ChangeEvent, table: &TableName) -> Option<Cells> {
    let schema = event.table.as_ref().filter(|schema| schema.name == *table)?;
    Some(columns(schema, event.after.as_ref()?, true)).filter(|key| !key.is_empty())
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
