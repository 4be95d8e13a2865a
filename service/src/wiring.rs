//! From the checked config to running parts; the only place that knows how they fit together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use crossdock_apply::{
    ColumnKind, ConnectOptions, FileFormat, FileOptions, HttpOptions, TargetOptions,
};
use crossdock_capture::{BLOCK_BYTES, PollOptions, PollTable, SnapshotOptions, SourceOptions};
use crossdock_config::{Config, Connection, Place, PollConfig, SourceConfig, TargetConfig};
use crossdock_model::canonical::Name;
use crossdock_schema_registry::FieldType;
use crossdock_state::checkpoints::saved::{integrate_key, load};
use crossdock_state::{JournalOptions, LocalJournal, SledCheckpoints, StageCheckpoint};

use crate::board::Board;
use crate::operator::{Captured, Operator};
use crate::stage::{Journals, TableList};
use crate::supervisor::Handle;

/// State on local disk, opened.
pub struct State {
    /// Checkpoints.
    pub checkpoints: Arc<SledCheckpoints>,
    /// Journals.
    pub journals: Journals,
}

/// Opens sled and the journals. Fails when another process has them open.
pub fn open_state(config: &Config) -> anyhow::Result<State> {
    let dir = &config.state_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("make folder {}", dir.display()))?;
    let opened = SledCheckpoints::open(&dir.join("checkpoints"))?;
    if opened.rebuilt {
        tracing::warn!("checkpoints are empty; positions come from the journals and the store");
    }
    let checkpoints = Arc::new(opened.store);
    let mut journals = BTreeMap::new();
    for source in &config.sources {
        let name: Name = source.name.as_str().into();
        // Should the journal be lost, its numbers must go on above what was integrated.
        let integrated: Option<StageCheckpoint> = load(&*checkpoints, &integrate_key(&name))?;
        let options = JournalOptions {
            dir: journal_dir(config, &name),
            segment_bytes: config.journal.segment_bytes,
            retain: config.journal.retain,
            retain_bytes: config.journal.retain_bytes,
            first_seq: integrated.map_or(1, |c| c.seq + 1),
        };
        journals.insert(name, Arc::new(LocalJournal::open(options)?));
    }
    Ok(State { checkpoints, journals: Journals::new(journals) })
}

/// Folder of a source's journal.
pub fn journal_dir(config: &Config, source: &str) -> PathBuf {
    config.state_dir.join("journal").join(source)
}

/// Path of the socket on which a running process takes operators' commands. Who may use it is
/// decided by the permissions of the state folder.
pub fn control_socket(config: &Config) -> PathBuf {
    socket_in(&config.state_dir)
}

/// The same, by the state folder.
pub fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// What to capture from each source.
pub fn source_options(config: &Config) -> Vec<SourceOptions> {
    config.sources.iter().map(|source| one_source(config, source)).collect()
}

/// What is captured from each source, by name.
pub fn captured(config: &Config) -> BTreeMap<String, Captured> {
    let one = |source: &SourceConfig| {
        let options = one_source(config, source);
        let tables: TableList = Arc::new(Mutex::new(options.tables.clone()));
        (source.name.clone(), Captured { options, tables, mode: source.snapshot.mode })
    };
    config.sources.iter().map(one).collect()
}

fn one_source(config: &Config, source: &SourceConfig) -> SourceOptions {
    let at = &source.connection;
    SourceOptions {
        name: source.name.to_string(),
        kind: at.kind,
        host: at.host.clone(),
        port: at.port,
        user: at.user.clone(),
        password: at.password.clone(),
        database: at.database.clone(),
        tls: at.tls.clone(),
        tables: config.tables_of(&source.name).into_iter().collect(),
        slot: source.slot.clone(),
        slot_failover: source.slot_failover,
        publication: source.publication.clone(),
        server_id: source.server_id,
        zero_dates: source.zero_dates,
        block_bytes_max: BLOCK_BYTES,
        spill_dir: Some(config.state_dir.clone()),
        snapshot: SnapshotOptions {
            workers: source.snapshot.workers,
            rows_per_second: source.snapshot.rows_per_second,
            ..SnapshotOptions::default()
        },
        poll: source.is_polled().then(|| poll_options(source)),
    }
}

