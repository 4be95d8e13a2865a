//! The process ends at every point before and after something becomes durable, for each kind of
//! target: nothing is lost, doubled or out of order.
//!
//! `CRASH_POINTS` sets how often the process ends; every point has its turn. `make crash` has the
//! long form.

use std::fs;
use std::time::Duration;

use crossdock_harness::service::Service;
use crossdock_harness::wait_until;
use serde_json::Value as Json;

use crate::world::{LIMIT, World};

/// Every point of the program, and how often it is passed at most in one life of this test's.
const POINTS: [&str; 21] = [
    "ingest.before_append",
    "ingest.before_sync",
    "ingest.after_sync",
    "ingest.after_checkpoint",
    "ingest.after_acknowledge",
    "integrate.before_commit",
    "integrate.after_commit",
    "deliver.before_apply",
    "deliver.after_apply",
    "deliver.after_checkpoint",
    "deliver.after_park",
    "deliver.after_pass_over",
    "deliver.before_again_done",
    "deliver.after_pull",
    "mirror.before_apply",
    "mirror.after_apply",
    "http.after_post",
    "file.half_written",
    "file.before_sync",
    "file.after_sync",
    "file.before_close",
];
/// A point that is not reached in this time is not reached.
const PATIENCE: Duration = Duration::from_secs(4);

const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";
const ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                      no = \"integer\"\nweight = \"integer\"\n";
const MAPPING: &str = "source = \"shop\"\n\n[[table]]\ntable = \"public.parcels\"\n\
     entity = \"parcel\"\n\n[table.fields]\nno = \"no\"\nweight = \"weight\"\n";
/// Weights of 1000 and more are refused by the database.
const TARGET: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int);
     CREATE TABLE inbox (event_id text PRIMARY KEY, no int, weight int, n serial,
         CHECK (weight < 1000));
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";
const LANES: &str = "\n[[lane]]\nname = \"critical\"\nkinds = [\"heavy\"]\nweight = 8\n\n\
     [[lane]]\nname = \"rest\"\ndefault = true\n";

fn rules() -> String {
    let mut rules = "[entity.parcel]\nowner = \"shop\"\n".to_string() + LANES;
    for target in ["copy", "portal", "lines"] {
        // Two rules for one record, in two lanes.
        for (name, kind, when) in
            [("all", "any", "true"), ("heavy", "heavy", "rec.weight % 2 == 0")]
        {
            rules += &format!(
                "\n[[subscribe]]\nname = \"{target}_{name}\"\nkind = \"{kind}\"\n\
                 entity = \"parcel\"\nfields = [\"weight\"]\nwhen = '{when}'\n\
                 target = \"{target}\"\ntable = \"public.inbox\"\nwrite = \"insert\"\n\
                 key = {{ event_id = 'event_id' }}\n\
                 columns = {{ no = 'rec.no', weight = 'rec.weight' }}\n"
            );
        }
    }
    rules
}

fn world(service: &Service) -> World {
    let world = World::new(TABLE, "publication = \"crossdock\"");
    world.store.sql("copy", TARGET).unwrap();
    world.file("entities/all.toml", ENTITY);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", &rules());
    let config = fs::read_to_string(world.config()).unwrap();
    let copy = "[target.copy]\nexceptions_max = 100000\n";
    fs::write(world.config(), config.replace("[target.copy]\n", copy)).unwrap();
    world.append(&format!(
        "\n[target.portal]\nkind = \"http\"\nurl = \"http://127.0.0.1:{}/hooks\"\n\
         on_conflict = \"done\"\n\n[target.lines]\nkind = \"file\"\nfolder = \"lines\"\n\
         rotate_bytes = \"4KiB\"\n\n[mirror.parcels]\nsource = \"shop\"\ntarget = \"copy\"\n\
         tables = [\"public.parcels\"]\n",
        service.port()
    ));
    world
}

/// What a target was owed, in the order of each record.
fn owed(world: &World, target: &str, but: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT key, event_id FROM crossdock.delivery WHERE target = '{target}' {but}
         ORDER BY key, seq"
    );
    pairs(&world.store.sql("canonical", &sql).unwrap())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.trim().split_once('|').map(|(a, b)| (a.into(), b.into()));
    text.lines().filter_map(pair).collect()
}

