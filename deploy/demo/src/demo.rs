//! The whole run: systems, history, Crossdock, workload, verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::MissedTickBehavior;

use crate::live::{View, Work};
use crate::seed;
use crate::service::{Crossdock, Status};
use crate::systems::{Systems, TmsKind};
use crate::verify;
use crate::workload::{Ports, Workload};

/// How long the first snapshot may take.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long catching up may take once the workload has stopped.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(180);
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Nothing may happen for this long before the state counts as final.
const QUIET_FOR: Duration = Duration::from_secs(2);
const LOG_LINES: usize = 25;

/// How the demo is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the workload runs; `None`: until the demo is interrupted.
    pub duration: Option<Duration>,
    /// New orders a second.
    pub rate: f64,
    /// What the workload is derived from.
    pub seed: u64,
    /// The program `crossdock`.
    pub crossdock: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Which database the TMS runs on.
    pub tms: TmsKind,
}

/// Runs the demo; true when the verdict is good. Everything that it starts has ended when it
/// returns or is dropped.
pub async fn run(settings: &Settings) -> Result<bool> {
    println!("Starting the ERP, two warehouse systems, the TMS and the store ...");
    let tms = settings.tms;
    let systems = tokio::task::spawn_blocking(move || start_systems(tms)).await??;
    print_servers(&systems);
    let work = tempfile::Builder::new().prefix("crossdock-demo-").tempdir()?;
    let crossdock = Crossdock::start(&settings.crossdock, &settings.config, &systems, work.path())?;
    println!("\nCrossdock: {}   metrics: {}", crossdock.url("/status"), crossdock.url("/metrics"));
    println!("Its log:   {}\n", crossdock.log_file().display());
    let outcome = play(settings, &systems, &crossdock).await;
    if !matches!(outcome, Ok(true)) {
        eprintln!("\nThe end of Crossdock's log:\n{}", crossdock.log_tail(LOG_LINES));
        eprintln!("\nLog and state are kept in {}", work.keep().display());
    }
    outcome
}

async fn play(settings: &Settings, systems: &Systems, crossdock: &Crossdock) -> Result<bool> {
    println!("Waiting for the first copy of all tables ...");
    let begun = Instant::now();
    settle(crossdock, READY_WITHIN).await.context("the first copy was not completed")?;
    println!("Copied and applied after {:.1} s.", begun.elapsed().as_secs_f64());

    let mut workload = Workload::new(settings.seed, Ports::from(systems));
    work(settings, systems, crossdock, &mut workload).await?;
    println!("\nThe workload has stopped after {} orders; catching up ...", workload.started());
    let status = settle(crossdock, CAUGHT_UP_WITHIN).await.context("it did not catch up")?;
    let mut checks = tokio::task::block_in_place(|| verify::verify(systems, workload.model()))?;
    checks.extend(verify::verify_status(&status));
    println!("\n{}", verify::table(&checks));
    let ok = verify::all_ok(&checks);
    println!("{}", if ok { "Everything is as it must be." } else { "Some of it differs." });
    Ok(ok)
}

/// Starts the systems and writes the history.
pub fn start_systems(tms: TmsKind) -> Result<Systems> {
    let systems = Systems::start(tms)?;
    seed::fill(&systems).context("write the history")?;
    Ok(systems)
}

/// Prints how to look into each server.
pub fn print_servers(systems: &Systems) {
    let postgres = |name: &str, port: u16, database: &str| {
        println!("  {name:7} psql -h 127.0.0.1 -p {port} -U postgres {database}");
    };
    let binlog = |name: &str, client: &str, port: u16, database: &str| {
        println!("  {name:7} {client} -h 127.0.0.1 -P {port} -u root {database}");
    };
    postgres("erp", systems.erp.port(), "erp");
    binlog("wms_eu", "mariadb", systems.wms_eu.port(), "wms");
    postgres("wms_us", systems.wms_us.port(), "wms_us");
    binlog("tms", systems.tms.kind(), systems.tms.port(), "tms");
    postgres("store", systems.store.port(), "canonical");
}

/// Starts orders at the asked rate, and shows how it goes.
async fn work(
    settings: &Settings,
    systems: &Systems,
    crossdock: &Crossdock,
    workload: &mut Workload,
) -> Result<()> {
    let begun = Instant::now();
    let mut view = View::default();
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / settings.rate));
    // After an outage the applications go on at their pace; they do not make up for it.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while settings.duration.is_none_or(|duration| begun.elapsed() < duration) {
        pace.tick().await;
        workload.round(true).await?;
        if view.due() {
            if !crossdock.is_running() {
                bail!("the crossdock process has ended");
            }
            let states = tokio::task::block_in_place(|| states(systems)).unwrap_or_default();
            let now = Work {
                orders: workload.started(),
                under_way: workload.under_way(),
                transactions: workload.transactions(),
            };
            view.show(&crossdock.status().await.unwrap_or_default(), &states, now);
        }
    }
    Ok(())
}

/// Orders by how far they are, as the store has it.
fn states(systems: &Systems) -> Result<Vec<(String, u64)>> {
    let rows = systems.store.sql(
        "canonical",
        "SELECT coalesce(fields ->> 'fulfilment', 'unknown'), count(*) FROM crossdock.record \
         WHERE entity = 'sales_order' AND NOT deleted GROUP BY 1 ORDER BY 2 DESC",
    )?;
    let parsed = rows.lines().filter_map(|line| line.split_once('|'));
    Ok(parsed.map(|(state, count)| (state.to_owned(), count.parse().unwrap_or(0))).collect())
}

/// Waits until Crossdock has nothing left to do, and nothing has happened for a while.
pub async fn settle(crossdock: &Crossdock, limit: Duration) -> Result<Status> {
    let begun = Instant::now();
    let mut quiet: Option<(Status, Instant)> = None;
    let mut missing = "it does not answer".to_owned();
    while begun.elapsed() < limit {
        if !crossdock.is_running() {
            bail!("the crossdock process has ended");
        }
        if let Ok(status) = crossdock.status().await {
            missing = status.what_is_missing();
            quiet = match quiet {
                Some((earlier, since)) if status.is_settled_since(&earlier) => {
                    if since.elapsed() >= QUIET_FOR {
                        return Ok(status);
                    }
                    Some((status, since))
                }
                _ => Some((status, Instant::now())),
            };
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    bail!("still busy after {} s: {missing}", limit.as_secs())
}
