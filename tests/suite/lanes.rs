//! Lanes and maintenance windows: a backlog of one kind holds up no other, a record's deliveries
//! keep their order over lanes, and a target that is left alone misses nothing.
//!
//! `LANE_BACKLOG` sets the size of the backlog, `LANE_SAMPLES` how often the critical lane is
//! looked at; `make test-lanes-large` has the long form.

use std::time::{Duration, Instant};

use crossdock_harness::wait_until;

use crate::parcels::{ENTITIES, MAPPING, TABLE};
use crate::world::{LIMIT, World};

const RULES: &str = "[entity.parcel]\nowner = \"shop\"\n[entity.depot]\nowner = \"shop\"\n\n\
     [[subscribe]]\nname = \"weights\"\nkind = \"parcel.weight\"\nentity = \"parcel\"\n\
     fields = [\"weight\"]\n\
     target = \"copy\"\ntable = \"public.parcels\"\nwrite = \"upsert\"\nkey = { no = 'rec.no' }\n\
     columns = { weight = 'rec.weight' }\n\n\
     [[subscribe]]\nname = \"depots_of_parcels\"\nkind = \"parcel.depot\"\nentity = \"parcel\"\n\
     fields = [\"depot\"]\n\
     target = \"copy\"\ntable = \"public.parcels\"\nwrite = \"upsert\"\nkey = { no = 'rec.no' }\n\
     columns = { depot = 'rec.depot' }\n\n\
     [[subscribe]]\nname = \"depots\"\nkind = \"depot.name\"\nentity = \"depot\"\nfields = [\"name\"]\n\
     target = \"copy\"\ntable = \"public.depots\"\nwrite = \"upsert\"\nkey = { no = 'rec.no' }\n\
     columns = { name = 'rec.name' }\n";
const LANES: &str = "\n[[lane]]\nname = \"critical\"\nkinds = [\"parcel.depot\"]\nweight = 8\n\
     slo = \"1ms\"\n\n[[lane]]\nname = \"operational\"\ndefault = true\nweight = 4\n\n\
     [[lane]]\nname = \"bulk\"\nkinds = [\"parcel.weight\"]\nweight = 1\n";
const ALWAYS: &str = "\n[[maintenance]]\ntarget = \"copy\"\nwindow = \"00:00-24:00 UTC\"\n";
/// The short form of the comparison of waiting times. Behind the whole backlog it would be 10 s.
const SAMPLES: u64 = 30;
const ROOM_MILLIS: f64 = 1_000.0;
/// So many samples have a 99th percentile, and are compared on a machine without other work. A
/// heavy lane waits for one batch of a light one, which is made to take 8 ms.
const SAMPLES_OF_P99: u64 = 200;
const ROOM_ALONE_MILLIS: f64 = 100.0;
const URGENT: &str = "\n[[lane]]\nname = \"critical\"\nkinds = [\"depot.name\"]\nweight = 8\n\n\
     [[lane]]\nname = \"bulk\"\ndefault = true\nweight = 1\n";
/// A parcel takes half a millisecond; what happens to each is on record.
const TARGET: &str = "CREATE TABLE depots (no int PRIMARY KEY, name text);
     CREATE TABLE parcels (no int PRIMARY KEY, weight numeric, depot int);
     CREATE TABLE seen (id serial, no int, weight numeric, depot int);
     CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_sleep(0.0005);
            INSERT INTO seen (no, weight, depot) VALUES (NEW.no, NEW.weight, NEW.depot);
            RETURN NEW; END $$;
     CREATE TRIGGER see AFTER INSERT OR UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION see();
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";

fn world(rules: &str) -> World {
    let world = World::new(TABLE, "publication = \"crossdock\"");
    world.store.sql("copy", TARGET).unwrap();
    world.file("entities/all.toml", ENTITIES);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", rules);
    world
}

fn ask(world: &World, sql: &str) -> String {
    world.store.sql("copy", sql).unwrap().trim().to_string()
}

fn count(world: &World, table: &str) -> u64 {
    ask(world, &format!("SELECT count(*) FROM {table}")).parse().unwrap()
}

