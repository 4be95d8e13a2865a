//! The canonical store: records, evidence, history, exceptions, holds, deliveries and the
//! progress of `integrate`, in schema `crossdock` of a PostgreSQL database.

mod check;
mod deadlines;
mod encoding;
mod events;
mod exceptions;
mod explain;
mod guards;
mod history;
mod json_text;
mod lanes;
mod ledger;
mod load;
mod migrate;
mod parked;
mod pieces;
mod postgres;
mod presence;
mod reverts;
mod rulesets;
mod said;
mod sql;
mod subjects;
mod views;
mod writes;

use std::future::Future;

use crossdock_model::LogOrder;
use crossdock_model::canonical::{Delivery, Loaded, Name, Needs, Outcome, SourceRow};

use crate::ApplyError;

pub use check::check;
pub use events::Event;
pub use exceptions::{Action, ExceptionLine, Filter};
pub use explain::LastChange;
pub use lanes::{Earlier, LaneRules, Layout, Others};
pub use ledger::TargetLedger;
pub use parked::{Again, Owed, Parking, Refusals, RuleFilter};
pub use postgres::{Attention, PostgresStore, PreparedCommit};
pub use presence::{Asked, Presence};
pub use rulesets::RulesetChange;
pub use subjects::{StoredSubjects, StoredVersion};
pub use views::{ColumnKind, EntityView};

/// How far `integrate` has come with one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Source.
    pub source: Name,
    /// Number of the last journal block that has been integrated.
    pub seq: u64,
    /// Text of the source's position after it; for people.
    pub position: String,
    /// Commit time of its last transaction, microseconds since the Unix epoch.
    pub commit_micros: i64,
}

/// The canonical store.
///
/// Contract:
/// - One `integrate` at a time: opening takes a fencing epoch, and every commit checks it.
/// - `load` answers from committed state only.
/// - `commit` is one transaction: all of the outcome and the progress, or nothing. When it fails
///   with a transient error the caller must ask `progress` anew, since it may have committed.
/// - Deliveries are numbered in commit order without reordering; reading them in number order
///   never misses one.
pub trait CanonicalStore: Send {
    /// Progress of every source that has any.
    fn progress(&mut self) -> impl Future<Output = Result<Vec<Progress>, ApplyError>> + Send;

    /// Loads what judging a batch needs.
    fn load(&mut self, needs: &Needs) -> impl Future<Output = Result<Loaded, ApplyError>> + Send;

    /// Rows of a source's table that are not deleted and were last written before a place of the
    /// log, in the order of their keys: those behind `after`, at most `limit`.
    fn stale_rows(
        &mut self,
        table: (&str, &str),
        before: LogOrder,
        after: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<SourceRow>, ApplyError>> + Send;

    /// Commits an outcome with the progress that it brings. `ruleset` is the content hash of the
    /// rules, stamped on every history row.
    fn commit(
        &mut self,
        outcome: &Outcome,
        progress: &[Progress],
        ruleset: &str,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Deliveries owed to a target with numbers above `after`, in order, at most `limit`.
    fn deliveries(
        &mut self,
        target: &str,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(u64, Delivery)>, ApplyError>> + Send;
}
