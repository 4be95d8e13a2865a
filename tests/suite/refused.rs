//! A target that refuses a row: it is set aside with its context, what follows of the same record
//! waits behind it, all others go on; a person tries it again or discards it.

use crossdock_harness::wait_until;
use serde_json::Value as Json;

use crate::parcels::{ENTITIES, MAPPING, RULES, TABLE};
use crate::world::{LIMIT, World};

/// What was written, in order, beside the state.
const TARGET: &str = "CREATE TABLE depots (no int PRIMARY KEY, name text);
     CREATE TABLE parcels (no int PRIMARY KEY, weight numeric,
         depot int REFERENCES depots (no),
         CONSTRAINT not_too_heavy CHECK (weight < 100));
     CREATE TABLE seen (id serial, no int, weight numeric);
     CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen (no, weight) VALUES (NEW.no, NEW.weight); RETURN NEW; END $$;
     CREATE TRIGGER see AFTER INSERT OR UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION see();
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";

/// Events instead of a state, and which transaction has brought each.
const EVENTS: &str = "[entity.parcel]\nowner = \"shop\"\n[entity.depot]\nowner = \"shop\"\n\n\
     [[subscribe]]\nname = \"weights\"\nentity = \"parcel\"\nfields = [\"weight\"]\n\
     target = \"copy\"\ntable = \"public.inbox\"\nwrite = \"insert\"\n\
     key = { event_id = 'event_id' }\ncolumns = { no = 'rec.no', weight = 'rec.weight' }\n";
const INBOX: &str = "CREATE TABLE inbox (event_id text PRIMARY KEY, id serial, no int,
         weight numeric, by bigint DEFAULT txid_current(),
         CONSTRAINT not_too_heavy CHECK (weight < 1000));
     GRANT ALL ON inbox TO crossdock; GRANT ALL ON SEQUENCE inbox_id_seq TO crossdock;";
const ALWAYS: &str = "\n[[maintenance]]\ntarget = \"copy\"\nwindow = \"00:00-24:00 UTC\"\n";
/// Followers of one record, and how many of them go in one transaction.
const FOLLOWERS: usize = 200;
const TOGETHER: usize = 50;

fn started(settings: &str) -> World {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    if !settings.is_empty() {
        let config = std::fs::read_to_string(world.config()).unwrap();
        let with = config.replace("[target.copy]\n", &format!("[target.copy]\n{settings}\n"));
        std::fs::write(world.config(), with).unwrap();
    }
    world.store.sql("copy", TARGET).unwrap();
    world.file("entities/all.toml", ENTITIES);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", RULES);
    world.start();
    world
}

fn parcels(world: &World) -> String {
    let sql = "SELECT no, weight FROM parcels ORDER BY no";
    world.store.sql("copy", sql).unwrap().trim().replace('\n', " ")
}

fn wait_for(world: &World, expected: &str) {
    let reached = wait_until(LIMIT, || parcels(world) == expected);
    assert!(reached, "{} instead of {expected}\n{}", parcels(world), world.crossdock.log_tail());
}

fn exceptions(world: &World) -> Vec<Json> {
    serde_json::from_str(&world.done(&["exceptions", "list", "--json"])).unwrap()
}

