//! How a database that is written to is reached.

use secrecy::SecretString;

/// Which kind of database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// MySQL 5.7 or newer.
    Mysql,
    /// MariaDB 10.6 or newer.
    Mariadb,
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// No encryption: for loopback and private sockets.
    #[default]
    Disable,
    /// Encrypted; certificate and host name are checked against the system's roots, or against
    /// the PEM file given.
    VerifyFull {
        /// File with the accepted root certificates.
        ca_file: Option<std::path::PathBuf>,
    },
}

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

/// How bad a finding of `check` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but will hurt.
    Warning,
    /// Can't run like this.
    Error,
}

/// One thing that `crossdock check` looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at and what was found.
    pub what: String,
    /// The exact statement that mends it; empty when nothing needs mending.
    pub remedy: String,
}

impl Finding {
    /// A finding that could not be looked at.
    pub(crate) fn of_error(error: crate::ApplyError) -> Self {
        match error {
            crate::ApplyError::Definite { what, remedy } => {
                Self { severity: Severity::Error, what, remedy }
            }
            other => found(
                Severity::Warning,
                format!("cannot be looked at now: {}", with_causes(&other)),
                "start the server, or correct host and port; `crossdock run` keeps trying",
            ),
        }
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
