//! The checked config: what the rest of Crossdock is built from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossdock_model::database::{DatabaseKind, Tls, ZeroDates};
use crossdock_model::{Problem, TableName};
use secrecy::SecretString;

use crate::database::is_local;
use crate::rules::Rules;

/// File as the user named it, and line from 1: where a section begins. For messages.
pub type At = (String, u32);

/// Everything that the files say, checked. `Debug` leaves out the rules: they fill pages.
#[derive(Clone)]
pub struct Config {
    /// Name of this installation; loop marks and metrics carry it.
    pub name: String,
    /// Folder of checkpoints and journal; need not exist yet.
    pub state_dir: PathBuf,
    /// Where metrics, health and status are served.
    pub listen: SocketAddr,
    /// What those who register schemas must know; without it nobody can.
    pub registry_password: Option<SecretString>,
    /// Limits of the journal.
    pub journal: JournalConfig,
    /// The canonical store.
    pub store: Connection,
    /// How long the store keeps the history of records; `None` for ever.
    pub history_retain: Option<Duration>,
    /// Where the store's section begins.
    pub store_at: At,
    /// Databases that are captured, in the order of the file.
    pub sources: Vec<SourceConfig>,
    /// Who is told, in the order of the file.
    pub targets: Vec<TargetConfig>,
    /// Plain replications, in the order of the file.
    pub mirrors: Vec<MirrorConfig>,
    /// What the entity, mapping and rule files say.
    pub rules: Arc<Rules>,
    /// Every file that was read, the config file first. Password files are not among them.
    pub files: Vec<PathBuf>,
    /// What is odd but can work.
    pub warnings: Vec<Problem>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("state_dir", &self.state_dir)
            .field("listen", &self.listen)
            .field("registry_password", &self.registry_password)
            .field("journal", &self.journal)
            .field("store", &self.store)
            .field("sources", &self.sources)
            .field("targets", &self.targets)
            .field("mirrors", &self.mirrors)
            .field("files", &self.files)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// The source with a name.
    pub fn source(&self, name: &str) -> Option<&SourceConfig> {
        self.sources.iter().find(|s| s.name == name)
    }

    /// The target with a name.
    pub fn target(&self, name: &str) -> Option<&TargetConfig> {
        self.targets.iter().find(|t| t.name == name)
    }

    /// The tables of a source that must be captured: those that its section, a mirror or a
    /// mapping or rule file names.
    pub fn tables_of(&self, source: &str) -> BTreeSet<TableName> {
        let own = self
            .source(source)
            .into_iter()
            .flat_map(|s| s.tables.iter().chain(s.poll.iter().map(|polled| &polled.table)));
        let mirrored = self.mirrors.iter().filter(|m| m.source == source);
        let named = own.chain(mirrored.flat_map(|m| &m.tables)).cloned();
        named.chain(self.rules.tables(source)).collect()
    }
}

/// Limits of the journal on the local disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// A segment older than this may go, once every consumer has passed it.
    pub retain: Duration,
    /// Beyond this much the oldest segments may go, once every consumer has passed them.
    pub retain_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            retain: Duration::from_secs(7 * 24 * 60 * 60),
            retain_bytes: 10 << 30,
        }
    }
}

/// How to reach a database. `Debug` hides the password.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Name of the source or target, or `store`: for messages and metrics.
    pub name: String,
    /// Which database it is.
    pub kind: DatabaseKind,
    /// Host name or address; a path that begins with `/` is a Unix socket (PostgreSQL: the folder
    /// it is in).
    pub host: String,
    /// TCP port; with a socket of PostgreSQL, the number in its name.
    pub port: u16,
    /// Database to connect to.
    pub database: String,
    /// User.
    pub user: String,
    /// Password; empty when the server asks for none.
    pub password: SecretString,
    /// Protection.
    pub tls: Tls,
}

impl Connection {
    /// True for a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// True when both reach the same server, as far as their texts tell: a name for another name's
    /// address is not resolved, but all ways to say "this machine" are one.
    pub fn same_server(&self, other: &Connection) -> bool {
        let host = |c: &Connection| match is_local(&c.host) && !c.is_socket() {
            true => "localhost".to_string(),
            false => c.host.to_ascii_lowercase(),
        };
        host(self) == host(other) && self.port == other.port
    }

    /// True when both reach the same database of the same server, as far as their texts tell.
    pub fn same_database(&self, other: &Connection) -> bool {
        self.same_server(other) && self.database == other.database
    }
}

/// What to do when changes can no longer be read from a source's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The source stops and says so, until a person decides.
    Halt,
    /// Its tables are read again, and rows that are gone are taken for deleted.
    Resync,
}

