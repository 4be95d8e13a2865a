//! The command line. Exit codes: 0 done, 1 it went wrong while running, 2 the config, the files or
//! a database are not as they must be (nothing was touched).

mod check;
mod checkpoints;
mod contract;
mod epcis;
mod events;
mod exceptions;
mod gaps;
mod init;
mod outbox;
mod rules;
mod run;
mod schema;
mod show;
mod snapshot;
mod status;
mod tables;
mod takeover;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crossdock_config::Config;
use crossdock_model::TableName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::Client;
use crate::operator::{Moved, Operator};
use crate::wiring;

/// Change data capture for the systems that run logistics.
///
/// Crossdock tails the logs of ERP, WMS and TMS databases (PostgreSQL, MySQL, MariaDB), turns row
/// changes into canonical records, lets each field be written only by the system that owns it, and
/// applies the result exactly once: to a canonical store, and back to the other systems.
#[derive(Parser)]
#[command(name = "crossdock", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How log lines are written.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Read a database's catalog and write a first config, mapping and ownership file to edit.
    ///
    /// Guesses by the words of names, by types and by foreign keys what the tables may be. Reads no
    /// rows, changes nothing in the database, and overwrites no file.
    #[command(
        after_help = "Examples:\n  crossdock init --url postgres://crossdock@127.0.0.1/erp\n  \
        crossdock init --url mariadb://crossdock@wms.example:3306/wms --name wms_eu --dir site"
    )]
    Init(init::InitArguments),
    /// Look at files and databases and say what is missing, with the statement that mends it.
    ///
    /// Changes nothing. Exits with 2 when something must be mended before `run`.
    Check(ConfigFile),
    /// Capture, integrate and deliver, until stopped (Ctrl-C loses nothing).
    ///
    /// A source that has no journal yet is snapshotted first. Everything else goes on where it was.
    Run(ConfigFile),
    /// Show how a running process is: lag, states, exceptions.
    Status {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what was captured from a source as JSON lines: Debezium's records, or plain.
    ///
    /// Reads the journal; works on a running process and on a stopped one, and changes nothing.
    #[command(after_help = "Examples:\n  crossdock events --source erp --limit 10\n  \
        crossdock events --source erp --from now --follow --tables public.orders\n  \
        crossdock events --source erp --outbox --topic-prefix shop\n  \
        crossdock events --source wms_eu --format json")]
    Events {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: Box<events::EventsArguments>,
    },
    /// Delete rows of an outbox table that are in the journal.
    ///
    /// Works beside a running process. The login needs SELECT and DELETE on the table; a row is
    /// deleted only after it is durable here. Those who read events of the journal still find it.
    #[command(
        after_help = "Examples:\n  crossdock outbox-clean --source erp --table public.outbox\n  \
        crossdock outbox-clean --source erp --table public.outbox --from now --follow"
    )]
    OutboxClean {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: outbox::OutboxCleanArguments,
    },
    /// List progress and savepoints, or save one.
    Checkpoints {
        #[command(subcommand)]
        command: CheckpointCommand,
    },
    /// Read rows of tables again, beside the stream, and see how far that has come.
    ///
    /// Works on a running process and on a stopped one, which does it when it starts.
    #[command(
        after_help = "Examples:\n  crossdock snapshot start --source erp --table public.orders\n  \
        crossdock snapshot start --source erp --table public.orders --filter \"region = 'EU'\"\n  \
        crossdock snapshot list\n  crossdock snapshot pause --source erp"
    )]
    Snapshot {
        #[command(subcommand)]
        command: snapshot::SnapshotCommand,
    },
    /// Change which tables are captured.
    Tables {
        #[command(subcommand)]
        command: tables::TablesCommand,
    },
    /// Show where a record stands: its states, since when and by whose word, what it waits for.
    ///
    /// With those that link to it and have states of their own: an order with its shipments.
    #[command(after_help = "Examples:\n  crossdock show ord:SO-1\n  \
        crossdock show shp:EU:SHP-000812 --all --json")]
    Show {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: show::ShowArguments,
    },
    /// Check and test the rule files, and see who owns what and why a field has its value.
    Rules {
        #[command(subcommand)]
        command: rules::RulesCommand,
    },
    /// Print what has happened as EPCIS 2.0 events (JSON-LD), from the canonical store.
    ///
    /// One event for each fact that somebody reported, in the order in which they were recorded;
    /// what was taken back is declared not to have happened.
    #[command(after_help = "Examples:\n  crossdock epcis --since 24h --entity shipment\n  \
        crossdock epcis --since 2026-11-23T00:00:00Z --lines --id-base https://id.example.org/")]
    Epcis {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: epcis::EpcisArguments,
    },
    /// See what a person must look at, and try refused deliveries again or discard them.
    #[command(after_help = "Examples:\n  crossdock exceptions list --source erp\n  \
        crossdock exceptions show 3f1d86aa\n  crossdock exceptions retry 3f1d86aa\n  \
        crossdock exceptions discard 3f1d86aa --reason \"entered by hand\"")]
    Exceptions {
        #[command(subcommand)]
        command: exceptions::ExceptionsCommand,
    },
    /// See whether the sources' tables are still as the files read them, and put that on record.
    #[command(
        after_help = "Examples:\n  crossdock contract record\n  crossdock contract verify\n  \
        crossdock contract verify --source wms_eu --no-codes"
    )]
    Contract {
        #[command(subcommand)]
        command: contract::ContractCommand,
    },
    /// Show changes that a source's log did not hold any more when they were to be read.
    Gaps {
        #[command(subcommand)]
        command: gaps::GapsCommand,
    },
    /// Show the schemas of canonical records, and whether changed entity files may be used.
    ///
    /// A running process serves the same on /subjects, like Confluent's Schema Registry.
    #[command(
        after_help = "Examples:\n  crossdock schema list\n  crossdock schema show shipment\n  \
        crossdock schema show shipment --format json-schema\n  crossdock schema check"
    )]
    Schema {
        #[command(subcommand)]
        command: schema::SchemaCommand,
    },
    /// Read all tables of a source again from the present on, and delete what is not there.
    ///
    /// What to do after a gap that has halted the source. The replication slot is made anew.
    Resync {
        #[command(flatten)]
        config: ConfigFile,
        /// The source.
        #[arg(long, value_name = "NAME")]
        source: String,
    },
    /// Take over from Debezium: begin a new source where its offsets say, without a snapshot.
    ///
    /// Stop Debezium, and name its slot and publication in the source's section first. What it had
    /// handled of a transaction is read again from the transaction's beginning.
    #[command(
        after_help = "Examples:\n  crossdock import-offsets --source erp data/offsets.dat\n  \
        crossdock import-offsets --source erp --key inventory-connector dump.txt"
    )]
    ImportOffsets {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: takeover::ImportArguments,
    },
    /// Move progress back and let what follows be done again; the state afterwards is the same.
    ///
    /// Works on a running process and on a stopped one. Replays from the journal, so it reaches as
    /// far back as the journal is kept.
    #[command(
        after_help = "Examples:\n  crossdock rewind --config crossdock.toml --source wms_eu --to 2h\n  \
        crossdock rewind --config crossdock.toml --integrate --to before-new-rules\n  \
        crossdock rewind --config crossdock.toml --target erp --to 2026-11-23T08:00:00Z\n  \
        crossdock rewind --config crossdock.toml --source erp --to 0/16B3748"
    )]
    Rewind {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        which: WhichArguments,
        /// Savepoint, position (0/16B3748, binlog.000042:1093), time (RFC 3339), time ago (2h), or
        /// number (of a journal block, or of a delivery for a target).
        #[arg(long)]
        to: String,
    },
}

