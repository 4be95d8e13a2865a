//! Rows of the demo's systems: master data, and the life of one order step by step.

use crossdock_model::Value;

use super::workload::{CUSTOMERS, MINUTE_MICROS, PRODUCTS, Row, Rows, Systems, text};

fn amount(minor: i64) -> Value<'static> {
    Value::Decimal(format!("{}.{:02}", minor / 100, minor % 100).into())
}

/// A quantity with three places.
pub fn quantity(n: i64) -> Value<'static> {
    Value::Decimal(format!("{n}.000").into())
}

/// Number of a product.
pub fn sku(n: i64) -> String {
    format!("SKU-{n:03}")
}

/// A customer of the ERP.
pub fn customer(n: i64) -> Row {
    let (code, name) = (format!("CUS-{n:03}"), format!("Customer {n} GmbH"));
    let mut row = vec![Value::Int(n), text(code), text(name), amount(1_000_000)];
    row.extend([text("Hamburg"), text("DE"), text("NET30")]);
    row
}

/// A product of the ERP.
pub fn product(n: i64, at: i64) -> Row {
    let mut row = vec![Value::Int(n), text(sku(n)), text(format!("Part {n}")), text("EA")];
    row.extend([quantity(n), amount(1_000 + n), Value::TimestampTz(at)]);
    row
}

/// One order and what happens to it.
pub struct Order {
    /// Its number.
    pub n: i64,
    /// When the step is taken.
    pub at: i64,
}

impl Order {
    /// Whether the EU warehouse serves it.
    pub fn eu(&self) -> bool {
        self.n % 2 == 0
    }

    fn order_no(&self) -> String {
        format!("SO-{:06}", self.n)
    }

    fn shipment_no(&self) -> String {
        format!("{}-{:06}", if self.eu() { "SHP" } else { "OB" }, self.n)
    }