/// Which rows are read that were there before the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// All, when the source is new.
    Initial,
    /// None: the source begins with what is committed from now on.
    Never,
    /// All, and nothing after them.
    Only,
    /// All, when the source is new and after a gap.
    WhenNeeded,
}

/// How rows are read that were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Which.
    pub mode: SnapshotMode,
    /// Connections that read at the same time.
    pub workers: usize,
    /// All of them together read no faster than this.
    pub rows_per_second: Option<u64>,
}

/// How one table or view of a source without a log is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollConfig {
    /// The table or view.
    pub table: TableName,
    /// Columns that tell its rows apart.
    pub key: Vec<String>,
    /// Columns that grow with every change of a row.
    pub cursor: Vec<String>,
    /// From the beginning of one round to that of the next.
    pub every: Duration,
    /// How long a transaction may take from writing a cursor to its commit.
    pub overlap: Duration,
    /// From one reading of all rows to the next; `None`: never.
    pub reconcile: Option<Duration>,
}

/// A database that is captured.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Name, as mapping and rule files use it.
    pub name: String,
    /// Region that it belongs to, for metrics; empty without one.
    pub region: String,
    /// Where its section begins.
    pub at: At,
    /// How to reach it.
    pub connection: Connection,
    /// Replication slot; empty unless it is PostgreSQL.
    pub slot: String,
    /// Whether standbys keep a copy of the slot, where the server can.
    pub slot_failover: bool,
    /// Publication; empty unless it is PostgreSQL.
    pub publication: String,
    /// Id as a replica, unique among those of the server; 0 for PostgreSQL.
    pub server_id: u32,
    /// What becomes of dates that no calendar has (MySQL, MariaDB).
    pub zero_dates: ZeroDates,
    /// Tables to capture beyond those that mirrors, mapping and rule files name.
    pub tables: Vec<TableName>,
    /// How rows are read that were there before.
    pub snapshot: SnapshotConfig,
    /// What to do about a gap.
    pub on_gap: OnGap,
    /// What is polled; empty where the log is read.
    pub poll: Vec<PollConfig>,
}

impl SourceConfig {
    /// True when no log is read: its tables are asked for their rows again and again.
    pub fn is_polled(&self) -> bool {
        !self.poll.is_empty()
    }
}

/// What is told.
#[derive(Clone, Debug)]
pub enum Place {
    /// A database.
    Database(Connection),
    /// A service that takes deliveries over HTTP.
    Http(HttpConfig),
    /// A folder with files.
    File(FileConfig),
}

/// How a service is told. `Debug` hides the secret.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where deliveries are posted.
    pub url: String,
    /// Key of their signatures; empty for none.
    pub secret: SecretString,
    /// From the beginning of a request to the end of its answer.
    pub timeout: Duration,
    /// The answer 409 means that the service has a delivery already.
    pub conflict_is_done: bool,
    /// Certificates to trust; the system's when `None`.
    pub ca_file: Option<PathBuf>,
}

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// Folder.
    pub folder: PathBuf,
    /// A file that is larger is closed.
    pub rotate_bytes: u64,
    /// So is one that was begun longer ago.
    pub rotate_every: Duration,
    /// Closed files are Parquet, and not lines of JSON.
    pub parquet: bool,
}

/// Somebody who is told.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Name, as rule files use it.
    pub name: String,
    /// Region that it belongs to, for metrics; empty without one.
    pub region: String,
    /// Where its section begins.
    pub at: At,
    /// What it is, and how to reach it.
    pub place: Place,
    /// The source that is the same database, when the section says so.
    pub source: Option<String>,
    /// Rows in one transaction, at most (a delivery is never divided).
    pub batch_rows: usize,
    /// Connections over which records are divided, at least 1; 1 for files.
    pub workers: usize,
    /// Refused deliveries that nobody has dealt with, at most; with more, the target halts.
    pub exceptions_max: u64,
    /// Reverts of the same field of the same record within `reverts_within`, at most.
    pub reverts_max: u64,
    /// See `reverts_max`.
    pub reverts_within: Duration,
}

impl TargetConfig {
    /// How to reach its database, if it is one.
    pub fn database(&self) -> Option<&Connection> {
        match &self.place {
            Place::Database(connection) => Some(connection),
            Place::Http(_) | Place::File(_) => None,
        }
    }
}

/// Plain replication of tables, without mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Name.
    pub name: String,
    /// Where its section begins.
    pub at: At,
    /// Source to copy from.
    pub source: String,
    /// Target to copy to.
    pub target: String,
    /// Tables to copy; they have the same names in the target.
    pub tables: Vec<TableName>,
}
