//! Two processes that were started by mistake, with states of their own and one canonical store:
//! the older one ends, and nothing is told twice.

use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;

use crate::world::{LIMIT, World};

const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";
const TARGET: &str = "CREATE TABLE inbox (event_id text PRIMARY KEY, no int);
     CREATE TABLE seen (event_id text);
     CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen VALUES (NEW.event_id); RETURN NEW; END $$;
     CREATE TRIGGER see AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION see();
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;";
const RULES: &str = "[entity.parcel]\nowner = \"shop\"\n\n\
     [[subscribe]]\nname = \"parcels\"\nentity = \"parcel\"\nfields = [\"weight\"]\n\
     target = \"copy\"\ntable = \"public.inbox\"\nwrite = \"insert\"\n\
     key = { event_id = 'event_id' }\ncolumns = { no = 'rec.no' }\n";

#[test]
fn the_process_that_started_later_is_the_only_one() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    world.store.sql("copy", TARGET).unwrap();
    world.file(
        "entities/all.toml",
        "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
         no = \"integer\"\nweight = \"integer\"\n",
    );
    world.file(
        "mappings/shop.toml",
        "source = \"shop\"\n\n[[table]]\ntable = \"public.parcels\"\nentity = \"parcel\"\n\n\
         [table.fields]\nno = \"no\"\nweight = \"weight\"\n",
    );
    world.file("rules/all.toml", RULES);
    world.start();
    world.sql("INSERT INTO parcels SELECT n, n FROM generate_series(1, 50) AS n");
    let told = |world: &World| {
        world.store.sql("copy", "SELECT count(*) FROM seen").unwrap().trim().to_string()
    };
    assert!(wait_until(LIMIT, || told(&world) == "50"), "{}", world.crossdock.log_tail());

    // The same config, but for state and port.
    let text = std::fs::read_to_string(world.config()).unwrap();
    let port = free_port().unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen")).unwrap();
    let other = format!("listen = \"127.0.0.1:{port}\"\nstate_dir = \"other\"");
    let path = world.file("other.toml", &text.replace(listen, &other));
    let folder = tempfile::tempdir().unwrap();
    let env = [("PW".to_string(), "pw".to_string())];
    let mut second = Crossdock::new(&path, &env, port, folder.path());
    second.start().unwrap();
    let epoch = "SELECT epoch FROM crossdock.meta";
    let taken = || world.store.sql("canonical", epoch).unwrap().trim() != "1";
    assert!(wait_until(LIMIT, taken), "{}", second.log_tail());
    world.sql("UPDATE parcels SET weight = weight + 100");
    assert!(world.crossdock.wait_ended(LIMIT), "{}", world.crossdock.log_tail());
    let log = world.crossdock.log_tail();
    assert!(log.contains("is being written by another crossdock"), "{log}");
    second.kill();

    // Started again, the first one makes up for everything, once.
    world.start();
    assert!(wait_until(LIMIT, || told(&world) == "100"), "{}", world.crossdock.log_tail());
    let twice =
        "SELECT count(*) FROM (SELECT FROM seen GROUP BY event_id HAVING count(*) > 1) AS s";
    assert_eq!(world.store.sql("copy", twice).unwrap().trim(), "0");
}
