//! `crossdock gaps` and `crossdock resync`.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use crossdock_model::time::instant_text;

use super::ConfigFile;
use super::checkpoints::offline;
use crate::control::Client;
use crate::gaps::{Outcome, Policy};
use crate::operator::{GapLine, Operator, SourceRequest};
use crate::wiring;

/// What to do about gaps.
#[derive(Subcommand)]
pub enum GapsCommand {
    /// Show every gap on record: when, from where, why, and what became of it.
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub async fn gaps(command: GapsCommand) -> ExitCode {
    let GapsCommand::List { config, json } = command;
    let stopped = async |operator: Operator| operator.gaps();
    super::listed(&config.config, "/gaps", json, stopped, print).await
}

fn print(lines: &[GapLine]) {
    say!("{:<12} {:<27} {:<24} {:<7} outcome", "source", "met", "after", "policy");
    for GapLine { source, gap } in lines {
        let policy = match gap.policy {
            Policy::Halt => "halt",
            Policy::Resync => "resync",
        };
        let outcome = match gap.outcome {
            Outcome::Halted => "halted".to_string(),
            Outcome::Resyncing => "resyncing".to_string(),
            Outcome::Recovered => format!("recovered {}", instant_text(gap.closed_micros)),
            Outcome::Resynced => format!("resynced {}", instant_text(gap.closed_micros)),
        };
        let met = instant_text(gap.at_micros);
        say!("{source:<12} {met:<27} {:<24} {policy:<7} {outcome}", gap.from);
        say!("    {}", gap.what);
    }
}

/// Reads all tables of a source again.
pub async fn resync(path: &Path, source: &str) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let done = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => {
                client.post("/resync", &SourceRequest { source: source.to_string() }).await
            }
            None => offline(&config)?.resync(source).await,
        }
    };
    super::moved(done.await)
}
