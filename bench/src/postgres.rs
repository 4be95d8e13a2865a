//! `bench-capture-postgres`: the same slot, copied for every run, drained by `pg_recvlogical` into
//! /dev/null, by Debezium into /dev/null where it is installed, and by Crossdock into its journal.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crossdock_harness::{Postgres, PostgresOptions, wait_until};

use crate::debezium::{self, Debezium};
use crate::drain::{Ask, Kind, Measure, ticks};
use crate::report::{Row, publish};
use crate::workload::{BASE, CHANGES, postgres_base, postgres_transaction};

/// What there is to drain.
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

    fn fill(self) -> String {
        match self {
            Self::Transactions { count } => format!("CALL sales.fill({count})"),
            Self::OneTransaction { rows } => postgres_transaction(rows),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Transactions { .. } => "capture-postgres",
            Self::OneTransaction { .. } => "large-transaction-postgres",
        }
    }

    /// The goal for memory: any backlog; one transaction of ten million rows.
    fn memory_mib_max(self) -> f64 {
        match self {
            Self::Transactions { .. } => 64.0,
            Self::OneTransaction { .. } => 128.0,
        }
    }
}

/// A private server that writes to disk for real, with an empty database `bench`.
pub fn server(settings: &[(&str, &str)]) -> Result<Postgres> {
    let always = [("shared_buffers", "512MB"), ("max_wal_size", "8GB")];
    let server = Postgres::start_with(&PostgresOptions {
        durable: true,
        settings: (always.iter().chain(settings))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        ..PostgresOptions::default()
    })?;
    server.sql("postgres", "CREATE DATABASE bench")?;
    Ok(server)
}

/// Asks a server every so often until the answer is true, or `go_on` fails. One connection asks all the time: a
/// new one for each question would take more of the processors than what is measured allows. A
/// question that fails, because a table is not there yet, is asked again.
pub fn ask_until(
    server: &Postgres,
    question: &str,
    every: Duration,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<()> {
    let at = format!("host=127.0.0.1 port={} user=postgres dbname=bench", server.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&at, tokio_postgres::NoTls).await?;
        let answering = tokio::spawn(connection);
        loop {
            let answer = client.query_one(question, &[]).await;
            if answer.is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true)) {
                break;
            }
            go_on()?;
            tokio::time::sleep(every).await;
        }
        drop(client);
        Ok(answering.await??)
    })
}

/// How long a subscription may take to begin.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(1_800);

/// Has one server get the tables of another's publication by the database's own replication,
/// subscription `native`, and waits until the rows that are there have come.
pub fn subscribe(subscriber: &Postgres, publisher: &Postgres, publication: &str) -> Result<()> {
    let port = publisher.port();
    subscriber.sql(
        "bench",
        &format!(
            "CREATE SUBSCRIPTION native
               CONNECTION 'host=127.0.0.1 port={port} user=postgres dbname=bench'
               PUBLICATION {publication}"
        ),
    )?;
    let synced = wait_until(SUBSCRIBED_WITHIN, || {
        subscriber
            .sql("bench", "SELECT every(srsubstate = 'r') FROM pg_subscription_rel")
            .is_ok_and(|answer| answer == "t")
    });
    ensure!(synced, "the subscription did not begin: {}", subscriber.log());
    Ok(())
}

/// What the runs took, pair by pair: Crossdock first.
#[derive(Default)]
struct Pairs {
    rate: Vec<(f64, f64)>,
    server_cpu: Vec<(f64, f64)>,
    memory: Vec<(f64, f64)>,
    debezium_rate: Vec<(f64, f64)>,
    debezium_memory: Vec<(f64, f64)>,
}

