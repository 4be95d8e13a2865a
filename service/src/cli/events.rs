//! `crossdock events`: a source's journaled stream as JSON lines, as Debezium would send it or
//! plain.

mod outbox;
mod plain;

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use crossdock_capture::MESSAGE_PREFIX;
use crossdock_config::{Config, DatabaseKind, SourceConfig};
use crossdock_model::debezium::{
    BigintUnsignedMode, BinaryMode, Connector, DecimalMode, DeleteHandling, Encoder, HstoreMode,
    IntervalMode, Options, Record, SourceInfo, TimeMode, Unwrap,
};
use crossdock_model::{ChangeEvent, Fragment, TableName, block};
use crossdock_state::{Entry, JournalError, JournalFollower};

use crate::clock::now_micros;
use crate::wiring;

/// How often a journal is looked at when it had nothing new.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Command-line arguments.
#[derive(Args)]
pub struct EventsArguments {
    /// The source.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// Debezium's records, or plain lines in which nothing is lost.
    #[arg(long, value_parser = mode(FORMATS), default_value = "debezium")]
    format: Format,
    /// Where to begin: the number of a journal block, `beginning` or `now`.
    #[arg(long, value_name = "BLOCK", value_parser = from, default_value = "beginning")]
    from: From,
    /// Go on when all has been printed, until interrupted.
    #[arg(long)]
    follow: bool,
    /// Stop after this many lines.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only these tables: `schema.table`, with commas between.
    #[arg(long, value_name = "TABLES", value_delimiter = ',', value_parser = super::table)]
    tables: Vec<TableName>,
    #[command(flatten)]
    debezium: DebeziumArguments,
}

/// Debezium's settings, by their names.
#[derive(Args)]
#[command(next_help_heading = "Debezium's settings")]
struct DebeziumArguments {
    /// Prefix of all topics [default: the source's name].
    #[arg(long, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    #[arg(long, value_name = "MODE", value_parser = mode(DECIMAL), default_value = "precise")]
    decimal_handling_mode: DecimalMode,
    /// [default: adaptive; MySQL and MariaDB: adaptive_time_microseconds]
    #[arg(long, value_name = "MODE", value_parser = mode(TIME))]
    time_precision_mode: Option<TimeMode>,
    #[arg(long, value_name = "MODE", value_parser = mode(BINARY), default_value = "bytes")]
    binary_handling_mode: BinaryMode,
    #[arg(long, value_name = "MODE", value_parser = mode(INTERVAL), default_value = "numeric")]
    interval_handling_mode: IntervalMode,
    #[arg(long, value_name = "MODE", value_parser = mode(HSTORE), default_value = "json")]
    hstore_handling_mode: HstoreMode,
    #[arg(long, value_name = "MODE", value_parser = mode(UNSIGNED), default_value = "long")]
    bigint_unsigned_handling_mode: BigintUnsignedMode,
    /// Keys, values and headers carry their schema.
    #[arg(long)]
    schemas_enable: bool,
    /// Begin and end of transactions, and the place of each event in its own.
    #[arg(long)]
    provide_transaction_metadata: bool,
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value = "true")]
    tombstones_on_delete: bool,
    /// Operations that are left out: of `c`, `u`, `d`, `t`, or `none`.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "t")]
    skipped_operations: Vec<String>,
    /// Rows instead of envelopes (ExtractNewRecordState).
    #[arg(long, conflicts_with_all = ["schemas_enable", "outbox"])]
    unwrap: bool,
    /// With --unwrap: what becomes of a delete.
    #[arg(long, value_name = "MODE", value_parser = mode(DELETES), default_value = "tombstone")]
    delete_tombstone_handling_mode: DeleteHandling,
    /// With --unwrap: fields of the envelope to add to the row, such as `op,source.ts_ms`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    add_fields: Vec<String>,
    /// Rows of outbox tables become messages (EventRouter).
    #[arg(long, conflicts_with = "schemas_enable")]
    outbox: bool,
    #[command(flatten)]
    router: outbox::OutboxArguments,
}

#[derive(Clone, Copy)]
enum Format {
    Debezium,
    Json,
}

/// Where reading a journal begins.
#[derive(Clone, Copy)]
pub(super) enum From {
    Beginning,
    Now,
    Block(u64),
}

