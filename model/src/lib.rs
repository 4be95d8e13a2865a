//! The vocabulary of Crossdock: values, row images, change events, positions, loop marks and
//! canonical records, and the compact block format in which change events are journaled.
//!
//! Everything here is plain data and pure functions over it.
//! Knows nothing of I/O, async or the clock.

pub mod block;
pub mod canonical;
pub mod database;
pub mod debezium;
pub mod event;
mod keys;
pub mod mark;
pub mod named;
pub mod names;
pub mod notes;
pub mod position;
pub mod problem;
pub mod schema;
pub mod text;
pub mod time;
pub mod value;

pub use block::{Block, BlockBuilder, BlockError, Fragment, ImageKind, SnapshotPart};
pub use event::{ChangeEvent, Op, RowImage, TxHeader};
pub use named::{Named, Sorted};
pub use position::{LogOrder, Position};
pub use problem::{Problem, SourceText};
pub use schema::{Column, TableName, TableSchema};
pub use text::Str;
pub use value::Value;
