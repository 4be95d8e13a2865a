//! Records of one target are divided over several connections: each record keeps its order, parents
//! are there before those that refer to them, and another number of workers begins where the last
//! one has ended.

use std::fs;

use crossdock_harness::wait_until;

use crate::parcels::{ENTITIES, MAPPING, RULES, TABLE};
use crate::world::{LIMIT, World};

/// Every weight that a parcel has had.
const WEIGHTS: &str = "\n[[subscribe]]\nname = \"weights\"\nentity = \"parcel\"\nfields = [\"weight\"]\n\
     target = \"copy\"\ntable = \"public.inbox\"\nwrite = \"insert\"\n\
     key = { event_id = 'event_id' }\ncolumns = { no = 'rec.no', weight = 'rec.weight' }\n";
const TARGET: &str = "CREATE TABLE depots (no int PRIMARY KEY, name text);
     CREATE TABLE parcels (no int PRIMARY KEY, weight numeric,
         depot int NOT NULL REFERENCES depots (no));
     CREATE TABLE inbox (event_id text PRIMARY KEY, id serial, no int, weight numeric,
         by int DEFAULT pg_backend_pid());
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";
const RECORDS: u32 = 200;

fn workers(world: &mut World, before: u32, now: u32) {
    world.crossdock.kill();
    let config = fs::read_to_string(world.config()).unwrap();
    let (before, now) = (format!("workers = {before}\n"), format!("workers = {now}\n"));
    fs::write(world.config(), config.replace(&before, &now)).unwrap();
    world.crossdock.start().unwrap();
}

/// Every parcel gets the next weight, in transactions of their own, and a depot that is new.
fn change(world: &World, round: u32) {
    let depot = |no: u32| no + round * RECORDS;
    let sql: String = (1..=RECORDS)
        .map(|no| {
            format!(
                "INSERT INTO depots VALUES ({depot}, 'd');
                 INSERT INTO parcels VALUES ({no}, {round}, {depot})
                     ON CONFLICT (no) DO UPDATE SET weight = {round}, depot = {depot};\n",
                depot = depot(no)
            )
        })
        .collect();
    world.sql(&sql);
}

fn copy(world: &World, sql: &str) -> String {
    world.store.sql("copy", sql).unwrap().trim().to_string()
}

fn check(world: &World, rounds: u32) {
    let all = "SELECT count(*) FROM inbox";
    let told = || copy(world, all) == (rounds * RECORDS).to_string();
    assert!(wait_until(LIMIT, told), "{}\n{}", copy(world, all), world.crossdock.log_tail());
    let order = "SELECT DISTINCT string_agg FROM (
                     SELECT string_agg(weight::text, ' ' ORDER BY id) FROM inbox GROUP BY no) AS t";
    let expected: Vec<String> = (1..=rounds).map(|round| round.to_string()).collect();
    assert_eq!(copy(world, order), expected.join(" "), "each record in its order, once");
    let rows = "SELECT no, weight, depot FROM parcels ORDER BY no";
    let same = || copy(world, rows) == world.sql(rows);
    assert!(wait_until(LIMIT, same), "{}", world.crossdock.log_tail());
}

#[test]
fn records_are_divided_and_keep_their_order_whatever_their_number_is() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    let config = fs::read_to_string(world.config()).unwrap();
    let with = config.replace("[target.copy]\n", "[target.copy]\nworkers = 4\n");
    fs::write(world.config(), with).unwrap();
    world.store.sql("copy", TARGET).unwrap();
    world.file("entities/all.toml", ENTITIES);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", &(RULES.to_string() + WEIGHTS));
    world.start();
    change(&world, 1);
    change(&world, 2);
    check(&world, 2);
    assert_eq!(copy(&world, "SELECT count(DISTINCT by) FROM inbox"), "4", "all have worked");
    // The process ends while something is on its way, and comes back with other workers.
    for (round, before, now) in [(3, 4, 3), (4, 3, 1), (5, 1, 4)] {
        change(&world, round);
        workers(&mut world, before, now);
        check(&world, round);
    }
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let exceptions = world.done(&["exceptions", "list", "--json"]);
    assert_eq!(exceptions.trim(), "[]", "who waited for a parent has had it");
    // A rewound target ends the same: what was told is told again, and known.
    world.done(&["rewind", "--target", "copy", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    check(&world, 5);
}
