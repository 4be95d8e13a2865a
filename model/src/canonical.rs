//! The vocabulary of the canonical side: what `canonical` computes and `apply` stores.
//!
//! A record is a pure function of the last image of every source row that speaks of it (its
//! contributions) and of the evidence about it, under one set of rules. That is why replaying
//! old changes ends in the same state: an image is replaced only by one that is later in its
//! source's log, and evidence has an identity of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::keys::{Name, RecordKey, RowKey};
use crate::{LogOrder, Named, TableName, Value};

/// Field or column values by name.
pub type Fields = Named<Value<'static>>;
/// Other records, by link name.
pub type Links = Named<RecordKey>;

/// The last image of a source row that Crossdock has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Which row.
    pub key: RowKey,
    /// Its columns, shared by whoever looks at the row. After a delete: the last image before it.
    pub image: Arc<Fields>,
    /// Where in the source's log it was written. A change with an older place is not taken.
    pub at: LogOrder,
    /// The row is gone.
    pub deleted: bool,
    /// Rows that its mapping refers to and that have not been seen yet. While there are any, the
    /// row is parked: kept, but it contributes nothing.
    pub waiting_for: Vec<RowKey>,
    /// All rows that its mapping refers to, seen or not, sorted: when one of them changes, this
    /// row is mapped again.
    pub refers_to: Vec<RowKey>,
}

/// What one source row says about one record, after mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The record.
    pub record: RecordKey,
    /// The row that says it.
    pub row: RowKey,
    /// Canonical fields.
    pub fields: Arc<Fields>,
    /// Other records that it names, by link name.
    pub links: Arc<Links>,
    /// Place of the image it was mapped from.
    pub at: LogOrder,
    /// True when the row does not speak of the record any more: remove it.
    pub gone: bool,
}

/// Where the present value of a field comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Source that owns the value, or `crossdock` for a computed one.
    pub source: Name,
    /// Place in that source's log, as [`LogOrder::to_sortable`]; empty for a computed one.
    pub at: Name,
    /// The rule that made it win, as `file:line` or name.
    pub rule: Name,
    /// Of a lifecycle's state: the steps before it that nobody reported, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inferred: Vec<Name>,
}

impl Origin {
    /// Of a value that somebody says, or that is computed.
    pub fn new(source: Name, at: Name, rule: Name) -> Self {
        Self { source, at, rule, inferred: Vec::new() }
    }
}

/// A canonical record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Identity.
    pub key: RecordKey,
    /// Grows by one with every change.
    pub version: u64,
    /// Every contribution is gone.
    pub deleted: bool,
    /// Values; a field that nobody has set, or that is NULL, is absent.
    pub fields: Fields,
    /// Provenance of each field.
    pub origins: Named<Origin>,
    /// Other records that it names, by link name.
    pub links: Links,
}

/// A fact that somebody reported about a record. State is computed from the set of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The same on every replay and for every repetition of the same fact by the same row.
    pub id: Uuid,
    /// The record it is about.
    pub record: RecordKey,
    /// What is said to have happened: `shipment.departed`, `milestone.delivered`.
    pub kind: Name,
    /// When it is said to have happened, microseconds since the Unix epoch.
    pub event_micros: i64,
    /// When the source committed it.
    pub recorded_micros: i64,
    /// Who says so.
    pub row: RowKey,
    /// How much weight it has; the owner of the fact has 100.
    pub authority: i32,
    /// Place in the source's log.
    pub at: LogOrder,
    /// The row that said so was deleted, or says otherwise now.
    pub withdrawn: bool,
    /// What else is known (raw code, reason, location).
    pub data: serde_json::Value,
}

/// What has become of a release: one for each rule and business key, for ever.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Release rule: `freight_accrual`.
    pub rule: Name,
    /// Business key, the values of the rule's `dedupe` fields.
    pub business_key: Name,
    /// The record that is released.
    pub record: RecordKey,
    /// Names of the conditions that do not hold yet; empty once released.
    pub unmet: Vec<Name>,
    /// Records whose change may alter `unmet`.
    pub depends: Vec<RecordKey>,
    /// It has been released: a delivery exists. Never becomes false again.
    pub released: bool,
}

/// A moment at which a record must be looked at again: a state may not last longer, or a release
/// may not be held longer.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadline {
    /// The same on every replay; also the identity of the exception that is raised.
    pub id: Uuid,
    /// The record.
    pub record: RecordKey,
    /// What is due: the exception, or the release rule.
    pub rule: Name,
    /// When, microseconds since the Unix epoch.
    pub due_micros: i64,
    /// It has passed, and its exception has been raised.
    pub raised: bool,
    /// True when there is no reason for it any more: remove it.
    pub gone: bool,
}

