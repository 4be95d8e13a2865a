//! Source logs become transactions: PostgreSQL logical replication (`postgres`), MySQL and
//! MariaDB binlogs (`mysql`), each with a consistent snapshot before its stream. Where no log can
//! be had, tables and views are asked for their rows again and again (`poll`).
//!
//! Knows nothing of the journal, of mapping or of targets.

mod buffer;
mod error;
mod listing;
mod memory;
mod options;
mod reader;
mod snapshot;
mod socket;
mod tls;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod mysql;
pub mod poll;
pub mod postgres;

pub use crossdock_model::database::{ClientCertificate, DatabaseKind, Finding, Severity, Tls};
pub use error::CaptureError;
pub use listing::{Listing, Reference, list};
pub use memory::{
    CopyMessage, CopyState, MESSAGE_PREFIX, Memory, Purpose, ServerIdentity, Start, TableCopy,
};
pub use options::{BLOCK_BYTES, PollOptions, PollTable, SnapshotOptions, SourceOptions};
pub use reader::{Head, LogReader, Probe, Reader, check, describe, distinct, open, probe};
