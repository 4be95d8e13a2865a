//! The account agrees with the source databases where that can be seen directly, and one seed
//! always gives the same data.

use std::collections::BTreeMap;

use crossdock_demo::expect::Model;
use crossdock_demo::master::Site;
use crossdock_demo::seed;
use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_demo::verify;
use crossdock_demo::workload::{Ports, Workload};

const ORDERS: u32 = 100;

/// Seeds, plays, checks; returns a digest of every table of every system.
fn one_run(seed: u64) -> BTreeMap<String, String> {
    let systems = Systems::start(TmsKind::Mariadb).expect("servers start");
    let begun = std::time::Instant::now();
    seed::fill(&systems).expect("history is written");
    eprintln!("history: {:?}", begun.elapsed());
    let mut workload = Workload::new(seed, Ports::from(&systems));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = std::time::Instant::now();
    runtime.block_on(workload.play(ORDERS)).expect("workload runs");
    eprintln!("{} transactions: {:?}", workload.transactions(), begun.elapsed());
    compare(&systems, workload.model());
    judge_without_crossdock(&systems, workload.model());
    digests(&systems)
}

#[test]
fn account_agrees_with_the_systems_and_a_seed_repeats_itself() {
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| one_run(11));
        (one_run(11), other.join().unwrap())
    });
    assert_eq!(first, second);
    assert!(first.len() >= 24, "at least six tables in each system, got {}", first.len());
}

/// Nobody has replicated anything, and the verdict must say so.
fn judge_without_crossdock(systems: &Systems, model: &Model) {
    let store = "CREATE SCHEMA crossdock; \
        CREATE TABLE crossdock.record (entity text, key text, deleted boolean, fields jsonb); \
        CREATE TABLE crossdock.release (released boolean); \
        CREATE TABLE crossdock.exception (kind text, open boolean);";
    systems.store.sql("canonical", store).unwrap();
    let checks = verify::verify(systems, model).expect("the databases can be asked");
    let right: Vec<&str> = checks.iter().filter(|c| c.ok).map(|c| c.name).collect();
    assert!(right.is_empty(), "right without Crossdock: {right:?}");
    let terms = checks.iter().find(|c| c.name == "Warehouses: terms put back").unwrap();
    assert_eq!(terms.differences.len(), model.terms_overwritten.len());
}

fn rows(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('|').or_else(|| line.split_once('\t')))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn milli(value: i64) -> String {
    format!("{}.{:03}", value / 1000, value % 1000)
}

fn compare(systems: &Systems, model: &Model) {
    let states = rows(&systems.erp.sql("erp", "SELECT order_no, state FROM sales_orders").unwrap());
    let expected: BTreeMap<String, String> =
        model.orders.iter().map(|(no, order)| (no.clone(), order.state.to_owned())).collect();
    assert_eq!(states, expected);
    compare_lines(systems, model);
    compare_stock(systems, model);
    compare_shipments(systems, model);
    let tenders = rows(&systems.tms.sql("tms", "SELECT load_no, tender_state FROM loads").unwrap());
    let expected: BTreeMap<String, String> =
        model.loads.iter().map(|(no, state)| (no.clone(), (*state).to_owned())).collect();
    assert_eq!(tenders, expected);
    let milestones = systems.tms.sql("tms", "SELECT COUNT(*) FROM outbox").unwrap();
    assert_eq!(milestones.trim(), model.milestones.len().to_string());
    let costs = rows(
        &systems
            .tms
            .sql(
                "tms",
                "SELECT CONCAT(s.shipment_no, '/', c.version), IFNULL(c.amount_minor, 'open') \
                 FROM costs c JOIN shipments s ON s.id = c.shipment_id",
            )
            .unwrap(),
    );
    let expected: BTreeMap<String, String> = model
        .costs
        .iter()
        .map(|((shipment, version), cost)| {
            let amount = cost.amount.map_or_else(|| "open".to_owned(), |a| a.to_string());
            (format!("{shipment}/{version}"), amount)
        })
        .collect();
    assert_eq!(costs, expected);
}

