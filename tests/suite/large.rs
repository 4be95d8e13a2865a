//! A transaction that is larger than what is held of one: it becomes visible whole, with one
//! version for each record and with deliveries and releases that follow from its end; however often
//! the process ends in the middle; and memory does not follow its size.
//!
//! `LARGE_ROWS` sets its size; `make test-large-integrate` has the long form.

use crossdock_harness::wait_until;

use crate::memory::peak_mib;
use crate::world::{Kind, LIMIT, World};

/// What the process may take, MiB.
const PEAK_MIB_MAX: u64 = 128;
/// Rows that are there before the large transaction.
const FIRST: u64 = 10;

const TABLE: &str = "CREATE TABLE parcels (no int PRIMARY KEY, weight int, note varchar(200));";
const GRANTS: &str = "CREATE PUBLICATION crossdock FOR TABLE parcels;
                      GRANT SELECT ON parcels TO crossdock;";
const ENTITY: &str = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                      no = \"integer\"\nweight = \"integer\"\nnote = \"text\"\n";
const RULES: &str = r#"
[entity.parcel]
owner = "shop"

[[subscribe]]
name = "weighed"
entity = "parcel"
fields = ["weight"]
target = "copy"
table = "public.inbox"
write = "insert"
key = { event_id = 'event_id' }
columns = { no = 'rec.no', weight = 'rec.weight' }

[[release]]
name = "heavy"
from = "parcel"
dedupe = ["no"]
target = "copy"
table = "public.heavy"
write = "insert"
key = { no = 'rec.no' }
columns = { event_id = 'event_id' }

[[release.when]]
name = "is_heavy"
expr = 'rec.weight == 3'
"#;
const TARGET: &str = "CREATE TABLE inbox (event_id text PRIMARY KEY, no int, weight int);
     CREATE TABLE heavy (no int PRIMARY KEY, event_id text);
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;";

fn world(kind: Kind) -> (World, &'static str) {
    let (world, schema) = match kind {
        Kind::Postgres => {
            (World::new(&format!("{TABLE}{GRANTS}"), "publication = \"crossdock\""), "public")
        }
        _ => (World::on_binlog(kind, TABLE, "tables = [\"shop.parcels\"]"), "shop"),
    };
    world.store.sql("copy", TARGET).unwrap();
    let mirrored = TABLE.replace("parcels", &format!("{schema}.parcels"));
    let mirrored = format!(
        "CREATE SCHEMA IF NOT EXISTS {schema}; {mirrored}
         GRANT ALL ON SCHEMA {schema} TO crossdock;
         GRANT ALL ON {schema}.parcels TO crossdock;"
    );
    world.store.sql("copy", &mirrored).unwrap();
    world.file("entities/all.toml", ENTITY);
    let mapping = format!(
        "source = \"shop\"\n\n[[table]]\ntable = \"{schema}.parcels\"\nentity = \"parcel\"\n\n\
         [table.fields]\nno = \"no\"\nweight = \"weight\"\nnote = \"note\"\n"
    );
    world.file("mappings/shop.toml", &mapping);
    world.file("rules/all.toml", RULES);
    world.append(&format!(
        "\n[mirror.parcels]\nsource = \"shop\"\ntarget = \"copy\"\ntables = [\"{schema}.parcels\"]\n"
    ));
    (world, schema)
}

/// Every row is inserted or updated, half of them twice, a quarter three times.
fn large_transaction(kind: Kind, rows: u64) -> String {
    let (first, last) = (FIRST + 1, FIRST + rows);
    let series = match kind {
        Kind::Postgres => format!("generate_series({first}, {last}) AS s(seq)"),
        _ => format!("seq_{first}_to_{last}"),
    };
    let text = if kind == Kind::Postgres { "seq::text" } else { "seq" };
    format!(
        "BEGIN;
         UPDATE parcels SET weight = 7;
         INSERT INTO parcels SELECT seq, 1, repeat(md5({text}), 5) FROM {series};
         UPDATE parcels SET weight = 3 WHERE no % 2 = 0;
         UPDATE parcels SET weight = 2 WHERE no % 4 = 0;
         COMMIT;"
    )
}

fn count(world: &World, database: &str, what: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {what}");
    world.store.sql(database, &sql).unwrap().trim().parse().unwrap()
}