/// Something that a person must look at.
#[derive(Clone, Debug, PartialEq)]
pub struct ExceptionItem {
    /// The same for every repetition of the same cause; a repetition counts up.
    pub id: Uuid,
    /// `unmapped_code`, `ownership_violation`, `mapping_error`, `rule_error`, `cancel_after_load` …
    pub kind: Name,
    /// The record concerned, where there is one.
    pub record: Option<RecordKey>,
    /// The source that caused it.
    pub source: Name,
    /// The rule that raised it.
    pub rule: Name,
    /// Team that looks after it; empty for the default.
    pub team: Name,
    /// One sentence in the words of the business.
    pub text: String,
    /// Everything needed to decide: old, new and owner's values, row, place in the log.
    pub context: serde_json::Value,
    /// False closes it (the cause has gone away by itself).
    pub open: bool,
}

/// How many changes a rate guard has counted, and what it has stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    /// The rule.
    pub rule: Name,
    /// The source whose changes are counted.
    pub source: Name,
    /// Changes by the part of the window in which they were committed, which begins at so many
    /// microseconds since the Unix epoch.
    pub counts: Vec<(i64, u64)>,
    /// There were too many: changes wait. Until an operator releases them.
    pub stopped: Option<GuardStop>,
    /// Released by an operator, and what waits is being taken.
    pub releasing: bool,
}

/// When and why a rate guard has stopped changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardStop {
    /// The exception that says so.
    pub exception: Uuid,
    /// Place in the source's log of the transaction that was too much; it waits whole.
    pub position: Name,
    /// Its commit time, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// Changes in the window that ended with it.
    pub changes: u64,
}

impl GuardState {
    /// Nothing counted yet.
    pub fn new(rule: &Name, source: &Name) -> Self {
        let (rule, source) = (rule.clone(), source.clone());
        Self { rule, source, counts: Vec::new(), stopped: None, releasing: false }
    }
}

/// How a row is written in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    /// Insert; nothing happens when a row with this key is there already.
    Insert,
    /// Insert, or update the named columns of the row that is there.
    Upsert,
    /// Update the named columns; nothing happens when the row is missing.
    Update,
    /// Delete.
    Delete,
}

/// One row to be written in a target database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowWrite {
    /// Table.
    pub table: TableName,
    /// How.
    pub kind: WriteKind,
    /// Columns that identify the row; there must be a unique index on them for `Insert`, `Upsert`.
    pub key: Vec<(Name, Value<'static>)>,
    /// Further columns to set.
    pub columns: Vec<(Name, Value<'static>)>,
}

/// Something owed to a target. The store numbers deliveries in commit order; `deliver` works
/// through them at the target's own pace.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Stable over replays: the same effect is never owed twice.
    pub event_id: Uuid,
    /// Target: `erp`.
    pub target: Name,
    /// The subscription, release or revert rule that made it.
    pub rule: Name,
    /// The record it is about.
    pub record: RecordKey,
    /// What is to be written, all in one transaction.
    pub writes: Vec<RowWrite>,
    /// The field whose owner's value is written back; `None` for what is no revert.
    pub reverts: Option<Name>,
    /// How often Crossdock itself was the cause of the change that this follows from: 0 for a
    /// change that a system made by itself, 1 for what a trigger made of a write of Crossdock's …
    pub hops: u8,
}

/// One version of one record: who changed what, why, and from which place in which log.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// The record.
    pub record: RecordKey,
    /// Its version after the change.
    pub version: u64,
    /// Source whose change it was.
    pub source: Name,
    /// The source's transaction.
    pub transaction: Name,
    /// Place of that transaction in the source's log.
    pub position: Name,
    /// Commit time at the source, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// The text of a JSON object, `{field: [old, new]}`, `null` for absent. Of a member that is
    /// there twice (a field and a link of one name) the second counts, as in `jsonb`.
    pub changes: String,
}

