//! Every state of an order can be asked for: the queries of `docs/order-states.md`, one after the
//! other, while four systems work on an order. And what is stuck shows itself (S13).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;

use crate::stage::{copy_demo_files, environment};

const LIMIT: Duration = Duration::from_secs(60);

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/order-states.md");
    fs::read_to_string(path).unwrap()
}

/// The blocks of the page in a language, by what their first line says.
fn blocks(page: &str, language: &str) -> BTreeMap<String, String> {
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    let named = |block: &str| {
        let first = block.lines().next().unwrap().trim_start_matches(['-', '#', ' ']);
        (first.split(':').next().unwrap().to_owned(), block.to_owned())
    };
    blocks.map(named).collect()
}

struct Desk {
    systems: Systems,
    crossdock: Crossdock,
    queries: BTreeMap<String, String>,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn open() -> Self {
        let systems = Systems::start(TmsKind::Mariadb).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = copy_demo_files(folder.path());
        for (name, text) in blocks(&page(), "toml") {
            fs::write(folder.path().join(name), text).unwrap();
        }
        // A shipment that is packed and does not leave is stuck.
        let rules = folder.path().join("rules/20-shipment.toml");
        let dwell = "\n[[lifecycle.shipment.dwell]]\nstate = \"packed\"\nmax = \"1s\"\n\
                     exception = \"stuck_packed\"\nowner_team = \"warehouse\"\n";
        fs::write(&rules, fs::read_to_string(&rules).unwrap() + dwell).unwrap();
        let port = free_port().unwrap();
        let env = environment(&systems, &folder.path().join("state"), port);
        let mut crossdock = Crossdock::new(&config, &env, port, folder.path());
        crossdock.start().unwrap();
        crossdock.wait_caught_up(LIMIT).unwrap();
        Self { systems, crossdock, queries: blocks(&page(), "sql"), _folder: folder }
    }

    fn store(&self, sql: &str) -> String {
        self.systems.store.sql("canonical", sql).unwrap().trim().to_owned()
    }

    /// Waits until the order is in this state, by the page's query.
    fn becomes(&self, state: &str) {
        let query = &self.queries[state];
        assert!(
            wait_until(LIMIT, || self.store(query) == "ord:SO-1"),
            "{state}: {}\n{}",
            self.store("SELECT key, fields FROM crossdock.record ORDER BY key"),
            self.crossdock.log_tail()
        );
    }

    fn erp(&self, sql: &str) {
        self.systems.erp.sql("erp", sql).unwrap();
    }

    fn wms(&self, sql: &str) {
        self.systems.wms_eu.sql("wms", sql).unwrap();
    }

