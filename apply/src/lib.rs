//! Where results go: the canonical store (PostgreSQL) and the targets. Each database keeps its
//! progress in the same transaction as the data, so that everything takes effect exactly once;
//! others get identities that no repetition changes.
//!
//! Knows nothing of sources or of the journal.

mod classify;
mod connect;
mod error;
mod options;
mod pipeline;
pub mod points;
mod sql_text;

pub mod store;
pub mod target;

pub use crossdock_model::database::{ClientCertificate, DatabaseKind, Finding, Severity, Tls};
pub use error::ApplyError;
pub use options::{
    ColumnKind, ConnectOptions, FileFormat, FileOptions, HttpOptions, TargetOptions,
};
pub use store::{Attention, CanonicalStore, PostgresStore, Progress};
pub use target::{
    AnyTarget, MysqlTarget, PostgresTarget, TableUse, Target, TargetBatch, TargetProgress, Told,
};
