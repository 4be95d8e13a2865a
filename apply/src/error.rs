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
    /// The other side cannot take anything at present, or did not answer.
    #[error("{what}")]
    Busy {
        /// What happened.
        what: String,
        /// How long it asks to be left alone.
        after: Option<std::time::Duration>,
    },
    /// Will not go away without a person: a missing table, grant or column, a violated constraint.
    #[error("{what}; {remedy}")]
    Definite {
        /// What is wrong, with SQLSTATE or errno.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The target refuses what one delivery writes, and takes others: a violated constraint, a
    /// value that does not fit, a parent that is missing. It is set aside, and the others go on.
    #[error("{what}; {remedy}")]
    Refused {
        /// What is wrong, without values of rows.
        what: String,
        /// What to do.
        remedy: String,
        /// `SQLSTATE 23514`, `error 1452`, `HTTP 422`.
        code: String,
        /// A row that this one refers to is not there (or one refers to it that must go first):
        /// may go away by itself when other deliveries have been applied.
        parent: bool,
    },
    /// Another Crossdock has taken over this store or target.
    #[error("{0} is being written by another crossdock that started later; stop one of them")]
    Fenced(String),
}

impl ApplyError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Busy { .. })
    }

    /// Whether a target takes one delivery not, and perhaps all others.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
