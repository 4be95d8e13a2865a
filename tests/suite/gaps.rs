//! A source loses its log while Crossdock is away, and rows are changed and deleted meanwhile:
//! the store and a mirror end equal to the source, by policy or by command.

use crossdock_harness::{PostgresOptions, wait_until};

use crate::world::{LIMIT, World};

const SHOP: &str = "
    CREATE TABLE public.customers (id int PRIMARY KEY, party_code text, name text, city text);
    INSERT INTO public.customers
        SELECT i, 'C-' || lpad(i::text, 4, '0'), 'Customer ' || i, 'Kiel'
        FROM generate_series(1, 1500) i;
    CREATE TABLE public.notes (id int, part int, note text, PRIMARY KEY (id, part));
    INSERT INTO public.notes SELECT i, i % 3, 'note ' || i FROM generate_series(1, 300) i;
    ALTER TABLE public.customers OWNER TO crossdock;
    ALTER TABLE public.notes OWNER TO crossdock;";
const MAPPING: &str = "source = \"shop\"\n[[table]]\ntable = \"public.customers\"\n\
    entity = \"customer\"\n[table.fields]\nparty_code = \"party_code\"\nname = \"name\"\n\
    city = \"city\"\n";
const RULES: &str = "[entity.customer]\nowner = \"shop\"\n";
const MIRROR: &str = "\n[mirror.notes]\nsource = \"shop\"\ntarget = \"copy\"\n\
    tables = [\"public.notes\"]\n";

fn world(settings: &str) -> World {
    let options = PostgresOptions {
        settings: vec![("max_slot_wal_keep_size".into(), "1MB".into())],
        ..PostgresOptions::default()
    };
    let world = World::with(&options, SHOP, settings);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/shop.toml", RULES);
    world.append(MIRROR);
    let copy = "CREATE TABLE public.notes (id int, part int, note text, PRIMARY KEY (id, part));
                ALTER TABLE public.notes OWNER TO crossdock";
    world.store.sql("copy", copy).unwrap();
    world
}

/// Changes rows of all kinds, then makes the server give up the log that is kept for the slot.
fn change_and_lose_the_log(world: &World) {
    world.sql(
        "DELETE FROM public.customers WHERE id % 3 = 0;
         UPDATE public.customers SET city = 'Bremen' WHERE id % 5 = 0;
         INSERT INTO public.customers VALUES (9001, 'C-9001', 'Late', 'Lübeck');
         DELETE FROM public.notes WHERE id % 2 = 0;
         UPDATE public.notes SET note = 'changed' WHERE id = 1;",
    );
    let lost = wait_until(LIMIT, || {
        world.sql(
            "CREATE TABLE IF NOT EXISTS public.filler (t text);
             INSERT INTO public.filler SELECT repeat('x', 1000) FROM generate_series(1, 1000);",
        );
        world.sql("SELECT pg_switch_wal()");
        world.sql("CHECKPOINT");
        world.sql("SELECT wal_status FROM pg_replication_slots") == "lost"
    });
    assert!(lost, "{}", world.sql("SELECT * FROM pg_replication_slots"));
}

/// What is in the source, and what has come of it.
fn equal(world: &World) {
    let source = "SELECT party_code, name, city FROM public.customers ORDER BY 1";
    let store = "SELECT fields ->> 'party_code', fields ->> 'name', fields ->> 'city'
                 FROM crossdock.record WHERE entity = 'customer' AND NOT deleted ORDER BY 1";
    let notes = "SELECT id, part, note FROM public.notes ORDER BY 1, 2";
    let same = || {
        world.sql(source) == world.store.sql("canonical", store).unwrap().trim()
            && world.sql(notes) == world.store.sql("copy", notes).unwrap().trim()
    };
    // The mirror's deletes need not be through when the source is.
    assert!(wait_until(LIMIT, same), "{}", world.crossdock.log_tail());
    let withdrawn = "SELECT count(*) FROM crossdock.history WHERE transaction = 'resync'";
    assert_eq!(world.store.sql("canonical", withdrawn).unwrap().trim(), "500");
}

#[test]
fn a_gap_halts_the_source_until_somebody_orders_a_resync() {
    let mut world = world("");
    world.start();
    assert!(world.crossdock.stop().unwrap());
    change_and_lose_the_log(&world);
    world.crossdock.start().unwrap();
    let mut page = String::new();
    let halted = wait_until(LIMIT, || {
        page = world.crossdock.page("/readyz").unwrap_or_default();
        page.contains("source shop: blocked") && page.contains("crossdock resync --source shop")
    });
    assert!(halted, "{page}");
    let gaps = world.done(&["gaps", "list"]);
    assert!(gaps.contains("halted") && gaps.contains("shop"), "{gaps}");
    let metrics = world.crossdock.page("/metrics").unwrap();
    assert!(metrics.contains("crossdock_gap_open{source=\"shop\"} 1"), "{metrics}");

    world.done(&["resync", "--source", "shop"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    equal(&world);
    let gaps = world.done(&["gaps", "list"]);
    assert!(gaps.contains("resynced 20"), "{gaps}");
    assert_eq!(gaps.lines().filter(|line| line.starts_with("shop")).count(), 1, "{gaps}");

    // What follows is read as ever, and a replay ends the same.
    world.sql("UPDATE public.customers SET city = 'Husum' WHERE id = 1");
    world.done(&["rewind", "--source", "shop", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    equal(&world);
}

#[test]
fn a_gap_is_resynced_by_policy() {
    let mut world = world("snapshot = \"when-needed\"");
    world.start();
    world.crossdock.kill();
    change_and_lose_the_log(&world);
    world.start();
    equal(&world);
    let gaps = world.done(&["gaps", "list"]);
    assert!(gaps.contains("resynced 20"), "{gaps}");
    let slots = "SELECT wal_status FROM pg_replication_slots";
    assert_eq!(world.sql(slots), "reserved");
}
