//! Several connections that see one state of a database read its tables together: each takes one
//! piece of work after the other, in a thread of its own.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossdock_model::{BlockBuilder, SnapshotPart, TableName, TxHeader};
use tokio::sync::mpsc::Sender;

use super::{News, Parcel, Throttle};
use crate::{CaptureError, SourceOptions};

/// More connections than this don't make a snapshot faster.
pub(crate) const WORKERS_MAX: usize = 16;
/// How long a throttled worker sleeps at one time: it has to notice when it is to end.
const NAP: Duration = Duration::from_millis(50);

/// Ends all who read together.
pub(crate) trait Halt: Sync {
    /// One has failed: the others are to end.
    fn halt(&self);
    /// Whether to end.
    fn is_halted(&self) -> bool;
}

/// A connection that reads.
pub(crate) trait Hand<W, P>: Send {
    /// Reads one piece, and hands its rows over; none of them stays in `builder`.
    fn read(
        &mut self,
        crew: &Crew<'_, W, P>,
        builder: &mut BlockBuilder,
        work: W,
    ) -> Result<(), CaptureError>;

    /// Ends its transaction.
    fn end(&mut self) -> Result<(), CaptureError>;
}

/// Those who read one snapshot, and what they share.
pub(crate) struct Crew<'c, W, P> {
    blocks: &'c Sender<Result<Parcel<P>, CaptureError>>,
    halt: &'c dyn Halt,
    /// The header of every block.
    pub(crate) header: TxHeader,
    /// A block with so many bytes is handed over.
    pub(crate) block_bytes_max: usize,
    work: Mutex<VecDeque<W>>,
    throttle: Throttle,
    failure: Mutex<Option<CaptureError>>,
}

impl<'c, W: Send, P: Send> Crew<'c, W, P> {
    /// For what is to be read, in this order.
    pub(crate) fn new(
        options: &SourceOptions,
        blocks: &'c Sender<Result<Parcel<P>, CaptureError>>,
        halt: &'c dyn Halt,
        header: TxHeader,
        work: VecDeque<W>,
    ) -> Self {
        Self {
            blocks,
            halt,
            header,
            block_bytes_max: options.block_bytes_max.max(1),
            work: Mutex::new(work),
            throttle: Throttle::new(options.snapshot.rows_per_second),
            failure: Mutex::new(None),
        }
    }

    /// Reads everything. Returns when all have ended.
    ///
    /// # Errors
    ///
    /// The first one, which is the cause of those that follow.
    pub(crate) fn read(&self, hands: Vec<impl Hand<W, P>>) -> Result<(), CaptureError> {
        std::thread::scope(|scope| {
            for mut hand in hands {
                scope.spawn(move || {
                    if let Err(error) = self.run(&mut hand) {
                        self.fail(error);
                    }
                });
            }
        });
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn fail(&self, error: CaptureError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.halt.halt();
    }

    fn run(&self, hand: &mut impl Hand<W, P>) -> Result<(), CaptureError> {
        let mut builder = BlockBuilder::new();
        loop {
            let next = self.work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(work) = next else { break };
            hand.read(self, &mut builder, work)?;
        }
        hand.end()
    }

    /// Hands over the rows in `builder`, and rests for as long as they ought to have taken.
    pub(crate) fn hand_over(
        &self,
        builder: &mut BlockBuilder,
        table: &TableName,
        rows: u64,
        part: Option<P>,
    ) -> Result<(), CaptureError> {
        let news = News::Rows { table: table.clone(), rows, part };
        self.send(builder, SnapshotPart::Middle, news)?;
        let mut wait = self.throttle.take(rows, Instant::now());
        while !wait.is_zero() {
            if self.halt.is_halted() {
                return Err(CaptureError::stopped());
            }
            std::thread::sleep(wait.min(NAP));
            wait = wait.saturating_sub(NAP);
        }
        Ok(())
    }

    /// Hands over the first or last block, which has no rows.
    pub(crate) fn edge(&self, part: SnapshotPart, news: News<P>) -> Result<(), CaptureError> {
        self.send(&mut BlockBuilder::new(), part, news)
    }

    fn send(
        &self,
        builder: &mut BlockBuilder,
        part: SnapshotPart,
        news: News<P>,
    ) -> Result<(), CaptureError> {
        if builder.in_transaction() {
            builder.end();
        }
        let mut block = builder.finish(self.header.commit.clone(), part);
        block.commit_micros = self.header.commit_micros;
        self.blocks.blocking_send(Ok(Parcel { block, news })).map_err(|_| CaptureError::stopped())
    }
}