    /// A carrier reports.
    fn milestone(&self, id: u32, code: &str, stop: &str) {
        let payload = format!(
            "{{\"site\": \"EU\", \"shipment_no\": \"SHP-1\", \"load_no\": \"LD-1\", \"partner\": \
             \"GEOD\", \"code\": \"{code}\", \"stop_role\": \"{stop}\", \"event_time\": \
             \"2026-05-01T1{id}:00:00Z\"}}"
        );
        let sql = format!(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES
             ('milestone', 'M-{id}', 'shipment.milestone', '{payload}')"
        );
        self.systems.tms.sql("tms", &sql).unwrap();
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let page = self.crossdock.page("/metrics").ok()?;
        let line = page.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

#[test]
fn every_state_of_an_order_can_be_asked_for_and_s13_what_is_stuck_is_seen() {
    let desk = Desk::open();
    let states = desk.queries.keys().map(String::as_str).collect::<Vec<_>>();
    let all = [
        "allocated",
        "delivered",
        "financially settled",
        "in transit",
        "loaded",
        "picked",
        "released",
        "short shipped",
    ];
    assert_eq!(states, all);
    desk.erp(
        "INSERT INTO customers (id, party_code, name, city, country)
             VALUES (1, 'C-1', 'Nord AG', 'Hamburg', 'DE');
         INSERT INTO products (id, sku, description, net_weight, list_price)
             VALUES (1, 'SKU-1', 'Pallet jack', 1.5, 9.9);
         INSERT INTO sales_orders (id, order_no, customer_id, ordered_on, currency, state)
             VALUES (1, 'SO-1', 1, '2026-05-01', 'EUR', 'released');
         INSERT INTO sales_order_lines (order_id, line_no, product_id, quantity, unit_price, ship_from)
             VALUES (1, 1, 1, 5, 9.9, 'EU');
         INSERT INTO deliveries (order_id, site, shipment_no) VALUES (1, 'EU', 'SHP-1');",
    );
    desk.becomes("released");
    desk.wms(
        "INSERT INTO customers VALUES ('C-1', 'Nord AG', 10000, 'Hamburg', 'DE');
         INSERT INTO articles VALUES ('SKU-1', 'Pallet jack', 'EA');
         INSERT INTO stock VALUES ('SKU-1', 100, 5);
         INSERT INTO orders VALUES ('SO-1', 'C-1', 'WAVED');
         INSERT INTO order_lines VALUES ('SO-1/1', 'SO-1', 1, 'SKU-1', 5, NULL);
         INSERT INTO shipments (shipment_no, order_ref) VALUES ('SHP-1', 'SO-1')",
    );
    desk.becomes("allocated");
    s12_customer_service_asks(&desk);
    desk.wms(
        "INSERT INTO picks (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at)
         VALUES ('P-1', 'T-1', 'SO-1/1', 'SHP-1', 5, 5, '2026-05-01 09:00:00')",
    );
    desk.becomes("picked");
    stuck_shipments_are_seen(&desk);
    desk.wms(
        "UPDATE shipments SET status = 'LOADED', loaded_at = '2026-05-01 11:00:00';
         UPDATE order_lines SET qty_shipped = 4",
    );
    desk.becomes("loaded");
    desk.becomes("short shipped");
    let unstuck = || desk.metric("crossdock_exceptions_open") == Some(0.0);
    assert!(wait_until(LIMIT, unstuck), "it has moved on");
    desk.milestone(2, "24", "pickup");
    desk.milestone(3, "31", "pickup");
    desk.becomes("in transit");
    desk.milestone(6, "21", "delivery");
    desk.becomes("delivered");
    desk.erp(
        "INSERT INTO invoices (invoice_no, order_id, amount, currency)
         VALUES ('INV-1', 1, 49.5, 'EUR')",
    );
    desk.erp("UPDATE invoices SET state = 'paid'");
    desk.becomes("financially settled");
}

/// S12: one command says where an order stands, by whose word and since when, with its shipments.
fn s12_customer_service_asks(desk: &Desk) {
    let output = desk.crossdock.run(&["show", "ord:SO-1"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let order = said.lines().next().unwrap();
    assert!(order.starts_with("ord:SO-1 (sales_order, version "), "{said}");
    for expected in [
        "  customer_status = Confirmed since 20",
        "  fulfilment = allocated since 20",
        "shp:EU:SHP-1 (shipment, version ",
        "  status = planned since 20",
    ] {
        assert!(said.lines().any(|line| line.starts_with(expected)), "{expected}: {said}");
    }
    let output = desk.crossdock.run(&["show", "shp:EU:SHP-1", "--json"]).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["fields"]["status"]["value"], "planned");
    assert_eq!(json[0]["key"], "shp:EU:SHP-1");
    let output = desk.crossdock.run(&["show", "ord:SO-404"]).unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("the store has no record ord:SO-404"), "{error}");
}

/// S13: latency, failures and stuck work are metrics of their own; what is stuck is an exception
/// with its team.
fn stuck_shipments_are_seen(desk: &Desk) {
    assert_eq!(desk.metric("crossdock_exceptions_open"), Some(0.0));
    desk.wms("UPDATE shipments SET status = 'CONFIRMED', confirmed_at = '2026-05-01 10:00:00'");
    for (site, region) in [("wms_eu", "eu"), ("wms_us", "us")] {
        let info = format!("crossdock_source_info{{region=\"{region}\",source=\"{site}\"}}");
        assert_eq!(desk.metric(&info), Some(1.0), "S14: {info}");
    }
    let stuck = || desk.metric("crossdock_exceptions_open") == Some(1.0);
    assert!(wait_until(LIMIT, stuck), "{}", desk.crossdock.log_tail());
    let open = "SELECT kind, team, key FROM crossdock.v_open_exceptions";
    assert_eq!(desk.store(open), "stuck_packed|warehouse|shp:EU:SHP-1");
    for family in
        ["crossdock_source_lag_seconds", "crossdock_target_lag_seconds", "crossdock_holds"]
    {
        assert!(desk.metric(family).is_some(), "{family}");
    }
}
