//! `bench-latency-apply`: from a transaction's commit in a source to its row's commit in a target
//! table, through journal and canonical store, at a steady rate of small transactions; beside it a
//! native subscription of the same table.

use anyhow::Result;

use super::LOOK_EVERY;
use super::world::World;
use crate::latency::{APPLIED, BY_TRIGGER, Latencies, TABLE, lags, load};
use crate::postgres;
use crate::report::{Row, publish};

const NAME: &str = "latency-apply";
const PEER: &str = "native subscription";
/// The goals, milliseconds.
const P50_MAX: f64 = 5.0;
const P99_MAX: f64 = 20.0;
/// Of a row in the target: the commit of the transaction that wrote it.
const BY_COMMIT: &str = "pg_xact_commit_timestamp(xmin)";

const ENTITIES: &str = r#"
[entity.event]
prefix = "evt"
key = ["id"]
[entity.event.fields]
id = "integer"
shipment = "text"
code = "text"
"#;

const MAPPING: &str = r#"
source = "erp"

[[table]]
table = "sales.event"
entity = "event"
[table.fields]
id = "id"
shipment = "shipment"
code = "code"
"#;

const RULES: &str = r#"
[entity.event]
owner = "erp"

[[subscribe]]
name = "events"
entity = "event"
fields = ["shipment", "code"]
target = "copy"
table = "sales.event"
write = "insert"
key = { id = 'rec.id' }
columns = { shipment = 'rec.shipment', code = 'rec.code' }
"#;

/// Runs the benchmark.
pub fn bench(runs: u32, rate: u32, seconds: u32) -> Result<()> {
    let mut world = World::new(MAPPING, RULES, ENTITIES)?;
    let subscriber = postgres::server(&[])?;
    for server in [&world.source, &world.store, &subscriber] {
        server.sql("bench", TABLE)?;
    }
    subscriber.sql("bench", APPLIED)?;
    world.source.sql("bench", "CREATE PUBLICATION native FOR TABLE sales.event")?;
    postgres::subscribe(&subscriber, &world.source, "native")?;
    world.source.sql("bench", "INSERT INTO sales.event(shipment, code) VALUES ('first', '')")?;
    world.run_until("SELECT count(*) = 1 FROM sales.event", LOOK_EVERY)?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let mut before = 1;
    for run in 1..=runs {
        load(&world.source, rate, seconds)?;
        let count = world.source.sql("bench", "SELECT count(*) FROM sales.event")?.parse()?;
        let after = |server, when| -> Result<Latencies> {
            let all = lags(&world.source, server, when, count)?;
            Ok(Latencies::new(all.into_iter().skip(before)))
        };
        let (ours, theirs) = (after(&world.store, BY_COMMIT)?, after(&subscriber, BY_TRIGGER)?);
        before = count;
        let [half, most] = ours.beside(&theirs, run)?;
        p50.push(half);
        p99.push(most);
    }
    let goal = |pairs: &[(f64, f64)], limit| -> Vec<_> {
        pairs.iter().map(|(ours, _)| (*ours, limit)).collect()
    };
    let (goal50, goal99) = (goal(&p50, P50_MAX), goal(&p99, P99_MAX));
    let (half, most) = ("p50, ms from commit to commit", "p99, ms from commit to commit");
    publish(
        NAME,
        &[
            Row::less_is_better(NAME, "goal 5 ms", half, &goal50),
            Row::less_is_better(NAME, "goal 20 ms", most, &goal99),
            Row::less_is_better(NAME, PEER, half, &p50),
            Row::less_is_better(NAME, PEER, most, &p99),
        ],
    )
}
