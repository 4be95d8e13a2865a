//! Why writing stopped, sorted by what to do next.

/// An error of the canonical store or of a target. Never holds a row's value or a secret.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Goes away by itself (connection lost, deadlock, serialisation failure): nothing was
    /// committed, or it was and the progress says so; connect anew and ask for the progress.
    #[error("{what}")]
    Transient {
        /// What was being done.
        what: String,
        /// The error underneath.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Will not go away without a person: a missing table, grant or column, a violated constraint.
    #[error("{what}; {remedy}")]
    Definite {
        /// What is wrong, with SQLSTATE or errno.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Another Crossdock has taken over this store or target.
    #[error("{0} is being written by another crossdock that started later; stop one of them")]
    Fenced(String),
}

impl ApplyError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
