//! Rows read beside the stream, tables added while running, and the modes of the first snapshot,
//! on a real server.

use std::time::Duration;

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const SHOP: &str = "
    CREATE TABLE public.orders (id int PRIMARY KEY, note text);
    INSERT INTO public.orders SELECT i, 'order ' || i FROM generate_series(1, 500) i;
    CREATE TABLE public.lines (id int PRIMARY KEY, order_id int, sku text);
    INSERT INTO public.lines SELECT i, i % 500, 'SKU-' || i FROM generate_series(1, 3000) i;
    CREATE TABLE public.keyless (a int);
    ALTER TABLE public.orders OWNER TO crossdock;
    ALTER TABLE public.lines OWNER TO crossdock;
    ALTER TABLE public.keyless OWNER TO crossdock;";

#[test]
fn a_table_is_added_by_one_command() {
    let mut world = World::new(SHOP, "# Orders first.\ntables = [\"public.orders\"] # more later");
    world.start();
    assert!(world.crossdock.stop().unwrap());
    world.start();
    assert_eq!(world.events("public.orders"), 500);

    let refused = world.refused(&["tables", "add", "--source", "shop", "public.missing"]);
    assert!(refused.contains("public.missing"), "{refused}");
    let refused = world.refused(&["tables", "add", "--source", "shop", "public.orders"]);
    assert!(refused.contains("captured from source shop already"), "{refused}");

    let said = world.done(&["tables", "add", "--source", "shop", "public.lines"]);
    assert!(said.contains("public.lines is captured"), "{said}");
    let config = std::fs::read_to_string(world.config()).unwrap();
    let list = "# Orders first.\ntables = [\"public.orders\", \"public.lines\"] # more later";
    assert!(config.contains(list), "{config}");

    world.sql("UPDATE public.lines SET sku = 'CHANGED' WHERE id <= 10");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.last_images("public.lines"), world.rows("public.lines", "id, order_id, sku"));
    let list = world.done(&["snapshot", "list"]);
    let line = list.lines().find(|line| line.contains("public.lines")).unwrap();
    assert!(line.contains("added") && line.contains("done") && line.contains("100"), "{list}");
    let metrics = world.crossdock.page("/metrics").unwrap();
    let done = "crossdock_snapshot_state{source=\"shop\",state=\"done\",table=\"public.lines\"} 1";
    assert!(metrics.contains(done), "{metrics}");

    // It stays after a restart, and is not read again.
    assert!(world.crossdock.stop().unwrap());
    let events = world.events("public.lines");
    world.start();
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.events("public.lines"), events);
}

#[test]
fn rows_are_read_again_paused_resumed_and_cancelled() {
    let mut world = World::new(SHOP, "tables = [\"public.orders\", \"public.lines\"]");
    world.start();
    let read = world.events("public.orders");
    assert_eq!(read, 500);
    let order = |world: &World, arguments: &[&str]| {
        let mut all = vec!["snapshot"];
        all.extend(arguments);
        all.extend(["--source", "shop"]);
        world.done(&all)
    };
    let refuse = |world: &World, arguments: &[&str]| {
        let mut all = vec!["snapshot"];
        all.extend(arguments);
        all.extend(["--source", "shop"]);
        world.refused(&all)
    };
    let said = refuse(&world, &["start", "--filter", "id < 10"]);
    assert!(said.contains("--table"), "{said}");
    let said = refuse(&world, &["start", "--table", "public.keyless"]);
    assert!(said.contains("is not captured"), "{said}");
    let said = refuse(&world, &["pause"]);
    assert!(said.contains("nothing that can be paused"), "{said}");

    order(&world, &["start", "--table", "public.orders", "--filter", "id <= 7"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.events("public.orders"), read + 7);

    // While it is stopped, too.
    assert!(world.crossdock.stop().unwrap());
    order(&world, &["start"]);
    order(&world, &["pause", "--table", "public.lines"]);
    let said = refuse(&world, &["start", "--table", "public.lines"]);
    assert!(said.contains("are being read already (paused)"), "{said}");
    world.start();
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.events("public.orders"), read + 7 + 500);
    assert_eq!(world.events("public.lines"), 3000, "paused");
    let status = world.done(&["status"]);
    assert!(status.contains("public.lines paused"), "{status}");
    order(&world, &["resume"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.events("public.lines"), 6000);
    assert_eq!(world.last_images("public.lines"), world.rows("public.lines", "id, order_id, sku"));
}

#[test]
fn snapshot_modes() {
    let tables = "tables = [\"public.orders\"]";
    let mut never = World::new(SHOP, &format!("{tables}\nsnapshot = \"never\""));
    never.start();
    never.sql("INSERT INTO public.orders VALUES (1001, 'new')");
    never.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(never.events("public.orders"), 1, "only what came later");
    drop(never);

    let mut only = World::new(SHOP, &format!("{tables}\nsnapshot = \"only\""));
    only.start();
    only.sql("INSERT INTO public.orders VALUES (1001, 'new')");
    assert_eq!(only.events("public.orders"), 500);
    let slots = "SELECT count(*) FROM pg_replication_slots";
    let none = wait_until(Duration::from_secs(10), || only.sql(slots) == "0");
    assert!(none, "nothing is kept on the server: {}", only.sql(slots));
    assert!(only.crossdock.stop().unwrap());
    only.start();
    assert_eq!(only.crossdock.status().unwrap()["sources"][0]["state"], "finished");
    assert_eq!(only.events("public.orders"), 500, "a restart reads nothing again");
    let said = only.refused(&["snapshot", "start", "--source", "shop"]);
    assert!(said.contains("snapshot = \"only\""), "{said}");
}

#[test]
fn a_first_snapshot_goes_on_after_a_kill() {
    let more = "CREATE TABLE public.parts (id int PRIMARY KEY, note text);
                INSERT INTO public.parts SELECT i, repeat('part ' || i, 20)
                FROM generate_series(1, 60000) i;
                ALTER TABLE public.parts OWNER TO crossdock; ANALYZE public.parts";
    let settings = "tables = [\"public.orders\", \"public.parts\"]\n\
                    snapshot_rows_per_second = 12000";
    let mut world = World::new(&format!("{SHOP}{more}"), settings);
    for round in 1..=3 {
        world.crossdock.start().unwrap();
        let read = |world: &World| -> u64 {
            let status = world.crossdock.status().unwrap_or_default();
            let lines = status["sources"][0]["snapshots"].as_array().cloned().unwrap_or_default();
            let parts = lines.iter().find(|line| line["table"] == "public.parts");
            parts.and_then(|line| line["rows"].as_u64()).unwrap_or(0)
        };
        let some = wait_until(LIMIT, || read(&world) > round * 12_000);
        assert!(some, "{}", world.crossdock.log_tail());
        assert_eq!(world.events("public.orders"), 0, "nothing of it is seen yet");
        world.crossdock.kill();
        let id = 3_000 * round;
        world.sql(&format!(
            "UPDATE public.parts SET note = 'changed' WHERE id BETWEEN {id} AND {id} + 50;
             DELETE FROM public.parts WHERE id BETWEEN 50000 + {id} AND 50000 + {id} + 50;
             INSERT INTO public.parts VALUES (100000 + {id}, 'new')"
        ));
    }
    world.start();
    let log = world.crossdock.log_tail();
    assert!(log.contains("Resume"), "it went on: {log}");
    assert_eq!(world.last_images("public.parts"), world.rows("public.parts", "id, note"));
    assert!(world.events("public.parts") < 2 * 60_000, "most rows were read once");
}
