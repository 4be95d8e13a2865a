//! Source logs become transactions: PostgreSQL logical replication (`postgres`), MySQL and
//! MariaDB binlogs (`mysql`), each with a consistent snapshot before its stream.
//!
//! Knows nothing of the journal, of mapping or of targets.

mod error;
mod options;
mod reader;

pub mod mysql;
pub mod postgres;

pub use error::CaptureError;
pub use options::{Finding, Severity, SourceKind, SourceOptions, Tls};
pub use reader::{Head, LogReader, Probe, Reader, check, describe, open, probe};
