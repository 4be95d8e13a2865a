//! `bench-capture-postgres`: the same slot, copied for every run, drained by `pg_recvlogical` into
//! /dev/null and by Crossdock into its journal.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crossdock_harness::{Postgres, PostgresOptions};

use crate::drain::Measure;
use crate::report::{Row, publish};
use crate::workload::{CHANGES, postgres_base};

/// Runs the benchmark.
pub fn bench(runs: u32, transactions: u32) -> Result<()> {
    let server = Postgres::start_with(&PostgresOptions {
        durable: true,
        settings: [
            ("shared_buffers", "512MB"),
            ("max_wal_size", "8GB"),
            ("wal_sender_timeout", "0"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec(),
        ..PostgresOptions::default()
    })?;
    eprintln!("filling: {transactions} transactions of {CHANGES} row changes");
    server.sql("postgres", "CREATE DATABASE bench")?;
    server.sql("bench", &postgres_base())?;
    server.sql("bench", "CREATE PUBLICATION bench FOR TABLE sales.order_line")?;
    server.sql("bench", "SELECT pg_create_logical_replication_slot('backlog', 'pgoutput')")?;
    server.sql("bench", &format!("CALL sales.fill({transactions})"))?;
    let end = server.sql("bench", "SELECT pg_current_wal_insert_lsn()")?;
    let changes = u64::from(transactions) * u64::from(CHANGES);
    let mut pairs = Vec::new();
    let mut memory = Vec::new();
    for run in 1..=runs {
        // Turn about, so that neither side always finds the warmer cache.
        let (ours, theirs) = if run % 2 == 0 {
            let ours = crossdock(&server, changes)?;
            (ours, pg_recvlogical(&server, &end)?)
        } else {
            let theirs = pg_recvlogical(&server, &end)?;
            (crossdock(&server, changes)?, theirs)
        };
        eprintln!(
            "run {run}: crossdock {:.2} s ({:.2} s CPU, {:.0} MiB), pg_recvlogical {theirs:.2} s",
            ours.seconds, ours.cpu_seconds, ours.memory_mib
        );
        pairs.push((changes as f64 / ours.seconds, changes as f64 / theirs));
        memory.push((ours.memory_mib, 64.0));
    }
    publish(
        "capture-postgres",
        &[
            Row::more_is_better(
                "capture-postgres",
                "pg_recvlogical to /dev/null",
                "row changes/s into the durable journal",
                &pairs,
            ),
            Row::less_is_better("capture-postgres", "limit of 64 MiB", "peak memory, MiB", &memory),
        ],
    )
}

fn with_slot<T>(server: &Postgres, work: impl FnOnce() -> Result<T>) -> Result<T> {
    server.sql("bench", "SELECT pg_copy_logical_replication_slot('backlog', 'bench')")?;
    let result = work();
    server.sql(
        "bench",
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
           WHERE slot_name = 'bench' AND active;
         SELECT pg_drop_replication_slot('bench')",
    )?;
    result
}

fn crossdock(server: &Postgres, changes: u64) -> Result<Measure> {
    with_slot(server, || {
        let from = server.sql(
            "bench",
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'bench'",
        )?;
        let journal = tempfile::tempdir()?;
        let output = Command::new(std::env::current_exe()?)
            .args(["drain", "--kind", "postgres", "--user", "postgres", "--database", "bench"])
            .args(["--port", &server.port().to_string(), "--from", &from])
            .args(["--changes", &changes.to_string(), "--journal"])
            .arg(journal.path())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("what the run took")
    })
}

fn pg_recvlogical(server: &Postgres, end: &str) -> Result<f64> {
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