/// Runs the benchmark.
pub fn bench(runs: u32, backlog: Backlog, block_bytes: usize, debezium: bool) -> Result<()> {
    let debezium = if debezium { Debezium::find()? } else { None };
    let server = server(&[])?;
    let changes = backlog.changes();
    eprintln!("filling: {changes} row changes");
    server.sql("bench", &postgres_base(BASE))?;
    server.sql("bench", "CREATE PUBLICATION bench FOR TABLE sales.order_line")?;
    server.sql("bench", "SELECT pg_create_logical_replication_slot('backlog', 'pgoutput')")?;
    server.sql("bench", &backlog.fill())?;
    let end = server.sql("bench", "SELECT pg_current_wal_insert_lsn()")?;
    let mut pairs = Pairs::default();
    for run in 1..=runs {
        // Turn about, so that neither side always finds the warmer cache.
        let ((ours, ours_cpu), (theirs, theirs_cpu)) = if run % 2 == 0 {
            let ours = crossdock(&server, changes, block_bytes)?;
            (ours, pg_recvlogical(&server, &end)?)
        } else {
            let theirs = pg_recvlogical(&server, &end)?;
            (crossdock(&server, changes, block_bytes)?, theirs)
        };
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.2} s of the server's, {:.0} MiB), \
             pg_recvlogical {:.2} s ({:.2} s of the server's)",
            ours.seconds, ours.cpu_seconds, ours_cpu, ours.memory_mib, theirs, theirs_cpu
        );
        let rate = changes as f64 / ours.seconds;
        pairs.rate.push((rate, changes as f64 / theirs));
        pairs.memory.push((ours.memory_mib, backlog.memory_mib_max()));
        pairs.server_cpu.push((ours_cpu, theirs_cpu));
        if let Some(debezium) = &debezium {
            let (theirs, _) =
                with_slot(&server, || debezium.postgres(server.port(), "no_data", changes))?;
            eprintln!("run {run}: {theirs}");
            pairs.debezium_rate.push((rate, theirs.rate()));
            pairs.debezium_memory.push((ours.memory_mib, theirs.memory_mib));
        }
    }
    publish(backlog.name(), &rows(backlog.name(), &pairs))
}

fn rows(bench: &str, pairs: &Pairs) -> Vec<Row> {
    let (tool, metric) = ("pg_recvlogical to /dev/null", "row changes/s into the durable journal");
    let mut rows = vec![
        Row::more_is_better(bench, tool, metric, &pairs.rate),
        Row::less_is_better(bench, tool, "server's CPU, s", &pairs.server_cpu),
        Row::less_is_better(bench, "the limit", "peak memory, MiB", &pairs.memory),
    ];
    if !pairs.debezium_rate.is_empty() {
        rows.extend([
            Row::more_is_better(bench, debezium::NAME, metric, &pairs.debezium_rate),
            Row::less_is_better(bench, debezium::NAME, "peak memory, MiB", &pairs.debezium_memory),
        ]);
    }
    rows
}

/// Does something with a fresh copy of the slot; also returns the CPU seconds that the server took.
fn with_slot<T>(server: &Postgres, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let before = children_cpu(server.pid())?;
    server.sql("bench", "SELECT pg_copy_logical_replication_slot('backlog', 'bench')")?;
    let result = work();
    server.sql(
        "bench",
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
           WHERE slot_name = 'bench' AND active;
         SELECT pg_drop_replication_slot('bench')",
    )?;
    Ok((result?, children_cpu(server.pid())? - before))
}

/// CPU seconds of the processes that a process has started and that have ended.
fn children_cpu(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat, 13).context("/proc/PID/stat")
}

fn crossdock(server: &Postgres, changes: u64, block_bytes: usize) -> Result<(Measure, f64)> {
    with_slot(server, || {
        let from = server.sql(
            "bench",
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'bench'",
        )?;
        let (kind, port) = (Kind::Postgres, server.port());
        Ask { kind, port, from: Some(&from), changes, block_bytes }.run()
    })
}

fn pg_recvlogical(server: &Postgres, end: &str) -> Result<(f64, f64)> {
    with_slot(server, || {
        let started = Instant::now();
        let status = Command::new(server.bin_dir().join("pg_recvlogical"))
            .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"])
            .args(["-d", "bench", "--slot", "bench", "--start", "--no-loop", "--endpos", end])
            .args(["-o", "proto_version=1", "-o", "publication_names=bench", "-f", "/dev/null"])
            .status()?;
        ensure!(status.success(), "pg_recvlogical failed");
        Ok(started.elapsed().as_secs_f64())
    })
}