#[derive(Subcommand)]
enum CheckpointCommand {
    /// Show the progress of every source, of the integration and of every target, and savepoints.
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give the present progress a name, to rewind to it later.
    Save {
        #[command(flatten)]
        config: ConfigFile,
        /// Name of the savepoint.
        name: String,
    },
}

/// Where the config is.
#[derive(Args, Clone)]
struct ConfigFile {
    /// The config file; mapping and rule files lie where it says.
    #[arg(long, value_name = "FILE", default_value = "crossdock.toml", env = "CROSSDOCK_CONFIG")]
    config: PathBuf,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct WhichArguments {
    /// Everything that reads this source's journal.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The integration of all sources.
    #[arg(long)]
    integrate: bool,
    /// The deliveries to this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Runs the command.
pub fn run(arguments: Arguments) -> ExitCode {
    start_logging(arguments.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Init(arguments) => init::init(arguments).await,
            Command::Check(file) => check::check(&file.config).await,
            Command::Run(file) => run::run(&file.config).await,
            Command::Status { config, json } => status::status(&config.config, json).await,
            Command::Events { config, arguments } => {
                events::events(&config.config, *arguments).await
            }
            Command::Checkpoints { command } => match command {
                CheckpointCommand::List { config, json } => {
                    checkpoints::list(&config.config, json).await
                }
                CheckpointCommand::Save { config, name } => {
                    checkpoints::save(&config.config, &name).await
                }
            },
            Command::Snapshot { command } => snapshot::snapshot(command).await,
            Command::Tables { command } => tables::tables(command).await,
            Command::Show { config, arguments } => show::show(&config.config, &arguments).await,
            Command::Rules { command } => rules::rules(command).await,
            Command::Epcis { config, arguments } => epcis::epcis(&config.config, &arguments).await,
            Command::Exceptions { command } => exceptions::exceptions(command).await,
            Command::Contract { command } => contract::contract(command).await,
            Command::Gaps { command } => gaps::gaps(command).await,
            Command::Schema { command } => schema::schema(command).await,
            Command::OutboxClean { config, arguments } => {
                outbox::clean(&config.config, arguments).await
            }
            Command::Resync { config, source } => gaps::resync(&config.config, &source).await,
            Command::ImportOffsets { config, arguments } => {
                takeover::import(&config.config, arguments).await
            }
            Command::Rewind { config, which, to } => {
                checkpoints::rewind(&config.config, which, &to).await
            }
        }
    });
    // A blocking thread (a reader in a system call) must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    code
}

