//! The demo's mapping and rule files, and the logs of its four systems written by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crossdock_canonical::{Known, Rules};
use crossdock_model::{ChangeEvent, Op, Problem, SourceText, TableSchema, Value};
use crossdock_schema_registry::Entities;

use crate::store::{Look, Store, Tx, delete, names, put, run, table, text, tx};

pub const SOURCES: [&str; 4] = ["erp", "wms_eu", "wms_us", "tms"];
/// 2026-05-01, the day of all scenarios: what happened at `10:00` UTC.
pub const DAY: &str = "2026-05-01";
/// Noon of that day: what systems commit, they commit after it.
const NOON_MICROS: i64 = 1_777_636_800_000_000;

/// Columns that the scenarios fill; `*` marks the key. Others are NULL, as far as anybody knows.
const TABLES: &[(&str, &str, &str)] = &[
    ("erp", "public.customers", "id* party_code name credit_limit city country payment_terms"),
    ("erp", "public.products", "id* sku description base_uom net_weight list_price"),
    (
        "erp",
        "public.sales_orders",
        "id* order_no customer_id ordered_on requested_on currency total state ship_status",
    ),
    (
        "erp",
        "public.sales_order_lines",
        "id* order_id line_no product_id quantity unit_price ship_from",
    ),
    ("erp", "public.deliveries", "id* order_id site shipment_no incoterm status"),
    ("wms_eu", "wms.customers", "party_code* name credit_limit city country"),
    ("wms_eu", "wms.stock", "sku* on_hand allocated"),
    ("wms_eu", "wms.order_lines", "line_ref* order_ref line_no sku qty qty_shipped"),
    (
        "wms_eu",
        "wms.shipments",
        "shipment_no* order_ref status incoterm gross_weight confirmed_at loaded_at",
    ),
    ("wms_eu", "wms.picks", "pick_id* task_no line_ref shipment_no qty_task qty picked_at"),
    ("wms_us", "wms.item_master", "item_id* item_nbr item_desc stock_uom"),
    ("wms_us", "wms.facility_inventory", "inventory_id* item_id qty_on_hand qty_allocated"),
    ("wms_us", "wms.outbound_order", "outbound_id* customer_order order_status"),
    (
        "wms_us",
        "wms.outbound_order_line",
        "line_id* outbound_id line_nbr item_id qty_requested qty_picked qty_shipped",
    ),
    (
        "wms_us",
        "wms.shipment_header",
        "shipment_id* shipment_nbr outbound_id ship_status freight_terms gross_weight packed_ts \
         loaded_ts ship_confirm_ts",
    ),
    (
        "wms_us",
        "wms.pick_confirm",
        "confirm_id* task_nbr line_id shipment_id qty_task qty_confirmed confirm_ts",
    ),
    ("tms", "tms.carriers", "id* scac name region"),
    ("tms", "tms.loads", "id* load_no carrier_id equipment tender_state planned_pickup"),
    ("tms", "tms.shipments", "id* site shipment_no load_id planned_ship"),
    ("tms", "tms.costs", "id* shipment_id charge_code version amount_minor currency"),
    ("tms", "tms.outbox", "id* aggregatetype aggregateid type payload"),
];

/// The mapping or rule files of the demo, by name.
pub fn files(folder: &str) -> Vec<SourceText> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo").join(folder);
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    files.sort();
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
    files.iter().map(|path| text(&name(path), &std::fs::read_to_string(path).unwrap())).collect()
}

/// The demo's rules with further rule files: overlays of regions, say.
pub fn rules_with(more: &[(&str, &str)]) -> Result<Rules, Vec<Problem>> {
    load(&files("mappings"), more)
}

