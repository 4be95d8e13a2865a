//! What is judged: the demo's four systems as their logs would show them. A history of orders that
//! snapshots read, then the life of further orders, many at a time, in the systems' own tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::Name;
use crossdock_model::{
    ChangeEvent, Column, Op, Position, RowImage, TableName, TableSchema, TxHeader, Value,
};

use super::order::{Order, customer, product, quantity, sku};

/// Orders of which one step is taken before the next step of the first one.
const PACE: u32 = 20;
/// Steps in the life of an order.
const STEPS: u32 = 12;
/// 2026-01-05 00:00:00 UTC in microseconds.
const START_MICROS: i64 = 1_767_571_200_000_000;
/// A minute.
pub const MINUTE_MICROS: i64 = 60_000_000;
/// Products.
pub const PRODUCTS: i64 = 40;
/// Customers.
pub const CUSTOMERS: i64 = 60;

/// A whole transaction of a source.
#[derive(Clone)]
pub struct Transaction {
    /// Source.
    pub source: Name,
    /// Its place and time.
    pub header: TxHeader,
    /// Its row changes.
    pub events: Vec<ChangeEvent>,
}

/// Cells of a row.
pub type Row = Vec<Value<'static>>;

/// Tables of the demo as far as mappings read them: source, table, columns; `*` marks the key.
const TABLES: &str = "\
erp public.customers id* party_code name credit_limit city country payment_terms
erp public.products id* sku description base_uom net_weight list_price updated_at
erp public.sales_orders id* order_no customer_id ordered_on requested_on currency total state \
ship_status updated_at
erp public.sales_order_lines id* order_id line_no product_id quantity unit_price ship_from
erp public.deliveries id* order_id site shipment_no incoterm status updated_at
wms_eu wms.stock sku* on_hand allocated
wms_eu wms.order_lines line_ref* order_ref line_no sku qty qty_shipped
wms_eu wms.shipments shipment_no* order_ref status incoterm gross_weight confirmed_at loaded_at \
changed_at
wms_eu wms.picks pick_id* task_no line_ref shipment_no qty_task qty picked_at picker
wms_us wms.item_master item_id* item_nbr item_desc stock_uom
wms_us wms.facility_inventory inventory_id* item_id qty_on_hand qty_allocated
wms_us wms.outbound_order outbound_id* customer_order ship_to_code priority order_status
wms_us wms.outbound_order_line line_id* outbound_id line_nbr item_id qty_requested qty_picked \
qty_shipped
wms_us wms.shipment_header shipment_id* shipment_nbr outbound_id ship_status freight_terms \
gross_weight packed_ts loaded_ts ship_confirm_ts last_change_ts
wms_us wms.pick_confirm confirm_id* task_nbr line_id shipment_id qty_task qty_confirmed \
confirm_ts user_id
tms tms.carriers id* scac name region code_standard
tms tms.loads id* load_no carrier_id equipment tender_state planned_pickup
tms tms.shipments id* site shipment_no load_id planned_ship
tms tms.costs id* shipment_id charge_code version amount_minor currency
tms tms.outbox id* aggregatetype aggregateid type payload created_at";

/// All four systems.
pub struct Systems {
    tables: BTreeMap<(&'static str, &'static str), Arc<TableSchema>>,
    /// Next place in each log.
    places: BTreeMap<&'static str, u64>,
    /// Rows as they are, by table and a number of their own.
    rows: BTreeMap<(&'static str, i64), Row>,
}

/// A text.
pub fn text(value: impl Into<String>) -> Value<'static> {
    Value::Text(value.into().into())
}

fn schema<'c>(name: &str, columns: impl Iterator<Item = &'c str>) -> TableSchema {
    let column = |c: &str| Column {
        name: c.trim_end_matches('*').into(),
        type_name: "text".into(),
        nullable: !c.ends_with('*'),
        key: c.ends_with('*').then_some(0),
        base_type: None,
        default: None,
    };
    let (schema, table) = name.split_once('.').unwrap_or(("", name));
    let columns = columns.map(column).collect();
    TableSchema { name: TableName::new(schema, table), columns }
}

