//! How a source is reached and what is captured from it.

use std::time::Duration;

use crossdock_model::TableName;
use crossdock_model::database::{DatabaseKind, Tls, ZeroDates};
use secrecy::SecretString;

/// Size of a block that is right for a running source: `integrate` judges whole blocks, and its
/// memory follows them. What larger ones would bring: docs/performance.md.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Bytes of blocks that may wait to be taken: what gathers while the journal syncs.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Everything needed to capture one source. Built by `service` from the checked config.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Name of the source: `wms_eu`.
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
    /// Database to connect to (PostgreSQL); default database (MySQL, MariaDB).
    pub database: String,
    /// Protection of the connections.
    pub tls: Tls,
    /// Tables captured, `schema.table` (`database.table` for MySQL and MariaDB).
    pub tables: Vec<TableName>,
    /// Replication slot (PostgreSQL).
    pub slot: String,
    /// Let standbys keep a copy of the slot, so that reading can go on after a failover
    /// (PostgreSQL 17 or newer, where the slot is on a primary).
    pub slot_failover: bool,
    /// Publication (PostgreSQL).
    pub publication: String,
    /// Server id used as a replica; must be unique in the topology (MySQL, MariaDB).
    pub server_id: u32,
    /// What becomes of dates that no calendar has (MySQL, MariaDB).
    pub zero_dates: ZeroDates,
    /// A block is closed when it holds this many bytes, or earlier when nothing more is waiting.
    pub block_bytes_max: usize,
    /// Folder for the changes of large transactions that have not ended yet (PostgreSQL 14 or
    /// newer); it needs room for the largest one. Default: the system's folder for temporary files.
    /// Nothing is left there, whatever ends the process.
    pub spill_dir: Option<std::path::PathBuf>,
    /// How the rows that are in the tables already are read.
    pub snapshot: SnapshotOptions,
    /// There is no log: tables and views are asked for their rows again and again. Slot,
    /// publication and server id mean nothing then.
    pub poll: Option<PollOptions>,
}

/// What is asked for its rows, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollOptions {
    /// How each of [`SourceOptions::tables`] is polled.
    pub tables: Vec<PollTable>,
}

/// How one table or view is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollTable {
    /// The table or view.
    pub table: TableName,
    /// Columns that tell its rows apart. Not NULL.
    pub key: Vec<String>,
    /// Columns that grow with every change of a row, taken together in this order: the time or the
    /// number of its last change.
    pub cursor: Vec<String>,
    /// From the beginning of one round to that of the next.
    pub every: Duration,
    /// How long a transaction may take from writing a cursor to its commit: rows that become
    /// visible later than this with an earlier cursor are found by the next reconcile only.
    pub overlap: Duration,
    /// From one reading of all rows to the next, which finds what is gone; `None`: never.
    pub reconcile: Option<Duration>,
}

/// How the rows that are in the tables already are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Connections that read the first snapshot at one time.
    pub workers: usize,
    /// Pages of a table that are read as one range. On PostgreSQL, what is read again at most, per
    /// worker, after a crash.
    pub chunk_pages: u32,
    /// Rows read in a second at most, by all workers together; no limit when absent.
    pub rows_per_second: Option<u64>,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        // 2048 pages are 16 MiB: a second's work or less, and some milliseconds of overhead.
        Self { workers: 2, chunk_pages: 2048, rows_per_second: None }
    }
}

impl SourceOptions {
    /// How a table is polled.
    pub(crate) fn polled(&self, name: &TableName) -> Option<&PollTable> {
        self.poll.as_ref()?.tables.iter().find(|polled| polled.table == *name)
    }

    /// Blocks that may wait to be taken: so many that one sync can take many small ones.
    pub(crate) fn blocks_waiting_max(&self) -> usize {
        (WAITING_BYTES_MAX / self.block_bytes_max.max(1)).clamp(4, 64)
    }
}
