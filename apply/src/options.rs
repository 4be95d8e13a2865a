//! How a database that is written to is reached.

use crossdock_model::database::{DatabaseKind, Finding, Severity, Tls};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything needed to connect. Built by `service` from the checked config.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Name in the config: `erp`, or `store`.
    pub name: String,
    /// Kind of database.
    pub kind: DatabaseKind,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login.
    pub user: String,
    /// Password; never printed.
    pub password: SecretString,
    /// Database.
    pub database: String,
    /// Protection of the connection.
    pub tls: Tls,
}

/// A target of any kind.
#[derive(Clone, Debug)]
pub enum TargetOptions {
    /// A database.
    Database(ConnectOptions),
    /// A service that takes deliveries over HTTP.
    Http(HttpOptions),
    /// Files.
    File(FileOptions),
}

impl TargetOptions {
    /// Name in the config.
    pub fn name(&self) -> &str {
        match self {
            Self::Database(options) => &options.name,
            Self::Http(options) => &options.name,
            Self::File(options) => &options.name,
        }
    }
}

/// How a service is told over HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Name in the config.
    pub name: String,
    /// Where every delivery is posted: `https://portal.example/hooks`.
    pub url: String,
    /// Key of the signature; empty for none. Never printed.
    pub secret: SecretString,
    /// From the beginning of a request to the end of its answer.
    pub timeout: Duration,
    /// The answer 409 means that the service has this delivery already.
    pub conflict_is_done: bool,
    /// Certificates to trust beside none; the system's when `None`.
    pub ca_file: Option<PathBuf>,
}

/// Where files are written.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Name in the config, with which the names of the files begin.
    pub name: String,
    /// Folder; made when missing.
    pub folder: PathBuf,
    /// A file that is larger is closed, and the next one begun.
    pub rotate_bytes: u64,
    /// So is one that was begun longer ago.
    pub rotate_every: Duration,
    /// What closed files are.
    pub format: FileFormat,
}

/// What closed files are.
#[derive(Clone, Debug)]
pub enum FileFormat {
    /// A delivery a line, in JSON.
    Lines,
    /// Parquet, with a row for each row written; columns of which the type is known, by name.
    Parquet(BTreeMap<String, ColumnKind>),
}

/// The type of a column in a Parquet file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// UTF-8: also decimals, which Parquet would give one scale for all, and JSON.
    Text,
    /// 64 bits.
    Integer,
    /// True or false.
    Boolean,
    /// A day.
    Date,
    /// A moment, in microseconds, UTC.
    Instant,
}

/// The finding that a database could not be looked at.
pub(crate) fn unseen(error: crate::ApplyError) -> Finding {
    match error {
        crate::ApplyError::Definite { what, remedy }
        | crate::ApplyError::Refused { what, remedy, .. } => {
            Finding { severity: Severity::Error, what, remedy }
        }
        other => found(
            Severity::Warning,
            format!("cannot be looked at now: {}", with_causes(&other)),
            "start the server, or correct host and port; `crossdock run` keeps trying",
        ),
    }
}

/// An error and what is underneath it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A finding.
pub(crate) fn found(severity: Severity, what: String, remedy: &str) -> Finding {
    Finding { severity, what, remedy: remedy.to_string() }
}
