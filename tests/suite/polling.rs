//! A source without a log, whole: a view and a table that are polled by a login that may only
//! SELECT end equal in the store and in a mirror, deletes included.

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const SHOP: &str = "
    ALTER ROLE crossdock NOREPLICATION;
    CREATE SEQUENCE public.changes;
    CREATE TABLE public.parties (id int PRIMARY KEY, party_code text, name text, city text,
        changed bigint NOT NULL DEFAULT nextval('public.changes'));
    INSERT INTO public.parties
        SELECT i, 'C-' || lpad(i::text, 4, '0'), 'Customer ' || i, 'Kiel'
        FROM generate_series(1, 1500) i;
    CREATE VIEW public.customers AS SELECT party_code, name, city, changed FROM public.parties;
    CREATE TABLE public.notes (id int, part int, note text,
        changed bigint NOT NULL DEFAULT nextval('public.changes'), PRIMARY KEY (id, part));
    INSERT INTO public.notes SELECT i, i % 3, 'note ' || i FROM generate_series(1, 300) i;
    GRANT SELECT ON public.customers, public.notes TO crossdock;";
const MAPPING: &str = "source = \"shop\"\n[[table]]\ntable = \"public.customers\"\n\
    entity = \"customer\"\n[table.fields]\nparty_code = \"party_code\"\nname = \"name\"\n\
    city = \"city\"\n";
const RULES: &str = "[entity.customer]\nowner = \"shop\"\n";
const MIRROR: &str = "\n[mirror.notes]\nsource = \"shop\"\ntarget = \"copy\"\n\
    tables = [\"public.notes\"]\n";

fn world(reconcile: &str) -> World {
    let block = |table: &str, key: &str| {
        format!(
            "[source.shop.poll.\"public.{table}\"]\nkey = {key}\ncursor = \"changed\"\n\
             every = \"1s\"\noverlap = \"1s\"\nreconcile = \"{reconcile}\"\n"
        )
    };
    let settings = format!(
        "capture = \"poll\"\n{}{}",
        block("customers", "\"party_code\""),
        block("notes", "[\"id\", \"part\"]")
    );
    let world = World::new(SHOP, &settings);
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/shop.toml", RULES);
    world.append(MIRROR);
    let copy = "CREATE TABLE public.notes (id int, part int, note text, changed bigint,
                    PRIMARY KEY (id, part));
                ALTER TABLE public.notes OWNER TO crossdock";
    world.store.sql("copy", copy).unwrap();
    world
}

fn change(world: &World) {
    world.sql(
        "UPDATE public.parties SET city = 'Bremen', changed = nextval('public.changes')
             WHERE id % 5 = 0;
         DELETE FROM public.parties WHERE id % 3 = 0;
         INSERT INTO public.parties VALUES (9001, 'C-9001', 'Late', 'Lübeck');
         DELETE FROM public.notes WHERE id % 2 = 0;
         UPDATE public.notes SET note = 'changed', changed = nextval('public.changes')
             WHERE id = 1;",
    );
}

fn is_equal(world: &World) -> bool {
    let source = "SELECT party_code, name, city FROM public.customers ORDER BY 1";
    let store = "SELECT fields ->> 'party_code', fields ->> 'name', fields ->> 'city'
                 FROM crossdock.record WHERE entity = 'customer' AND NOT deleted ORDER BY 1";
    let notes = "SELECT id, part, note, changed FROM public.notes ORDER BY 1, 2";
    world.sql(source) == world.store.sql("canonical", store).unwrap().trim()
        && world.sql(notes) == world.store.sql("copy", notes).unwrap().trim()
}

fn deleted(world: &World) -> String {
    let deleted = "SELECT count(*) FROM crossdock.record WHERE entity = 'customer' AND deleted";
    world.store.sql("canonical", deleted).unwrap().trim().to_string()
}

#[test]
fn deletes_are_found_by_reconcile_whatever_is_killed() {
    let mut world = world("2s");
    world.done(&["check"]);
    world.start();
    change(&world);
    world.crossdock.kill();
    world.crossdock.start().unwrap();
    let equal = wait_until(LIMIT, || is_equal(&world));
    assert!(equal, "{}", world.crossdock.log_tail());
    assert_eq!(deleted(&world), "500");
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(world.sql(slots), "0", "nothing is kept on the server");
}

#[test]
fn deletes_are_found_when_somebody_asks_and_it_says_what_it_is() {
    let mut world = world("never");
    world.start();
    assert!(is_equal(&world));
    let status = world.done(&["status"]);
    assert!(status.contains("polled, at least once, deletes by reconcile"), "{status}");
    assert!(status.contains("poll:20"), "{status}");
    change(&world);
    let seen = "SELECT fields ->> 'city' FROM crossdock.record
                WHERE entity = 'customer' AND fields ->> 'party_code' = 'C-9001'";
    let seen = || world.store.sql("canonical", seen).unwrap().trim() == "Lübeck";
    assert!(wait_until(LIMIT, seen), "{}", world.crossdock.log_tail());
    assert_eq!(deleted(&world), "0", "no round sees them");
    world.done(&["snapshot", "start", "--source", "shop"]);
    assert!(wait_until(LIMIT, || is_equal(&world)), "{}", world.crossdock.log_tail());
    assert_eq!(deleted(&world), "500");

    // A replay ends the same, and so does a resync.
    world.done(&["rewind", "--source", "shop", "--to", "0"]);
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    assert!(wait_until(LIMIT, || is_equal(&world)), "{}", world.crossdock.log_tail());
    world.sql("DELETE FROM public.parties WHERE id = 1");
    world.done(&["resync", "--source", "shop"]);
    assert!(wait_until(LIMIT, || is_equal(&world)), "{}", world.crossdock.log_tail());
    let refused = world.refused(&["tables", "add", "--source", "shop", "public.parties"]);
    assert!(refused.contains("[source.shop.poll.\"public.parties\"]"), "{refused}");
}
