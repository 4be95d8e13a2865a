//! `bench-apply`: a backlog of transactions from the slot into the canonical store, with history,
//! against a native subscription that applies the same backlog to a plain table.

pub mod latency;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crossdock_harness::Postgres;

use crate::postgres;
use crate::report::{Row, publish};
use crate::workload::{CHANGES, postgres_base, postgres_schema};
use world::World;

const NAME: &str = "apply";
/// Row changes a second, end to end.
const GOAL: f64 = 40_000.0;
const MEMORY_MIB_MAX: f64 = 128.0;
/// How long the subscription may take.
const LIMIT: Duration = Duration::from_secs(1_800);
/// How often a server is asked for a row.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is asked to count all, which takes some of the processor.
const COUNT_EVERY: Duration = Duration::from_millis(100);

const MAPPING: &str = r#"
source = "erp"

[[table]]
table = "sales.order_line"
entity = "order_line"
[table.fields]
order_no = "order_id"
line_no = "line_no"
sku = "product_id"
qty_ordered = "qty"
unit_price = "unit_price"
status = "status"
description = "descr"
"#;

const RULES: &str = r#"
[entity.order_line]
owner = "erp"
"#;

/// Figures pair by pair: Crossdock first.
#[derive(Default)]
struct Pairs {
    rate: Vec<(f64, f64)>,
    goal: Vec<(f64, f64)>,
    cpu: Vec<(f64, f64)>,
    store_cpu: Vec<(f64, f64)>,
    memory: Vec<(f64, f64)>,
}

/// Runs the benchmark: `transactions` of 100 row changes each in every run, after a first copy of
/// `base` rows.
pub fn bench(runs: u32, transactions: u32, base: u32) -> Result<()> {
    let mut world = World::new(MAPPING, RULES, "")?;
    world.source.sql("bench", &postgres_base(base))?;
    world.source.sql("bench", "CREATE PUBLICATION native FOR TABLE sales.order_line")?;
    let subscriber = subscriber(&world.source)?;
    // Its parts come in any order.
    let all = format!("SELECT count(*) = {base} FROM crossdock.record");
    let first = world.run_until(&all, COUNT_EVERY)?;
    let rows = f64::from(base);
    eprintln!("first copy of {base} rows: {:.0}/s; {first:?}", rows / first.seconds);
    let mut pairs = Pairs::default();
    for run in 0..runs {
        ensure!(world.crossdock.stop()?, "it did not end well");
        subscriber.sql("bench", "ALTER SUBSCRIPTION native DISABLE")?;
        let from = run * transactions;
        world.source.sql("bench", &format!("CALL sales.fill({transactions}, {from})"))?;
        let last = u64::from(base) + 60 * u64::from(from + transactions);
        let theirs = native(&subscriber, last)?;
        let ours = world.run_until(&there(last), LOOK_EVERY)?;
        let changes = f64::from(transactions) * f64::from(CHANGES);
        let (rate, peer) = (changes / ours.seconds, changes / theirs);
        eprintln!("run {}: crossdock {rate:.0}/s, {ours:?}; subscription {peer:.0}/s", run + 1);
        pairs.rate.push((rate, peer));
        pairs.goal.push((rate, GOAL));
        pairs.cpu.push((ours.cpu_seconds * 1e6 / changes, 0.0));
        pairs.store_cpu.push((ours.store_cpu_seconds * 1e6 / changes, 0.0));
        pairs.memory.push((ours.memory_mib, MEMORY_MIB_MAX));
    }
    let metric = "row changes/s into the store with history";
    let snapshot = [(rows / first.seconds, GOAL)];
    publish(
        NAME,
        &[
            Row::more_is_better(NAME, "goal 40000/s", metric, &pairs.goal),
            Row::more_is_better(NAME, "native subscription, no history", metric, &pairs.rate),
            Row::more_is_better(NAME, "goal 40000/s", "rows/s of a first copy", &snapshot),
            Row::less_is_better(NAME, "none", "crossdock's CPU, µs a change", &pairs.cpu),
            Row::less_is_better(NAME, "none", "the store's CPU, µs a change", &pairs.store_cpu),
            Row::less_is_better(NAME, "the limit", "peak memory, MiB", &pairs.memory),
        ],
    )
}

/// Whether the record of a row is in the store.
fn there(id: u64) -> String {
    let key = format!("oln:{}:{}", id / 6, id % 6);
    format!(
        "SELECT EXISTS (SELECT FROM crossdock.record WHERE entity = 'order_line' AND key = '{key}')"
    )
}

/// A server that gets the same table by the database's own replication. It begins again at once
/// when it is told to: otherwise it would wait for five seconds, which are most of a short run.
fn subscriber(publisher: &Postgres) -> Result<Postgres> {
    let server = postgres::server(&[("wal_retrieve_retry_interval", "20ms")])?;
    server.sql("bench", postgres_schema())?;
    postgres::subscribe(&server, publisher, "native")?;
    Ok(server)
}

/// Seconds that the subscription takes for the backlog.
fn native(subscriber: &Postgres, last: u64) -> Result<f64> {
    let started = Instant::now();
    subscriber.sql("bench", "ALTER SUBSCRIPTION native ENABLE")?;
    let question = format!("SELECT EXISTS (SELECT FROM sales.order_line WHERE id = {last})");
    postgres::ask_until(subscriber, &question, LOOK_EVERY, || {
        ensure!(started.elapsed() < LIMIT, "it did not apply all: {}", subscriber.log());
        Ok(())
    })?;
    Ok(started.elapsed().as_secs_f64())
}
