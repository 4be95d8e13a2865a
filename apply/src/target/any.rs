//! A target of whichever kind the config names.

use super::{FileTarget, HttpTarget, MysqlTarget, PostgresTarget, Target, TargetBatch};
use super::{Seen, TargetProgress};
use crate::{ApplyError, ConnectOptions, DatabaseKind, TargetOptions};

/// One of those that can be told.
#[derive(Debug)]
pub enum AnyTarget {
    /// PostgreSQL.
    Postgres(Box<PostgresTarget>),
    /// MySQL or MariaDB.
    Mysql(Box<MysqlTarget>),
    /// A service.
    Http(Box<HttpTarget>),
    /// Files.
    File(Box<FileTarget>),
}

impl AnyTarget {
    /// Opens a target. `installation` is the name that its loop marks carry; `store` is the
    /// canonical store, which keeps the progress of targets that can't.
    pub async fn open(
        options: &TargetOptions,
        installation: &str,
        store: &ConnectOptions,
    ) -> Result<Self, ApplyError> {
        Ok(match options {
            TargetOptions::Database(options) => Self::connect(options, installation).await?,
            TargetOptions::Http(options) => {
                Self::Http(Box::new(HttpTarget::open(options, installation, store).await?))
            }
            TargetOptions::File(options) => {
                Self::File(Box::new(FileTarget::open(options, installation)?))
            }
        })
    }

    /// Connects to a database. `installation` is the name that its loop marks carry.
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

    /// For whenever there is nothing to apply: files that are old enough are closed.
    pub fn idle(&mut self) -> Result<(), ApplyError> {
        match self {
            Self::File(target) => target.idle(),
            Self::Postgres(_) | Self::Mysql(_) | Self::Http(_) => Ok(()),
        }
    }

    /// Sets the progress of a stream back, so that what came after `seq` is applied again.
    /// Returns where it was; `None` when the stream has none.
    pub async fn rewind(&mut self, stream: &str, seq: u64) -> Result<Option<u64>, ApplyError> {
        match self {
            Self::Postgres(target) => target.rewind(stream, seq).await,
            Self::Mysql(target) => target.rewind(stream, seq).await,
            Self::Http(target) => target.rewind(stream, seq).await,
            Self::File(target) => target.rewind(stream, seq),
        }
    }
}

/// The error that something takes rows, which only a database has.
pub(super) fn no_database(table: &Seen) -> ApplyError {
    ApplyError::Definite {
        what: format!("{} is to be copied into a target that is no database", table.table),
        remedy: "name a database as the mirror's target".into(),
    }
}

impl Target for AnyTarget {
    async fn progress(&mut self, stream: &str) -> Result<Option<TargetProgress>, ApplyError> {
        match self {
            Self::Postgres(target) => target.progress(stream).await,
            Self::Mysql(target) => target.progress(stream).await,
            Self::Http(target) => target.progress(stream).await,
            Self::File(target) => target.progress(stream).await,
        }
    }

    async fn apply(&mut self, batch: &TargetBatch) -> Result<Option<u64>, ApplyError> {
        match self {
            Self::Postgres(target) => target.apply(batch).await,
            Self::Mysql(target) => target.apply(batch).await,
            Self::Http(target) => target.apply(batch).await,
            Self::File(target) => target.apply(batch).await,
        }
    }
}
