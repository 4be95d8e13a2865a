//! A table that changes under the files that map it: its source's changes wait, others go on.

use std::time::Duration;

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight numeric, note text);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";
const ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                      no = \"integer\"\nweight = \"decimal\"\n";
const RULES: &str = "[entity.parcel]\nowner = \"shop\"\n";

fn mapping(weight: &str) -> String {
    format!(
        "source = \"shop\"\n\n[[table]]\ntable = \"public.parcels\"\nentity = \"parcel\"\n\n\
         [table.fields]\nno = \"no\"\nweight = \"{weight}\"\n"
    )
}

fn started() -> World {
    let mut world = World::new(TABLE, "publication = \"crossdock\"\nsnapshot = \"initial\"");
    world.file("entities/parcel.toml", ENTITY);
    world.file("mappings/shop.toml", &mapping("weight"));
    world.file("rules/parcel.toml", RULES);
    world.sql("INSERT INTO parcels VALUES (1, 1.5, 'a')");
    world.start();
    world
}

fn weight(world: &World, no: u32) -> String {
    let sql = format!("SELECT fields->>'weight' FROM crossdock.record WHERE key = 'par:{no}'");
    world.store.sql("canonical", &sql).unwrap().trim().to_string()
}

fn drift(world: &World) -> Option<String> {
    let status = world.crossdock.status().ok()?;
    status["sources"][0]["drift"].as_str().map(str::to_string)
}

fn wait_for_drift(world: &World) -> String {
    assert!(wait_until(LIMIT, || drift(world).is_some()), "{}", world.crossdock.log_tail());
    drift(world).unwrap()
}

#[test]
fn changes_wait_when_a_mapped_column_is_gone_until_the_mapping_is_mended() {
    let mut world = started();
    world.sql("ALTER TABLE parcels DROP COLUMN note");
    world.sql("INSERT INTO parcels VALUES (2, 2.5)");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(weight(&world, 2), "2.5", "nobody reads `note`");

    world.sql("ALTER TABLE parcels RENAME COLUMN weight TO weight_kg");
    world.sql("UPDATE parcels SET weight_kg = 9 WHERE no = 1");
    let why = wait_for_drift(&world);
    assert!(why.contains("column weight is gone") && why.contains("shop.toml:9"), "{why}");
    assert_eq!(weight(&world, 1), "1.5", "what was known stays");
    let (ready, why) = world.crossdock.ask("GET /readyz", &[], "").unwrap();
    assert!(ready == 503 && why.contains("column weight is gone"), "{ready} {why}");
    assert!(
        world.crossdock.page("/metrics").unwrap().contains("source_drifted{source=\"shop\"} 1")
    );

    assert!(world.crossdock.stop().unwrap());
    world.file("mappings/shop.toml", &mapping("weight_kg"));
    world.start();
    assert_eq!(weight(&world, 1), "9");
    assert_eq!(drift(&world), None);
    let late = ["schema", "accept", "--source", "shop", "--table", "public.parcels"];
    assert!(world.refused(&late).contains("does not wait"));
}

#[test]
fn a_change_of_kind_is_accepted_by_an_operator() {
    let world = started();
    // Wider is the same kind.
    world.sql("ALTER TABLE parcels ALTER COLUMN weight TYPE numeric(20,4)");
    world.sql("UPDATE parcels SET weight = 2 WHERE no = 1");
    assert!(wait_until(LIMIT, || weight(&world, 1) == "2"), "{}", world.crossdock.log_tail());

    world.sql("ALTER TABLE parcels ALTER COLUMN weight TYPE text");
    world.sql("UPDATE parcels SET weight = '3.50' WHERE no = 1");
    let why = wait_for_drift(&world);
    assert!(why.contains("is text") && why.contains("schema accept --source shop"), "{why}");
    let wrong = ["schema", "accept", "--source", "shop", "--table", "public.orders"];
    assert!(world.refused(&wrong).contains("does not wait"));
    world.done(&["schema", "accept", "--source", "shop", "--table", "public.parcels"]);
    let mended = || weight(&world, 1) == "3.5" && drift(&world).is_none();
    assert!(wait_until(Duration::from_secs(60), mended), "{}", world.crossdock.log_tail());
}

const GRAMS: &str = "CREATE TABLE parcels (no int PRIMARY KEY, grams int, note text);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";

/// The files of a table and an entity that weighed in grams, which nobody mapped, and weigh in
/// kilograms now.
fn weighs_in(world: &World, kilos: bool) {
    let fields = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                  no = \"integer\"\n";
    let table = "source = \"shop\"\n[[table]]\ntable = \"public.parcels\"\nentity = \"parcel\"\n";
    let (entity, mapping) = match kilos {
        false => ("weight_g = \"integer\"\n", "[table.fields]\nno = \"no\"\n"),
        true => (
            "weight_kg = { type = \"decimal\", up = 'dec(old.weight_g) / 1000' }\n\
             [entity.parcel.earlier]\n\
             weight_g = { type = \"integer\", down = 'dec(rec.weight_kg) * 1000' }\n",
            "was.kilos = { expr = 'dec(old.grams) / 1000' }\n\
             [table.fields]\nno = \"no\"\nweight_kg = \"kilos\"\n",
        ),
    };
    world.file("entities/parcel.toml", &(fields.to_string() + entity));
    world.file("mappings/shop.toml", &(table.to_string() + mapping));
}

#[test]
fn an_old_journal_replays_into_todays_shape_and_old_readers_get_theirs() {
    let mut world = World::new(GRAMS, "publication = \"crossdock\"\nsnapshot = \"initial\"");
    world.file("rules/parcel.toml", RULES);
    weighs_in(&world, false);
    world.sql("INSERT INTO parcels VALUES (1, 2500, 'a')");
    world.start();
    world.sql("INSERT INTO parcels VALUES (2, 1000, 'b')");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert!(world.crossdock.stop().unwrap());

    world.sql("ALTER TABLE parcels DROP COLUMN grams, ADD COLUMN kilos numeric");
    weighs_in(&world, true);
    world.start();
    world.sql("INSERT INTO parcels VALUES (3, 'c', 0.75)");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    world.done(&["rewind", "--integrate", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let weights = "SELECT key, fields->>'weight_kg', fields->>'weight_g' FROM crossdock.record
                   ORDER BY key";
    let expected = "par:1|2.5|\npar:2|1|\npar:3|0.75|";
    let reads = || world.store.sql("canonical", weights).unwrap().trim() == expected;
    assert!(
        wait_until(LIMIT, reads),
        "{}\n{}",
        world.store.sql("canonical", weights).unwrap(),
        world.crossdock.log_tail()
    );
    assert_eq!(drift(&world), None);
    let first = world.done(&["schema", "record", "par:1", "--version", "1"]);
    assert!(first.contains("\"weight_g\": 2500") && !first.contains("weight_kg"), "{first}");
    let second = world.done(&["schema", "record", "par:1", "--version", "2"]);
    assert!(second.contains("\"weight_kg\": \"2.5\""), "{second}");
}
