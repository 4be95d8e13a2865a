//! `bench-snapshot-postgres`, `-mariadb` and `-mysql`: a table's rows into the durable journal, against
//! the database's own client reading them to /dev/null, and Debezium's snapshot where that is
//! installed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{Daemon, Postgres};

use crate::debezium::{self, Debezium};
use crate::drain::{Ask, Kind, Measure};
use crate::report::{Row, publish};
use crate::workload::{Flavor, binlog_base, binlog_transaction, postgres_table};
use crate::{mariadb, mysql, postgres};

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
    for run in 1..=runs {
        let ours = pairs.run(run, rows, "COPY", ours, || copy(&server))?;
        let Some(debezium) = &debezium else { continue };
        let theirs = debezium.postgres(server.port(), "initial", events)?;
        eprintln!("run {run}: {theirs}");
        drop_slot(&server)?;
        pairs.debezium(rows, &ours, &theirs);
    }
    let name = "snapshot-postgres";
    publish(name, &pairs.rows(name, "COPY … TO STDOUT to /dev/null"))
}

/// Against `mariadb --quick` selecting.
pub fn mariadb(runs: u32, rows: u32, block_bytes: usize) -> Result<()> {
    let server = mariadb::server()?;
    fill(&server, Flavor::Mariadb, rows)?;
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

/// Against MySQL's client selecting, and Debezium.
pub fn mysql(runs: u32, rows: u32, block_bytes: usize, debezium: bool) -> Result<()> {
    let debezium = if debezium { Debezium::find()? } else { None };
    let server = mysql::server()?;
    fill(&server, Flavor::Mysql, rows)?;
    let events = u64::from(rows);
    let ours = || {
        let (kind, port) = (Kind::Mysql, server.port());
        Ask { kind, port, from: None, changes: events, block_bytes }.run()
    };
    let mut pairs = Pairs::default();
    for run in 1..=runs {
        let ours = pairs.run(run, rows, "mariadb", ours, || select(&server))?;
        let Some(debezium) = &debezium else { continue };
        let folder = tempfile::tempdir()?;
        let theirs = debezium.mysql(server.port(), "initial", events, folder.path())?;
        eprintln!("run {run}: {theirs}");
        pairs.debezium(rows, &ours, &theirs);
    }
    let name = "snapshot-mysql";
    publish(name, &pairs.rows(name, "mariadb --quick to /dev/null"))
}

/// The table with so many rows.
fn fill(server: &Daemon, flavor: Flavor, rows: u32) -> Result<()> {
    eprintln!("filling: {rows} rows");
    server.sql("", &binlog_base(flavor))?;
    server.sql("sales", "TRUNCATE order_line")?;
    server.sql("sales", &binlog_transaction(flavor, rows))?;
    server.sql("sales", "ANALYZE TABLE order_line")?;
    Ok(())
}

/// What the runs took, pair by pair: Crossdock first.
#[derive(Default)]
struct Pairs {
    rate: Vec<(f64, f64)>,
    memory: Vec<(f64, f64)>,
    debezium_rate: Vec<(f64, f64)>,
    debezium_memory: Vec<(f64, f64)>,
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

    /// Debezium's side of a run.
    fn debezium(&mut self, rows: u32, ours: &Measure, theirs: &debezium::Measure) {
        self.debezium_rate.push((f64::from(rows) / ours.seconds, theirs.rate()));
        self.debezium_memory.push((ours.memory_mib, theirs.memory_mib));
    }

    fn rows(&self, bench: &str, peer: &str) -> Vec<Row> {
        let mut rows = vec![
            Row::more_is_better(bench, peer, METRIC, &self.rate),
            Row::less_is_better(bench, "the limit", MEMORY, &self.memory),
        ];
        if !self.debezium_rate.is_empty() {
            let peer = debezium::NAME;
            rows.push(Row::more_is_better(bench, peer, METRIC, &self.debezium_rate));
            rows.push(Row::less_is_better(bench, peer, MEMORY, &self.debezium_memory));
        }
        rows
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

fn select(server: &Daemon) -> Result<f64> {
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