    fn site(&self) -> Value<'static> {
        text(if self.eu() { "EU" } else { "US" })
    }

    fn line(&self, line: i64) -> i64 {
        self.n * 2 + line
    }

    fn product(&self, line: i64) -> i64 {
        (self.n * 3 + line * 5) % PRODUCTS + 1
    }

    fn qty(&self, line: i64) -> i64 {
        (self.n + line * 2) % 9 + 1
    }

    fn wall(&self) -> Value<'static> {
        Value::Timestamp(self.at + 60 * MINUTE_MICROS)
    }

    fn instant(&self) -> Value<'static> {
        Value::TimestampTz(self.at)
    }

    /// The ERP writes the order, its lines, and the order again with every line, as they do.
    pub fn captured(&self) -> Rows {
        let day = i32::try_from(self.at / 86_400_000_000).unwrap_or_default();
        let order = |total: i64, state: &str| {
            let customer = Value::Int(self.n * 7 % CUSTOMERS + 1);
            let mut row = vec![Value::Int(self.n), text(self.order_no()), customer];
            row.extend([Value::Date(day), Value::Date(day + 4), text("EUR"), amount(total)]);
            row.extend([text(state), text("none"), self.instant()]);
            ("public.sales_orders", self.n, row)
        };
        let line = |l: i64| {
            let row = vec![
                Value::Int(self.line(l)),
                Value::Int(self.n),
                Value::Int(l),
                Value::Int(self.product(l)),
                quantity(self.qty(l)),
                amount(1_000 + self.product(l)),
                self.site(),
            ];
            ("public.sales_order_lines", self.line(l), row)
        };
        vec![
            order(0, "draft"),
            line(1),
            order(100 * self.n, "draft"),
            line(2),
            order(200 * self.n, "draft"),
            order(200 * self.n, "confirmed"),
        ]
    }

    /// The ERP releases it.
    pub fn released(&self, systems: &Systems) -> Rows {
        let set = [(7, text("released")), (9, self.instant())];
        let order = systems.changed("public.sales_orders", self.n, &set);
        let delivery = vec![
            Value::Int(self.n),
            Value::Int(self.n),
            self.site(),
            text(self.shipment_no()),
            text("DAP"),
            text("open"),
            self.instant(),
        ];
        vec![("public.sales_orders", self.n, order), ("public.deliveries", self.n, delivery)]
    }

    /// The warehouse gets it.
    pub fn in_warehouse(&self, systems: &Systems) -> Rows {
        let mut rows = Vec::new();
        if !self.eu() {
            let (order, to) = (text(self.order_no()), text("CUS-001"));
            let row = vec![Value::Int(self.n), order, to, Value::Int(50), Value::Int(20)];
            rows.push(("wms.outbound_order", self.n, row));
        }
        for l in 1..=2 {
            rows.push(self.warehouse_line(l));
        }
        rows.push(self.warehouse_shipment());
        for l in 1..=2 {
            let (table, column, on) = self.stock(l, 1);
            rows.push((table, on, systems.changed(table, on, &[(column, quantity(self.qty(l)))])));
        }
        rows
    }

    fn warehouse_line(&self, l: i64) -> (&'static str, i64, Row) {
        if self.eu() {
            let reference = format!("{}-{l}", self.order_no());
            let mut row = vec![text(reference), text(self.order_no()), Value::Int(l)];
            row.extend([text(sku(self.product(l))), quantity(self.qty(l)), Value::Null]);
            return ("wms.order_lines", self.line(l), row);
        }
        let mut row = vec![Value::Int(self.line(l)), Value::Int(self.n), Value::Int(l)];
        row.extend([Value::Int(self.product(l)), quantity(self.qty(l)), quantity(0), Value::Null]);
        ("wms.outbound_order_line", self.line(l), row)
    }

    fn warehouse_shipment(&self) -> (&'static str, i64, Row) {
        if self.eu() {
            let mut row = vec![text(self.shipment_no()), text(self.order_no()), text("OPEN")];
            row.extend([text("DAP"), Value::Null, Value::Null, Value::Null, self.wall()]);
            return ("wms.shipments", self.n, row);
        }
        let mut row = vec![Value::Int(self.n), text(self.shipment_no()), Value::Int(self.n)];
        row.extend([Value::Int(10), text("DAP"), Value::Null]);
        row.extend([Value::Null, Value::Null, Value::Null, self.instant()]);
        ("wms.shipment_header", self.n, row)
    }

    /// Table of the stock, a column of it, and the row of a line's product.
    fn stock(&self, l: i64, column: usize) -> (&'static str, usize, i64) {
        match self.eu() {
            true => ("wms.stock", column, self.product(l)),
            false => ("wms.facility_inventory", column + 1, self.product(l)),
        }
    }

    /// A pick, what a trigger makes of it, and the shipment that begins with the first one.
    pub fn picked(&self, systems: &Systems, l: i64) -> Rows {
        let (table, column, on) = self.stock(l, 1);
        let left = quantity(100_000 - self.n % 1_000 - l);
        let stock = (table, on, systems.changed(table, on, &[(column, left)]));
        let qty = || quantity(self.qty(l));
        let mut rows = Vec::new();
        if self.eu() {
            let line = format!("{}-{l}", self.order_no());
            let mut row = vec![text(format!("PK-{line}-1")), text(format!("T-{line}"))];
            row.extend([text(line), text(self.shipment_no()), qty(), qty(), self.wall()]);
            row.push(text("MDE-01"));
            rows.push(("wms.picks", self.line(l), row));
        } else {
            let task = format!("{}/{l}", self.order_no());
            let mut row = vec![Value::Int(self.line(l)), text(task), Value::Int(self.line(l))];
            row.extend([Value::Int(self.n), qty(), qty(), self.instant(), text("RF01")]);
            rows.push(("wms.pick_confirm", self.line(l), row));
            let set = [(5, qty())];
            let line = systems.changed("wms.outbound_order_line", self.line(l), &set);
            rows.push(("wms.outbound_order_line", self.line(l), line));
        }
        rows.push(stock);
        if l == 1 {
            rows.push(self.shipment(systems, (text("PICKING"), Value::Int(30)), &[]));
        }
        rows
    }

    /// The warehouse's shipment with another status and with times set, by their place.
    fn shipment(
        &self,
        systems: &Systems,
        (eu, us): (Value<'static>, Value<'static>),
        times: &[usize],
    ) -> (&'static str, i64, Row) {
        let (table, first, now) = match self.eu() {
            true => ("wms.shipments", 5, self.wall()),
            false => ("wms.shipment_header", 6, self.instant()),
        };
        let (status, value) = if self.eu() { (2, eu) } else { (3, us) };
        let mut set = vec![(status, value)];
        set.extend(times.iter().map(|t| (first + t, now.clone())));
        if times == [0] {
            set.push((first - 1, quantity(10 + self.n % 50)));
        }
        let mut row = systems.changed(table, self.n, &set);
        if let Some(changed) = row.last_mut() {
            *changed = now;
        }
        (table, self.n, row)
    }

    /// It is packed.
    pub fn packed(&self, systems: &Systems) -> Rows {
        let mut rows = vec![self.shipment(systems, (text("CONFIRMED"), Value::Int(50)), &[0])];
        for l in 1..=2 {
            let (table, column) = match self.eu() {
                true => ("wms.order_lines", 5),
                false => ("wms.outbound_order_line", 6),
            };
            let set = [(column, quantity(self.qty(l)))];
            rows.push((table, self.line(l), systems.changed(table, self.line(l), &set)));
        }
        rows
    }

    /// It is loaded, and in the US leaves.
    pub fn loaded(&self, systems: &Systems) -> Rows {
        let times: &[usize] = if self.eu() { &[1] } else { &[1, 2] };
        vec![self.shipment(systems, (text("LOADED"), Value::Int(90)), times)]
    }

    /// The TMS plans it.
    pub fn planned(&self) -> Rows {
        let no = text(format!("LD-{:06}", self.n));
        let load = vec![Value::Int(self.n), no, Value::Null, text("TRAILER"), text("none")];
        let shipment = vec![Value::Int(self.n), self.site(), text(self.shipment_no())];
        let planned = Value::Timestamp(self.at + 600 * MINUTE_MICROS);
        vec![
            ("tms.loads", self.n, [load, vec![planned.clone()]].concat()),
            ("tms.shipments", self.n, [shipment, vec![Value::Int(self.n), planned]].concat()),
        ]
    }

    /// A carrier is asked, and accepts.
    pub fn tendered(&self, systems: &Systems) -> Rows {
        let carrier = Value::Int(self.n % 6 + 1);
        let sent = systems.changed("tms.loads", self.n, &[(2, carrier), (4, text("sent"))]);
        let mut accepted = sent.clone();
        if let Some(state) = accepted.get_mut(4) {
            *state = text("accepted");
        }
        vec![("tms.loads", self.n, sent), ("tms.loads", self.n, accepted)]
    }

    /// The cost is known.
    pub fn costed(&self) -> Rows {
        let mut row = vec![Value::Int(self.n), Value::Int(self.n), text("FRT"), Value::Int(1)];
        row.extend([Value::Int(5_000 + 13 * self.n), text("EUR")]);
        vec![("tms.costs", self.n, row)]
    }

    /// A carrier's report: 1 departed, 2 delivered.
    pub fn reported(&self, what: i64) -> Rows {
        let id = self.n * 2 + what;
        let (code, role) = if what == 1 { ("24", "pickup") } else { ("21", "delivery") };
        let payload = serde_json::json!({
            "site": if self.eu() { "EU" } else { "US" },
            "shipment_no": self.shipment_no(),
            "load_no": format!("LD-{:06}", self.n),
            "partner": "DHLF",
            "code": code,
            "stop_role": role,
            "event_time": crossdock_model::time::instant_text(self.at),
        });
        let reference = text(format!("MS-{}-{what}", self.shipment_no()));
        let mut row = vec![Value::Int(id), text("milestone"), reference];
        row.extend([text("milestone.reported"), Value::Json(payload.to_string().into())]);
        row.push(self.instant());
        vec![("tms.outbox", id, row)]
    }

    /// What the ERP's own trigger makes of a message.
    pub fn told(&self, systems: &Systems, status: &str) -> Rows {
        let set = [(5, text(status)), (6, self.instant())];
        let delivery = systems.changed("public.deliveries", self.n, &set);
        let set = [(8, text(status)), (9, self.instant())];
        let order = systems.changed("public.sales_orders", self.n, &set);
        vec![("public.deliveries", self.n, delivery), ("public.sales_orders", self.n, order)]
    }
}