/// Sorts by record, and keeps the order of each.
fn by_record(told: impl Iterator<Item = Json>) -> Vec<(String, String)> {
    let text = |json: &Json| json.as_str().unwrap().to_string();
    let mut told: Vec<_> = told.map(|t| (text(&t["key"]), text(&t["event_id"]))).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

fn lines(world: &World) -> Vec<(String, String)> {
    let folder = world.config().parent().unwrap().join("lines");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".jsonl"));
    paths.sort();
    let text: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    by_record(text.lines().map(|line| serde_json::from_str(line).unwrap()))
}

/// Changes some rows; every second time to something that a database refuses.
fn change(world: &World, round: u64) {
    let odd = if round.is_multiple_of(2) { 1_000 + round } else { round % 900 };
    world.sql(&format!(
        "INSERT INTO parcels SELECT n, n FROM generate_series({0}, {0} + 4) AS n;
         UPDATE parcels SET weight = {odd} WHERE no = {0};
         UPDATE parcels SET weight = (weight + 1) % 900 WHERE no % 7 = {1}",
        round * 5 + 1,
        round % 7
    ));
}

#[test]
fn ending_anywhere_loses_doubles_and_swaps_nothing() {
    let wanted: u64 = std::env::var("CRASH_POINTS").map_or(21, |n| n.parse().unwrap());
    let service = Service::start().unwrap();
    let mut world = world(&service);
    world.start();
    let mut reached = [0_u64; POINTS.len()];
    let mut ended = 0;
    for round in 0..wanted {
        let at = usize::try_from(round).unwrap() % POINTS.len();
        // Points that are passed often are met at the first, second, third … passing.
        let times = 1 + round / u64::try_from(POINTS.len()).unwrap() % 4;
        let crash = format!("{}:{times}", POINTS[at]);
        change(&world, round);
        if world.crossdock.pid().is_some() {
            world.crossdock.kill();
        }
        world.crossdock.start_with(&[("CROSSDOCK_CRASH_AT", &crash)]).unwrap();
        change(&world, wanted + round);
        if POINTS[at] == "deliver.before_again_done" {
            let again = || world.crossdock.run(&["exceptions", "retry", "--all"]).is_ok();
            assert!(again());
        }
        match world.crossdock.wait_ended(PATIENCE) {
            true => (reached[at], ended) = (reached[at] + 1, ended + 1),
            false => world.crossdock.kill(),
        }
    }
    world.start();
    compare(&world, &service);
    let never: Vec<_> = POINTS.iter().zip(reached).filter(|(_, n)| *n == 0).collect();
    eprintln!("ended at {ended} of {wanted} points; never at {never:?}");
    assert!(ended * 2 >= wanted, "most points are reached: {never:?}");
}

fn compare(world: &World, service: &Service) {
    // What the database refuses is dealt with: rows that are too heavy are let in at last.
    world.store.sql("copy", "ALTER TABLE inbox DROP CONSTRAINT inbox_weight_check").unwrap();
    world.done(&["exceptions", "retry", "--all", "--by", "test"]);
    let rows = "SELECT no, weight FROM parcels ORDER BY no";
    let told = || {
        let sql =
            "SELECT 'par:' || no, event_id FROM inbox ORDER BY ('par:' || no) COLLATE \"C\", n";
        pairs(&world.store.sql("copy", sql).unwrap())
    };
    let expected = owed(world, "copy", "");
    let same = wait_until(LIMIT, || told() == expected);
    let found = told();
    let first = expected.iter().zip(&found).find(|(a, b)| a != b);
    let log = world.crossdock.log_tail();
    assert!(same, "{} owed, {} told, {first:?}\n{log}", expected.len(), found.len());
    let mirrored = || world.store.sql("copy", rows).unwrap().trim() == world.sql(rows);
    assert!(wait_until(LIMIT, mirrored), "the mirror differs");
    assert_eq!(lines(world), owed(world, "lines", ""), "files");
    let log = service.log();
    let taken = log.lock().unwrap().taken.clone();
    let taken = by_record(taken.iter().map(|t| serde_json::from_str(&t.body).unwrap()));
    assert_eq!(taken, owed(world, "portal", ""), "the service");
}
