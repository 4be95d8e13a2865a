//! What passes from source rows to records.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{
    ExceptionItem, Fields, GuardState, Name, RecordKey, RowKey, Tally,
};
use crossdock_model::{LogOrder, Value};
use uuid::Uuid;

use crate::evidence::Fact;
use crate::rowmap::{RowTrouble, Said};
use crate::rows::{Kept, Speech};

/// Who is behind a change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// The source changed it: it is known what it was before.
    Changed,
    /// The source inserted it.
    Created,
    /// It was read, or nothing is known of what it was before.
    Found,
}

/// Evidence said by a row.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    /// Identity.
    pub id: Uuid,
    /// Weight.
    pub authority: i32,
    /// What is said.
    pub fact: Fact,
}

/// What one row of one transaction means for records.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The row.
    pub row: RowKey,
    /// Place of its image.
    pub at: LogOrder,
    /// When the source committed it, where that was not with the transaction at hand.
    pub committed: Option<i64>,
    /// Who is behind it.
    pub doing: Doing,
    /// What it says now; `None` for nothing.
    pub speech: Option<Arc<Speech>>,
    /// What it said before, as far as the source itself has changed it since.
    pub earlier: Option<Arc<Speech>>,
    /// Records that it does not speak of any more.
    pub left: Vec<RecordKey>,
    /// Evidence.
    pub stated: Vec<Stated>,
    /// Evidence that is withdrawn or now about another record, and the record it was about.
    pub withdrawn: Vec<(Uuid, RecordKey)>,
    /// What is wrong with the row.
    pub troubles: Vec<RowTrouble>,
    /// What was wrong with it, and is no more.
    pub mended: Vec<RowTrouble>,
    /// Key columns and values.
    pub key: Vec<(Name, Value<'static>)>,
    /// Its columns.
    pub image: Arc<Fields>,
}

impl Step {
    /// A step that says nothing.
    pub fn new(row: &RowKey, at: LogOrder) -> Self {
        Self {
            row: row.clone(),
            at,
            committed: None,
            doing: Doing::Found,
            speech: None,
            earlier: None,
            left: Vec::new(),
            stated: Vec::new(),
            withdrawn: Vec::new(),
            troubles: Vec::new(),
            mended: Vec::new(),
            key: Vec::new(),
            image: Arc::default(),
        }
    }

    /// What it says now.
    pub fn said(&self) -> &[Said] {
        self.speech.as_ref().map_or(&[], |speech| &speech.said)
    }

    /// What it said before, as far as the source itself has changed it since.
    pub fn before(&self) -> &[Said] {
        self.earlier.as_ref().map_or(&[], |speech| &speech.said)
    }

    /// Records that it concerns.
    pub fn records(&self) -> impl Iterator<Item = &RecordKey> {
        let said = self.said().iter().map(|s| &s.record);
        let stated = self.stated.iter().map(|s| &s.fact.record);
        said.chain(stated).chain(&self.left).chain(self.withdrawn.iter().map(|(_, r)| r))
    }
}

/// Counts by label.
pub(crate) type Tallies = BTreeMap<Tally, u64>;

/// Everything that the rows of a batch mean.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// Steps of each transaction.
    pub steps: Vec<Vec<Step>>,
    /// Rows to keep, in the order of their keys.
    pub rows: Vec<Kept>,
    /// Rows that are as they were, and of which it is known now what they say.
    pub heard: Vec<Kept>,
    /// Counts.
    pub tallies: Tallies,
    /// Rate guards that have counted or stopped something.
    pub guards: Vec<GuardState>,
    /// Exceptions that these have raised.
    pub raised: Vec<ExceptionItem>,
}
