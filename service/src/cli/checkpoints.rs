//! `crossdock checkpoints` and `crossdock rewind`: through the running process when there is one,
//! otherwise on the state itself.

use std::path::Path;
use std::process::ExitCode;

use crossdock_config::Config;

use super::WhichArguments;
use crate::control::{Client, RewindRequest, SaveRequest};
use crate::operator::{Line, Moved, Operator, Which};
use crate::wiring;

/// Prints progress and savepoints.
pub async fn list(path: &Path, json: bool) -> ExitCode {
    let stopped = async |operator: Operator| operator.list().await;
    super::listed(path, "/checkpoints", json, stopped, print).await
}

fn print(lines: &[Line]) {
    say!("{:<10} {:<24} {:>10}  {:<27} position", "what", "name", "number", "time");
    for line in lines {
        let time = match line.at_micros {
            0 => "-".to_string(),
            at => crossdock_model::time::instant_text(at),
        };
        say!(
            "{:<10} {:<24} {:>10}  {time:<27} {}",
            line.kind,
            line.name,
            line.number,
            line.position
        );
        if !line.note.is_empty() {
            say!("    {}", line.note);
        }
    }
}

/// Gives the present progress a name.
pub async fn save(path: &Path, name: &str) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let saved = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => {
                let request = SaveRequest { name: name.to_string() };
                client.post("/savepoints", &request).await
            }
            None => offline(&config)?.save(name).await,
        }
    };
    match saved.await {
        Ok(()) => {
            say!("saved {name}");
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

/// Moves progress back.
pub async fn rewind(path: &Path, which: WhichArguments, to: &str) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let which = match (which.source, which.target) {
        (Some(source), _) => Which::Source(source),
        (_, Some(target)) => Which::Target(target),
        _ => Which::Integrate,
    };
    let moved: anyhow::Result<Moved> = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => {
                client.post("/rewind", &RewindRequest { which, to: to.to_string() }).await
            }
            None => offline(&config)?.rewind(&which, to).await,
        }
    }
    .await;
    super::moved(moved)
}

/// Commands on the state itself, when no process runs.
pub fn offline(config: &Config) -> anyhow::Result<Operator> {
    let state = wiring::open_state(config)?;
    Ok(wiring::stopped_operator(config, &state))
}
