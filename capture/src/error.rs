//! Why capture stopped, sorted by what to do next.

/// An error of a source. The text names the source's object and the remedy, never a row's value
/// or a secret.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Goes away by itself (connection lost, server restarting): open again later, from the last
    /// durable position.
    #[error("{what}")]
    Transient {
        /// What was being done, and the server's words.
        what: String,
        /// The error underneath.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Will not go away without a person: wrong password, missing grant, unknown event type.
    #[error("{what}; {remedy}")]
    Definite {
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The log no longer holds what was not read yet (slot lost or recreated, binlog purged).
    #[error("gap in the log of {source_name}: {what}; {remedy}")]
    Gap {
        /// The source.
        source_name: String,
        /// From where, and why.
        what: String,
        /// What to do.
        remedy: String,
    },
}

/// How the text of a gap begins that is none of the log but of the server.
pub(crate) const OTHER_SERVER: &str = "another server answers";

impl CaptureError {
    /// A transient error with the error underneath.
    pub fn transient(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Transient { what: what.into(), source: Some(Box::new(source)) }
    }

    /// A definite error.
    pub fn definite(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Definite { what: what.into(), remedy: remedy.into() }
    }

    /// The reader was dropped; nobody sees this.
    pub(crate) fn stopped() -> Self {
        Self::Transient { what: "stopped".to_string(), source: None }
    }

    /// A gap since another server answers than the one that was read: its rows may have nothing to
    /// do with those that were read, so nothing must be concluded from what it does not have
    /// unless a person says so.
    pub fn is_other_server(&self) -> bool {
        matches!(self, Self::Gap { what, .. } if what.starts_with(OTHER_SERVER))
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
