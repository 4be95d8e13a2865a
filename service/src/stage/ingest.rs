//! One step of `ingest`: source log → journal.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossdock_capture::{CaptureError, LogReader, Memory, Reader, SourceOptions, Start};
use crossdock_config::{OnGap, SnapshotMode};
use crossdock_model::{Block, Position, SnapshotPart, TableName};
use crossdock_state::checkpoints::saved::{load, memory_key, save, source_key, start_key};
use crossdock_state::journal::{BLOCKS_PER_SYNC, SnapshotFlag};
use crossdock_state::{
    BlockMeta, CheckpointError, Checkpoints, Journal, LocalJournal, SledCheckpoints,
    SourceCheckpoint,
};
use futures_util::FutureExt;

use super::StageError;
use super::start::{Known, Ordered, Plan, plan};
use crate::board::{SourceBoard, StageState, lock};
use crate::clock::now_micros;
use crate::crash_points::pass;
use crate::gaps::{self, Outcome, Policy};
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// Tables that a source is captured with; operators may add to it.
pub type TableList = Arc<Mutex<Vec<TableName>>>;

/// What `ingest` holds between its steps.
pub struct IngestStage {
    /// The source; its tables are those of `tables`.
    pub options: SourceOptions,
    /// Tables to capture.
    pub tables: TableList,
    /// Which rows are read that were there before.
    pub mode: SnapshotMode,
    /// What is done about a gap.
    pub on_gap: OnGap,
    /// Its journal.
    pub journal: Arc<LocalJournal>,
    /// Where its position is noted.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Where it says how it is.
    pub board: Arc<SourceBoard>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What this run knows beside its reader.
    pub run: Run,
}

/// What is known from the opening of the reader on.
#[derive(Default)]
pub struct Run {
    /// What the reader remembers, as it was saved last.
    saved: Memory,
    /// The start was ordered: forgotten once its first block is durable.
    ordered: bool,
    /// The last gap has halted the source: once a block is durable, it is none any more.
    halted: bool,
    /// Where the log must have gone beyond: it was begun anew.
    floor: Option<Position>,
}

/// What an append made durable.
pub struct Durable {
    seq: u64,
    /// Where reading goes on; `None` inside a transaction larger than a batch.
    position: Option<Position>,
    commit_micros: i64,
}

impl Stage for IngestStage {
    async fn run(&mut self) -> Result<Infallible, StageError> {
        match crate::pipeline::ingest(self).await {
            Err(StageError::Gap(gap)) => Err(self.meet(gap)),
            ended => ended,
        }
    }
}

impl IngestStage {
    /// Opens the log after the last durable block, or with a snapshot, or as it was ordered.
    pub async fn open_reader(&mut self) -> Result<Reader, StageError> {
        self.options.tables = lock(&self.tables).clone();
        let last = self.journal.last();
        let Plan { start, memory, .. } = tokio::task::block_in_place(|| self.prepare())?;
        if let Some((seq, meta)) = &last {
            self.board.journal_seq.store(*seq, Ordering::Relaxed);
            *lock(&self.board.durable) = Some(parse_position(&meta.position)?);
        }
        let Some(start) = start else {
            // Nothing follows a snapshot that was all that was wanted.
            self.board.stage.set(StageState::Finished, None);
            return std::future::pending().await;
        };
        tracing::info!(source = self.options.name, ?start, "reading");
        let state = match start {
            Start::Snapshot | Start::SnapshotOnly | Start::Resume(_) => StageState::Snapshot,
            Start::Now | Start::After(_) => StageState::Running,
        };
        self.run.floor = match start {
            Start::Now => lock(&self.board.durable).clone(),
            _ => None,
        };
        let reader = crossdock_capture::open(&self.options, start, memory).await?;
        self.board.stage.set(state, None);
        Ok(reader)
    }