#[test]
fn a_backlog_holds_up_its_own_lane_only_and_no_record_is_overtaken() {
    let backlog: u64 = std::env::var("LANE_BACKLOG").map_or(20_000, |n| n.parse().unwrap());
    let mut world = world(&(RULES.to_string() + LANES));
    world.start();
    let told = |world: &World, no: u64| {
        let begun = Instant::now();
        world.sql(&format!("INSERT INTO depots VALUES ({no}, 'd')"));
        let there = format!("SELECT count(*) FROM depots WHERE no = {no}");
        assert!(wait_until(LIMIT, || ask(world, &there) == "1"), "{}", world.crossdock.log_tail());
        begun.elapsed()
    };
    let mut quiet: Vec<Duration> = (0..10).map(|no| told(&world, no)).collect();
    world.sql(&format!("INSERT INTO parcels SELECT n, n FROM generate_series(1, {backlog}) AS n"));
    let owed = "SELECT count(*) FROM crossdock.delivery WHERE rule = 'weights'";
    let all_owed = || world.store.sql("canonical", owed).unwrap().trim() == backlog.to_string();
    assert!(wait_until(LIMIT * 5, all_owed), "{}", world.crossdock.log_tail());
    let mut busy: Vec<Duration> = (10..20).map(|no| told(&world, no)).collect();
    assert!(count(&world, "parcels") < backlog, "the backlog was gone too soon to say anything");

    // A parcel at the end of the backlog: its depot is urgent, and its weight comes before it.
    world.sql(&format!("UPDATE parcels SET depot = 1 WHERE no = {backlog}"));
    let depot = format!("SELECT depot FROM parcels WHERE no = {backlog}");
    assert!(wait_until(LIMIT, || ask(&world, &depot) == "1"), "{}", world.crossdock.log_tail());
    assert!(count(&world, "parcels") < backlog, "the others of the backlog still wait");
    let seen = format!(
        "SELECT string_agg(weight || ':' || coalesce(depot::text, '-'), ' ' ORDER BY id)
         FROM seen WHERE no = {backlog}"
    );
    assert_eq!(ask(&world, &seen), format!("{backlog}:- {backlog}:1"));

    // Killed in the middle, everything arrives once.
    world.crossdock.kill();
    world.crossdock.start().unwrap();
    assert!(wait_until(LIMIT * 5, || count(&world, "parcels") == backlog));
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(count(&world, "seen"), backlog + 1, "each once");
    let metrics = world.crossdock.page("/metrics").unwrap();
    assert!(metrics.contains("crossdock_deliveries_late_total{lane="), "{metrics}");
    quiet.sort();
    busy.sort();
    eprintln!("told after {:?} (median {:?}) without backlog,", quiet[9], quiet[5]);
    eprintln!("after {:?} (median {:?}) with {backlog} waiting", busy[9], busy[5]);
}