const FORMATS: &[(&str, Format)] = &[("debezium", Format::Debezium), ("json", Format::Json)];
const DECIMAL: &[(&str, DecimalMode)] = &[
    ("precise", DecimalMode::Precise),
    ("double", DecimalMode::Double),
    ("string", DecimalMode::String),
];
const TIME: &[(&str, TimeMode)] = &[
    ("adaptive", TimeMode::Adaptive),
    ("adaptive_time_microseconds", TimeMode::AdaptiveTimeMicroseconds),
    ("connect", TimeMode::Connect),
    ("isostring", TimeMode::Isostring),
    ("microseconds", TimeMode::Microseconds),
    ("nanoseconds", TimeMode::Nanoseconds),
];
const BINARY: &[(&str, BinaryMode)] = &[
    ("bytes", BinaryMode::Bytes),
    ("base64", BinaryMode::Base64),
    ("base64-url-safe", BinaryMode::Base64UrlSafe),
    ("hex", BinaryMode::Hex),
];
const INTERVAL: &[(&str, IntervalMode)] =
    &[("numeric", IntervalMode::Numeric), ("string", IntervalMode::String)];
const HSTORE: &[(&str, HstoreMode)] = &[("json", HstoreMode::Json), ("map", HstoreMode::Map)];
const UNSIGNED: &[(&str, BigintUnsignedMode)] =
    &[("long", BigintUnsignedMode::Long), ("precise", BigintUnsignedMode::Precise)];
const DELETES: &[(&str, DeleteHandling)] = &[
    ("tombstone", DeleteHandling::Tombstone),
    ("drop", DeleteHandling::Drop),
    ("rewrite", DeleteHandling::Rewrite),
    ("rewrite-with-tombstone", DeleteHandling::RewriteWithTombstone),
    ("delete-to-tombstone", DeleteHandling::DeleteToTombstone),
];

/// Reads one of these words.
fn mode<T: Copy + Send + Sync + 'static>(
    words: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let names = words.iter().map(|(name, _)| *name);
    PossibleValuesParser::new(names).try_map(move |text| {
        let found = words.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or("not one of the words")
    })
}

impl From {
    /// Opens a journal there.
    pub(super) fn open(self, dir: std::path::PathBuf) -> Result<JournalFollower, JournalError> {
        match self {
            From::Beginning => JournalFollower::open(dir, 0),
            From::Block(seq) => JournalFollower::open(dir, seq),
            From::Now => JournalFollower::open_at_end(dir),
        }
    }
}

pub(super) fn from(text: &str) -> Result<From, String> {
    match text {
        "beginning" => Ok(From::Beginning),
        "now" => Ok(From::Now),
        number => number.parse().map(From::Block).map_err(|_| {
            format!("`{number}` is not the number of a block, nor `beginning` or `now`")
        }),
    }
}

/// Prints the stream. Takes no lock: it works beside a running process.
pub async fn events(path: &Path, arguments: EventsArguments) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(source) = config.source(&arguments.source).cloned() else {
        let known: Vec<&str> = config.sources.iter().map(|s| &*s.name).collect();
        eprintln!("error: no source `{}`; there are: {}", arguments.source, known.join(", "));
        return ExitCode::from(2);
    };
    let printed = tokio::task::spawn_blocking(move || print(&config, &source, &arguments)).await;
    match printed.map_err(anyhow::Error::new).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