fn large(kind: Kind, crashes: &[&str]) {
    let rows: u64 = std::env::var("LARGE_ROWS").map_or(15_000, |n| n.parse().unwrap());
    let (mut world, schema) = world(kind);
    world.sql("INSERT INTO parcels SELECT 1, 0, 'a' UNION ALL SELECT 2, 0, 'b'");
    world.start();
    world.sql(
        "INSERT INTO parcels SELECT no + 2, 0, 'c' FROM parcels;
         INSERT INTO parcels SELECT no + 4, 0, 'd' FROM parcels;
         INSERT INTO parcels SELECT no + 8, 0, 'e' FROM parcels WHERE no <= 2;",
    );
    let told = || count(&world, "copy", "inbox") == FIRST;
    assert!(wait_until(LIMIT, told), "{}", world.crossdock.log_tail());
    world.crossdock.kill();
    world.sql(&large_transaction(kind, rows));
    for point in crashes {
        world.crossdock.start_with(&[("CROSSDOCK_CRASH_AT", *point)]).unwrap();
        assert!(world.crossdock.wait_ended(LIMIT), "{point}: {}", world.crossdock.log_tail());
        assert_eq!(count(&world, "canonical", "crossdock.history"), FIRST, "{point}");
        let mirrored = count(&world, "copy", &format!("{schema}.parcels"));
        assert!(mirrored == FIRST || mirrored == FIRST + rows, "{point}: {mirrored} rows");
    }
    world.crossdock.start().unwrap();
    let all = FIRST + rows;
    let done = || count(&world, "copy", "inbox") >= FIRST + all;
    let limit = LIMIT * u32::try_from(1 + rows / 50_000).unwrap();
    let done = wait_until(limit, done);
    assert!(done, "{} told\n{}", count(&world, "copy", "inbox"), world.crossdock.log_tail());
    let peak = peak_mib(&world);
    expect(&world, schema, rows);
    println!("{kind:?}: peak {peak} MiB after a transaction of {rows} rows");
    assert!(peak <= PEAK_MIB_MAX, "peak {peak} MiB");
    assert!(world.crossdock.stop().unwrap(), "{}", world.crossdock.log_tail());
}

/// What must be there at the end, by hand.
fn expect(world: &World, schema: &str, rows: u64) {
    let all = FIRST + rows;
    assert_eq!(count(world, "canonical", "crossdock.record"), all, "records");
    assert_eq!(count(world, "canonical", "crossdock.history"), all + FIRST, "versions");
    let twice = "crossdock.record WHERE version = 2";
    assert_eq!(count(world, "canonical", twice), FIRST, "records of two versions");
    let once = "(SELECT DISTINCT entity, key, version FROM crossdock.history) AS h";
    assert_eq!(count(world, "canonical", once), all + FIRST, "different versions");
    let weight = "crossdock.e_parcel WHERE weight IS DISTINCT FROM \
                  CASE WHEN no % 4 = 0 THEN 2 WHEN no % 2 = 0 THEN 3 WHEN no <= 10 THEN 7 ELSE 1 END";
    assert_eq!(count(world, "canonical", weight), 0, "wrong weights");
    let from_first = "crossdock.history WHERE version = 2 AND changes -> 'weight' -> 0 <> '0'";
    assert_eq!(count(world, "canonical", from_first), 0, "history begins before the transaction");
    assert_eq!(count(world, "copy", "inbox"), FIRST + all, "deliveries");
    let passing = "inbox WHERE no > 10 AND weight = 3 AND no % 4 = 0";
    assert_eq!(count(world, "copy", passing), 0, "what was so in between is told to nobody");
    // 2, 6, 10 and so on.
    let heavy = (all + 2) / 4;
    let released = || count(world, "copy", "heavy") == heavy;
    assert!(wait_until(LIMIT, released), "{} released", count(world, "copy", "heavy"));
    assert_eq!(count(world, "copy", "heavy WHERE no % 4 <> 2"), 0, "releases");
    let columns = "SELECT no, weight, note FROM";
    let mirrored = || {
        let copy = format!("{columns} {schema}.parcels ORDER BY no");
        world.store.sql("copy", &copy).unwrap().trim()
            == world.sql(&format!("{columns} parcels ORDER BY no"))
    };
    assert!(wait_until(LIMIT, mirrored), "the mirror differs");
}

#[test]
fn a_large_transaction_of_postgres() {
    // In the middle of mirroring, of folding and of judging.
    large(Kind::Postgres, &["mirror.before_apply:4", "integrate.piece:10", "integrate.piece:60"]);
}

#[test]
fn a_large_transaction_of_mariadb() {
    large(Kind::MariaDb, &["integrate.piece:80"]);
}
