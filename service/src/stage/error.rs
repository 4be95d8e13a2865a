//! Why a stage stopped, sorted by what the supervisor does next.

use crossdock_apply::ApplyError;
use crossdock_capture::CaptureError;
use crossdock_state::{CheckpointError, JournalError};

/// An error that ended a stage's loop.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Try again soon.
    #[error("{0:#}")]
    Transient(anyhow::Error),
    /// A person must act; tried again slowly, so that mending it is enough.
    #[error("{0:#}")]
    Definite(anyhow::Error),
    /// The log does not hold any more what was not read yet.
    #[error("{0:#}")]
    Gap(anyhow::Error),
    /// The process must end: going on could do harm (failed disk, another process took over).
    #[error("{0:#}")]
    Fatal(anyhow::Error),
}

impl From<CaptureError> for StageError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Transient { .. } => Self::Transient(error.into()),
            CaptureError::Definite { .. } => Self::Definite(error.into()),
            CaptureError::Gap { .. } => Self::Gap(error.into()),
        }
    }
}

impl From<ApplyError> for StageError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Fenced(_) => Self::Fatal(error.into()),
            error if error.is_transient() => Self::Transient(error.into()),
            error => Self::Definite(error.into()),
        }
    }
}

impl From<JournalError> for StageError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Trimmed { .. } => Self::Definite(error.into()),
            error => Self::Fatal(error.into()),
        }
    }
}

impl From<CheckpointError> for StageError {
    fn from(error: CheckpointError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<crossdock_model::BlockError> for StageError {
    fn from(error: crossdock_model::BlockError) -> Self {
        Self::Definite(error.into())
    }
}