/// A count for the metrics, labelled; labels are bounded (no keys, no values of rows).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tally {
    /// A change of a field by somebody who does not own it.
    Withheld {
        /// Entity.
        entity: Name,
        /// Field.
        field: Name,
        /// Who wrote it.
        source: Name,
        /// `ignore`, `quarantine`, `revert`, `snapshot`.
        action: Name,
    },
    /// A row of ours that came back, and was dropped.
    Echo {
        /// Source whose log it came from.
        source: Name,
    },
    /// A row in our transaction that we did not write (a trigger's): kept.
    GenuineInOurs {
        /// Source whose log it came from.
        source: Name,
    },
    /// A change that altered no canonical record.
    Unchanged {
        /// Source.
        source: Name,
    },
    /// A change of a record of which no subscription told anybody.
    Unsubscribed {
        /// Entity.
        entity: Name,
    },
    /// A row of a table without mapping.
    Unmapped {
        /// Source.
        source: Name,
        /// `schema.table`.
        table: Name,
    },
    /// A second row that speaks of the same business fact (same natural key, other row id).
    Duplicate {
        /// Entity.
        entity: Name,
        /// Source.
        source: Name,
    },
    /// A code that no code table knows.
    UnknownCode {
        /// Code table.
        table: Name,
        /// Source.
        source: Name,
    },
    /// Evidence that arrived after a later state had been reached.
    LateEvidence {
        /// Entity.
        entity: Name,
    },
    /// Something that would have been told for ever, round and round: not told.
    Loop {
        /// Source whose change it follows from.
        source: Name,
    },
}

/// What must be loaded from the canonical store before a batch can be judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Source rows by key.
    pub rows: Vec<RowKey>,
    /// Rows that refer to one of these.
    pub referring_to: Vec<RowKey>,
    /// Records, each with its contributions, evidence, releases and deadlines.
    pub records: Vec<RecordKey>,
    /// Keys of all records that link to one of these.
    pub linking_to: Vec<RecordKey>,
    /// Releases that depend on one of these.
    pub releases_on: Vec<RecordKey>,
}

impl Needs {
    /// True when nothing is needed any more.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// A record as it is in the store, with what it is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordState {
    /// The record itself; `None` when only contributions or evidence exist so far.
    pub record: Option<Record>,
    /// All contributions.
    pub contributions: Vec<Contribution>,
    /// They stand apart from the record: there are or were many, or the record is not there yet.
    pub apart: bool,
    /// All evidence.
    pub evidence: Vec<Evidence>,
    /// Its releases.
    pub releases: Vec<Release>,
    /// Its deadlines.
    pub deadlines: Vec<Deadline>,
}

/// The answer to [`Needs`]. What is asked for and not mentioned does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Rows found.
    pub rows: Vec<SourceRow>,
    /// Referring rows found.
    pub referring: Vec<SourceRow>,
    /// Records found.
    pub records: Vec<(RecordKey, RecordState)>,
    /// `(to, from)`: record `from` links to record `to`.
    pub linking: Vec<(RecordKey, RecordKey)>,
    /// Releases found by dependency.
    pub releases: Vec<Release>,
}

/// Everything that judging a batch of source transactions has decided, to be committed in one
/// transaction of the canonical store together with the progress of `integrate`. What judging
/// remembers besides is shared and not copied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Row images to keep, of rows that the store may have.
    pub rows: Vec<Arc<SourceRow>>,
    /// Of these, the rows that refer to the same rows as the store's do.
    pub same_references: HashSet<RowKey>,
    /// Row images to keep, of rows that the store does not have: it need not look for them.
    pub new_rows: Vec<Arc<SourceRow>>,
    /// Contributions to put, or to remove where `gone`.
    pub contributions: Vec<Arc<Contribution>>,
    /// Contributions to put that the store does not have.
    pub new_contributions: Vec<Arc<Contribution>>,
    /// Records to put that keep what rows say of them: all of it. What rows say of other records
    /// stands apart from them; where it did not before, all of it is in `new_contributions`.
    pub said: HashMap<RecordKey, Vec<Arc<Contribution>>>,
    /// Records to put.
    pub records: Vec<Arc<Record>>,
    /// Of these, the records that link to the same records as the store's do.
    pub same_links: HashSet<RecordKey>,
    /// Records to put that the store does not have.
    pub new_records: Vec<Arc<Record>>,
    /// Evidence to put.
    pub evidence: Vec<Arc<Evidence>>,
    /// History to append, in order.
    pub history: Vec<HistoryEntry>,
    /// Exceptions to raise or close.
    pub exceptions: Vec<ExceptionItem>,
    /// Releases to put.
    pub releases: Vec<Arc<Release>>,
    /// Deadlines to put, or to remove where `gone`.
    pub deadlines: Vec<Deadline>,
    /// Deliveries to owe, in order; one whose `event_id` exists already is left as it is.
    pub deliveries: Vec<Delivery>,
    /// Rate guards to put.
    pub guards: Vec<GuardState>,
    /// Counts for the metrics.
    pub tallies: BTreeMap<Tally, u64>,
}