#[test]
fn a_target_is_left_alone_in_its_window_and_drained_in_order_after_it() {
    let mut world = world(&(RULES.to_string() + ALWAYS));
    world.crossdock.start().unwrap();
    let ready = || world.crossdock.page("/readyz").is_ok_and(|page| page == "ready\n");
    assert!(wait_until(LIMIT, ready), "nothing is wrong: {}", world.crossdock.log_tail());
    world.sql("INSERT INTO parcels SELECT n, 1 FROM generate_series(1, 300) AS n");
    world.sql("UPDATE parcels SET weight = 2, depot = 7");
    let owed = "SELECT count(*) FROM crossdock.delivery";
    let all_owed = || world.store.sql("canonical", owed).is_ok_and(|count| count.trim() == "900");
    assert!(wait_until(LIMIT, all_owed), "{}", world.crossdock.log_tail());
    let status = world.crossdock.status().unwrap();
    assert_eq!(status["targets"][0]["state"], "maintenance", "{status:#}");
    assert_eq!(count(&world, "parcels"), 0);
    let log = world.crossdock.log_tail();
    assert!(!log.contains("interrupted") || !log.contains("copy: "), "{log}");
    assert!(world.crossdock.stop().unwrap());

    // Meanwhile somebody has introduced lanes: what is owed already keeps its order.
    world.file("rules/all.toml", &(RULES.to_string() + LANES));
    world.start();
    world.sql("UPDATE parcels SET weight = 3");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let end = "SELECT count(*) FROM parcels WHERE weight = 3 AND depot = 7";
    assert!(wait_until(LIMIT, || ask(&world, end) == "300"), "{}", world.crossdock.log_tail());
    let back = "SELECT count(*) FROM (
                    SELECT weight < lag(weight) OVER (PARTITION BY no ORDER BY id) AS wrong
                    FROM seen) AS s WHERE wrong";
    assert_eq!(ask(&world, back), "0", "no parcel went back");
    let list = world.done(&["checkpoints", "list"]);
    assert!(list.contains("copy"), "{list}");
    world.done(&["rewind", "--target", "copy", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert!(wait_until(LIMIT, || ask(&world, end) == "300"), "{}", world.crossdock.log_tail());
}

/// Percentiles in milliseconds: median and 99th.
type Waited = (f64, f64);

/// The source writes depots one after the other; how long until the target has each.
fn waited(world: &World, first: u64, samples: u64) -> Waited {
    let last = first + samples - 1;
    let one = |no| {
        format!("INSERT INTO depots VALUES ({no}, clock_timestamp()); SELECT pg_sleep(0.02);\n")
    };
    world.sql(&(first..=last).map(one).collect::<String>());
    let those = format!("FROM depots WHERE no BETWEEN {first} AND {last}");
    let there = || ask(world, &format!("SELECT count(*) {those}")) == samples.to_string();
    assert!(wait_until(LIMIT, there), "{}", world.crossdock.log_tail());
    let of = |share: &str| -> f64 {
        let sql = format!(
            "SELECT percentile_disc({share}) WITHIN GROUP
                 (ORDER BY extract(epoch FROM seen_at - name::timestamptz) * 1000) {those}"
        );
        ask(world, &sql).parse().unwrap()
    };
    (of("0.5"), of("0.99"))
}

/// Deliveries put straight into the store, as many of one lane as it takes integrate long to make:
/// copies of one that it has made, each about a parcel of its own.
fn owe_parcels(world: &World, many: u64) {
    let sql = format!(
        "WITH one AS (SELECT writes FROM crossdock.delivery WHERE rule = 'weights' LIMIT 1),
         base AS (UPDATE crossdock.meta SET delivery_seq = delivery_seq + {many}
                  RETURNING delivery_seq - {many} AS base)
         INSERT INTO crossdock.delivery (seq, event_id, target, rule, entity, key, writes)
         SELECT base + n, gen_random_uuid(), 'copy', 'weights', 'parcel', 'par:' || n + 1000,
             jsonb_set(writes, '{{0,key,0,1}}', jsonb_build_object('int', n + 1000))
         FROM one, base, generate_series(1, {many}) AS n"
    );
    world.store.sql("canonical", &sql).unwrap();
}

#[test]
fn the_critical_lane_waits_no_longer_behind_a_backlog() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let backlog = setting("LANE_BACKLOG").unwrap_or(20_000);
    let samples = setting("LANE_SAMPLES").unwrap_or(SAMPLES);
    let mut world = world(&(RULES.to_string() + URGENT));
    let seen = "ALTER TABLE depots ADD seen_at timestamptz DEFAULT clock_timestamp()";
    world.store.sql("copy", seen).unwrap();
    world.start();
    world.sql("INSERT INTO parcels VALUES (1, 1)");
    assert!(wait_until(LIMIT, || count(&world, "parcels") == 1));
    let quiet = waited(&world, 1, samples);
    owe_parcels(&world, backlog);
    assert!(wait_until(LIMIT, || count(&world, "parcels") > 100), "{}", world.crossdock.log_tail());
    let busy = waited(&world, samples + 1, samples);
    let done = count(&world, "parcels");
    assert!(done < backlog, "the backlog was gone too soon to say anything");
    eprintln!("critical lane, {samples} samples, milliseconds from commit to the target's row:");
    eprintln!("quiet:  p50 {:.1}, p99 {:.1}", quiet.0, quiet.1);
    eprintln!("behind {backlog} deliveries ({done} made): p50 {:.1}, p99 {:.1}", busy.0, busy.1);
    assert!(busy.0 <= quiet.0 + ROOM_MILLIS, "{quiet:?}, {busy:?}");
    if samples >= SAMPLES_OF_P99 {
        assert!(busy.1 <= quiet.1 + ROOM_ALONE_MILLIS, "{quiet:?}, {busy:?}");
    }
}

#[test]
fn a_lane_that_gathers_tells_the_last_of_many_changes() {
    const GATHERING: &str = "\n[[lane]]\nname = \"critical\"\nkinds = [\"depot.name\"]\n\n\
         [[lane]]\nname = \"bulk\"\ndefault = true\ncoalesce = \"2s\"\n";
    let mut world = world(&(RULES.to_string() + GATHERING));
    world.start();
    let changes = |n| format!("UPDATE parcels SET weight = {n} WHERE no < 3;");
    let changes: String = (2..=20).map(changes).collect();
    world.sql(&format!("INSERT INTO parcels VALUES (1, 1), (2, 1); {changes}"));
    // Somebody else is told at once.
    world.sql("INSERT INTO depots VALUES (1, 'north')");
    assert!(wait_until(LIMIT, || count(&world, "depots") == 1));
    let last = "SELECT count(*) FROM parcels WHERE weight = 20";
    assert!(wait_until(LIMIT, || ask(&world, last) == "2"), "{}", world.crossdock.log_tail());
    let owed = "SELECT count(*) FROM crossdock.delivery WHERE rule = 'weights'";
    assert_eq!(world.store.sql("canonical", owed).unwrap().trim(), "40");
    let seen = count(&world, "seen");
    assert!(seen < 40, "{seen} writes: nothing was gathered");
    let metrics = world.crossdock.page("/metrics").unwrap();
    let gathered = format!("crossdock_deliveries_coalesced_total{{target=\"copy\"}} {}", 40 - seen);
    assert!(metrics.contains(&gathered), "{gathered}\n{metrics}");
    let back =
        "SELECT count(*) FROM (SELECT weight < lag(weight) OVER (PARTITION BY no ORDER BY id)
                    AS wrong FROM seen) AS s WHERE wrong";
    assert_eq!(ask(&world, back), "0", "no parcel went back");
}
