//! A source loses its log while Crossdock is away, and rows are changed and deleted meanwhile:
//! the store and a mirror end equal to the source, by policy or by command.

use crossdock_harness::{MySql, PostgresOptions, wait_until};

use crate::world::{Kind, LIMIT, World};

const TABLES: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, party_code varchar(20), name text, city text);
    CREATE TABLE notes (id int, part int, note text, PRIMARY KEY (id, part));";
const RULES: &str = "[entity.customer]\nowner = \"shop\"\n";
const COPY: &str =
    "CREATE TABLE SCHEMA.notes (id int, part int, note text, PRIMARY KEY (id, part));
    ALTER TABLE SCHEMA.notes OWNER TO crossdock;";

/// Each test on each kind of source; MySQL where `deploy/setup/mysql.sh` has put one.
macro_rules! on_each {
    ($($name:ident),+ $(,)?) => {
        mod postgres {$(
            #[test]
            fn $name() {
                super::$name(crate::world::Kind::Postgres);
            }
        )+}
        mod mariadb {$(
            #[test]
            fn $name() {
                super::$name(crate::world::Kind::MariaDb);
            }
        )+}
        mod mysql {$(
            #[test]
            fn $name() {
                if super::MySql::installed() {
                    super::$name(crate::world::Kind::MySql);
                }
            }
        )+}
    };
}

on_each!(a_gap_halts_the_source_until_somebody_orders_a_resync, a_gap_is_resynced_by_policy,);

/// The schema of the tables in the source and in the mirror's target.
fn schema(kind: Kind) -> &'static str {
    if kind == Kind::Postgres { "public" } else { "shop" }
}

fn world(kind: Kind, settings: &str) -> World {
    let customers: Vec<_> =
        (1..=1500).map(|i| format!("({i}, 'C-{i:04}', 'Customer {i}', 'Kiel')")).collect();
    let notes: Vec<_> = (1..=300).map(|i| format!("({i}, {}, 'note {i}')", i % 3)).collect();
    let mut shop = format!(
        "{TABLES} INSERT INTO customers VALUES {}; INSERT INTO notes VALUES {};",
        customers.join(","),
        notes.join(",")
    );
    let world = match kind {
        Kind::Postgres => {
            let limit = ("max_slot_wal_keep_size".into(), "1MB".into());
            let options = PostgresOptions { settings: vec![limit], ..PostgresOptions::default() };
            for table in ["customers", "notes"] {
                shop.push_str(&format!("ALTER TABLE {table} OWNER TO crossdock;"));
            }
            World::with(&options, &shop, settings)
        }
        other => World::on_binlog(other, &shop, settings),
    };
    let schema = schema(kind);
    let mapping = format!(
        "source = \"shop\"\n[[table]]\ntable = \"{schema}.customers\"\nentity = \"customer\"\n\
         [table.fields]\nparty_code = \"party_code\"\nname = \"name\"\ncity = \"city\"\n"
    );
    world.file("mappings/shop.toml", &mapping);
    world.file("rules/shop.toml", RULES);
    world.append(&format!(
        "\n[mirror.notes]\nsource = \"shop\"\ntarget = \"copy\"\ntables = [\"{schema}.notes\"]\n"
    ));
    let place = format!("CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION crossdock;");
    world.store.sql("copy", &place).unwrap();
    world.store.sql("copy", &COPY.replace("SCHEMA", schema)).unwrap();
    world
}

/// Changes rows of all kinds, then makes the server give up the log that was not read.
fn change_and_lose_the_log(world: &World, kind: Kind) {
    world.sql(
        "DELETE FROM customers WHERE id % 3 = 0;
         UPDATE customers SET city = 'Bremen' WHERE id % 5 = 0;
         INSERT INTO customers VALUES (9001, 'C-9001', 'Late', 'Lübeck');
         DELETE FROM notes WHERE id % 2 = 0;
         UPDATE notes SET note = 'changed' WHERE id = 1;",
    );
    let lost = wait_until(LIMIT, || match kind {
        Kind::Postgres => {
            world.sql(
                "CREATE TABLE IF NOT EXISTS public.filler (t text);
                 INSERT INTO public.filler SELECT repeat('x', 1000) FROM generate_series(1, 1000);",
            );
            world.sql("SELECT pg_switch_wal()");
            world.sql("CHECKPOINT");
            world.sql("SELECT wal_status FROM pg_replication_slots") == "lost"
        }
        // A file is kept as long as the server takes to notice that its reader has gone.
        Kind::MariaDb | Kind::MySql => {
            world.sql("FLUSH BINARY LOGS");
            let files = world.sql("SHOW BINARY LOGS");
            let last = files.lines().last().and_then(|line| line.split('|').next()).unwrap();
            world.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
            world.sql("SHOW BINARY LOGS").lines().count() == 1
        }
    });
    assert!(lost, "{}", world.crossdock.log_tail());
}

/// What is in the source, and what has come of it.
fn equal(world: &World, kind: Kind) {
    let source = "SELECT party_code, name, city FROM customers ORDER BY 1";
    let store = "SELECT fields ->> 'party_code', fields ->> 'name', fields ->> 'city'
                 FROM crossdock.record WHERE entity = 'customer' AND NOT deleted ORDER BY 1";
    let of = |schema: &str| format!("SELECT id, part, note FROM {schema}.notes ORDER BY 1, 2");
    let notes = of(schema(kind));
    let same = || {
        world.sql(source) == world.store.sql("canonical", store).unwrap().trim()
            && world.sql(&notes) == world.store.sql("copy", &notes).unwrap().trim()
    };
    // The mirror's deletes need not be through when the source is.
    assert!(wait_until(LIMIT, same), "{}", world.crossdock.log_tail());
    let withdrawn = "SELECT count(*) FROM crossdock.history WHERE transaction = 'resync'";
    assert_eq!(world.store.sql("canonical", withdrawn).unwrap().trim(), "500");
}

fn a_gap_halts_the_source_until_somebody_orders_a_resync(kind: Kind) {
    let mut world = world(kind, "");
    world.start();
    assert!(world.crossdock.stop().unwrap());
    change_and_lose_the_log(&world, kind);
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
    equal(&world, kind);
    let gaps = world.done(&["gaps", "list"]);
    assert!(gaps.contains("resynced 20"), "{gaps}");
    assert_eq!(gaps.lines().filter(|line| line.starts_with("shop")).count(), 1, "{gaps}");

    // What follows is read as ever, and a replay ends the same.
    world.sql("UPDATE customers SET city = 'Husum' WHERE id = 1");
    world.done(&["rewind", "--source", "shop", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    equal(&world, kind);
}

fn a_gap_is_resynced_by_policy(kind: Kind) {
    let mut world = world(kind, "snapshot = \"when-needed\"");
    world.start();
    world.crossdock.kill();
    change_and_lose_the_log(&world, kind);
    world.start();
    equal(&world, kind);
    let gaps = world.done(&["gaps", "list"]);
    assert!(gaps.contains("resynced 20"), "{gaps}");
    if kind == Kind::Postgres {
        let slots = "SELECT wal_status FROM pg_replication_slots";
        assert_eq!(world.sql(slots), "reserved");
    }
}