    /// Plans the start, and cuts what the journal has that will be read again.
    fn prepare(&mut self) -> Result<Plan, StageError> {
        let name = &self.options.name;
        // An earlier run may have ended inside a transaction.
        self.journal.cut_transaction()?;
        let place = |(_, meta): (u64, BlockMeta)| parse_position(&meta.position);
        let ordered: Option<Ordered> = load(&*self.checkpoints, &start_key(name))?;
        let memory = match load(&*self.checkpoints, &memory_key(name)) {
            Err(error @ CheckpointError::Unreadable { .. }) => {
                tracing::warn!(source = name, %error, "what was remembered of the source is lost");
                None
            }
            found => found?,
        };
        let plan = plan(Known {
            mode: self.mode,
            tables: &self.options.tables,
            memory,
            last: self.journal.last().map(place).transpose()?,
            unfinished: self.journal.unfinished_snapshot().map(place).transpose()?,
            ordered: ordered.clone(),
        });
        if plan.cut_snapshot {
            self.journal.cut_snapshot()?;
        }
        save(&*self.checkpoints, &memory_key(name), &plan.memory)?;
        let gaps = gaps::list(&*self.checkpoints, name)?;
        self.board.set_gaps(&gaps);
        self.board.set_copies(&plan.memory);
        self.run = Run {
            saved: plan.memory.clone(),
            ordered: ordered.is_some(),
            halted: gaps.last().is_some_and(|gap| gap.outcome == Outcome::Halted),
            floor: None,
        };
        Ok(plan)
    }

    /// Records a gap, then does what the policy says.
    fn meet(&mut self, gap: anyhow::Error) -> StageError {
        let recorded = tokio::task::block_in_place(|| {
            let name = &self.options.name;
            let from = self.journal.last().map_or_else(String::new, |(_, meta)| meta.position);
            let place = (&*from, &*format!("{gap:#}"));
            let other = gap.downcast_ref().is_some_and(CaptureError::is_other_server);
            // What another server does not have must not be deleted unless a person says so.
            let policy = if other { Policy::Halt } else { Policy::from(self.on_gap) };
            let decided = gaps::record(&*self.checkpoints, name, place, policy, now_micros())?;
            if decided == Policy::Resync {
                save(&*self.checkpoints, &start_key(name), &Ordered::Resync)?;
            }
            self.board.set_gaps(&gaps::list(&*self.checkpoints, name)?);
            Ok::<_, CheckpointError>((policy, decided))
        });
        match recorded {
            Err(error) => error.into(),
            Ok((_, Policy::Resync)) => {
                StageError::Transient(gap.context("reading all tables again"))
            }
            Ok((Policy::Resync, Policy::Halt)) => StageError::Definite(gap.context(
                "the log was lost several times within an hour, so it is not read anew again",
            )),
            Ok((Policy::Halt, _)) => StageError::Definite(gap),
        }
    }

    /// Waits for a block, then takes what else is there already.
    pub async fn next_blocks(&mut self, reader: &mut Reader) -> Result<Vec<Block>, StageError> {
        let mut blocks = vec![reader.next().await?];
        while blocks.len() < BLOCKS_PER_SYNC {
            match reader.next().now_or_never() {
                Some(block) => blocks.push(block?),
                None => break,
            }
        }
        self.check_floor(&blocks)?;
        Ok(blocks)
    }

    /// A log that was begun anew must lie beyond what was read of the old one: what the store has
    /// is ordered by its places.
    fn check_floor(&mut self, blocks: &[Block]) -> Result<(), StageError> {
        let Some((floor, block)) = self.run.floor.take().zip(blocks.first()) else {
            return Ok(());
        };
        if block.end.compare(&floor).is_ge() {
            return Ok(());
        }
        let name = &self.options.name;
        Err(StageError::Definite(anyhow::anyhow!(
            "the log of source {name} now ends at {}, before {floor} which was read already: it \
             belongs to another server, and its changes can't be put in order with those that \
             were read; capture it under another source name",
            block.end
        )))
    }

