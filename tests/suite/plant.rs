//! The manufacturer's systems with a Crossdock between them, and what they do: orders `SO-n`, of
//! which line 1 ships from the EU as `EU-n` and line 2 from the US as `US-n`. Everything that the
//! ERP ever shows of them is noted by triggers of its own, so that nothing between two looks is
//! missed.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;

use crate::stage::{copy_demo_files, environment};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(60);

/// Notes every status that the ERP shows, when it did so, and when shipments really left.
const WATCH: &str = "
CREATE SCHEMA watch;
CREATE TABLE watch.seen (at timestamptz NOT NULL DEFAULT clock_timestamp(),
                         what text NOT NULL, key text NOT NULL, status text);
CREATE TABLE watch.gone (shipment text PRIMARY KEY,
                         at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION watch.note() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watch.seen (what, key, status)
        SELECT TG_TABLE_NAME, r ->> TG_ARGV[0], r ->> TG_ARGV[1] FROM to_jsonb(NEW) r;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON deliveries
    FOR EACH ROW EXECUTE FUNCTION watch.note('shipment_no', 'status');
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON sales_orders
    FOR EACH ROW EXECUTE FUNCTION watch.note('order_no', 'ship_status');
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON freight_accruals
    FOR EACH ROW EXECUTE FUNCTION watch.note('shipment_no', 'charge_code');
";

/// What the ERP has shown too early: a delivery, an order all of whose deliveries are said to have
/// left, or an accrual, before the goods had left or without their ever leaving.
const EARLY: &str = "
SELECT s.what || ' ' || s.key || ' ' || s.status FROM watch.seen s
LEFT JOIN watch.gone g ON g.shipment = s.key
WHERE s.what IN ('deliveries', 'freight_accruals')
  AND (s.what = 'freight_accruals' OR s.status IN ('departed', 'in_transit', 'delivered'))
  AND (g.at IS NULL OR g.at > s.at)
UNION ALL
SELECT 'order ' || s.key || ' ' || s.status FROM watch.seen s
JOIN sales_orders o ON o.order_no = s.key JOIN deliveries d ON d.order_id = o.id
LEFT JOIN watch.gone g ON g.shipment = d.shipment_no
WHERE s.what = 'sales_orders' AND s.status IN ('departed', 'in_transit', 'delivered')
  AND (g.at IS NULL OR g.at > s.at)";

/// An installation's own rule: the ERP hears of a proof of delivery. And a shipment that is packed
/// and does not move on is stuck.
const POD: &str = include_str!("../../canonical/tests/pod_status.toml");
const DWELL: &str = "
[[lifecycle.shipment.dwell]]
state = \"packed\"
max = \"1s\"
exception = \"stuck_packed\"
owner_team = \"warehouse\"
";

/// The systems, running.
pub struct Plant {
    pub crossdock: Crossdock,
    systems: Systems,
    folder: tempfile::TempDir,
}

impl Plant {
    /// Starts the systems with master data, and a Crossdock with the demo's files.
    pub fn start() -> Self {
        let systems = Systems::start(TmsKind::Mariadb).unwrap();
        systems.erp.sql("erp", WATCH).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = copy_demo_files(folder.path());
        fs::write(folder.path().join("rules/90-pod.toml"), POD).unwrap();
        let change = |name: &str, change: &dyn Fn(String) -> String| {
            let path = folder.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, change(text)).unwrap();
        };
        change("rules/20-shipment.toml", &|text| text + DWELL);
        // Where this warehouse keeps the number of the signed bill of lading is the test's choice.
        let document =
            |text: String| text.replace("weight = \"gross_weight\"", "bol_no = \"gross_weight\"");
        change("mappings/wms_eu.toml", &document);
        let port = free_port().unwrap();
        let env = environment(&systems, &folder.path().join("state"), port);
        let crossdock = Crossdock::new(&config, &env, port, folder.path());
        let mut plant = Self { crossdock, systems, folder };
        plant.master_data();
        plant.crossdock.start().unwrap();
        plant.caught_up();
        plant
    }

    fn master_data(&self) {
        self.erp(
            "INSERT INTO customers (id, party_code, name, city, country)
                 VALUES (1, 'C-1', 'Nord AG', 'Hamburg', 'DE');
             INSERT INTO products (id, sku, description, net_weight, list_price)
                 VALUES (1, 'SKU-1', 'Pallet jack', 1.5, 9.9)",
        );
        self.eu("INSERT INTO customers VALUES ('C-1', 'Nord AG', 10000, 'Hamburg', 'DE');
                 INSERT INTO articles VALUES ('SKU-1', 'Pallet jack', 'EA');
                 INSERT INTO stock VALUES ('SKU-1', 100, 0)");
        self.us("INSERT INTO wms.item_master (item_id, item_nbr, item_desc)
                     VALUES (1, 'SKU-1', 'Pallet jack');
                 INSERT INTO wms.facility_inventory (item_id, qty_on_hand) VALUES (1, 100)");
        self.tms(
            "INSERT INTO carriers (id, scac, name, region) VALUES (1, 'GEOD', 'Geo', 'EU'),
             (2, 'KNNT', 'KN', 'EU'), (3, 'RDWY', 'Road', 'US'), (4, 'SAIA', 'Saia', 'US')",
        );
    }

    fn erp(&self, sql: &str) {
        self.systems.erp.sql("erp", sql).unwrap();
    }

    fn eu(&self, sql: &str) {
        self.systems.wms_eu.sql("wms", sql).unwrap();
    }

    fn us(&self, sql: &str) {
        self.systems.wms_us.sql("wms_us", sql).unwrap();
    }

    fn tms(&self, sql: &str) {
        self.systems.tms.sql("tms", sql).unwrap();
    }

    /// What the canonical store answers.
    pub fn store(&self, sql: &str) -> String {
        self.systems.store.sql("canonical", sql).unwrap().trim().to_owned()
    }

    /// What the ERP answers.
    pub fn in_erp(&self, sql: &str) -> String {
        self.systems.erp.sql("erp", sql).unwrap().trim().to_owned()
    }

    /// A field of a record.
    pub fn field(&self, key: &str, field: &str) -> String {
        self.store(&format!(
            "SELECT fields ->> '{field}' FROM crossdock.record WHERE key = '{key}' AND NOT deleted"
        ))
    }

    /// Waits until something says what it should.
    pub fn until(&self, what: &str, expected: &str, said: impl Fn() -> String) {
        let done = wait_until(LIMIT, || said() == expected);
        assert!(done, "{what}: {}, not {expected}\n{}", said(), self.crossdock.log_tail());
    }

    /// Waits until a field of a record has a value.
    pub fn becomes(&self, key: &str, field: &str, expected: &str) {
        self.until(&format!("{field} of {key}"), expected, || self.field(key, field));
    }

    /// Waits until the ERP shows a status of a delivery.
    pub fn erp_shows(&self, shipment: &str, status: &str) {
        let sql = format!("SELECT status FROM deliveries WHERE shipment_no = '{shipment}'");
        self.until(&format!("the ERP's {shipment}"), status, || self.in_erp(&sql));
    }

    /// Waits until the freight of a shipment waits for these conditions; none when it is let go.
    pub fn freight_waits_for(&self, shipment: &str, conditions: &str) {
        let sql = format!(
            "SELECT waiting_for FROM crossdock.v_holds
             WHERE rule = 'freight_accrual' AND key = 'frc:{shipment}:FRT:1'"
        );
        self.until(&format!("the freight of {shipment}"), conditions, || self.store(&sql));
    }

    /// Accruals of a shipment: version and amount.
    pub fn accruals(&self, shipment: &str) -> String {
        self.in_erp(&format!(
            "SELECT string_agg(cost_version || ':' || amount, ' ' ORDER BY cost_version)
             FROM freight_accruals WHERE shipment_no = '{shipment}'"
        ))
    }

    /// Waits until nothing is on its way.
    pub fn caught_up(&mut self) {
        self.crossdock.wait_caught_up(LIMIT).unwrap();
    }

    /// Nobody was shown anything before its goods had left: neither the ERP, at any moment so far,
    /// nor customer service in any version of a record.
    pub fn nothing_was_early(&self) {
        assert_eq!(self.in_erp(EARLY), "");
        let gone = self
            .in_erp("SELECT string_agg(format('(%L, %L)', shipment, at), ', ') FROM watch.gone");
        let gone = if gone.is_empty() { "(NULL, NULL)".to_owned() } else { gone };
        let sql = format!(
            "WITH gone (shipment, at) AS (VALUES {gone}),
             told AS (
                SELECT h.key, h.at, split_part(h.key, ':', 3) AS shipment FROM crossdock.history h
                WHERE h.entity = 'shipment'
                  AND h.changes -> 'status' ->> 1 IN ('departed', 'in_transit', 'delivered')
                UNION ALL
                SELECT h.key, h.at, split_part(l.key, ':', 3) FROM crossdock.history h
                JOIN crossdock.link l ON l.entity = 'shipment' AND l.to_key = h.key
                WHERE h.entity = 'sales_order'
                  AND h.changes -> 'customer_status' ->> 1 IN ('On its way', 'Delivered'))
             SELECT t.key FROM told t LEFT JOIN gone g ON g.shipment = t.shipment
             GROUP BY t.key, t.at
             HAVING NOT coalesce(bool_or(g.at::timestamptz <= t.at), false)"
        );
        assert_eq!(self.store(&sql), "", "told before anything of it had left");
    }

    /// A metric's value.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let page = self.crossdock.page("/metrics").ok()?;
        let line =
            page.lines().find(|l| l.strip_prefix(line).is_some_and(|r| r.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Writes an overlay of the US region.
    pub fn us_overlay(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("rules/regions/us/10-us.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The ERP captures an order with a line for each site.
    pub fn captured(&self, n: u32, sites: &[&str]) {
        let lines: Vec<String> = sites
            .iter()
            .map(|site| format!("({n}, {}, 1, 5, 9.9, '{site}')", line_no(site)))
            .collect();
        self.erp(&format!(
            "BEGIN;
             INSERT INTO sales_orders (id, order_no, customer_id, ordered_on, currency, state)
                 VALUES ({n}, 'SO-{n}', 1, '2026-05-01', 'EUR', 'confirmed');
             INSERT INTO sales_order_lines
                 (order_id, line_no, product_id, quantity, unit_price, ship_from)
                 VALUES {};
             COMMIT",
            lines.join(", ")
        ));
    }

    /// The ERP releases it: each site that has a line gets a delivery to make.
    pub fn released(&self, n: u32) {
        self.erp(&format!(
            "BEGIN;
             UPDATE sales_orders SET state = 'released' WHERE id = {n};
             INSERT INTO deliveries (order_id, site, shipment_no)
                 SELECT order_id, ship_from, ship_from || '-' || order_id FROM sales_order_lines
                 WHERE order_id = {n};
             COMMIT"
        ));
    }

    /// A warehouse takes its part in.
    pub fn taken_in(&self, n: u32, site: &str) {
        if site == "EU" {
            return self.eu(&format!(
                "INSERT INTO orders VALUES ('SO-{n}', 'C-1', 'WAVED');
                 INSERT INTO order_lines VALUES ('SO-{n}/1', 'SO-{n}', 1, 'SKU-1', 5, NULL);
                 UPDATE stock SET allocated = allocated + 5;
                 INSERT INTO shipments (shipment_no, order_ref) VALUES ('EU-{n}', 'SO-{n}')"
            ));
        }
        self.us(&format!(
            "INSERT INTO wms.outbound_order (outbound_id, customer_order, ship_to_code)
                 VALUES ({n}, 'SO-{n}', 'C-1');
             INSERT INTO wms.outbound_order_line
                 (line_id, outbound_id, line_nbr, item_id, qty_requested)
                 VALUES ({n}, {n}, 2, 1, 5);
             UPDATE wms.facility_inventory SET qty_allocated = qty_allocated + 5;
             INSERT INTO wms.shipment_header (shipment_id, shipment_nbr, outbound_id)
                 VALUES ({n}, 'US-{n}', {n})"
        ));
    }

    /// A warehouse picks all of it.
    pub fn picked(&self, n: u32, site: &str) {
        if site == "EU" {
            return self.eu(&format!(
                "INSERT INTO picks
                     (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at)
                 VALUES ('P-{n}', 'T-{n}', 'SO-{n}/1', 'EU-{n}', 5, 5, '2026-05-01 09:00:00')"
            ));
        }
        self.us(&format!(
            "INSERT INTO wms.pick_confirm
                 (task_nbr, line_id, shipment_id, qty_task, qty_confirmed, confirm_ts)
                 VALUES ('T-{n}', {n}, {n}, 5, 5, '2026-05-01 07:00:00+00')"
        ));
    }

    /// A warehouse writes what has become of a shipment: what `set` says.
    pub fn warehouse(&self, n: u32, site: &str, set: &str) {
        match site {
            "EU" => self.eu(&format!("UPDATE shipments SET {set} WHERE shipment_no = 'EU-{n}'")),
            _ => self.us(&format!("UPDATE wms.shipment_header SET {set} WHERE shipment_id = {n}")),
        }
    }

    /// The TMS plans a load, the cost of which nobody knows yet.
    pub fn planned(&self, id: u32, shipment: &str) {
        let site = shipment.split('-').next().unwrap();
        self.tms(&format!(
            "INSERT INTO loads (id, load_no) VALUES ({id}, 'L-{id}');
             INSERT INTO shipments (id, site, shipment_no, load_id)
                 VALUES ({id}, '{site}', '{shipment}', {id});
             INSERT INTO costs (shipment_id, charge_code, version, currency)
                 VALUES ({id}, 'FRT', 1, 'EUR')"
        ));
    }

    /// The load is tendered to a carrier, who accepts or declines.
    pub fn tendered(&self, load: u32, attempt: u32, answer: &str) {
        self.tms(&format!(
            "INSERT INTO tenders (load_id, carrier_id, attempt, sent_at)
                 VALUES ({load}, 1, {attempt}, '2026-05-01 06:00:00');
             UPDATE tenders SET state = '{answer}' WHERE load_id = {load} AND attempt = {attempt}"
        ));
    }

    /// The cost of a load, in minor units.
    pub fn costs(&self, load: u32, cents: u32) {
        self.tms(&format!(
            "UPDATE costs SET amount_minor = {cents} WHERE shipment_id = {load} AND version = 1"
        ));
    }

    /// The TMS does something that these tests need no word for.
    pub fn in_tms(&self, sql: &str) {
        self.tms(sql);
    }

    /// A carrier reports: `partner:code:stop`, at a time of 2026-05-01 UTC.
    pub fn reported(&self, id: u32, shipment: &str, said: &str, time: &str) {
        let site = shipment.split('-').next().unwrap();
        let mut parts = said.split(':');
        let mut part = || parts.next().unwrap();
        let (partner, code, stop) = (part(), part(), part());
        self.tms(&format!(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES
             ('milestone', 'M-{id}', 'shipment.milestone', '{{\"site\": \"{site}\",
              \"shipment_no\": \"{shipment}\", \"partner\": \"{partner}\", \"code\": \"{code}\",
              \"stop_role\": \"{stop}\", \"event_time\": \"2026-05-01T{time}:00Z\"}}')"
        ));
        let key = format!("mst:M-{id}");
        self.becomes(&key, "code", code);
    }

    /// From now on a shipment may be said to have left: whoever knows of it is about to say so.
    pub fn leaves(&self, shipment: &str) {
        self.nothing_was_early();
        self.erp(&format!("INSERT INTO watch.gone (shipment) VALUES ('{shipment}')"));
    }
}

fn line_no(site: &str) -> u32 {
    if site == "EU" { 1 } else { 2 }
}
