//! `crossdock snapshot`.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use crossdock_model::TableName;

use super::ConfigFile;
use super::checkpoints::offline;
use crate::control::Client;
use crate::copies::CopyLine;
use crate::operator::{Operator, SnapshotCommand as What, SnapshotRequest};
use crate::wiring;

/// What to do about rows that are read beside the stream.
#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Read rows again. They come as reads (`r`) in the stream, each as it was at its place there.
    Start {
        #[command(flatten)]
        which: Which,
        /// Only rows for which this SQL condition is true; with one table.
        #[arg(long, value_name = "SQL")]
        filter: Option<String>,
    },
    /// Show what is read, how far it has come and how long it will take.
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop reading for now; the stream goes on.
    Pause(Which),
    /// Go on reading where it was paused, or try again where it failed.
    Resume(Which),
    /// Stop reading for good. What was read stays.
    Cancel(Which),
}

/// Tables of a source.
#[derive(Args)]
pub struct Which {
    #[command(flatten)]
    config: ConfigFile,
    /// The source.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// A table, SCHEMA.TABLE; may be given again [default: all].
    #[arg(long = "table", value_name = "TABLE", value_parser = super::table)]
    tables: Vec<TableName>,
}

/// Runs the command.
pub async fn snapshot(command: SnapshotCommand) -> ExitCode {
    match command {
        SnapshotCommand::List { config, json } => list(&config.config, json).await,
        SnapshotCommand::Start { which, filter } => order(which, What::Start, filter).await,
        SnapshotCommand::Pause(which) => order(which, What::Pause, None).await,
        SnapshotCommand::Resume(which) => order(which, What::Resume, None).await,
        SnapshotCommand::Cancel(which) => order(which, What::Cancel, None).await,
    }
}

async fn order(which: Which, what: What, filter: Option<String>) -> ExitCode {
    let config = match super::load(&which.config.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let request = SnapshotRequest { source: which.source, what, tables: which.tables, filter };
    let done = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => client.post("/snapshots", &request).await,
            None => offline(&config)?.snapshot(request).await,
        }
    };
    super::moved(done.await)
}

async fn list(path: &Path, json: bool) -> ExitCode {
    let stopped = async |operator: Operator| operator.copies();
    super::listed(path, "/snapshots", json, stopped, print).await
}

fn print(lines: &[CopyLine]) {
    say!(
        "{:<12} {:<32} {:<9} {:<9} {:>12} {:>5} {:>10} {:>9}",
        "source",
        "table",
        "purpose",
        "state",
        "rows",
        "%",
        "rows/s",
        "left"
    );
    for line in lines {
        say!(
            "{:<12} {:<32} {:<9} {:<9} {:>12} {:>5} {:>10} {:>9}",
            line.source,
            line.table,
            line.purpose,
            line.state,
            line.rows,
            line.percent.map_or("-".into(), |p| p.to_string()),
            line.rows_per_second.map_or("-".into(), |r| format!("{r:.0}")),
            line.eta_seconds.map_or("-".into(), duration),
        );
        if let Some(filter) = &line.filter {
            say!("    where {filter}");
        }
        if let Some(reason) = &line.reason {
            say!("    {reason}");
        }
    }
}

/// One line about a table whose rows are being read.
pub fn sentence(line: &CopyLine) -> String {
    let mut text = format!("{} {}: {} rows", line.table, line.state, line.rows);
    if line.rows_estimated > 0 {
        text.push_str(&format!(" of about {}", line.rows_estimated));
    }
    if let Some(rate) = line.rows_per_second {
        text.push_str(&format!(", {rate:.0}/s"));
    }
    if let Some(left) = line.eta_seconds {
        text.push_str(&format!(", {} left", duration(left)));
    }
    if let Some(reason) = &line.reason {
        text.push_str(&format!("; {reason}"));
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}
