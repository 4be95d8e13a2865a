//! A slot and its position are taken over from Debezium: every change once, and no snapshot.

use crate::world::{LIMIT, World};

const SHOP: &str = "
    CREATE TABLE public.orders (id int PRIMARY KEY, note text);
    INSERT INTO public.orders SELECT i, 'before' FROM generate_series(1, 100) i;
    ALTER TABLE public.orders OWNER TO crossdock;
    CREATE PUBLICATION dbz_publication FOR TABLE public.orders;
    ALTER PUBLICATION dbz_publication OWNER TO crossdock;";

#[test]
fn every_change_after_debezium_s_offset_comes_once() {
    let settings = "slot = \"debezium\"\npublication = \"dbz_publication\"\n\
                    tables = [\"public.orders\"]";
    let mut world = World::new(SHOP, settings);
    world.sql("SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')");
    // Handled by Debezium, which has told the server a little less than it wrote down itself.
    world.sql("INSERT INTO public.orders VALUES (201, 'handled')");
    let lsn = world.sql("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint");
    world.sql("INSERT INTO public.orders VALUES (301, 'pending')");
    world.sql("UPDATE public.orders SET note = 'pending' WHERE id <= 3");
    let offset = |more: &str| {
        let lsns = format!("\"lsn_proc\":{lsn},\"lsn_commit\":{lsn},\"lsn\":{lsn}");
        format!("[\"kafka\",{{\"server\":\"shop\"}}]\t{{{lsns},\"txId\":1,\"ts_usec\":1{more}}}\n")
    };
    let import = |world: &World, file: &std::path::Path| {
        world.crossdock.run(&["import-offsets", "--source", "shop", file.to_str().unwrap()])
    };
    let unfinished = world.file("unfinished.txt", &offset(",\"snapshot\":true"));
    let refused = import(&world, &unfinished).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("not finished"), "{said}");

    let file = world.file("offsets.txt", &offset(""));
    let done = import(&world, &file).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    world.start();
    let journal = world.journal("public.orders");
    let mut seen: Vec<String> =
        journal.iter().map(|event| format!("{} {}", event["op"], event["after"]["id"])).collect();
    seen.sort();
    assert_eq!(seen, ["\"c\" 301", "\"u\" 1", "\"u\" 2", "\"u\" 3"]);

    world.sql("INSERT INTO public.orders VALUES (401, 'later')");
    world.crossdock.kill();
    world.start();
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert_eq!(world.events("public.orders"), 5);
    assert!(world.crossdock.stop().unwrap());
    let refused = import(&world, &file).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has data already"), "{said}");
}
