//! What reads tables for a stream: the part of the reading beside it that every kind of database
//! has its own of.

use std::sync::Arc;
use std::time::Instant;

use crossdock_model::{Position, TableName, TableSchema, Value};

use super::{Part, Sees};
use crate::{CaptureError, TableCopy};

/// Reads tables for a stream, at its own pace: one answer to each request. Ends when dropped.
pub(crate) trait Side {
    /// A place in the log, as the server numbers it.
    type Place: Copy + PartialOrd;
    /// How far a table has been read.
    type Cursor: Clone;
    /// What blocks of a first snapshot say has been read.
    type Part: Part;

    /// The cursor of a table; one that can't be read means that nothing was read.
    fn cursor(copy: &TableCopy) -> Self::Cursor;
    /// As it is stored.
    fn stored(cursor: &Self::Cursor) -> serde_json::Value;
    /// Whether some of the table has been read.
    fn is_begun(cursor: &Self::Cursor) -> bool;
    /// Begins anew; with another key, if one is named, and else with the same.
    fn begin_anew(cursor: &mut Self::Cursor, key: Option<Vec<String>>);
    /// The columns of the key by which it was read so far.
    fn key_names(cursor: &Self::Cursor) -> Option<&[String]>;
    /// The statement that makes the log give rows whole when they change.
    fn whole_rows(table: &TableName) -> String;

    /// Asks to look whether a table can be read.
    fn prepare(&mut self, copy: &TableCopy);
    /// Asks for its next chunk, which must have seen everything before `here`.
    fn chunk(&mut self, copy: &TableCopy, cursor: &Self::Cursor, here: &Here<Self::Place>);
    /// The next answer, if there is one.
    fn answer(&mut self) -> Result<Option<AnswerOf<Self>>, CaptureError>;
}

/// Where a stream is: all that commits before has been handed over.
#[derive(Clone, Debug)]
pub(crate) struct Here<P> {
    pub(crate) position: Position,
    pub(crate) place: P,
}

/// What comes of a request.
pub(crate) enum Answer<P, C> {
    /// The table can be read.
    Ready {
        key_columns: Vec<usize>,
        key_names: Vec<String>,
        /// Rows of the whole table, as the server estimates; 0 when that is not known yet.
        rows_estimated: u64,
    },
    /// A chunk.
    Piece(Box<Piece<P, C>>),
    /// What the stream has handed over can't be seen yet.
    NotYet,
    Refused(Refusal),
}

/// What a side answers.
pub(crate) type AnswerOf<S> = Answer<<S as Side>::Place, <S as Side>::Cursor>;

/// A chunk as it was read.
pub(crate) struct Piece<P, C> {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) rows: Vec<Vec<Value<'static>>>,
    pub(crate) sees: Sees,
    /// All that it has seen lies before this place.
    pub(crate) high: P,
    /// What has not been read then; `None` when that is nothing.
    pub(crate) next: Option<C>,
    /// Rows of the whole table, as the server estimates; 0 when that is not known.
    pub(crate) rows_estimated: u64,
}

/// Why a table can't be read as it was asked for.
pub(crate) enum Refusal {
    /// Not before somebody does something about it.
    Table(String),
    /// Not this time.
    Again(String),
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Transient { what, .. } => Self::Again(what),
            other => Self::Table(other.to_string()),
        }
    }
}

/// When there is something to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due<P> {
    /// At once.
    Now,
    /// At this time.
    At(Instant),
    /// When the stream has come to this place.
    Place(P),
    /// When the side has answered.
    Answer,
    /// Nothing is left.
    Never,
}
