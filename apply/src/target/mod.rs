//! Targets: what Crossdock writes into. Databases of other systems, services that take deliveries
//! over HTTP, files.

mod any;
mod check;
mod current;
mod document;
mod file;
mod group;
mod http;
mod mysql;
mod mysql_values;
mod others;
mod parquet;
mod postgres;
mod postgres_text;

use std::future::Future;

use crossdock_model::canonical::{Name, RecordKey, RowWrite};
use uuid::Uuid;

use crate::ApplyError;

pub use any::AnyTarget;
pub use check::{TableUse, check, check_any};
pub use document::{named, word};
pub use file::FileTarget;
pub use http::HttpTarget;
pub use mysql::MysqlTarget;
pub use others::Seen;
pub use postgres::PostgresTarget;

/// How far a stream into a target has come, as the target itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetProgress {
    /// Number of the last delivery (or journal block, for a mirror) applied.
    pub seq: u64,
    /// When, microseconds since the Unix epoch.
    pub applied_micros: i64,
}

/// Writes to be made in one transaction of the target.
#[derive(Clone, Debug, Default)]
pub struct TargetBatch {
    /// Name of the stream: one progress row for each in the target.
    pub stream: String,
    /// Number of the last delivery in the batch.
    pub upto: u64,
    /// Writes in order, each with the id of the event that it belongs to.
    pub writes: Vec<(Uuid, RowWrite)>,
    /// How often Crossdock itself was the cause of what is written; the mark says so.
    pub hops: u8,
    /// The deliveries that the writes belong to, in order; none for a mirror. Targets that are
    /// told deliveries rather than rows look here.
    pub told: Vec<Told>,
    /// The transaction goes on with the next batch, of the same stream: what is too large to be held
    /// at once is applied in pieces. Only databases can.
    pub more: bool,
}

/// A delivery within a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its place in the stream.
    pub place: u64,
    /// Its number.
    pub seq: u64,
    /// Identity: no replay changes it.
    pub event_id: Uuid,
    /// The rule that owes it.
    pub rule: Name,
    /// The record it is about.
    pub record: RecordKey,
    /// When it was decided, microseconds since the Unix epoch.
    pub owed_micros: i64,
    /// How many of the batch's writes are its own.
    pub writes: usize,
}

/// Whoever is told.
///
/// Contract:
/// - `apply` is one transaction: writes, progress and loop mark, or nothing. A target that has no
///   transactions does one delivery after the other, each with the same identity whenever it is
///   repeated; its progress is that of the last one done, and after an error it may have moved.
/// - What `apply` has done is durable on return. Cancelled, it is done or not: ask `progress`.
/// - Batches with `more`, and the first without it, are one transaction: nothing of them is durable
///   or visible before the last. An error, or the end of the connection, undoes all of them.
/// - A batch whose `upto` is not above the stored progress is skipped (it has been applied).
/// - [`ApplyError::Refused`] means that one of the deliveries is refused, and that the same batch
///   will be refused again; without that delivery it may not be.
/// - After a transient error, ask `progress` anew before applying.
pub trait Target: Send {
    /// Progress of a stream; `None` before its first batch.
    fn progress(
        &mut self,
        stream: &str,
    ) -> impl Future<Output = Result<Option<TargetProgress>, ApplyError>> + Send;

    /// Applies a batch. Returns the number of rows written; `None` when it had been applied
    /// before.
    fn apply(
        &mut self,
        batch: &TargetBatch,
    ) -> impl Future<Output = Result<Option<u64>, ApplyError>> + Send;
}
