//! A canonical store, and a mirror's target, on the server of the source that is captured.

use crossdock_harness::{PostgresOptions, wait_until};

use crate::world::{LIMIT, World};

const SHOP: &str = "
    CREATE TABLE public.orders (id int PRIMARY KEY, note text);
    INSERT INTO public.orders SELECT i, 'order ' || i FROM generate_series(1, 10) i;
    ALTER TABLE public.orders OWNER TO crossdock;";
const COPY: &str = "
    CREATE TABLE public.orders (id int PRIMARY KEY, note text);
    ALTER TABLE public.orders OWNER TO crossdock;";
const MIRROR: &str = "
[mirror.orders]
source = \"shop\"
target = \"copy\"
tables = [\"public.orders\"]
";
const COUNT: &str = "SELECT count(*) FROM public.orders";
/// The next transaction's number: one that only reads has none.
const NEXT: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
/// Moves the log without a transaction.
const MOVE: &str = "SELECT pg_logical_emit_message(false, 'elsewhere', '')";

#[test]
fn a_server_that_holds_source_and_store_comes_to_rest() {
    // Vacuuming takes transactions of its own.
    let settings = vec![("autovacuum".to_string(), "off".to_string())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let mut world = World::with(&options, SHOP, "tables = [\"public.orders\"]");
    for database in ["canonical", "copy"] {
        let sql = format!("CREATE DATABASE {database} OWNER crossdock");
        world.server.sql("postgres", &sql).unwrap();
    }
    world.server.sql("copy", COPY).unwrap();
    let (there, here) = (world.store.port().to_string(), world.server.port().to_string());
    let config = std::fs::read_to_string(world.config()).unwrap().replace(&there, &here);
    std::fs::write(world.config(), config + MIRROR).unwrap();
    world.start();
    world.sql("INSERT INTO public.orders VALUES (11, 'the last')");
    let copied = |world: &World| world.server.sql("copy", COUNT).unwrap();
    assert!(wait_until(LIMIT, || copied(&world) == "11"), "{}", world.crossdock.log_tail());
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    let rest = world.server.sql("postgres", NEXT).unwrap();
    for _ in 0..5 {
        let block = |name: &str| world.crossdock.status().unwrap()["sources"][0][name].as_u64();
        let before = block("journal_block");
        world.server.sql("postgres", MOVE).unwrap();
        assert!(wait_until(LIMIT, || block("journal_block") > before), "no idle block");
        let read = || block("integrated_block") == block("journal_block");
        assert!(wait_until(LIMIT, read), "idle blocks count as integrated");
    }
    assert_eq!(world.server.sql("postgres", NEXT).unwrap(), rest, "somebody has written");
    // What the store does not know to be passed is read once more.
    world.crossdock.kill();
    world.start();
    world.sql("INSERT INTO public.orders VALUES (12, 'after a restart')");
    assert!(wait_until(LIMIT, || copied(&world) == "12"), "{}", world.crossdock.log_tail());
}
