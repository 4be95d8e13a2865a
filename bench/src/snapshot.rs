//! `bench-snapshot-postgres` and `bench-snapshot-mariadb`: a table's rows into the durable journal,
//! against the database's own client reading them to /dev/null, and Debezium's snapshot where that
//! is installed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{MariaDb, Postgres};

use crate::debezium::{self, Debezium};
use crate::drain::{Ask, Kind, Measure};
use crate::report::{Row, publish};
use crate::workload::{mariadb_base, mariadb_transaction, postgres_table};
use crate::{mariadb, postgres};

const METRIC: &str = "rows/s into the durable journal";
const MEMORY: &str = "peak memory, MiB";
/// The goal for memory, whatever the size of the table.
const MEMORY_MIB_MAX: f64 = 64.0;

/// Against `COPY … TO STDOUT`, and Debezium.
pub fn postgres(runs: u32, rows: u32, block_bytes: usize, debezium: bool) -> Result<()> {
    let debezium = if debezium { Debezium::find()? } else { None };
    let server = postgres::server(&[])?;
    eprintln!("filling: {rows} rows");
    server.sql("bench", &postgres_table(rows))?;
    server.sql("bench", "CREATE PUBLICATION bench FOR TABLE sales.order_line")?;
    let events = u64::from(rows);
    let ours = || {
        let (kind, port) = (Kind::Postgres, server.port());
        let measure = Ask { kind, port, from: None, changes: events, block_bytes }.run()?;
        drop_slot(&server)?;
        Ok(measure)
    };
    let mut pairs = Pairs::default();
    let (mut debezium_rate, mut debezium_memory) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let ours = pairs.run(run, rows, "COPY", ours, || copy(&server))?;
        let Some(debezium) = &debezium else { continue };
        let theirs = debezium.read(server.port(), "initial", events)?;
        eprintln!("run {run}: {theirs}");
        drop_slot(&server)?;
        debezium_rate.push((f64::from(rows) / ours.seconds, theirs.rate()));
        debezium_memory.push((ours.memory_mib, theirs.memory_mib));
    }
    let name = "snapshot-postgres";
    let mut table = pairs.rows(name, "COPY … TO STDOUT to /dev/null");
    if !debezium_rate.is_empty() {
        table.push(Row::more_is_better(name, debezium::NAME, METRIC, &debezium_rate));
        table.push(Row::less_is_better(name, debezium::NAME, MEMORY, &debezium_memory));
    }
    publish(name, &table)
}

/// Against `mariadb --quick` selecting.
pub fn mariadb(runs: u32, rows: u32, block_bytes: usize) -> Result<()> {
    let server = mariadb::server()?;
    eprintln!("filling: {rows} rows");
    server.sql("", &mariadb_base())?;
    server.sql("sales", "TRUNCATE order_line")?;
    server.sql("sales", &mariadb_transaction(rows))?;
    server.sql("sales", "ANALYZE TABLE order_line")?;
    let ours = || {
        let (kind, port) = (Kind::Mariadb, server.port());
        Ask { kind, port, from: None, changes: u64::from(rows), block_bytes }.run()
    };
    let mut pairs = Pairs::default();
    for run in 1..=runs {
        pairs.run(run, rows, "mariadb", ours, || select(&server))?;
    }
    let name = "snapshot-mariadb";
    publish(name, &pairs.rows(name, "mariadb --quick to /dev/null"))
}

/// What the runs took, pair by pair: Crossdock first.
#[derive(Default)]
struct Pairs {
    rate: Vec<(f64, f64)>,
    memory: Vec<(f64, f64)>,
}

impl Pairs {
    /// Runs both sides, turn about, so that neither always finds the warmer cache.
    fn run(
        &mut self,
        run: u32,
        rows: u32,
        peer: &str,
        ours: impl Fn() -> Result<Measure>,
        theirs: impl Fn() -> Result<f64>,
    ) -> Result<Measure> {
        let (ours, theirs) = if run.is_multiple_of(2) {
            let ours = ours()?;
            (ours, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        };
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.0} MiB), {peer} {theirs:.2} s",
            ours.seconds, ours.cpu_seconds, ours.memory_mib
        );
        self.rate.push((f64::from(rows) / ours.seconds, f64::from(rows) / theirs));
        self.memory.push((ours.memory_mib, MEMORY_MIB_MAX));
        Ok(ours)
    }

    fn rows(&self, bench: &str, peer: &str) -> Vec<Row> {
        vec![
            Row::more_is_better(bench, peer, METRIC, &self.rate),
            Row::less_is_better(bench, "the limit", MEMORY, &self.memory),
        ]
    }
}

/// A reader that has just gone may still hold its slot.
fn drop_slot(server: &Postgres) -> Result<()> {
    server.sql(
        "bench",
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
           WHERE slot_name = 'bench' AND active;
         SELECT pg_drop_replication_slot('bench')",
    )?;
    Ok(())
}

fn copy(server: &Postgres) -> Result<f64> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"]);
    psql.args(["-d", "bench", "-c", "COPY sales.order_line TO STDOUT"]);
    timed(&mut psql)
}

fn select(server: &MariaDb) -> Result<f64> {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "-uroot", "-h", "127.0.0.1", "--quick", "-N", "-B"]);
    client.args(["-P", &server.port().to_string(), "sales"]);
    client.args(["-e", "SELECT * FROM order_line"]);
    timed(&mut client)
}

fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdout(Stdio::null()).status().with_context(|| program.clone())?;
    ensure!(status.success(), "{program} failed");
    Ok(started.elapsed().as_secs_f64())
}
