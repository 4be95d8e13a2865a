//! `bench-capture-mariadb`: the same binlog, read from the server by `mariadb-binlog`, decoding rows
//! into /dev/null, and by Crossdock into its journal.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{MariaDb, MariaDbOptions};

use crate::drain::{Ask, Kind};
use crate::report::{Row, publish};
use crate::workload::{CHANGES, Flavor, binlog_base, binlog_transaction};

/// What there is in the binlog.
#[derive(Clone, Copy)]
pub enum Backlog {
    /// Transactions of [`CHANGES`] row changes.
    Transactions { count: u32 },
    /// One that inserts rows.
    OneTransaction { rows: u32 },
}

impl Backlog {
    fn changes(self) -> u64 {
        match self {
            Self::Transactions { count } => u64::from(count) * u64::from(CHANGES),
            Self::OneTransaction { rows } => u64::from(rows),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Transactions { .. } => "capture-mariadb",
            Self::OneTransaction { .. } => "large-transaction-mariadb",
        }
    }

    fn memory_mib_max(self) -> f64 {
        match self {
            Self::Transactions { .. } => 64.0,
            Self::OneTransaction { .. } => 128.0,
        }
    }
}

/// A private server that need not sync what the benchmark fills it with.
pub fn server() -> Result<MariaDb> {
    MariaDb::start_with(&MariaDbOptions {
        durable: false,
        settings: [
            ("innodb_buffer_pool_size", "512M"),
            ("innodb_log_file_size", "512M"),
            ("max_binlog_size", "1G"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec(),
    })
}

/// Runs the benchmark.
pub fn bench(runs: u32, backlog: Backlog, block_bytes: usize) -> Result<()> {
    let server = server()?;
    let changes = backlog.changes();
    eprintln!("filling: {changes} row changes");
    server.sql("", &binlog_base(Flavor::Mariadb))?;
    server.sql("", "FLUSH BINARY LOGS")?;
    let status = server.sql("", "SHOW MASTER STATUS")?;
    let mut fields = status.split('\t');
    let file = fields.next().context("a binlog file")?.to_string();
    let from = format!("{file}:{}", fields.next().context("a binlog position")?);
    match backlog {
        Backlog::Transactions { count } => server.sql("", &format!("CALL sales.fill({count})"))?,
        Backlog::OneTransaction { rows } => {
            server.sql("sales", &binlog_transaction(Flavor::Mariadb, rows))?
        }
    };
    server.sql("", "FLUSH BINARY LOGS")?;
    let (kind, port) = (Kind::Mariadb, server.port());
    let ask = Ask { kind, port, from: Some(&from), changes, block_bytes };
    let (mut pairs, mut memory) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let (ours, theirs) = if run % 2 == 0 {
            let ours = ask.run()?;
            (ours, mariadb_binlog(&server, &file)?)
        } else {
            let theirs = mariadb_binlog(&server, &file)?;
            (ask.run()?, theirs)
        };
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.0} MiB), mariadb-binlog {theirs:.2} s",
            ours.seconds, ours.cpu_seconds, ours.memory_mib
        );
        pairs.push((changes as f64 / ours.seconds, changes as f64 / theirs));
        memory.push((ours.memory_mib, backlog.memory_mib_max()));
    }
    let (name, tool) = (backlog.name(), "mariadb-binlog -v to /dev/null");
    publish(
        name,
        &[
            Row::more_is_better(name, tool, "row changes/s into the durable journal", &pairs),
            Row::less_is_better(name, "the limit", "peak memory, MiB", &memory),
        ],
    )
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
