//! A system that overwrites what another one owns: the owner's value is written back, not for
//! ever, and always as it is when it is written.

use std::time::Duration;

use crossdock_harness::wait_until;

use crate::pair::Pair;
use crate::world::{Kind, LIMIT};

/// Nobody is told of anything: what the warehouse has of the description comes from reverts alone.
const RULES: &str = r#"
[defaults]
on_violation = "revert"
[entity.part]
owner = "wms"
[entity.part.fields]
description = { owner = "erp" }
seen = { owner = "erp" }
"#;
/// Reverts of a field of a record that are made in a while, unless the config says otherwise.
const REVERTS_MAX: usize = 5;

struct Warehouse {
    pair: Pair,
    kind: Kind,
}

impl Warehouse {
    fn new(kind: Kind) -> Self {
        let mut pair = Pair::new(kind, RULES);
        pair.crossdock.start().unwrap();
        pair.crossdock.wait_caught_up(LIMIT).unwrap();
        Self { pair, kind }
    }

    fn sql(&self, sql: &str) {
        self.pair.wms.sql("wms", sql).unwrap();
    }

    fn describe(&self, part: usize, description: &str) {
        self.sql(&format!("UPDATE parts SET description = '{description}' WHERE id = {part}"));
    }

    fn description(&self, part: usize) -> String {
        self.pair.column("wms", "description")[part - 1].clone()
    }

    fn becomes(&self, part: usize, expected: &str) {
        let there = wait_until(LIMIT, || self.description(part) == expected);
        let log = self.pair.crossdock.log_tail();
        assert!(there, "part {part} is {:?}, not {expected}\n{log}", self.description(part));
    }

    /// The ERP, which owns it, says something newer; the record has it.
    fn owner_says(&self, part: usize, description: &str) {
        let update = format!("UPDATE parts SET description = '{description}' WHERE id = {part}");
        self.pair.erp.sql("erp", &update).unwrap();
        let record = format!(
            "SELECT fields ->> 'description' FROM crossdock.record WHERE key = 'part:P-{part}'"
        );
        assert!(wait_until(LIMIT, || self.pair.ask(&record) == description));
    }

    fn excepted(&self, kind: &str) {
        let open =
            format!("SELECT count(*) FROM crossdock.exception WHERE open AND kind = '{kind}'");
        let log = || self.pair.crossdock.log_tail();
        assert!(wait_until(LIMIT, || self.pair.ask(&open) == "1"), "no {kind}: {}", log());
    }

    fn retry(&self) {
        let retry = ["exceptions", "retry", "--all", "--by", "test"];
        assert!(self.pair.crossdock.run(&retry).unwrap().status.success());
    }

    /// How many reverts of a part are owed.
    fn reverts(&self, part: usize) -> usize {
        let sql = format!(
            "SELECT count(*) FROM crossdock.delivery
             WHERE reverts = 'description' AND key = 'part:P-{part}'"
        );
        self.pair.ask(&sql).parse().unwrap()
    }

    /// A trigger that never lets a description be.
    fn insist_on(&self, part: usize) {
        self.sql(&match self.kind {
            Kind::Postgres => format!(
                "CREATE FUNCTION insist() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN NEW.description := 'mine ' || NEW.touched; RETURN NEW; END $$;
                 CREATE TRIGGER z_insist BEFORE UPDATE ON parts FOR EACH ROW
                     WHEN (NEW.id = {part}) EXECUTE FUNCTION insist();"
            ),
            Kind::MariaDb | Kind::MySql => format!(
                "CREATE TRIGGER z_insist BEFORE UPDATE ON parts FOR EACH ROW
                     SET NEW.description = IF(NEW.id = {part},
                         CONCAT('mine ', NEW.touched), NEW.description);"
            ),
        });
    }
}

fn an_offender_is_written_back(kind: Kind) {
    let warehouse = Warehouse::new(kind);
    for n in 0..REVERTS_MAX {
        warehouse.describe(2, &format!("theirs {n}"));
        warehouse.becomes(2, "new");
    }
    // Not for ever; and others go on.
    warehouse.describe(2, "once more");
    warehouse.excepted("revert_ping_pong");
    warehouse.describe(1, "theirs");
    warehouse.becomes(1, "new");
    assert_eq!(warehouse.description(2), "once more");
    // What is made after all is what the owner says now, although nothing else would say it.
    warehouse.owner_says(2, "newer");
    warehouse.retry();
    warehouse.becomes(2, "newer");

    // Likewise one that was refused.
    warehouse
        .sql("ALTER TABLE parts ADD CONSTRAINT never_new CHECK (id <> 5 OR description <> 'new')");
    warehouse.describe(5, "theirs");
    warehouse.excepted("delivery_refused");
    warehouse.owner_says(5, "newer");
    warehouse.retry();
    warehouse.becomes(5, "newer");

    // A trigger makes something else of whatever is written back: that ends, too.
    warehouse.insist_on(4);
    warehouse.describe(4, "theirs");
    assert!(wait_until(LIMIT, || warehouse.reverts(4) > 0));
    let mut pair = warehouse.pair;
    pair.crossdock.wait_caught_up(LIMIT).unwrap();
    let warehouse = Warehouse { pair, kind };
    let before = warehouse.reverts(4);
    assert!(!wait_until(Duration::from_secs(2), || warehouse.reverts(4) > before), "{before}");
    assert!(before <= REVERTS_MAX + 1, "{before} reverts");
    let status = warehouse.pair.crossdock.status().unwrap();
    assert_eq!(status["echo_leaked_total"], 0, "{status:#}");
}

#[test]
fn reverts_postgres() {
    an_offender_is_written_back(Kind::Postgres);
}

#[test]
fn reverts_mariadb() {
    an_offender_is_written_back(Kind::MariaDb);
}
