//! An outbox that Crossdock empties behind its readers.

use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

const SHOP: &str = "
    CREATE TABLE public.outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        aggregatetype text NOT NULL, aggregateid text NOT NULL, type text, payload jsonb);
    INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload)
        SELECT 'order', i::text, 'OrderPacked', '{}' FROM generate_series(1, 1200) i;
    CREATE PUBLICATION crossdock_test_shop FOR TABLE ONLY public.outbox
        WITH (publish_via_partition_root = true);
    GRANT SELECT ON public.outbox TO crossdock;";
const CLEAN: [&str; 5] = ["outbox-clean", "--source", "shop", "--table", "public.outbox"];
const LEFT: &str = "SELECT count(*) FROM public.outbox";

#[test]
fn rows_of_an_outbox_go_once_they_are_in_the_journal_and_their_events_stay() {
    let mut world = World::new(SHOP, "tables = [\"public.outbox\"]");
    world.start();
    let refused = world.refused(&CLEAN);
    assert!(refused.contains("GRANT SELECT, DELETE ON"), "{refused}");
    assert_eq!(world.sql(LEFT), "1200");
    world.sql("GRANT DELETE ON public.outbox TO crossdock");

    // Not in the journal yet.
    assert!(world.crossdock.stop().unwrap());
    world.sql(
        "INSERT INTO public.outbox (aggregatetype, aggregateid, payload)
               VALUES ('order', 'late', '{}')",
    );
    assert_eq!(world.done(&CLEAN).trim(), "1200 rows of public.outbox deleted");
    assert_eq!(world.sql("SELECT aggregateid FROM public.outbox"), "late");
    assert_eq!(world.done(&CLEAN).trim(), "0 rows of public.outbox deleted");

    world.start();
    let clean = || world.done(&CLEAN);
    assert!(wait_until(LIMIT, || clean().starts_with('1')), "the late row is journaled");
    assert_eq!(world.sql(LEFT), "0");
    world.crossdock.wait_caught_up(LIMIT).unwrap();
    // What was deleted stays an event; the deletion is none.
    let events = world.done(&["events", "--source", "shop", "--outbox"]);
    assert_eq!(events.lines().count(), 1201);
    assert!(events.contains("late"), "the last event is there");
}