impl Systems {
    /// Empty tables.
    pub fn new() -> Self {
        let made = |line: &'static str| {
            let mut words = line.split(' ');
            let (source, table) = (words.next()?, words.next()?);
            Some(((source, table), Arc::new(schema(table, words))))
        };
        let tables = TABLES.lines().filter_map(made).collect();
        Self { tables, places: BTreeMap::new(), rows: BTreeMap::new() }
    }

    fn transaction(&mut self, source: &'static str, at: i64, work: Work) -> Transaction {
        let place = self.places.entry(source).or_insert(1_000_000);
        *place += 1_000;
        let commit = match source {
            "erp" | "wms_us" => Position::Postgres { lsn: *place },
            _ => Position::Binlog {
                file: "binlog.000001".into(),
                offset: *place,
                gtid: format!("0-1-{place}"),
            },
        };
        let header = TxHeader {
            id: place.to_string(),
            commit,
            commit_micros: at,
            origin: None,
            snapshot: work.snapshot,
        };
        let mut events = Vec::with_capacity(work.rows.len());
        for (table, number, row) in work.rows {
            let ordinal = u32::try_from(events.len()).unwrap_or(u32::MAX);
            events.extend(self.event((source, table, number), row, work.snapshot, ordinal));
        }
        Transaction { source: source.into(), header, events }
    }

    fn event(
        &mut self,
        (source, table, number): (&'static str, &'static str, i64),
        row: Row,
        snapshot: bool,
        ordinal: u32,
    ) -> Option<ChangeEvent> {
        let before = self.rows.insert((table, number), row.clone());
        let op = match (&before, snapshot) {
            (_, true) => Op::Read,
            (None, false) => Op::Create,
            (Some(_), false) => Op::Update,
        };
        // PostgreSQL logs no image before an update by default; a binlog has it.
        let before = before.filter(|_| !snapshot && matches!(source, "wms_eu" | "tms"));
        Some(ChangeEvent {
            op,
            table: Some(self.tables.get(&(source, table))?.clone()),
            before: before.map(RowImage::Full),
            after: Some(RowImage::Full(row)),
            message: None,
            ordinal,
        })
    }

    /// A row as it is, with some columns changed.
    pub fn changed(
        &self,
        table: &'static str,
        number: i64,
        set: &[(usize, Value<'static>)],
    ) -> Row {
        let mut row = self.rows.get(&(table, number)).cloned().unwrap_or_default();
        for (column, value) in set {
            if let Some(cell) = row.get_mut(*column) {
                cell.clone_from(value);
            }
        }
        row
    }

    /// Master data of all systems, as snapshots read it.
    pub fn master_data(&mut self) -> Vec<Transaction> {
        let at = START_MICROS;
        let mut erp = Work::snapshot();
        for n in 1..=CUSTOMERS {
            erp.put("public.customers", n, customer(n));
        }
        for n in 1..=PRODUCTS {
            erp.put("public.products", n, product(n, at));
        }
        let (mut eu, mut us, mut tms) = (Work::snapshot(), Work::snapshot(), Work::snapshot());
        for n in 1..=PRODUCTS {
            eu.put("wms.stock", n, vec![text(sku(n)), quantity(100_000), quantity(0)]);
            let item = vec![Value::Int(n), text(sku(n)), text(format!("Part {n}")), text("EA")];
            us.put("wms.item_master", n, item);
            let stock = vec![Value::Int(n), Value::Int(n), quantity(100_000), quantity(0)];
            us.put("wms.facility_inventory", n, stock);
        }
        for n in 1..=6 {
            let (scac, region) = (text(format!("CAR{n}")), text("EU"));
            let carrier = vec![Value::Int(n), scac, text(format!("Carrier {n}")), region];
            tms.put("tms.carriers", n, [carrier, vec![text("REC24")]].concat());
        }
        [("erp", erp), ("wms_eu", eu), ("wms_us", us), ("tms", tms)]
            .map(|(source, work)| self.transaction(source, at, work))
            .into()
    }

    /// Orders that were there before, delivered, as snapshots read them: one transaction for each
    /// source and hundred orders.
    pub fn history(&mut self, orders: u32) -> Vec<Transaction> {
        let mut all = Vec::new();
        for first in (0..orders).step_by(100) {
            let mut by_source: BTreeMap<&'static str, Work> = BTreeMap::new();
            for n in first..orders.min(first + 100) {
                for step in 0..STEPS {
                    for (source, rows) in self.step(n, step) {
                        let work = by_source.entry(source).or_insert_with(Work::snapshot);
                        for (table, number, row) in rows {
                            self.rows.insert((table, number), row.clone());
                            work.replace(table, number, row);
                        }
                    }
                }
            }
            for (source, work) in by_source {
                let at = minutes(first, 0);
                all.push(self.transaction(source, at, work));
            }
        }
        all
    }

    /// The life of further orders, in the order in which transactions commit.
    pub fn life(&mut self, orders: std::ops::Range<u32>) -> Vec<Transaction> {
        let mut all = Vec::new();
        let last = orders.end + PACE * STEPS;
        for tick in orders.start..last {
            for step in 0..STEPS {
                let Some(n) = tick.checked_sub(step * PACE).filter(|n| orders.contains(n)) else {
                    continue;
                };
                for (source, rows) in self.step(n, step) {
                    let work = Work { snapshot: false, rows };
                    all.push(self.transaction(source, minutes(n, step), work));
                }
            }
        }
        all
    }

    /// One step in the life of an order: what each source writes in one transaction.
    fn step(&self, n: u32, step: u32) -> Vec<(&'static str, Rows)> {
        let order = Order { n: i64::from(n), at: minutes(n, step) };
        let warehouse = if order.eu() { "wms_eu" } else { "wms_us" };
        match step {
            0 => vec![("erp", order.captured())],
            1 => vec![("erp", order.released(self))],
            2 => vec![(warehouse, order.in_warehouse(self))],
            3 | 4 => vec![(warehouse, order.picked(self, i64::from(step) - 2))],
            5 => vec![("tms", order.planned())],
            6 => vec![("tms", order.tendered(self)), (warehouse, order.packed(self))],
            7 => vec![("tms", order.costed())],
            8 => vec![(warehouse, order.loaded(self))],
            9 => vec![("tms", order.reported(1))],
            10 => vec![("tms", order.reported(2)), ("erp", order.told(self, "shipped"))],
            _ => vec![("erp", order.told(self, "delivered"))],
        }
    }
}

/// Table, number and cells of rows.
pub type Rows = Vec<(&'static str, i64, Row)>;

struct Work {
    snapshot: bool,
    rows: Rows,
}

impl Work {
    fn snapshot() -> Self {
        Self { snapshot: true, rows: Vec::new() }
    }

    fn put(&mut self, table: &'static str, number: i64, row: Row) {
        self.rows.push((table, number, row));
    }

    /// A snapshot sees the last state of a row only.
    fn replace(&mut self, table: &'static str, number: i64, row: Row) {
        match self.rows.iter_mut().rev().find(|r| (r.0, r.1) == (table, number)) {
            Some(known) => known.2 = row,
            None => self.put(table, number, row),
        }
    }
}

fn minutes(n: u32, step: u32) -> i64 {
    START_MICROS + (i64::from(n) * 3 + i64::from(step) * 60) * MINUTE_MICROS
}
