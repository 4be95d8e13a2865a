//! `bench-capture-mariadb`: the same binlog, read from the server by `mariadb-binlog`, decoding rows
//! into /dev/null, and by Crossdock into its journal.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{MariaDb, MariaDbOptions};

use crate::drain::Measure;
use crate::report::{Row, publish};
use crate::workload::{CHANGES, mariadb_base};

/// Runs the benchmark.
pub fn bench(runs: u32, transactions: u32) -> Result<()> {
    let server = MariaDb::start_with(&MariaDbOptions {
        durable: false,
        settings: [
            ("innodb_buffer_pool_size", "512M"),
            ("innodb_log_file_size", "512M"),
            ("max_binlog_size", "1G"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec(),
    })?;
    eprintln!("filling: {transactions} transactions of {CHANGES} row changes");
    server.sql("", &mariadb_base())?;
    server.sql("", "FLUSH BINARY LOGS")?;
    let status = server.sql("", "SHOW MASTER STATUS")?;
    let mut fields = status.split('\t');
    let file = fields.next().context("a binlog file")?.to_string();
    let from = format!("{file}:{}", fields.next().context("a binlog position")?);
    server.sql("", &format!("CALL sales.fill({transactions})"))?;
    server.sql("", "FLUSH BINARY LOGS")?;
    let changes = u64::from(transactions) * u64::from(CHANGES);
    let mut pairs = Vec::new();
    let mut memory = Vec::new();
    for run in 1..=runs {
        let (ours, theirs) = if run % 2 == 0 {
            let ours = crossdock(&server, &from, changes)?;
            (ours, mariadb_binlog(&server, &file)?)
        } else {
            let theirs = mariadb_binlog(&server, &file)?;
            (crossdock(&server, &from, changes)?, theirs)
        };
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.0} MiB), mariadb-binlog {theirs:.2} s",
            ours.seconds, ours.cpu_seconds, ours.memory_mib
        );
        pairs.push((changes as f64 / ours.seconds, changes as f64 / theirs));
        memory.push((ours.memory_mib, 64.0));
    }
    publish(
        "capture-mariadb",
        &[
            Row::more_is_better(
                "capture-mariadb",
                "mariadb-binlog -v to /dev/null",
                "row changes/s into the durable journal",
                &pairs,
            ),
            Row::less_is_better("capture-mariadb", "limit of 64 MiB", "peak memory, MiB", &memory),
        ],
    )
}

fn crossdock(server: &MariaDb, from: &str, changes: u64) -> Result<Measure> {
    let journal = tempfile::tempdir()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["drain", "--kind", "mariadb", "--user", "root", "--database", "sales"])
        .args(["--port", &server.port().to_string(), "--from", from])
        .args(["--changes", &changes.to_string(), "--journal"])
        .arg(journal.path())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what the run took")
}

fn mariadb_binlog(server: &MariaDb, file: &str) -> Result<f64> {
    let started = Instant::now();
    let status = Command::new("mariadb-binlog")
        .args(["--no-defaults", "--read-from-remote-server", "-uroot", "-h", "127.0.0.1"])
        .args(["-P", &server.port().to_string(), "--base64-output=DECODE-ROWS", "-v", file])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "mariadb-binlog failed");
    Ok(started.elapsed().as_secs_f64())
}
