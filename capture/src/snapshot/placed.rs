//! Blocks of rows that were read beside the stream.

use std::sync::Arc;

use crossdock_model::{
    Block, BlockBuilder, ChangeEvent, Op, Position, RowImage, SnapshotPart, TableSchema, TxHeader,
    Value,
};

use crate::memory::now_micros;
use crate::{CopyMessage, MESSAGE_PREFIX};

/// Blocks of rows that go to one place in the stream.
pub(crate) struct Placed {
    builder: BlockBuilder,
    header: TxHeader,
    block_bytes_max: usize,
    part: SnapshotPart,
    blocks: Vec<Block>,
}

impl Placed {
    /// All rows are as they are at `position`.
    pub(crate) fn new(position: &Position, block_bytes_max: usize, snapshot_open: bool) -> Self {
        let header = TxHeader {
            id: TxHeader::BACKFILL.to_string(),
            commit: position.clone(),
            commit_micros: now_micros(),
            origin: None,
            snapshot: true,
        };
        let part = if snapshot_open { SnapshotPart::Middle } else { SnapshotPart::Stream };
        Self { builder: BlockBuilder::new(), header, block_bytes_max, part, blocks: Vec::new() }
    }

    fn open(&mut self) {
        if !self.builder.in_transaction() {
            self.builder.begin(&self.header, true);
        }
    }

    pub(crate) fn row(&mut self, schema: Arc<TableSchema>, row: Vec<Value<'static>>) {
        self.open();
        self.builder.push(&ChangeEvent {
            op: Op::Read,
            table: Some(schema),
            before: None,
            after: Some(RowImage::Full(row)),
            message: None,
            ordinal: 0,
        });
        if self.builder.len() >= self.block_bytes_max {
            self.cut();
        }
    }

    /// What happened to a table, for those who read the journal.
    pub(crate) fn message(&mut self, message: &CopyMessage) {
        self.open();
        let content = serde_json::to_vec(message).unwrap_or_default();
        self.builder.message(0, MESSAGE_PREFIX, &content);
    }

    fn cut(&mut self) {
        self.builder.end();
        self.blocks.push(self.builder.finish(self.header.commit.clone(), self.part));
    }

    pub(crate) fn finish(mut self) -> Vec<Block> {
        if self.builder.in_transaction() {
            self.cut();
        }
        self.blocks
    }

    /// A block without rows.
    pub(crate) fn empty(mut self) -> Block {
        let mut block = self.builder.finish(self.header.commit.clone(), self.part);
        block.commit_micros = self.header.commit_micros;
        block
    }
}
