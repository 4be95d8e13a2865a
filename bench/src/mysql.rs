//! `bench-capture-mysql`: the same binlog, read from the server by Debezium's connector into /dev/null
//! where that is installed, and by Crossdock into its journal.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{MySql, MySqlOptions};

use crate::debezium::{self, Debezium};
use crate::drain::{Ask, Kind};
use crate::report::{Row, publish};
use crate::workload::{CHANGES, Flavor, binlog_base};

const NAME: &str = "capture-mysql";
/// The goal for memory, whatever the backlog.
const MEMORY_MIB_MAX: f64 = 64.0;
/// How often a row is written until Debezium has seen one.
const NUDGE: Duration = Duration::from_millis(500);

/// A private server that need not sync what the benchmark fills it with.
pub fn server() -> Result<MySql> {
    MySql::start_with(&MySqlOptions {
        durable: false,
        settings: [
            ("innodb_buffer_pool_size", "512M"),
            ("max_binlog_size", "1G"),
            ("cte_max_recursion_depth", "4294967295"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec(),
    })
}

/// Runs the benchmark.
pub fn bench(runs: u32, transactions: u32, block_bytes: usize, debezium: bool) -> Result<()> {
    let debezium = if debezium { Debezium::find()? } else { None };
    let server = server()?;
    let changes = u64::from(transactions) * u64::from(CHANGES);
    eprintln!("filling: {changes} row changes");
    server.sql("", &binlog_base(Flavor::Mysql))?;
    let begun = tempfile::tempdir()?;
    if let Some(debezium) = &debezium {
        begin(&server, debezium, begun.path())?;
    }
    let status = server.sql("", "SHOW BINARY LOG STATUS")?;
    let mut fields = status.split('\t');
    let file = fields.next().context("a binlog file")?.to_string();
    let from = format!("{file}:{}", fields.next().context("a binlog position")?);
    server.sql("", &format!("CALL sales.fill({transactions})"))?;
    let (kind, port) = (Kind::Mysql, server.port());
    let ask = Ask { kind, port, from: Some(&from), changes, block_bytes };
    let (mut rate, mut memory) = (Vec::new(), Vec::new());
    let (mut debezium_rate, mut debezium_memory) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let ours = ask.run()?;
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.0} MiB)",
            ours.seconds, ours.cpu_seconds, ours.memory_mib
        );
        rate.push(changes as f64 / ours.seconds);
        memory.push((ours.memory_mib, MEMORY_MIB_MAX));
        let Some(debezium) = &debezium else { continue };
        let folder = tempfile::tempdir()?;
        for file in ["offsets", "history"] {
            fs::copy(begun.path().join(file), folder.path().join(file))?;
        }
        let theirs = debezium.mysql(port, "when_needed", changes, folder.path())?;
        eprintln!("run {run}: {theirs}");
        debezium_rate.push((changes as f64 / ours.seconds, theirs.rate()));
        debezium_memory.push((ours.memory_mib, theirs.memory_mib));
    }
    let metric = "row changes/s into the durable journal";
    let mut table = vec![Row::less_is_better(NAME, "the limit", "peak memory, MiB", &memory)];
    if debezium_rate.is_empty() {
        eprintln!("row changes/s: {rate:.0?}");
    } else {
        table.insert(0, Row::more_is_better(NAME, debezium::NAME, metric, &debezium_rate));
        let memory = "peak memory, MiB";
        table.push(Row::less_is_better(NAME, debezium::NAME, memory, &debezium_memory));
    }
    publish(NAME, &table)
}

/// Lets Debezium begin where the log ends now: it has to have seen a change to know where it is.
fn begin(server: &MySql, debezium: &Debezium, folder: &Path) -> Result<()> {
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| debezium.mysql(server.port(), "no_data", 1, folder));
        while !reading.is_finished() {
            server.sql("sales", "UPDATE order_line SET line_no = line_no + 1 WHERE id = 100000")?;
            std::thread::sleep(NUDGE);
        }
        let seen = reading.join().ok().context("Debezium's thread")?;
        ensure!(seen.is_ok(), "Debezium did not begin: {:?}", seen.err());
        anyhow::Ok(())
    })
}
