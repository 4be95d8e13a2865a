//! How a database that is written to is reached.

use crossdock_model::database::{DatabaseKind, Finding, Severity, Tls};
use secrecy::SecretString;

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
