//! A target of whichever kind the config names.

use super::{MysqlTarget, PostgresTarget, Target, TargetBatch, TargetProgress};
use crate::{ApplyError, ConnectOptions, DatabaseKind};

/// One of the databases that can be written to.
#[derive(Debug)]
pub enum AnyTarget {
    /// PostgreSQL.
    Postgres(Box<PostgresTarget>),
    /// MySQL or MariaDB.
    Mysql(Box<MysqlTarget>),
}

impl AnyTarget {
    /// Connects to a target. `installation` is the name that its loop marks carry.
    pub async fn connect(options: &ConnectOptions, installation: &str) -> Result<Self, ApplyError> {
        Ok(match options.kind {
            DatabaseKind::Postgres => {
                Self::Postgres(Box::new(PostgresTarget::connect(options, installation).await?))
            }
            DatabaseKind::Mysql | DatabaseKind::Mariadb => {
                Self::Mysql(Box::new(MysqlTarget::connect(options, installation).await?))
            }
        })
    }

    /// Sets the progress of a stream back, so that what came after `seq` is applied again.
    /// Returns where it was; `None` when the stream has none.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        match self {
            Self::Postgres(target) => target.rewind(stream, seq).await,
            Self::Mysql(target) => target.rewind(stream, seq).await,
        }
    }
}

impl Target for AnyTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        match self {
            Self::Postgres(target) => target.progress(stream).await,
            Self::Mysql(target) => target.progress(stream).await,
        }
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        match self {
            Self::Postgres(target) => target.apply(batch).await,
            Self::Mysql(target) => target.apply(batch).await,
        }
    }
}
