//! Tries a shipped connector on the system that it is for: a private server with the system's own
//! database, the system itself driven through its own API, Crossdock with the connector as it is
//! shipped, and records that were written down by hand.
//!
//! `crossdock-connectors KIND CONNECTOR TEST -- DRIVER…`: the kind of the server, the folder of
//! the connector, whose name the database gets, the folder with `expected.toml`, and the command
//! that drives the system. Exit code 1 and a list of differences when anything is not as expected.
//!
//! Knows nothing of any system: no table, no column, no state.

mod driver;
mod expected;
mod store;
mod system;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use crossdock_harness::free_port;
use crossdock_tests::Crossdock;

use crate::driver::Driver;
use crate::expected::{Expected, Moment};
use crate::store::Store;
use crate::system::System;

/// How long Crossdock may need to catch up with one step.
const CATCH_UP: Duration = Duration::from_secs(180);
const USAGE: &str = "usage: crossdock-connectors postgres|mariadb CONNECTOR TEST -- DRIVER...";

fn main() -> ExitCode {
    match run() {
        Ok(differences) if differences.is_empty() => ExitCode::SUCCESS,
        Ok(differences) => {
            eprintln!("{} differences:\n{}", differences.len(), differences.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All differences between what came and what was expected.
fn run() -> Result<Vec<String>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, connector, test, dashes, command @ ..] = arguments.as_slice() else { bail!(USAGE) };
    if dashes != "--" || command.is_empty() {
        bail!(USAGE);
    }
    let (connector, test) = (Path::new(connector), Path::new(test));
    let mut expected = Expected::read(&test.join("expected.toml"))?;

    let name = connector.file_name().and_then(|name| name.to_str()).context(USAGE)?;
    let system = System::start(kind, name)?;
    let mut driver = Driver::start(command, &system.environment())?;
    let mut differences = Vec::new();
    let mut crossdock: Option<(Crossdock, Store, tempfile::TempDir)> = None;
    while let Some(told) = driver.next_step()? {
        if crossdock.is_none() {
            system.run_file(&connector.join("grants.sql"))?;
            crossdock = Some(start(connector, &system)?);
        }
        let Some((process, store, _)) = &mut crossdock else { continue };
        process.wait_caught_up(CATCH_UP).with_context(|| format!("step {}", told.name))?;
        let moment = Moment { from: driver.step_began(), to: SystemTime::now() };
        let found = expected.compare(&told, &store.look()?, &moment)?;
        println!("step {}: {}", told.name, if found.is_empty() { "as expected" } else { "WRONG" });
        differences.extend(found);
        driver.go_on()?;
    }
    let Some((mut process, store, _)) = crossdock else { bail!("the driver took no step") };
    differences.extend(expected.not_taken());
    differences.extend(expected.compare_folds(&process)?);
    differences.extend(contract(&process)?);
    differences.extend(restarted(&mut process, &store)?);
    Ok(differences)
}

/// A Crossdock with a store of its own and the connector as it is shipped.
fn start(connector: &Path, system: &System) -> Result<(Crossdock, Store, tempfile::TempDir)> {
    let store = Store::start()?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let mut environment = system.environment();
    environment.extend(store.environment());
    environment.push(("CROSSDOCK_LISTEN".into(), format!("127.0.0.1:{port}")));
    environment.push(("CROSSDOCK_STATE".into(), folder.path().join("state").display().to_string()));
    let config = connector.join("crossdock.toml");
    let mut process = Crossdock::new(&config, &environment, port, folder.path());
    let checked = process.run(&["check"])?;
    if !checked.status.success() {
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        bail!("crossdock check: {said}{}", String::from_utf8_lossy(&checked.stderr));
    }
    process.start()?;
    Ok((process, store, folder))
}

/// What of the system's tables is not as the connector has it on record.
fn contract(process: &Crossdock) -> Result<Vec<String>> {
    let verified = process.run(&["contract", "verify"])?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    println!("contract: {}", said.trim_end());
    // A note is a difference, too: what is on record is of this very version.
    let good = verified.status.success() && !said.contains("note");
    Ok((!good).then(|| format!("the contract is broken: {said}")).into_iter().collect())
}

/// What a restart changes, which is to be nothing.
fn restarted(process: &mut Crossdock, store: &Store) -> Result<Vec<String>> {
    let before = store.look()?;
    if !process.stop()? {
        bail!("crossdock did not end well: {}", process.log_tail());
    }
    process.start()?;
    process.wait_caught_up(CATCH_UP).context("after a restart")?;
    let after = store.look()?;
    process.stop()?;
    let changed = before != after;
    println!("restart: {}", if changed { "WRONG" } else { "nothing changes" });
    Ok(changed.then(|| "a restart changes records".to_string()).into_iter().collect())
}