fn compare_lines(systems: &Systems, model: &Model) {
    let mut found = rows(
        &systems
            .wms_us
            .sql(
                "wms_us",
                "SELECT o.customer_order || '/' || l.line_nbr, l.qty_picked || '/' || \
                 coalesce(l.qty_shipped::text, 'none') \
                 FROM wms.outbound_order_line l JOIN wms.outbound_order o USING (outbound_id)",
            )
            .unwrap(),
    );
    found.extend(rows(
        &systems
            .wms_eu
            .sql(
                "wms",
                "SELECT CONCAT(l.order_ref, '/', l.line_no), CONCAT( \
                 IFNULL((SELECT SUM(q) FROM (SELECT task_no, line_ref, MAX(qty) AS q FROM picks \
                 GROUP BY task_no, line_ref) t WHERE t.line_ref = l.line_ref), '0.000'), '/', \
                 IFNULL(l.qty_shipped, 'none')) FROM order_lines l",
            )
            .unwrap(),
    ));
    let expected: BTreeMap<String, String> = model
        .lines
        .iter()
        .map(|((order, line_no), line)| {
            let shipped = line.shipped.map_or_else(|| "none".to_owned(), milli);
            (format!("{order}/{line_no}"), format!("{}/{shipped}", milli(line.picked)))
        })
        .collect();
    assert_eq!(found, expected);
}

fn compare_stock(systems: &Systems, model: &Model) {
    let us = systems.wms_us.sql(
        "wms_us",
        "SELECT 'US/' || item_nbr, qty_on_hand || '/' || qty_allocated \
         FROM wms.facility_inventory JOIN wms.item_master USING (item_id)",
    );
    let eu = systems
        .wms_eu
        .sql("wms", "SELECT CONCAT('EU/', sku), CONCAT(on_hand, '/', allocated) FROM stock");
    let mut found = rows(&us.unwrap());
    found.extend(rows(&eu.unwrap()));
    let expected: BTreeMap<String, String> = model
        .stock
        .iter()
        .map(|((site, sku), (on_hand, allocated))| {
            (format!("{}/{sku}", site.code()), format!("{}/{}", milli(*on_hand), milli(*allocated)))
        })
        .collect();
    assert_eq!(found, expected);
}

fn compare_shipments(systems: &Systems, model: &Model) {
    let us = systems.wms_us.sql(
        "wms_us",
        "SET timezone = 'UTC'; SELECT shipment_nbr, \
         freight_terms || '/' || coalesce(to_char(packed_ts, 'YYYY-MM-DD HH24:MI:SS'), 'none') \
         FROM wms.shipment_header",
    );
    let eu = systems.wms_eu.sql(
        "wms",
        "SELECT shipment_no, CONCAT(incoterm, '/', \
         IFNULL(DATE_FORMAT(confirmed_at, '%Y-%m-%d %H:%i:%s'), 'none')) FROM shipments",
    );
    let mut found = rows(&us.unwrap());
    found.extend(rows(&eu.unwrap()));
    let expected: BTreeMap<String, String> = model
        .shipments
        .iter()
        .map(|(number, shipment)| {
            let packed = shipment.packed.map(|at| match shipment.site {
                Site::Eu => at.berlin().unwrap(),
                Site::Us => at.utc().unwrap(),
            });
            let terms = match model.terms_overwritten.contains(number) {
                true => "EXW",
                false => shipment.incoterm,
            };
            let packed = packed.unwrap_or_else(|| "none".to_owned());
            (number.clone(), format!("{terms}/{packed}"))
        })
        .collect();
    assert_eq!(found, expected);
}

/// A digest of each table, without columns that tell when a row was written.
fn digests(systems: &Systems) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, server, database) in
        [("erp", &systems.erp, "erp"), ("wms_us", &systems.wms_us, "wms_us")]
    {
        let tables = server
            .sql(
                database,
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                 WHERE schemaname IN ('public', 'wms')",
            )
            .unwrap();
        for table in tables.lines() {
            let sql = format!(
                "SELECT md5(string_agg(r, ',' ORDER BY r)) FROM (SELECT (to_jsonb(t) - \
                 ARRAY['updated_at', 'last_change_ts', 'received_at', 'posted_at'])::text AS r \
                 FROM {table} t) x"
            );
            all.insert(format!("{name}.{table}"), server.sql(database, &sql).unwrap());
        }
    }
    for (name, server, database) in
        [("wms_eu", &*systems.wms_eu, "wms"), ("tms", &*systems.tms, "tms")]
    {
        let tables = server.sql(database, "SHOW TABLES").unwrap();
        for table in tables.lines() {
            let columns = server
                .sql(
                    database,
                    &format!(
                        "SELECT GROUP_CONCAT(CONCAT('`', column_name, '`') ORDER BY 1) \
                         FROM information_schema.columns WHERE table_schema = DATABASE() AND \
                         table_name = '{table}' AND column_name NOT IN ('changed_at', 'created_at')"
                    ),
                )
                .unwrap();
            let sql = format!("SELECT {} FROM `{table}` ORDER BY 1", columns.trim());
            all.insert(format!("{name}.{table}"), server.sql(database, &sql).unwrap());
        }
    }
    all
}
