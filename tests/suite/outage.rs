//! A target that is away for a long time: the source's log is released, memory stays where it
//! was, and then the target is told everything, in order.
//!
//! `OUTAGE_CHANGES` sets how much the source writes meanwhile; `make test-outage` has the long form.

use std::time::Instant;

use crossdock_harness::wait_until;

use crate::crash_world::Database;
use crate::memory::peak_mib;
use crate::parcels::{ENTITIES, MAPPING, TABLE};
use crate::world::{Kind, LIMIT, World};

/// Changes while the target is away, in `make test`.
const CHANGES: u64 = 12_000;
/// Changes of one transaction.
const EACH: u64 = 200;
const PARCELS: u64 = 400;
/// MiB that the process may need more than it did for as many changes while the target was there.
const MORE_MIB_MAX: u64 = 24;

fn rules(schema: &str) -> String {
    format!(
        "[entity.parcel]\nowner = \"shop\"\n[entity.depot]\nowner = \"shop\"\n\n\
         [[subscribe]]\nname = \"weights\"\nentity = \"parcel\"\nfields = [\"weight\"]\n\
         target = \"away\"\ntable = \"{schema}.inbox\"\nwrite = \"insert\"\n\
         key = {{ event_id = 'event_id' }}\n\
         columns = {{ no = 'rec.no', weight = 'rec.weight', kind = '\"weight\"' }}\n"
    )
}

struct Outage {
    world: World,
    away: Database,
    /// Changes so far.
    changes: u64,
}

impl Outage {
    fn new(kind: Kind) -> Self {
        let mut world = World::new(TABLE, "publication = \"crossdock\"");
        let away = Database::new("away", kind);
        away.refuse(false);
        world.file("entities/all.toml", ENTITIES);
        world.file("mappings/shop.toml", MAPPING);
        world.file("rules/all.toml", &rules(away.schema()));
        world.append(&away.config());
        let parcels =
            format!("INSERT INTO parcels SELECT n, 0 FROM generate_series(1, {PARCELS}) AS n");
        world.start();
        world.sql(&parcels);
        Self { world, away, changes: PARCELS }
    }

    /// The source writes: each change is one heavier than the one before of that parcel.
    fn write(&mut self, changes: u64) {
        let parts = PARCELS / EACH;
        let transactions = (0..changes / EACH).map(|n| {
            let part = n % parts;
            format!("UPDATE parcels SET weight = weight + 1 WHERE no % {parts} = {part};\n")
        });
        self.world.sql(&transactions.collect::<String>());
        self.changes += changes;
    }

    fn owed(&self) -> u64 {
        let owed = "SELECT count(*) FROM crossdock.delivery";
        self.world.store.sql("canonical", owed).unwrap().trim().parse().unwrap()
    }

    /// Bytes of its log that the source's server keeps for Crossdock.
    fn kept(&self) -> u64 {
        let kept = "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots";
        self.world.sql(kept).parse().unwrap()
    }

    fn told(&self) -> u64 {
        self.away.ask("SELECT count(*) FROM seen").parse().unwrap()
    }

    fn is_told_all(&self) {
        let begun = Instant::now();
        let all = wait_until(LIMIT * 5, || self.told() == self.changes);
        let log = self.world.crossdock.log_tail();
        assert!(all, "{} of {}\n{log}", self.told(), self.changes);
        eprintln!("told of {} changes after {:?}", self.changes, begun.elapsed());
    }
}

fn an_outage_holds_up_nothing(kind: Kind) {
    let changes = std::env::var("OUTAGE_CHANGES").map_or(CHANGES, |n| n.parse().unwrap());
    let mut outage = Outage::new(kind);
    outage.write(changes);
    outage.is_told_all();
    let (before, told) = (peak_mib(&outage.world), outage.told());

    outage.away.server.kill();
    outage.write(changes);
    let all_owed = || outage.owed() == outage.changes;
    assert!(wait_until(LIMIT * 5, all_owed), "{}", outage.world.crossdock.log_tail());
    let away = peak_mib(&outage.world);
    // The server may drop its log up to here: nothing but a keep-alive is newer.
    let released = wait_until(LIMIT, || outage.kept() < 1 << 20);
    assert!(released, "{} bytes are kept", outage.kept());
    let down = || {
        let status = outage.world.crossdock.status().unwrap();
        let targets = status["targets"].as_array().unwrap().clone();
        targets.iter().any(|target| target["name"] == "away" && target["error"].is_string())
    };
    assert!(wait_until(LIMIT, down), "{:#}", outage.world.crossdock.status().unwrap());

    outage.away.server.start_again();
    outage.is_told_all();
    let after = peak_mib(&outage.world);
    eprintln!("peak: {before} MiB after {changes} changes; after as many with the target away");
    eprintln!("{away} MiB; when it had caught up {after} MiB");
    assert!(after <= before + MORE_MIB_MAX, "{before} MiB, {after} MiB");
    assert!(outage.told() > told);
    let wrong = "SELECT count(*) FROM (
                     SELECT weight - lag(weight) OVER (PARTITION BY no ORDER BY n) AS step
                     FROM seen) AS s WHERE step <> 1";
    assert_eq!(outage.away.ask(wrong), "0", "each change once and in its order");
    assert!(outage.world.crossdock.stop().unwrap());
}

#[test]
fn a_postgres_target_that_was_away_catches_up() {
    an_outage_holds_up_nothing(Kind::Postgres);
}

#[test]
fn a_mariadb_target_that_was_away_catches_up() {
    an_outage_holds_up_nothing(Kind::MariaDb);
}