fn start_logging(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("CROSSDOCK_LOG")
        // mysql_async logs every error of a server with its text, which may hold values; they come
        // to us as errors anyway.
        .unwrap_or_else(|_| EnvFilter::new("info,mysql_async=off,tokio_postgres=warn,sled=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Reads the config, or says everything that is wrong with it.
fn load(path: &Path) -> Result<Config, ExitCode> {
    match crossdock_config::load(path, &|name| std::env::var(name).ok()) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(config)
        }
        Err(problems) => {
            eprintln!("{problems}");
            Err(ExitCode::from(2))
        }
    }
}

/// Reads `schema.table`.
fn table(text: &str) -> Result<TableName, String> {
    TableName::parse(text).ok_or_else(|| format!("`{text}` is not SCHEMA.TABLE"))
}

/// Says what a command did, or why it did not.
/// Prints what the running process, or the state itself, has on record: as a table or as JSON.
async fn listed<T: Serialize + DeserializeOwned>(
    path: &Path,
    page: &str,
    json: bool,
    stopped: impl AsyncFnOnce(Operator) -> anyhow::Result<Vec<T>>,
    print: fn(&[T]),
) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let lines = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => client.get(page).await,
            None => stopped(checkpoints::offline(&config)?).await,
        }
    };
    match lines.await {
        Ok(lines) if json => {
            say!("{}", serde_json::to_string_pretty(&lines).unwrap_or_default());
        }
        Ok(lines) => print(&lines),
        Err(error) => return fail(&error),
    }
    ExitCode::SUCCESS
}

fn moved(result: anyhow::Result<Moved>) -> ExitCode {
    match result {
        Ok(moved) => {
            moved.lines.iter().for_each(|line| say!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(1)
}
