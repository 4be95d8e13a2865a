//! One fact of the business that is reported again and again: under other row ids, by replays, by
//! retries after an answer was lost. Every system is told once.

use crossdock_harness::service::Service;
use crossdock_harness::wait_until;

use crate::world::{LIMIT, World};

/// `told` has a row for every delivery that took effect.
const TARGET: &str = "CREATE TABLE told (event_id text PRIMARY KEY, business text, n serial);
     GRANT ALL ON ALL TABLES IN SCHEMA public TO crossdock;
     GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO crossdock;";

/// A kind of fact.
struct Fact {
    entity: &'static str,
    /// Columns of the source's table, beside the row's id, and the fields that they are.
    columns: &'static [(&'static str, &'static str, &'static str)],
    /// Fields that name the fact.
    dedupe: &'static [&'static str],
    /// The name of the fact as it is told.
    business: &'static str,
    /// Values of the fact with the number `n`, in SQL.
    values: &'static str,
}

const PICK: Fact = Fact {
    entity: "pick",
    columns: &[("site", "text", "site"), ("task_no", "text", "pick_task"), ("qty", "int", "qty")],
    dedupe: &["site", "pick_task"],
    business: "rec.pick_task",
    values: "'EU', 'T-' || n, 5",
};
const SHIPMENT: Fact = Fact {
    entity: "shipment",
    columns: &[
        ("site", "text", "site"),
        ("shipment_no", "text", "shipment_no"),
        ("kg", "numeric", "weight"),
    ],
    dedupe: &["site", "shipment_no"],
    business: "rec.shipment_no",
    values: "'EU', 'T-' || n, 12.5",
};
const FREIGHT: Fact = Fact {
    entity: "freight_cost",
    columns: &[
        ("shipment_no", "text", "shipment_no"),
        ("charge", "text", "charge_code"),
        ("version", "int", "cost_version"),
        ("amount", "numeric", "amount"),
    ],
    dedupe: &["shipment_no", "charge_code", "cost_version"],
    business: "rec.shipment_no",
    values: "'T-' || n, 'FUEL', 1, 99.90",
};

impl Fact {
    fn table(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(c, t, _)| format!("{c} {t}")).collect();
        format!(
            "CREATE TABLE facts (id serial PRIMARY KEY, {});
             CREATE PUBLICATION crossdock FOR TABLE facts;
             GRANT SELECT ON facts TO crossdock;",
            columns.join(", ")
        )
    }

    fn mapping(&self) -> String {
        let fields: String = self
            .columns
            .iter()
            .map(|(column, _, field)| format!("{field} = \"{column}\"\n"))
            .collect();
        format!(
            "source = \"shop\"\n[[table]]\ntable = \"public.facts\"\nentity = \"{}\"\n\
             [table.fields]\n{fields}",
            self.entity
        )
    }

    fn rules(&self) -> String {
        let Self { entity, dedupe, business, .. } = self;
        let first = dedupe[0];
        let release = |target: &str| {
            format!(
                "\n[[release]]\nname = \"{entity}_{target}\"\ntarget = \"{target}\"\n\
                 from = \"{entity}\"\ndedupe = {dedupe:?}\n\
                 when = [{{ name = \"known\", expr = 'present(rec.{first})' }}]\n\
                 table = \"public.told\"\nwrite = \"insert\"\nkey = {{ event_id = 'event_id' }}\n\
                 columns = {{ business = '{business}' }}\n"
            )
        };
        format!("[entity.{entity}]\nowner = \"shop\"\n") + &release("copy") + &release("portal")
    }

    /// Rows about the facts with some numbers, each `times` times.
    fn insert(&self, (from, to): (u32, u32), times: u32) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(column, _, _)| *column).collect();
        format!(
            "INSERT INTO facts ({}) SELECT {} FROM generate_series({from}, {to}) AS n,
             generate_series(1, {times})",
            columns.join(", "),
            self.values
        )
    }
}

struct Told {
    world: World,
    service: Service,
}

