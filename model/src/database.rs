//! Words about databases that are connected to, for reading and for writing.

use std::path::PathBuf;

/// Which kind of database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// MySQL 5.7 or newer.
    Mysql,
    /// MariaDB 10.6 or newer.
    Mariadb,
}

impl DatabaseKind {
    /// The word used in the config file.
    pub fn as_str(self) -> &'static str {
        match self {
            DatabaseKind::Postgres => "postgres",
            DatabaseKind::Mysql => "mysql",
            DatabaseKind::Mariadb => "mariadb",
        }
    }

    /// The port that such a server listens on unless told otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            DatabaseKind::Postgres => 5432,
            DatabaseKind::Mysql | DatabaseKind::Mariadb => 3306,
        }
    }
}

/// What becomes of a date that no calendar has (MySQL, MariaDB): `0000-00-00`, `2026-02-30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroDates {
    /// A text, as the server prints it. The default, because it loses nothing.
    #[default]
    Text,
    /// NULL, also in columns that have none.
    Null,
    /// NULL in columns that may have one, otherwise 1970-01-01: as Debezium does.
    Epoch,
    /// An error: capture stops at such a row.
    Error,
}

/// How a connection is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: for sockets and loopback addresses only.
    #[default]
    Disable,
    /// Encrypted; the server's certificate and the host name in it are verified.
    VerifyFull {
        /// Certificates to trust (PEM); `None` for those of the operating system.
        ca_file: Option<PathBuf>,
        /// What we show of ourselves, where the server asks for it.
        client: Option<ClientCertificate>,
    },
}

/// A certificate by which a server knows us, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the CA's (PEM).
    pub cert_file: PathBuf,
    /// Its private key, not encrypted (PEM).
    pub key_file: PathBuf,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but will hurt; or could not be looked at now and will be tried again while running.
    Warning,
    /// Can't run like this.
    Error,
}

/// One thing about a database that `crossdock check` looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at and what was found: `wal_level is "replica", must be "logical"`.
    pub what: String,
    /// The exact statement (or setting) that mends it; empty when nothing needs mending.
    pub remedy: String,
}
