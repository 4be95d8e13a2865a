//! What is handed over: blocks, each at a place of its own in the order of reading.

use std::sync::Arc;

use crossdock_model::{
    Block, BlockBuilder, ChangeEvent, Op, Position, RowImage, SnapshotPart, TableSchema, TxHeader,
    Value,
};
use tokio::sync::mpsc::Sender;

use super::Parcel;
use crate::{CaptureError, CopyMessage, MESSAGE_PREFIX, TableCopy};

/// Why reading ended.
pub(super) enum Stop {
    /// Nobody listens any more.
    Gone,
    /// It can't go on.
    Failed(CaptureError),
}

impl From<CaptureError> for Stop {
    fn from(error: CaptureError) -> Self {
        Self::Failed(error)
    }
}

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What a round has found.
    Polled,
    /// All rows, by a snapshot.
    Snapshot,
    /// All rows, beside rounds.
    Backfill,
}

/// Hands blocks over.
pub(super) struct Output {
    blocks: Sender<Result<Parcel, CaptureError>>,
    block_bytes_max: usize,
    round: u64,
    step: u64,
}

impl Output {
    /// `round` and `step` are those of the last block of an earlier reader.
    pub(super) fn new(
        blocks: Sender<Result<Parcel, CaptureError>>,
        block_bytes_max: usize,
        (round, step): (u64, u64),
    ) -> Self {
        Self { blocks, block_bytes_max: block_bytes_max.max(1), round, step }
    }

    /// The last place that was given away.
    pub(super) fn position(&self) -> Position {
        Position::Poll { round: self.round, step: self.step }
    }

    /// The next place.
    pub(super) fn advance(&mut self) -> Position {
        self.step += 1;
        self.position()
    }

    /// All that was committed before `round` (microseconds since the Unix epoch) has been read. The
    /// next place says so, unless the last one did.
    pub(super) fn complete(&mut self, round: i64) -> Position {
        let round = u64::try_from(round).unwrap_or(0);
        if round <= self.round {
            return self.advance();
        }
        (self.round, self.step) = (round, 0);
        self.position()
    }

    /// Waits until nobody listens any more.
    pub(super) async fn closed(&self) {
        self.blocks.closed().await;
    }

    /// Hands over rows, in blocks that are transactions of their own, and with the last of them how
    /// the table stands then.
    pub(super) async fn rows(
        &mut self,
        (kind, part): (Kind, SnapshotPart),
        schema: &Arc<TableSchema>,
        rows: Vec<Vec<Value<'static>>>,
        commit_micros: i64,
        news: TableCopy,
    ) -> Result<(), Stop> {
        let mut builder = BlockBuilder::new();
        let mut ordinal = 0;
        for row in rows {
            if !builder.in_transaction() {
                ordinal = 0;
                builder.begin(&header(kind, self.advance(), commit_micros), true);
            }
            builder.push(&ChangeEvent {
                op: if kind == Kind::Polled { Op::Update } else { Op::Read },
                table: Some(schema.clone()),
                before: None,
                after: Some(RowImage::Full(row)),
                message: None,
                // Rows of snapshots come before what is polled at the same place.
                ordinal: if kind == Kind::Polled { ordinal } else { 0 },
            });
            ordinal += 1;
            if builder.len() >= self.block_bytes_max {
                builder.end();
                let block = builder.finish(self.position(), part);
                self.send(block, Vec::new()).await?;
            }
        }
        if !builder.in_transaction() {
            let at = self.advance();
            return self.empty(part, at, commit_micros, vec![news]).await;
        }
        builder.end();
        let block = builder.finish(self.position(), part);
        self.send(block, vec![news]).await
    }

    /// A block without rows.
    pub(super) async fn empty(
        &self,
        part: SnapshotPart,
        at: Position,
        commit_micros: i64,
        news: Vec<TableCopy>,
    ) -> Result<(), Stop> {
        let mut block = BlockBuilder::new().finish(at, part);
        block.commit_micros = commit_micros;
        self.send(block, news).await
    }

    /// What happened to a table, for those who read the journal.
    pub(super) async fn message(
        &mut self,
        part: SnapshotPart,
        message: &CopyMessage,
        commit_micros: i64,
        news: TableCopy,
    ) -> Result<(), Stop> {
        let mut builder = BlockBuilder::new();
        builder.begin(&header(Kind::Backfill, self.advance(), commit_micros), true);
        let content = serde_json::to_vec(message).unwrap_or_default();
        builder.message(0, MESSAGE_PREFIX, &content);
        builder.end();
        let block = builder.finish(self.position(), part);
        self.send(block, vec![news]).await
    }

    async fn send(&self, block: Block, news: Vec<TableCopy>) -> Result<(), Stop> {
        self.blocks.send(Ok((block, news))).await.map_err(|_| Stop::Gone)
    }
}

fn header(kind: Kind, commit: Position, commit_micros: i64) -> TxHeader {
    let id = match kind {
        Kind::Polled => TxHeader::POLL,
        Kind::Snapshot => "snapshot",
        Kind::Backfill => TxHeader::BACKFILL,
    };
    TxHeader {
        id: id.to_string(),
        commit,
        commit_micros,
        origin: None,
        snapshot: kind != Kind::Polled,
    }
}