/// `crossdock events … | head` is no error.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(
    config: &Config,
    source: &SourceConfig,
    arguments: &EventsArguments,
) -> anyhow::Result<()> {
    let dir = wiring::journal_dir(config, &source.name);
    let mut journal = arguments.from.open(dir)?;
    let mut printer = Printer::new(source, arguments)?;
    let mut out = BufWriter::new(io::stdout().lock());
    while !printer.done() {
        match journal.next_block()? {
            Some(entry) => printer.entry(&entry, &mut out)?,
            None => {
                out.flush()?;
                if !arguments.follow {
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Turns blocks into lines.
struct Printer {
    tables: BTreeSet<TableName>,
    lines: Lines,
    left: u64,
}

enum Lines {
    Debezium { encoder: Box<Encoder>, change: Change },
    Json { source: String },
}

/// What is done to Debezium's records.
enum Change {
    None,
    Unwrap(Unwrap),
    Outbox(Box<outbox::Outbox>),
}

impl Printer {
    fn new(source: &SourceConfig, arguments: &EventsArguments) -> anyhow::Result<Self> {
        let lines = match arguments.format {
            Format::Json => Lines::Json { source: source.name.to_string() },
            Format::Debezium => {
                let run = uuid::Uuid::new_v4().to_string();
                let info = source_info(source, &arguments.debezium);
                let options = options(info.connector, &arguments.debezium);
                Lines::Debezium {
                    encoder: Box::new(Encoder::new(info, options, &run)),
                    change: change(&arguments.debezium)?,
                }
            }
        };
        let tables = arguments.tables.iter().cloned().collect();
        Ok(Self { tables, lines, left: arguments.limit.unwrap_or(u64::MAX) })
    }

    fn done(&self) -> bool {
        self.left == 0
    }

    fn entry(&mut self, entry: &Entry, out: &mut impl Write) -> anyhow::Result<()> {
        let mut fragments =
            block::decode(&entry.bytes).with_context(|| format!("journal block {}", entry.seq))?;
        if matches!(self.lines, Lines::Debezium { .. }) {
            fragments.retain_mut(is_of_the_source);
        }
        for fragment in &fragments {
            let lines = self.fragment(entry.seq, fragment)?;
            for line in lines {
                if self.done() {
                    return Ok(());
                }
                out.write_all(&line)?;
                out.write_all(b"\n")?;
                self.left -= 1;
            }
        }
        Ok(())
    }

    fn fragment(&mut self, seq: u64, fragment: &Fragment) -> anyhow::Result<Vec<Vec<u8>>> {
        let tables = &self.tables;
        let wanted = |name: &TableName| tables.is_empty() || tables.contains(name);
        let mut lines = Vec::new();
        match &mut self.lines {
            Lines::Json { source } => {
                let events = fragment.events.iter();
                let of_table =
                    events.filter(|event| event.table.as_ref().is_none_or(|t| wanted(&t.name)));
                for event in of_table {
                    let line = plain::line(source, seq, &fragment.header, event);
                    lines.push(serde_json::to_vec(&line)?);
                }
            }
            Lines::Debezium { encoder, change } => {
                for record in encoder.fragment(fragment, &wanted, now_micros()) {
                    if let Some(record) = change.apply(record)? {
                        lines.push(serde_json::to_vec(&record)?);
                    }
                }
            }
        }
        Ok(lines)
    }
}

/// Takes out what the reader itself has put between the source's changes; false when nothing
/// else was there.
fn is_of_the_source(fragment: &mut Fragment) -> bool {
    let ours = |event: &ChangeEvent| {
        event.message.as_ref().is_some_and(|(prefix, _)| prefix == MESSAGE_PREFIX)
    };
    let before = fragment.events.len();
    fragment.events.retain(|event| !ours(event));
    !fragment.events.is_empty() || before == 0
}

impl Change {
    fn apply(&mut self, record: Record) -> anyhow::Result<Option<Record>> {
        match self {
            Change::None => Ok(Some(record)),
            Change::Unwrap(unwrap) => Ok(unwrap.apply(record)),
            Change::Outbox(outbox) => outbox.apply(record),
        }
    }
}

fn source_info(source: &SourceConfig, arguments: &DebeziumArguments) -> SourceInfo {
    let prefix = arguments.topic_prefix.as_deref().unwrap_or(&source.name);
    SourceInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        connector: match source.connection.kind {
            DatabaseKind::Postgres => Connector::Postgres,
            DatabaseKind::Mysql => Connector::Mysql,
            DatabaseKind::Mariadb => Connector::Mariadb,
        },
        name: prefix.to_string(),
        db: source.connection.database.clone(),
        server_id: 0,
    }
}

fn options(connector: Connector, arguments: &DebeziumArguments) -> Options {
    let defaults = Options::new(connector);
    Options {
        decimal: arguments.decimal_handling_mode,
        time: arguments.time_precision_mode.unwrap_or(defaults.time),
        binary: arguments.binary_handling_mode,
        interval: arguments.interval_handling_mode,
        hstore: arguments.hstore_handling_mode,
        bigint_unsigned: arguments.bigint_unsigned_handling_mode,
        schemas: arguments.schemas_enable,
        transaction_metadata: arguments.provide_transaction_metadata,
        tombstones: arguments.tombstones_on_delete,
        skipped: match arguments.skipped_operations.iter().any(|word| word == "none") {
            true => Vec::new(),
            false => arguments.skipped_operations.iter().flat_map(|word| word.chars()).collect(),
        },
    }
}

fn change(arguments: &DebeziumArguments) -> anyhow::Result<Change> {
    if arguments.unwrap {
        return Ok(Change::Unwrap(Unwrap {
            deletes: arguments.delete_tombstone_handling_mode,
            add_fields: arguments.add_fields.clone(),
        }));
    }
    if arguments.outbox {
        return Ok(Change::Outbox(Box::new(outbox::Outbox::new(&arguments.router)?)));
    }
    Ok(Change::None)
}
