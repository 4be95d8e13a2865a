//! One step of `ingest`: source log → journal.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossdock_capture::{LogReader, Memory, Reader, SourceOptions};
use crossdock_model::{Block, Position, SnapshotPart};
use crossdock_state::checkpoints::saved::{save, source_key};
use crossdock_state::journal::{BLOCKS_PER_SYNC, SnapshotFlag};
use crossdock_state::{BlockMeta, Journal, LocalJournal, SledCheckpoints, SourceCheckpoint};
use futures_util::FutureExt;

use super::StageError;
use crate::board::{SourceBoard, StageState, lock};
use crate::clock::now_micros;
use crate::metrics::Metrics;
use crate::supervisor::Stage;

/// What `ingest` holds between its steps.
pub struct IngestStage {
    /// The source.
    pub options: SourceOptions,
    /// Its journal.
    pub journal: Arc<LocalJournal>,
    /// Where its position is noted.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Where it says how it is.
    pub board: Arc<SourceBoard>,
    /// Counters.
    pub metrics: Arc<Metrics>,
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
        crate::pipeline::ingest(self).await
    }
}

impl IngestStage {
    /// Opens the log after the last durable block, or with a snapshot.
    pub async fn open_reader(&mut self) -> Result<Reader, StageError> {
        // An earlier run may have ended inside a transaction or a snapshot: it is read again.
        tokio::task::block_in_place(|| self.journal.cut_unfinished())?;
        let last = self.journal.last();
        let from = match &last {
            None => None,
            Some((_, meta)) => Some(parse_position(&meta.position)?),
        };
        let reader =
            crossdock_capture::open(&self.options, from.as_ref().into(), Memory::default()).await?;
        let state = if from.is_none() { StageState::Snapshot } else { StageState::Running };
        tracing::info!(
            source = self.options.name,
            from = from.as_ref().map_or("a snapshot".into(), ToString::to_string),
            "reading"
        );
        self.board.stage.set(state, None);
        if let Some((seq, _)) = last {
            self.board.journal_seq.store(seq, Ordering::Relaxed);
        }
        *lock(&self.board.durable) = from;
        Ok(reader)
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
        Ok(blocks)
    }

    /// Appends blocks and makes them durable.
    pub fn append(&mut self, blocks: Vec<Block>) -> Result<Durable, StageError> {
        let appended_micros = now_micros();
        let mut position = None;
        let mut commit_micros = 0;
        let seq = tokio::task::block_in_place(|| {
            for block in &blocks {
                self.journal.append(meta(block, appended_micros), &block.bytes)?;
            }
            self.journal.sync()
        })?;
        for block in blocks {
            for (table, op, count) in &block.counts {
                self.metrics.events(&self.options.name, table, *op, *count);
                self.board.events.fetch_add(*count, Ordering::Relaxed);
            }
            if block.snapshot == SnapshotPart::Last {
                tracing::info!(source = self.options.name, position = %block.end, "snapshot complete");
                self.board.stage.set(StageState::Running, None);
            }
            commit_micros = block.commit_micros;
            position = block.boundary.then_some(block.end);
        }
        self.board.journal_seq.store(*self.journal.visible().borrow(), Ordering::Relaxed);
        Ok(Durable { seq, position, commit_micros })
    }

    /// Notes the position in sled. It is a copy of what the journal says; kept for listing.
    pub fn checkpoint(&mut self, durable: &Durable) -> Result<(), StageError> {
        let Some(position) = &durable.position else { return Ok(()) };
        let checkpoint = SourceCheckpoint {
            position: position.to_string(),
            seq: durable.seq,
            commit_micros: durable.commit_micros,
            saved_micros: now_micros(),
        };
        let key = source_key(&self.options.name);
        tokio::task::block_in_place(|| save(&*self.checkpoints, &key, &checkpoint))?;
        *lock(&self.board.durable) = Some(position.clone());
        Ok(())
    }

    /// Lets the server drop what is durable here.
    pub fn acknowledge(&self, reader: &mut Reader, durable: &Durable) {
        if let Some(position) = &durable.position {
            reader.acknowledge(position);
        }
    }
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
