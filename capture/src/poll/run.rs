//! What is read when: the snapshot, then rounds, and beside them all rows now and then.

use std::time::{Duration, Instant};

use crossdock_model::{Position, SnapshotPart};
use tokio::sync::mpsc::Sender;

use super::link::Link;
use super::output::{Output, Stop};
use super::state::micros;
use super::table::Table;
use super::{Parcel, polled};
use crate::memory::now_micros;
use crate::snapshot::Throttle;
use crate::{CaptureError, CopyState, Memory, Purpose, SourceOptions, Start, TableCopy};

/// What waits for the wall clock is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads one source.
pub(super) struct Run {
    pub(super) options: SourceOptions,
    pub(super) link: Link,
    pub(super) out: Output,
    pub(super) tables: Vec<Table>,
    /// A snapshot is being read.
    pub(super) snapshot_open: bool,
    pub(super) throttle: Throttle,
    /// When the next page of a reading of all rows may be read.
    pub(super) paid_until: Instant,
}

impl Run {
    /// Prepares reading; nothing has been asked of the tables yet.
    pub(super) fn new(
        options: SourceOptions,
        link: Link,
        blocks: Sender<Result<Parcel, CaptureError>>,
        start: &Start,
        memory: &Memory,
    ) -> Result<Self, CaptureError> {
        let now = u64::try_from(now_micros()).unwrap_or(0);
        let place = match start {
            Start::Snapshot | Start::SnapshotOnly | Start::Now => (now, 0),
            Start::After(Position::Poll { round, step })
            | Start::Resume(Position::Poll { round, step }) => (*round, *step),
            Start::After(other) | Start::Resume(other) => {
                return Err(CaptureError::definite(
                    format!("source {}: {other} is no place of a polled source", options.name),
                    "a source that is polled from now on, or no more, needs another name: what the \
                     journal and the store have of it is ordered by its log",
                ));
            }
        };
        let anew = match start {
            Start::Snapshot | Start::SnapshotOnly => true,
            Start::Resume(_) => !memory.tables.iter().any(|c| c.purpose == Purpose::Initial),
            Start::Now | Start::After(_) => false,
        };
        let table = |settings: &crate::PollTable| {
            let name = &settings.table;
            let known = memory.table(name).filter(|_| !anew).cloned();
            let purpose = if anew { Purpose::Initial } else { Purpose::Added };
            let copy = known.unwrap_or_else(|| TableCopy::new(name.clone(), purpose));
            Table::new(settings.clone(), copy)
        };
        let tables = polled(&options).map(table).collect();
        Ok(Self {
            out: Output::new(blocks, options.block_bytes_max, place),
            throttle: Throttle::new(options.snapshot.rows_per_second),
            snapshot_open: anew || matches!(start, Start::Resume(_)),
            paid_until: Instant::now(),
            options,
            link,
            tables,
        })
    }

    /// Reads until nobody listens any more.
    pub(super) async fn run(&mut self, start: Start) -> Result<(), Stop> {
        self.begin(&start).await?;
        loop {
            let mut read = false;
            if !self.snapshot_open {
                for at in 0..self.tables.len() {
                    if self.tables.get(at).is_some_and(|table| table.due <= Instant::now()) {
                        self.round(at).await?;
                        read = true;
                    }
                }
                self.order_reconciles();
            }
            if let Some(at) = self.next_whole() {
                self.whole(at).await?;
                read = true;
            }
            if self.snapshot_open && !self.tables.iter().any(is_of_snapshot) {
                self.snapshot_open = false;
                let (at, now) = (self.out.advance(), self.link.now_micros().await?);
                self.out.empty(SnapshotPart::Last, at, now, Vec::new()).await?;
                if start == Start::SnapshotOnly {
                    self.out.closed().await;
                    return Err(Stop::Gone);
                }
            }
            if !read {
                tokio::time::sleep(self.pause()).await;
            }
        }
    }

    /// Says that a snapshot begins, and notes where cursors end.
    async fn begin(&mut self, start: &Start) -> Result<(), Stop> {
        let lost = matches!(start, Start::After(_));
        for table in &mut self.tables {
            if !table.state.marks.is_empty() {
                continue;
            }
            // What was handed over of it is not known any more.
            if lost && table.copy.state == CopyState::Done {
                table.copy = TableCopy::new(table.copy.table.clone(), Purpose::Resync);
            }
            // Without a snapshot the first reconcile has its time.
            if *start == Start::Now && table.copy.state == CopyState::Done {
                table.copy.finished_micros = now_micros();
            }
            let layout = table.layout(&self.options, &mut self.link, true).await?;
            let name = &table.settings.table;
            let cursor = self.link.greatest(name, &layout.cursor).await?;
            table.state.mark(now_micros(), cursor.as_deref(), table.settings.overlap);
        }
        let part = match start {
            Start::Snapshot | Start::SnapshotOnly => SnapshotPart::First,
            Start::Resume(_) if self.tables.iter().all(|table| table.copy.rows == 0) => {
                SnapshotPart::First
            }
            Start::Resume(_) => SnapshotPart::Middle,
            Start::Now | Start::After(_) => SnapshotPart::Stream,
        };
        let news = self.tables.iter().map(Table::news).collect();
        let at = match start {
            Start::After(_) | Start::Resume(_) => self.out.advance(),
            _ => self.out.position(),
        };
        let now = self.link.now_micros().await?;
        self.out.empty(part, at, now, news).await
    }

    /// Which part of a snapshot blocks are now.
    pub(super) fn part(&self) -> SnapshotPart {
        if self.snapshot_open { SnapshotPart::Middle } else { SnapshotPart::Stream }
    }

    /// All rows of a table are read again when it is time.
    fn order_reconciles(&mut self) {
        let now = now_micros();
        for table in &mut self.tables {
            let Some(interval) = table.settings.reconcile else { continue };
            let copy = &table.copy;
            let rests =
                matches!(copy.state, CopyState::Done | CopyState::Cancelled | CopyState::Failed(_));
            let last = copy.finished_micros.max(copy.started_micros);
            if rests && now >= last.saturating_add(micros(interval)) {
                tracing::info!(source = self.options.name, table = %copy.table, "reconcile begins");
                table.copy = TableCopy::new(copy.table.clone(), Purpose::Resync);
                table.state.whole_after = None;
            }
        }
    }

    /// The table whose rows are all to be read next.
    fn next_whole(&self) -> Option<usize> {
        if self.paid_until > Instant::now() {
            return None;
        }
        let now = now_micros();
        self.tables.iter().position(|table| {
            let ours = !self.snapshot_open || is_of_snapshot(table);
            let begins = table.state.whole_begins_micros(table.settings.overlap);
            ours && table.is_pending() && begins <= now
        })
    }

    /// How long nothing is to be done.
    fn pause(&self) -> Duration {
        let now = now_micros();
        let mut pause = LOOK_EVERY;
        for table in &self.tables {
            if !self.snapshot_open {
                pause = pause.min(table.due.saturating_duration_since(Instant::now()));
            }
            if table.is_pending() {
                let begins = table.state.whole_begins_micros(table.settings.overlap);
                let wait = u64::try_from(begins.saturating_sub(now)).unwrap_or(0);
                let paid = self.paid_until.saturating_duration_since(Instant::now());
                pause = pause.min(Duration::from_micros(wait).max(paid));
            }
        }
        pause.max(Duration::from_millis(1))
    }
}

/// Its rows are read by the snapshot, and not all of them have been.
fn is_of_snapshot(table: &Table) -> bool {
    table.copy.purpose == Purpose::Initial && table.is_pending()
}
