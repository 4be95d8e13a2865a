//! `bench-latency-postgres`: from a transaction's commit to its being durable in the journal, against
//! its being applied by a native subscription, both at the same time from one server, at a steady
//! rate of small transactions.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use crossdock_capture::{Memory, Start};
use crossdock_harness::{Postgres, wait_until};

use crate::drain::{Kind, Task, journal, next_durable, options};
use crate::postgres;
use crate::report::{Row, publish};

const NAME: &str = "latency-postgres";
const PEER: &str = "native subscription";
/// The goal.
const LIMIT: &str = "native subscription + 5 ms";
/// Transactions at the beginning that are not counted: caches fill, plans are made.
const WARM_UP: usize = 500;
/// How long both sides may take to get what is left when the load has ended.
const REST: Duration = Duration::from_secs(60);

/// What the load fills.
pub(crate) const TABLE: &str = "CREATE SCHEMA sales;
    CREATE TABLE sales.event(id bigserial PRIMARY KEY, shipment text NOT NULL, code text NOT NULL)";
const LOAD: &str = "INSERT INTO sales.event(shipment, code) VALUES ('SHP-000812', 'PICKED');";
/// Where a subscription says when it applied a row: the commit timestamp is the publisher's.
pub(crate) const BY_TRIGGER: &str = "applied";
/// The trigger says when the row was applied, a moment before that is committed.
pub(crate) const APPLIED: &str = "ALTER TABLE sales.event ADD applied timestamptz;
    CREATE FUNCTION sales.applied() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN new.applied := clock_timestamp(); RETURN new; END $$;
    CREATE TRIGGER applied BEFORE INSERT ON sales.event
      FOR EACH ROW EXECUTE FUNCTION sales.applied();
    ALTER TABLE sales.event ENABLE ALWAYS TRIGGER applied";

/// Latencies of one run, in milliseconds, in order of size.
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Of microseconds in order of commit.
    pub fn new(micros: impl Iterator<Item = i64>) -> Self {
        let mut millis: Vec<f64> = micros.skip(WARM_UP).map(|us| us as f64 / 1_000.0).collect();
        millis.sort_by(f64::total_cmp);
        Self(millis)
    }

    /// So many percent of all are at most as large.
    fn percentile(&self, percent: usize) -> Result<f64> {
        let at = self.0.len() * percent / 100;
        self.0.get(at).copied().context("the load was shorter than its warming up")
    }

    /// p50 and p99 beside those of a subscription, which are told.
    pub fn beside(&self, subscription: &Self, run: u32) -> Result<[(f64, f64); 2]> {
        let pair = |percent| -> Result<(f64, f64)> {
            Ok((self.percentile(percent)?, subscription.percentile(percent)?))
        };
        let [(ours50, theirs50), (ours99, theirs99)] = [pair(50)?, pair(99)?];
        eprintln!(
            "run {run}: {} transactions; crossdock p50 {ours50:.2} ms, p99 {ours99:.2} ms; \
             subscription p50 {theirs50:.2} ms, p99 {theirs99:.2} ms",
            self.0.len()
        );
        Ok([(ours50, theirs50), (ours99, theirs99)])
    }
}

/// Runs the benchmark.
pub fn bench(runs: u32, rate: u32, seconds: u32) -> Result<()> {
    let publisher = postgres::server(&[("track_commit_timestamp", "on")])?;
    let subscriber = postgres::server(&[])?;
    publisher.sql("bench", TABLE)?;
    publisher.sql("bench", "CREATE PUBLICATION bench FOR TABLE sales.event")?;
    subscriber.sql("bench", TABLE)?;
    subscriber.sql("bench", APPLIED)?;
    postgres::subscribe(&subscriber, &publisher, "bench")?;
    let (mut p50, mut p99, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        let (ours, theirs) = measure(&publisher, &subscriber, rate, seconds)?;
        let [half, most] = ours.beside(&theirs, run)?;
        p50.push(half);
        p99.push(most);
        limit.push((most.0, most.1 + 5.0));
    }
    publish(
        NAME,
        &[
            Row::less_is_better(NAME, PEER, "p50, ms from commit to durable", &p50),
            Row::less_is_better(NAME, PEER, "p99, ms from commit to durable", &p99),
            Row::less_is_better(NAME, LIMIT, "p99, ms from commit to durable", &limit),
        ],
    )
}

