//! `crossdock-demo`: four systems, a workload, and Crossdock between them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use crossdock_demo::demo::{self, Settings};
use crossdock_demo::systems::TmsKind;
use tokio::signal::unix::{SignalKind, signal};

/// A manufacturer on private servers: one ERP, two warehouse systems, one TMS; and Crossdock.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The database that the TMS runs on.
    #[arg(long, global = true, value_enum, default_value_t)]
    tms: TmsKind,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, play the workload, and check the result.
    Run(RunArguments),
    /// Start the systems with their history, print how to reach them, and wait for Ctrl-C.
    Systems,
}

#[derive(Args)]
struct RunArguments {
    /// Seconds of workload; 0 runs until Ctrl-C.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// New orders a second; each is some twenty transactions.
    #[arg(long, default_value_t = 8.0)]
    rate: f64,
    /// The same seed and number of orders give the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program under test [default: `crossdock` beside this program].
    #[arg(long)]
    crossdock: Option<PathBuf>,
    /// Its configuration.
    #[arg(long, default_value_os_t = default_config())]
    config: PathBuf,
}

fn default_config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crossdock.toml")
}

fn main() -> ExitCode {
    match start() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crossdock-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<bool> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Run(run) => {
                let settings = settings(run, arguments.tms)?;
                tokio::select! {
                    outcome = demo::run(&settings) => outcome,
                    stopped = interrupted() => stopped.map(|()| {
                        println!("\nStopping everything ...");
                        true
                    }),
                }
            }
            Command::Systems => {
                println!("Starting the servers ...");
                let systems =
                    tokio::task::spawn_blocking(move || demo::start_systems(arguments.tms))
                        .await??;
                demo::print_servers(&systems);
                for (name, value) in systems.environment() {
                    println!("  {name}={value}");
                }
                println!("Ctrl-C stops them.");
                interrupted().await?;
                Ok(true)
            }
        }
    })
}

fn settings(run: RunArguments, tms: TmsKind) -> Result<Settings> {
    if !(run.rate > 0.0 && run.rate <= 1000.0) {
        bail!("--rate must be between 0 and 1000 orders a second");
    }
    let crossdock = match run.crossdock {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("crossdock"),
    };
    let duration = (run.seconds > 0).then(|| Duration::from_secs(run.seconds));
    Ok(Settings { duration, rate: run.rate, seed: run.seed, crossdock, config: run.config, tms })
}

/// Returns when somebody asks the demo to stop.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