#[test]
fn a_refused_row_waits_with_its_followers_and_nobody_else() {
    let mut world = started("");
    world.sql("INSERT INTO parcels SELECT n, n FROM generate_series(1, 40) AS n WHERE n <> 7");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    // One transaction, so that good and bad ones meet in one batch.
    world.sql("UPDATE parcels SET weight = CASE no WHEN 9 THEN 90017 ELSE 2 END WHERE no < 20");
    assert!(wait_until(LIMIT, || !exceptions(&world).is_empty()), "{}", world.crossdock.log_tail());
    world.sql("UPDATE parcels SET weight = 50 WHERE no = 9");
    world.sql("UPDATE parcels SET weight = 51 WHERE no = 9");
    world.sql("UPDATE parcels SET weight = 3 WHERE no = 10");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let all = |nine: &str| {
        let weight = |n: u32| match n {
            9 => nine.to_string(),
            10 => "3".to_string(),
            n if n < 20 => "2".to_string(),
            n => n.to_string(),
        };
        let rows = (1..=40).filter(|n| *n != 7).map(|n| format!("{n}|{}", weight(n)));
        rows.collect::<Vec<_>>().join(" ")
    };
    wait_for(&world, &all("9"));

    let [open] = &exceptions(&world)[..] else { panic!("{:?}", exceptions(&world)) };
    assert_eq!((&open["kind"], &open["source"]), (&"delivery_refused".into(), &"copy".into()));
    assert_eq!((&open["key"], &open["waiting"]), (&"par:9".into(), &2.into()), "{open:#}");
    let context = &open["context"];
    assert_eq!(context["code"], "SQLSTATE 23514");
    assert_eq!(context["writes"][0]["new"]["weight"], "90017", "{context:#}");
    assert_eq!(context["writes"][0]["current"]["weight"], "9", "{context:#}");
    assert_eq!(context["changes"]["weight"].to_string(), r#"["9","90017"]"#, "{context:#}");
    let text = open["text"].as_str().unwrap();
    assert!(text.contains("not_too_heavy") && !text.contains("90017"), "{text}");
    assert!(!world.crossdock.log_tail().contains("90017"), "no values in logs");

    // Tried again too early it stays; after a kill it still does.
    let id = open["id"].as_str().unwrap().to_string();
    world.done(&["exceptions", "retry", &id, "--by", "anna"]);
    let again = wait_until(LIMIT, || exceptions(&world)[0]["count"] == 2);
    assert!(again, "{:?}", exceptions(&world));
    world.crossdock.kill();
    world.start();
    wait_for(&world, &all("9"));

    world.store.sql("copy", "ALTER TABLE parcels DROP CONSTRAINT not_too_heavy").unwrap();
    world.done(&["exceptions", "retry", &id[..8], "--by", "bert"]);
    wait_for(&world, &all("51"));
    assert!(wait_until(LIMIT, || exceptions(&world).is_empty()));
    let seen = "SELECT string_agg(weight::text, ' ' ORDER BY id) FROM seen WHERE no = 9";
    // What has waited is told as everything is: the last of several that come together.
    assert_eq!(world.store.sql("copy", seen).unwrap().trim(), "9 90017 51", "in order, once");
    let show = world.done(&["exceptions", "show", &id]);
    assert!(show.contains("closed") && show.contains("retry by anna"), "{show}");
    // A rewound target ends the same.
    world.done(&["rewind", "--target", "copy", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    wait_for(&world, &all("51"));
    assert!(world.crossdock.stop().unwrap());
}

#[test]
fn a_discarded_row_is_never_written_and_its_followers_are() {
    let world = started("exceptions_max = 1");
    world.sql("INSERT INTO parcels VALUES (1, 1), (2, 200), (3, 3)");
    assert!(wait_until(LIMIT, || !exceptions(&world).is_empty()), "{}", world.crossdock.log_tail());
    world.sql("UPDATE parcels SET weight = 20 WHERE no = 2");
    wait_for(&world, "1|1 3|3");
    // Beyond the budget everything halts, and says so.
    world.sql("INSERT INTO parcels VALUES (4, 400)");
    world.sql("INSERT INTO parcels VALUES (5, 5)");
    let halted = || {
        let status = world.crossdock.status().unwrap();
        status["targets"][0]["error"].as_str().is_some_and(|e| e.contains("exceptions_max = 1"))
    };
    assert!(wait_until(LIMIT, halted), "{:#}", world.crossdock.status().unwrap());
    let [open] = &exceptions(&world)[..] else { panic!("{:?}", exceptions(&world)) };
    let id = open["id"].as_str().unwrap();
    assert!(world.refused(&["exceptions", "discard", id]).contains("--reason"));
    world.done(&["exceptions", "discard", id, "--reason", "typed wrong", "--by", "carl"]);
    wait_for(&world, "1|1 2|20 3|3 5|5");
    let list = world.done(&["exceptions", "list"]);
    assert!(list.contains("par:4") && !list.contains("par:2"), "{list}");
    assert!(world.done(&["exceptions", "show", id]).contains("by carl"));
    assert!(world.refused(&["exceptions", "discard", id, "--reason", "x"]).contains("closed"));
    assert!(world.refused(&["exceptions", "show", "ffff"]).contains("no exception"));
    // Replayed, it stays discarded.
    world.done(&["rewind", "--target", "copy", "--to", "0"]);
    wait_for(&world, "1|1 2|20 3|3 5|5");
}

#[test]
fn rows_without_their_parent_are_tried_again_when_it_arrives() {
    let world = started("");
    world.sql("INSERT INTO parcels VALUES (1, 1, 5), (2, 2, NULL)");
    wait_for(&world, "2|2");
    assert!(wait_until(LIMIT, || !exceptions(&world).is_empty()), "{}", world.crossdock.log_tail());
    world.sql("UPDATE parcels SET weight = 1.5 WHERE no = 1");
    wait_for(&world, "2|2");
    assert_eq!(exceptions(&world)[0]["kind"], "missing_parent");
    world.sql("INSERT INTO depots VALUES (5, 'north')");
    wait_for(&world, "1|1.5 2|2");
    assert!(wait_until(LIMIT, || exceptions(&world).is_empty()), "closed by itself");
    let seen = "SELECT string_agg(weight::text, ' ' ORDER BY id) FROM seen WHERE no = 1";
    assert_eq!(world.store.sql("copy", seen).unwrap().trim(), "1 1.5", "in order, once");
}

#[test]
fn followers_of_one_record_drain_together_and_in_order_and_hold_up_nobody() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    let config = std::fs::read_to_string(world.config()).unwrap();
    let with = format!("[target.copy]\nbatch_rows = {TOGETHER}\n");
    std::fs::write(world.config(), config.replace("[target.copy]\n", &with)).unwrap();
    world.store.sql("copy", INBOX).unwrap();
    world.file("entities/all.toml", ENTITIES);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/all.toml", EVENTS);
    world.start();
    let mut sql = "INSERT INTO parcels VALUES (1, 5000);\n".to_string();
    for weight in 1..=FOLLOWERS {
        sql += &format!("UPDATE parcels SET weight = {weight} WHERE no = 1;\n");
    }
    world.sql(&sql);
    let canonical = |sql: &str| world.store.sql("canonical", sql).unwrap().trim().to_string();
    let waiting = "SELECT count(*) FROM crossdock.parked WHERE state = 'behind'";
    let all_wait = || canonical(waiting) == FOLLOWERS.to_string();
    assert!(wait_until(LIMIT, all_wait), "{}", world.crossdock.log_tail());

    // They are let go while nobody delivers, and something else is owed meanwhile.
    world.crossdock.kill();
    world.file("rules/all.toml", &(EVENTS.to_string() + ALWAYS));
    world.crossdock.start().unwrap();
    world.sql("INSERT INTO parcels VALUES (2, 7)");
    let owed = "SELECT count(*) FROM crossdock.delivery WHERE key = 'par:2'";
    assert!(wait_until(LIMIT, || canonical(owed) == "1"), "{}", world.crossdock.log_tail());
    world.crossdock.kill();
    world.store.sql("copy", "ALTER TABLE inbox DROP CONSTRAINT not_too_heavy").unwrap();
    world.done(&["exceptions", "retry", "--all", "--by", "anna"]);
    world.file("rules/all.toml", EVENTS);
    world.start();

    let copy = |sql: &str| world.store.sql("copy", sql).unwrap().trim().to_string();
    assert_eq!(copy("SELECT count(*) FROM inbox"), (FOLLOWERS + 2).to_string());
    let order = "SELECT string_agg(weight::text, ' ' ORDER BY id) FROM inbox WHERE no = 1";
    let weights = (1..=FOLLOWERS).fold("5000".to_string(), |all, next| format!("{all} {next}"));
    assert_eq!(copy(order), weights);
    let transactions: usize =
        copy("SELECT count(DISTINCT by) FROM inbox WHERE no = 1").parse().unwrap();
    assert!(transactions <= FOLLOWERS / TOGETHER + 1, "{transactions} transactions");
    let before = "SELECT count(*) FROM inbox WHERE id < (SELECT id FROM inbox WHERE no = 2)";
    let before: usize = copy(before).parse().unwrap();
    assert!(before <= TOGETHER, "{before} followers were told before a record of its own");
}

/// Whoever delivers may stand still, with everything locked: a person is told so, and how to go on.
#[test]
fn a_retry_does_not_wait_for_ever_for_a_process_that_stands_still() {
    let world = started("");
    world.sql("INSERT INTO parcels VALUES (1, 200)");
    assert!(wait_until(LIMIT, || !exceptions(&world).is_empty()), "{}", world.crossdock.log_tail());
    let held = "BEGIN; SELECT FROM crossdock.target WHERE name = 'copy' FOR UPDATE;
                SELECT pg_sleep(600)";
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| world.store.sql("canonical", held));
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'
                     AND wait_event = 'PgSleep'";
        assert!(wait_until(LIMIT, || world.store.sql("canonical", waits).unwrap().trim() == "1"));
        let said = world.refused(&["exceptions", "retry", "--all", "--by", "anna"]);
        assert!(said.contains("the deliveries to copy have been locked for 5 seconds"), "{said}");
        assert!(said.contains("kill -CONT"), "{said}");
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE wait_event = 'PgSleep'";
        world.store.sql("canonical", end).unwrap();
        assert!(holding.join().unwrap().is_err(), "it was ended");
    });
    world.done(&["exceptions", "retry", "--all", "--by", "anna"]);
    assert!(wait_until(LIMIT, || exceptions(&world)[0]["count"] == 2), "tried again");
}
