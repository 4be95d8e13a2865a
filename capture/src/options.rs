//! How a source is reached and what is captured from it.

use crossdock_model::TableName;
use secrecy::SecretString;

/// Which kind of database a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
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

/// Everything needed to capture one source. Built by `service` from the checked config.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Name of the source: `wms_eu`.
    pub name: String,
    /// Kind of database.
    pub kind: SourceKind,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login.
    pub user: String,
    /// Password; never printed.
    pub password: SecretString,
    /// Database to connect to (PostgreSQL); default database (MySQL, MariaDB).
    pub database: String,
    /// Protection of the connections.
    pub tls: Tls,
    /// Tables captured, `schema.table` (`database.table` for MySQL and MariaDB).
    pub tables: Vec<TableName>,
    /// Replication slot (PostgreSQL).
    pub slot: String,
    /// Publication (PostgreSQL).
    pub publication: String,
    /// Server id used as a replica; must be unique in the topology (MySQL, MariaDB).
    pub server_id: u32,
    /// A block is closed when it holds this many bytes, or earlier when nothing more is waiting.
    pub block_bytes_max: usize,
    /// Folder for the changes of large transactions that have not ended yet (PostgreSQL 14 or
    /// newer); it needs room for the largest one. Default: the system's folder for temporary files.
    /// Nothing is left there, whatever ends the process.
    pub spill_dir: Option<std::path::PathBuf>,
}

/// How bad a finding of `check` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but will hurt.
    Warning,
    /// Capture can't run like this.
    Error,
}

/// One thing that `crossdock check` looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at and what was found: `wal_level is "replica", must be "logical"`.
    pub what: String,
    /// The exact statement (or setting) that mends it; empty when nothing needs mending.
    pub remedy: String,
}