fn poll_options(source: &SourceConfig) -> PollOptions {
    let table = |polled: &PollConfig| PollTable {
        table: polled.table.clone(),
        key: polled.key.clone(),
        cursor: polled.cursor.clone(),
        every: polled.every,
        overlap: polled.overlap,
        reconcile: polled.reconcile,
    };
    PollOptions { tables: source.poll.iter().map(table).collect() }
}

/// How to reach a database that is written to.
pub fn connect_options(at: &Connection) -> ConnectOptions {
    ConnectOptions {
        name: at.name.to_string(),
        kind: at.kind,
        host: at.host.clone(),
        port: at.port,
        user: at.user.clone(),
        password: at.password.clone(),
        database: at.database.clone(),
        tls: at.tls.clone(),
    }
}

/// How a target is reached.
pub fn target_options(config: &Config, target: &TargetConfig) -> TargetOptions {
    let name = target.name.clone();
    match &target.place {
        Place::Database(connection) => TargetOptions::Database(connect_options(connection)),
        Place::Http(http) => TargetOptions::Http(HttpOptions {
            name,
            url: http.url.clone(),
            secret: http.secret.clone(),
            timeout: http.timeout,
            conflict_is_done: http.conflict_is_done,
            ca_file: http.ca_file.clone(),
        }),
        Place::File(file) => TargetOptions::File(FileOptions {
            name,
            folder: file.folder.clone(),
            rotate_bytes: file.rotate_bytes,
            rotate_every: file.rotate_every,
            format: match file.parquet {
                true => FileFormat::Parquet(column_kinds(config, &target.name)),
                false => FileFormat::Lines,
            },
        }),
    }
}

/// Types of columns that hold a field of a record as it is.
fn column_kinds(config: &Config, target: &str) -> BTreeMap<String, ColumnKind> {
    let kind = |kind: FieldType| match kind {
        FieldType::Integer => ColumnKind::Integer,
        FieldType::Boolean => ColumnKind::Boolean,
        FieldType::Date => ColumnKind::Date,
        FieldType::Instant => ColumnKind::Instant,
        FieldType::Text | FieldType::Decimal | FieldType::Json => ColumnKind::Text,
    };
    let kinds = config.rules.column_kinds(target).into_iter();
    kinds.map(|(column, of)| (column.to_string(), kind(of))).collect()
}

/// Who reads a source's journal: blocks that one of them has not passed are kept.
#[derive(Clone, Debug)]
pub struct Consumers {
    /// Mirrors by source: they are on the board among the targets.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// Consumers beside `integrate`.
pub fn consumers(config: &Config) -> Consumers {
    let mut mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mirror in &config.mirrors {
        mirrors.entry(mirror.source.to_string()).or_default().push(mirror.name.to_string());
    }
    Consumers { mirrors }
}

/// What operators' commands work on while no process runs.
pub fn stopped_operator(config: &Config, state: &State) -> Operator {
    operator(config, state, captured(config), BTreeMap::new(), None)
}

/// What operators' commands work on.
pub fn operator(
    config: &Config,
    state: &State,
    sources: BTreeMap<String, Captured>,
    handles: BTreeMap<String, Handle>,
    board: Option<Arc<Board>>,
) -> Operator {
    let targets = config.targets.iter();
    Operator {
        name: config.name.to_string(),
        checkpoints: state.checkpoints.clone(),
        journals: state.journals.clone(),
        store: connect_options(&config.store),
        targets: targets.map(|t| (t.name.to_string(), target_options(config, t))).collect(),
        sources,
        handles,
        reloading: None,
        board,
    }
}