impl Told {
    fn new(fact: &Fact) -> Self {
        let mut world = World::new(&fact.table(), "publication = \"crossdock\"");
        let service = Service::start().unwrap();
        world.store.sql("copy", TARGET).unwrap();
        world.file("mappings/shop.toml", &fact.mapping());
        world.file("rules/all.toml", &fact.rules());
        world.append(&format!(
            "\n[target.portal]\nkind = \"http\"\nurl = \"http://127.0.0.1:{}/hooks\"\n",
            service.port()
        ));
        world.start();
        Self { world, service }
    }

    /// What the database was told, in order.
    fn copy(&self) -> Vec<String> {
        let rows = self.world.store.sql("copy", "SELECT business FROM told ORDER BY n").unwrap();
        rows.lines().map(str::to_owned).collect()
    }

    /// What the service has taken, in order.
    fn portal(&self) -> Vec<String> {
        let log = self.service.log();
        let taken = log.lock().unwrap().taken.clone();
        let business = |body: &str| -> String {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            body["writes"][0]["columns"]["business"].as_str().unwrap().into()
        };
        taken.iter().map(|taken| business(&taken.body)).collect()
    }

    /// Both have been told of so many facts, each once, and nothing more comes.
    fn are(&mut self, facts: u32) {
        let mut expected: Vec<String> = (1..=facts).map(|n| format!("T-{n}")).collect();
        expected.sort();
        let sorted = |mut told: Vec<String>| {
            told.sort();
            told
        };
        let both = || sorted(self.copy()) == expected && sorted(self.portal()) == expected;
        let there = wait_until(LIMIT, both);
        let log = self.world.crossdock.log_tail();
        assert!(there, "{:?} and {:?}\n{log}", self.copy(), self.portal());
        self.world.crossdock.wait_caught_up(LIMIT).unwrap();
        assert_eq!((sorted(self.copy()), sorted(self.portal())), (expected.clone(), expected));
    }
}

fn is_told_once(fact: &Fact) {
    let mut told = Told::new(fact);
    // Twice in a transaction, and once more in each of two others.
    told.world.sql(&fact.insert((1, 5), 2));
    told.world.sql(&fact.insert((1, 5), 1));
    told.world.sql(&fact.insert((1, 5), 1));
    told.are(5);
    let counted = format!(
        "crossdock_duplicate_facts_total{{entity=\"{}\",source=\"shop\"}} 15\n",
        fact.entity
    );
    let metrics = told.world.crossdock.page("/metrics").unwrap();
    assert!(metrics.contains(&counted), "{counted} is not in {metrics}");

    // The service takes it, and nobody hears the answer.
    told.service.kill();
    told.world.sql(&fact.insert((6, 6), 1));
    assert!(wait_until(LIMIT, || told.portal().len() == 6));
    told.world.sql(&fact.insert((6, 6), 1));
    told.service.start_again();
    told.are(6);
    let asked = told.service.log().lock().unwrap().asked.len();
    assert!(asked > 6, "{asked} requests: it was not tried again");

    // Killed, and everything replayed.
    told.world.crossdock.kill();
    told.world.sql(&fact.insert((6, 7), 2));
    told.world.crossdock.start().unwrap();
    told.are(7);
    for what in [["--target", "copy"], ["--target", "portal"], ["--source", "shop"]] {
        told.world.done(&["rewind", what[0], what[1], "--to", "0"]);
        told.are(7);
    }
    told.world.done(&["rewind", "--integrate", "--to", "0"]);
    told.are(7);

    // Gone, and reported anew.
    told.world.sql("DELETE FROM facts");
    told.world.sql(&fact.insert((1, 8), 1));
    told.are(8);
    assert!(told.world.crossdock.stop().unwrap());
}

#[test]
fn a_pick_is_told_once() {
    is_told_once(&PICK);
}

#[test]
fn a_shipment_is_told_once() {
    is_told_once(&SHIPMENT);
}

#[test]
fn a_freight_cost_is_posted_once() {
    is_told_once(&FREIGHT);
}