    /// Appends blocks and makes them durable.
    pub fn append(&mut self, blocks: Vec<Block>) -> Result<Durable, StageError> {
        pass("ingest.before_append");
        let appended_micros = now_micros();
        let mut position = None;
        let mut commit_micros = 0;
        let seq = tokio::task::block_in_place(|| {
            for block in &blocks {
                if block.snapshot == SnapshotPart::First
                    && self.journal.unfinished_snapshot().is_some()
                {
                    // The reader could not continue it, and takes it anew.
                    self.journal.cut_snapshot()?;
                }
                self.journal.append(meta(block, appended_micros), &block.bytes)?;
            }
            pass("ingest.before_sync");
            self.journal.sync()
        })?;
        pass("ingest.after_sync");
        for block in blocks {
            for (table, op, count) in &block.counts {
                self.metrics.events(&self.options.name, table, *op, *count);
                self.board.events.fetch_add(*count, Ordering::Relaxed);
            }
            if block.snapshot == SnapshotPart::Last {
                tracing::info!(source = self.options.name, position = %block.end, "snapshot complete");
                let only = self.mode == SnapshotMode::Only;
                let state = if only { StageState::Finished } else { StageState::Running };
                self.board.stage.set(state, None);
            }
            commit_micros = block.commit_micros;
            position = block.boundary.then_some(block.end);
        }
        self.board.journal_seq.store(*self.journal.visible().borrow(), Ordering::Relaxed);
        Ok(Durable { seq, position, commit_micros })
    }

    /// Notes position and memory in sled. The position is a copy of what the journal says, kept
    /// for listing; the memory may be older than the journal, never newer.
    pub fn checkpoint(&mut self, reader: &Reader, durable: &Durable) -> Result<(), StageError> {
        let Some(position) = &durable.position else { return Ok(()) };
        let checkpoint = SourceCheckpoint {
            position: position.to_string(),
            seq: durable.seq,
            commit_micros: durable.commit_micros,
            saved_micros: now_micros(),
        };
        let memory = reader.memory();
        tokio::task::block_in_place(|| self.note(&checkpoint, memory))?;
        *lock(&self.board.durable) = Some(position.clone());
        pass("ingest.after_checkpoint");
        Ok(())
    }

    fn note(
        &mut self,
        checkpoint: &SourceCheckpoint,
        memory: &Memory,
    ) -> Result<(), CheckpointError> {
        let (store, name) = (&*self.checkpoints, &self.options.name);
        if self.run.saved == *memory {
            save(store, &source_key(name), checkpoint)?;
        } else {
            let (position, remembered) = (source_key(name), memory_key(name));
            let values = [encode(&position, checkpoint)?, encode(&remembered, memory)?];
            store.put_many(&[(&position, &values[0]), (&remembered, &values[1])])?;
            self.board.set_copies(memory);
            if gaps::is_resyncing(&self.run.saved) && !gaps::is_resyncing(memory) {
                gaps::resynced(store, name, now_micros())?;
                self.board.set_gaps(&gaps::list(store, name)?);
            }
            self.run.saved = memory.clone();
        }
        if std::mem::take(&mut self.run.halted) {
            gaps::recovered(store, name, now_micros())?;
            self.board.set_gaps(&gaps::list(store, name)?);
        }
        if std::mem::take(&mut self.run.ordered) {
            store.remove(&start_key(name))?;
        }
        Ok(())
    }

    /// Lets the server drop what is durable here.
    pub fn acknowledge(&self, reader: &mut Reader, durable: &Durable) {
        if let Some(position) = &durable.position {
            reader.acknowledge(position);
            pass("ingest.after_acknowledge");
        }
    }
}

fn encode(key: &str, value: &impl serde::Serialize) -> Result<Vec<u8>, CheckpointError> {
    let unreadable = |source| CheckpointError::Unreadable { key: key.to_string(), source };
    serde_json::to_vec(value).map_err(unreadable)
}

fn meta(block: &Block, appended_micros: i64) -> BlockMeta {
    let events: u64 = block.counts.iter().map(|(.., n)| n).sum();
    BlockMeta {
        position: block.end.to_string(),
        boundary: block.boundary,
        snapshot: match block.snapshot {
            SnapshotPart::Stream => SnapshotFlag::Stream,
            SnapshotPart::First => SnapshotFlag::First,
            SnapshotPart::Middle => SnapshotFlag::Middle,
            SnapshotPart::Last => SnapshotFlag::Last,
        },
        commit_micros: block.commit_micros,
        appended_micros,
        events: u32::try_from(events).unwrap_or(u32::MAX),
    }
}

fn parse_position(text: &str) -> Result<Position, StageError> {
    text.parse().map_err(|error| {
        StageError::Fatal(anyhow::Error::new(error).context("the journal's last position"))
    })
}