fn measure(
    publisher: &Postgres,
    subscriber: &Postgres,
    rate: u32,
    seconds: u32,
) -> Result<(Latencies, Latencies)> {
    publisher.sql("bench", "TRUNCATE sales.event")?;
    let folder = tempfile::tempdir()?;
    let ours = std::thread::scope(|scope| {
        let (ready, begin) = std::sync::mpsc::channel();
        let task = Task {
            kind: Kind::Postgres,
            port: publisher.port(),
            from: None,
            changes: 0,
            journal: folder.path().join("journal"),
            table: "sales.event".to_string(),
            block_bytes: crossdock_capture::BLOCK_BYTES,
        };
        let (end, ended) = tokio::sync::oneshot::channel();
        let reader = scope.spawn(move || follow(&task, &ready, ended));
        // Without a reader there is nothing to wait for: its error is what counts.
        let load = if begin.recv().is_ok() { load(publisher, rate, seconds) } else { Ok(()) };
        let count = load.and_then(|()| publisher.sql("bench", "SELECT count(*) FROM sales.event"));
        let told = count.and_then(|count| Ok(end.send(count.parse::<usize>()?)));
        let ours = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        told?.ok();
        ours
    })?;
    let theirs = lags(publisher, subscriber, BY_TRIGGER, ours.len())?;
    publisher.sql(
        "bench",
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
           WHERE slot_name = 'bench' AND active;
         SELECT pg_drop_replication_slot('bench')",
    )?;
    Ok((Latencies::new(ours.into_iter()), Latencies::new(theirs.into_iter())))
}

/// Reads the stream from now on until there are as many transactions as `ended` says; returns how
/// long after its commit each was durable.
fn follow(
    task: &Task,
    ready: &std::sync::mpsc::Sender<()>,
    ended: tokio::sync::oneshot::Receiver<usize>,
) -> Result<Vec<i64>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let journal = journal(&task.journal)?;
        let mut reader =
            crossdock_capture::open(&options(task), Start::Now, Memory::default()).await?;
        // The first block says where reading begins.
        next_durable(&mut reader, &journal).await?;
        ready.send(())?;
        let (mut micros, mut expected) = (Vec::new(), None);
        tokio::pin!(ended);
        let deadline = Duration::from_secs(3_600);
        while expected.is_none_or(|expected| micros.len() < expected) {
            let limit = if expected.is_some() { REST } else { deadline };
            tokio::select! {
                blocks = next_durable(&mut reader, &journal) => {
                    let now = now_micros()?;
                    for block in blocks? {
                        for fragment in crossdock_model::block::decode(&block.bytes)? {
                            if !fragment.events.is_empty() {
                                micros.push(now - fragment.header.commit_micros);
                            }
                        }
                    }
                }
                count = &mut ended, if expected.is_none() => expected = Some(count?),
                () = tokio::time::sleep(limit) => {
                    anyhow::bail!("{} of {expected:?} transactions came", micros.len());
                }
            }
        }
        Ok(micros)
    })
}

/// How many microseconds after its commit each transaction was applied on another server, by an
/// expression over the row that says when it was.
pub(crate) fn lags(
    publisher: &Postgres,
    other: &Postgres,
    when: &str,
    count: usize,
) -> Result<Vec<i64>> {
    let all = wait_until(REST, || {
        other
            .sql("bench", "SELECT count(*) FROM sales.event")
            .is_ok_and(|there| there == count.to_string())
    });
    ensure!(all, "not all {count} transactions were applied");
    let micros = |server: &Postgres, what: &str| -> Result<Vec<i64>> {
        let rows = server.sql(
            "bench",
            &format!(
                "SELECT (extract(epoch FROM {what}) * 1000000)::int8 FROM sales.event ORDER BY id"
            ),
        )?;
        rows.lines().map(|line| Ok(line.parse()?)).collect()
    };
    let committed = micros(publisher, "pg_xact_commit_timestamp(xmin)")?;
    let applied = micros(other, when)?;
    Ok(applied.iter().zip(committed).map(|(applied, committed)| applied - committed).collect())
}

/// One-row transactions at a steady rate.
pub(crate) fn load(server: &Postgres, rate: u32, seconds: u32) -> Result<()> {
    let mut pgbench = Command::new(server.bin_dir().join("pgbench"))
        .args(["-n", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"])
        .args(["-c", "2", "-R", &rate.to_string(), "-T", &seconds.to_string()])
        .args(["-f", "/dev/stdin", "bench"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start pgbench")?;
    let mut script = pgbench.stdin.take().context("pgbench's input")?;
    script.write_all(LOAD.as_bytes())?;
    drop(script);
    ensure!(pgbench.wait()?.success(), "pgbench failed");
    Ok(())
}

fn now_micros() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}