/// The same over other mapping files.
pub fn load(mappings: &[SourceText], more: &[(&str, &str)]) -> Result<Rules, Vec<Problem>> {
    let mut rules = files("rules");
    rules.extend(more.iter().map(|(name, content)| text(name, content)));
    let (sources, targets) = (names(&SOURCES), names(&["erp", "wms_eu", "wms_us"]));
    let known = Known { sources: &sources, targets: &targets };
    Rules::load(Entities::shipped(), mappings, &rules, &known)
}

/// The demo's rules as they are, read once.
pub static RULES: LazyLock<Rules> = LazyLock::new(rules);

/// The demo's rules as they are.
pub fn rules() -> Rules {
    rules_with(&[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The logs of the four systems while they are written.
#[derive(Default)]
pub struct Logs {
    ends: BTreeMap<&'static str, u64>,
    rows: BTreeMap<(&'static str, &'static str, String), Vec<Value<'static>>>,
    tables: BTreeMap<(&'static str, &'static str), Arc<TableSchema>>,
}

impl Logs {
    /// A transaction of a source: rows as `column=value, column=value`, of which columns that are
    /// not named stay as they were; `-` before it deletes the row.
    pub fn tx(&mut self, source: &str, rows: &[(&str, &str)]) -> Tx {
        let events = rows.iter().map(|(table, row)| self.event(source, table, row)).collect();
        let (name, ..) = TABLES.iter().find(|(s, ..)| *s == source).unwrap();
        let end = self.ends.entry(name).or_default();
        *end += 10;
        let mut tx = tx(source, *end, events);
        tx.header.commit_micros = NOON_MICROS + i64::try_from(*end).unwrap() * 1_000_000;
        tx
    }

    fn event(&mut self, source: &str, name: &str, row: &str) -> ChangeEvent {
        let known = TABLES.iter().find(|(s, t, _)| *s == source && *t == name);
        let (source, name, columns) = known.unwrap_or_else(|| panic!("{source} has no {name}"));
        let columns: Vec<&str> = columns.split_whitespace().collect();
        let schema = self.tables.entry((source, name)).or_insert_with(|| table(name, &columns));
        let schema = schema.clone();
        let gone = row.starts_with('-');
        let cells: Vec<(&str, &str)> =
            row.trim_start_matches('-').split(", ").map(|c| c.split_once('=').unwrap()).collect();
        let key = (*source, *name, cells[0].1.to_owned());
        if gone {
            self.rows.remove(&key);
            return delete(&schema, vec![value(cells[0].1)]);
        }
        let op = if self.rows.contains_key(&key) { Op::Update } else { Op::Create };
        let image = self.rows.entry(key).or_insert_with(|| vec![Value::Null; columns.len()]);
        for (column, cell) in cells {
            let at = schema.column(column).unwrap_or_else(|| panic!("{name} has no {column}"));
            image[at] = value(cell);
        }
        put(op, &schema, image.clone())
    }
}

/// A whole number, JSON, or text; nothing is NULL.
fn value(cell: &str) -> Value<'static> {
    match cell.parse() {
        Ok(number) => Value::Int(number),
        Err(_) if cell.is_empty() => Value::Null,
        Err(_) if cell.starts_with('{') => Value::Json(cell.to_owned().into()),
        Err(_) => Value::Text(cell.to_owned().into()),
    }
}

/// What the business does, as the systems' transactions show it. Order `n` is `SO-n`; its line 1
/// ships from the EU as `EU-n`, its line 2 from the US as `US-n`.
impl Logs {
    /// The ERP has a customer and a product.
    pub fn master_data(&mut self) -> Tx {
        let rows = [
            ("public.customers", "id=1, party_code=C-1, name=Nord AG, credit_limit=5000.00"),
            ("public.products", "id=1, sku=SKU-1, base_uom=EA, net_weight=1.500"),
        ];
        self.tx("erp", &rows)
    }

    /// The ERP captures an order with a line for each site.
    pub fn captured(&mut self, n: u32, sites: &[&str]) -> Tx {
        let mut rows = vec![(
            "public.sales_orders",
            format!("id={n}, order_no=SO-{n}, customer_id=1, currency=EUR, state=confirmed"),
        )];
        for site in sites {
            let (id, line_no) = (row_id(n, site), line_no(site));
            let row = format!(
                "id={id}, order_id={n}, line_no={line_no}, product_id=1, quantity=5.000, \
                 unit_price=9.9000, ship_from={site}"
            );
            rows.push(("public.sales_order_lines", row));
        }
        self.owned("erp", &rows)
    }

    /// The ERP releases it: each site that has a line gets a delivery to make.
    pub fn released(&mut self, n: u32, sites: &[&str]) -> Tx {
        let mut rows = vec![("public.sales_orders", format!("id={n}, state=released"))];
        for site in sites {
            let id = row_id(n, site);
            let row =
                format!("id={id}, order_id={n}, site={site}, shipment_no={site}-{n}, incoterm=FCA");
            rows.push(("public.deliveries", row));
        }
        self.owned("erp", &rows)
    }

    /// The warehouse takes it in.
    pub fn taken_in(&mut self, n: u32, site: &str) -> Tx {
        let id = row_id(n, site);
        let rows = match site {
            "EU" => vec![
                ("wms.stock", "sku=SKU-1, on_hand=100.000, allocated=5.000".to_owned()),
                (
                    "wms.order_lines",
                    format!("line_ref=SO-{n}/1, order_ref=SO-{n}, line_no=1, sku=SKU-1, qty=5.000"),
                ),
                (
                    "wms.shipments",
                    format!("shipment_no=EU-{n}, order_ref=SO-{n}, status=OPEN, incoterm=FCA"),
                ),
            ],
            _ => vec![
                ("wms.item_master", "item_id=1, item_nbr=SKU-1".to_owned()),
                (
                    "wms.facility_inventory",
                    "inventory_id=1, item_id=1, qty_on_hand=100.000, qty_allocated=5.000"
                        .to_owned(),
                ),
                ("wms.outbound_order", format!("outbound_id={n}, customer_order=SO-{n}")),
                (
                    "wms.outbound_order_line",
                    format!("line_id={id}, outbound_id={n}, line_nbr=2, item_id=1"),
                ),
                (
                    "wms.shipment_header",
                    format!(
                        "shipment_id={id}, shipment_nbr=US-{n}, outbound_id={n}, ship_status=10, \
                         freight_terms=FCA"
                    ),
                ),
            ],
        };
        self.owned(wms(site), &rows)
    }

    /// The warehouse picks a quantity for it. The same task again is the same pick.
    pub fn picked(&mut self, n: u32, site: &str, task: &str, row: u32, qty: &str) -> Tx {
        let (id, at) = (row_id(n, site), wall(site, "07:00"));
        let pick = match site {
            "EU" => format!(
                "pick_id=P{row}, task_no={task}, line_ref=SO-{n}/1, shipment_no=EU-{n}, qty={qty}, \
                 picked_at={at}"
            ),
            _ => format!(
                "confirm_id={row}, task_nbr={task}, line_id={id}, shipment_id={id}, \
                 qty_confirmed={qty}, confirm_ts={at}"
            ),
        };
        let table = if site == "EU" { "wms.picks" } else { "wms.pick_confirm" };
        self.owned(wms(site), &[(table, pick)])
    }

    /// The warehouse packs it. In the EU this is what "confirmed" says.
    pub fn packed(&mut self, n: u32, site: &str) -> Tx {
        let at = wall(site, "08:00");
        self.shipment(
            n,
            site,
            &[
                &format!("status=CONFIRMED, confirmed_at={at}"),
                &format!("ship_status=50, packed_ts={at}"),
            ],
        )
    }

    /// The goods are on the truck.
    pub fn loaded(&mut self, n: u32, site: &str) -> Tx {
        let at = wall(site, "09:00");
        self.shipment(
            n,
            site,
            &[
                &format!("status=LOADED, loaded_at={at}"),
                &format!("ship_status=70, loaded_ts={at}"),
            ],
        )
    }

    /// The US warehouse confirms when the truck leaves its dock.
    pub fn left_dock(&mut self, n: u32) -> Tx {
        let at = wall("US", "10:00");
        self.shipment(n, "US", &["", &format!("ship_status=90, ship_confirm_ts={at}")])
    }

    /// The warehouse overwrites terms that the ERP decides.
    pub fn terms(&mut self, n: u32, site: &str, terms: &str) -> Tx {
        self.shipment(n, site, &[&format!("incoterm={terms}"), &format!("freight_terms={terms}")])
    }

    /// The warehouse books what it ships of its line.
    pub fn line_shipped(&mut self, n: u32, site: &str, qty: &str) -> Tx {
        let id = row_id(n, site);
        match site {
            "EU" => {
                let row = format!("line_ref=SO-{n}/1, qty_shipped={qty}");
                self.owned("wms_eu", &[("wms.order_lines", row)])
            }
            _ => {
                let row = format!("line_id={id}, qty_shipped={qty}");
                self.owned("wms_us", &[("wms.outbound_order_line", row)])
            }
        }
    }

    /// The warehouse cancels it.
    pub fn cancelled(&mut self, n: u32, site: &str) -> Tx {
        self.shipment(n, site, &["status=CANCELLED", "ship_status=99"])
    }

    fn shipment(&mut self, n: u32, site: &str, [eu, us]: &[&str; 2]) -> Tx {
        let id = row_id(n, site);
        match site {
            "EU" => self.owned("wms_eu", &[("wms.shipments", format!("shipment_no=EU-{n}, {eu}"))]),
            _ => {
                self.owned("wms_us", &[("wms.shipment_header", format!("shipment_id={id}, {us}"))])
            }
        }
    }

    /// The TMS plans a load for it.
    pub fn planned(&mut self, n: u32, site: &str) -> Tx {
        let id = row_id(n, site);
        let rows = [
            ("tms.carriers", format!("id=1, scac=KNNT, region={site}")),
            ("tms.loads", format!("id={id}, load_no=L-{site}-{n}, tender_state=none")),
            (
                "tms.shipments",
                format!("id={id}, site={site}, shipment_no={site}-{n}, load_id={id}"),
            ),
        ];
        self.owned("tms", &rows)
    }

    /// A carrier is asked, or has answered.
    pub fn tender(&mut self, n: u32, site: &str, state: &str) -> Tx {
        let id = row_id(n, site);
        let row = format!("id={id}, carrier_id=1, tender_state={state}");
        self.owned("tms", &[("tms.loads", row)])
    }

    /// The TMS knows a cost, in cents, or knows that there will be one.
    pub fn cost(&mut self, n: u32, site: &str, version: u32, cents: &str) -> Tx {
        let (id, shipment) = (row_id(n, site) * 10 + version, row_id(n, site));
        let row = format!(
            "id={id}, shipment_id={shipment}, charge_code=FRT, version={version}, \
             amount_minor={cents}, currency=EUR"
        );
        self.owned("tms", &[("tms.costs", row)])
    }

    /// A carrier reports: `partner:code:stop`, at a time of the day.
    pub fn milestone(&mut self, n: u32, site: &str, id: u32, said: &str, at: &str) -> Tx {
        let [partner, code, stop] = said.split(':').collect::<Vec<_>>()[..] else {
            panic!("{said} is not partner:code:stop");
        };
        // Without blanks: cells of rows are divided by ", ".
        let payload = format!(
            "{{\"site\":\"{site}\",\"shipment_no\":\"{site}-{n}\",\"load_no\":\"L-{site}-{n}\",\
             \"partner\":\"{partner}\",\"code\":\"{code}\",\"stop_role\":\"{stop}\",\
             \"event_time\":\"{DAY}T{at}:00Z\"}}"
        );
        let row =
            format!("id={id}, aggregatetype=milestone, aggregateid=M-{id}, payload={payload}");
        self.owned("tms", &[("tms.outbox", row)])
    }

    fn owned(&mut self, source: &str, rows: &[(&str, String)]) -> Tx {
        let rows: Vec<(&str, &str)> = rows.iter().map(|(table, row)| (*table, &**row)).collect();
        self.tx(source, &rows)
    }
}

fn wms(site: &str) -> &'static str {
    if site == "EU" { "wms_eu" } else { "wms_us" }
}

fn line_no(site: &str) -> u32 {
    if site == "EU" { 1 } else { 2 }
}

fn row_id(n: u32, site: &str) -> u32 {
    n * 10 + line_no(site)
}

/// A time of the day in UTC as the clock of a warehouse shows it: in Hamburg, two hours later.
fn wall(site: &str, at: &str) -> String {
    let (hour, minute) = at.split_once(':').unwrap();
    let hour: u32 = hour.parse().unwrap();
    match site {
        "EU" => format!("{DAY} {:02}:{minute}:00", hour + 2),
        _ => format!("{DAY} {hour:02}:{minute}:00+00"),
    }
}

/// Rules, what has been decided by them, and the logs.
pub struct Business {
    pub rules: Rules,
    pub store: Store,
    pub logs: Logs,
}

impl Business {
    /// The demo's rules, and master data.
    pub fn begin() -> Self {
        Self::under(rules())
    }

    /// Other rules over the demo's mappings.
    pub fn under(rules: Rules) -> Self {
        let mut business = Self { rules, store: Store::default(), logs: Logs::default() };
        business.happens(Logs::master_data);
        business
    }

    /// A system commits, and that is judged.
    pub fn happens(&mut self, commit: impl FnOnce(&mut Logs) -> Tx) {
        let tx = commit(&mut self.logs);
        run(&self.rules, &mut self.store, &[tx]);
    }

    /// A released order with a shipment at each of these sites, which the warehouses have.
    pub fn ordered(&mut self, n: u32, sites: &[&str]) {
        self.happens(|l| l.captured(n, sites));
        self.happens(|l| l.released(n, sites));
        sites.iter().for_each(|site| self.happens(|l| l.taken_in(n, site)));
    }

    /// The value of a field of a record; empty without one.
    pub fn field(&self, key: &str, field: &str) -> String {
        self.store.field(key, field).unwrap_or_default()
    }

    /// What the ERP's inbox says last of a shipment's status; `open` before any message.
    pub fn erp_delivery(&self, shipment: &str) -> String {
        erp_delivery(&self.store, shipment)
    }

    /// Names of the conditions for which releases of a rule wait.
    pub fn held(&self, rule: &str) -> Vec<String> {
        let held = self.store.releases.values().filter(|r| &*r.rule == rule && !r.released);
        held.flat_map(|r| r.unmet.iter().map(ToString::to_string)).collect()
    }

    /// Kinds of all open exceptions, sorted.
    pub fn open(&self) -> Vec<String> {
        let open = self.store.exceptions.values().filter(|e| e.open);
        let mut kinds: Vec<String> = open.map(|e| e.kind.to_string()).collect();
        kinds.sort();
        kinds
    }
}

/// What the ERP makes of its inbox: a delivery has the status that was reported last.
pub fn erp_delivery(store: &Store, shipment: &str) -> String {
    let told = store.told("shipment_status").into_iter().flat_map(|d| &d.writes);
    let column = |write: &crossdock_model::canonical::RowWrite, name: &str| {
        write.columns.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.to_json())
    };
    let about = told.filter(|w| column(w, "business_key").unwrap() == shipment);
    let mut status =
        about.map(|w| column(w, "payload").unwrap()["status"].as_str().unwrap().to_owned());
    status.next_back().unwrap_or_else(|| "open".to_owned())
}
