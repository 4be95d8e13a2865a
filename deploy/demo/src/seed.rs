//! The history that is there before Crossdock first starts: master data and 2,200 orders, most
//! of them delivered, written with set-based SQL. Finance has booked freight up to order 1,900
//! by hand; the rest is owed to it.
//!
//! Every value is a formula of the order's number `n`, in the SQL files of `sql/history/` and,
//! once more and independently, in [`model`].

use anyhow::Result;

use crate::expect::{Fact, Meaning, Model};
use crate::master::{self, CARRIERS, CREDIT_LIMIT, CUSTOMERS, OPENING_STOCK, PRODUCTS, Site};
use crate::sql::{milli, minor, text};
use crate::systems::Systems;
use crate::times::At;

/// Orders of the history are numbered from 1 to this.
pub const HISTORY: u32 = 2_200;
/// Orders above this number are open: first those that nobody has begun ...
const OPEN_ABOVE: u32 = 2_140;
/// ... then those that are packed.
const PACKED_ABOVE: u32 = 2_170;

/// What became of an order of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Cancelled,
    Open,
    Packed,
}

fn fate(n: u32) -> Fate {
    match n {
        _ if n.is_multiple_of(33) => Fate::Cancelled,
        _ if n > PACKED_ABOVE => Fate::Packed,
        _ if n > OPEN_ABOVE => Fate::Open,
        _ => Fate::Delivered,
    }
}

/// Site that served order `n` of the history.
pub fn history_site(n: u32) -> Site {
    if n.is_multiple_of(2) { Site::Eu } else { Site::Us }
}

/// Number of the delivered order at place `index` of the history, if there are as many.
pub fn delivered(index: u32) -> Option<u32> {
    (1..=OPEN_ABOVE).filter(|n| fate(*n) == Fate::Delivered).nth(index as usize)
}

/// Writes master data and history into all four systems. Takes a few seconds.
pub fn fill(systems: &Systems) -> Result<()> {
    std::thread::scope(|scope| {
        let work = [
            scope.spawn(|| systems.erp.sql("erp", &erp_script()).map(drop)),
            scope.spawn(|| systems.wms_us.sql("wms_us", &wms_us_script()).map(drop)),
            scope.spawn(|| systems.wms_eu.sql("wms", &wms_eu_script()).map(drop)),
            scope.spawn(|| systems.tms.sql("tms", &tms_script()).map(drop)),
        ];
        for writer in work {
            writer.join().map_err(|_| anyhow::anyhow!("a seeding thread panicked"))??;
        }
        Ok(())
    })
}

fn customers(row: impl Fn(&str, &str, &str, &str) -> String) -> String {
    let rows: Vec<String> = (1..=CUSTOMERS)
        .map(|number| {
            let (name, city, country) = master::customer(number);
            row(&text(&master::party_code(number)), &text(&name), &text(city), &text(country))
        })
        .collect();
    rows.join(", ")
}

fn products(row: impl Fn(u32, &str, &str) -> String) -> String {
    let rows: Vec<String> = (1..=PRODUCTS)
        .map(|number| row(number, &text(&master::sku(number)), &text(master::base_uom(number))))
        .collect();
    rows.join(", ")
}

fn carriers(row: impl Fn(&master::Carrier) -> String) -> String {
    CARRIERS.iter().map(row).collect::<Vec<_>>().join(", ")
}

fn erp_script() -> String {
    let limit = minor(CREDIT_LIMIT);
    let customers = customers(|code, name, city, country| {
        format!("({code}, {name}, {limit}, {city}, {country})")
    });
    let products = products(|number, sku, uom| {
        let price = minor(master::list_price(number));
        format!("({sku}, 'Part {number}', {uom}, {number}.250, {price})")
    });
    let carriers = carriers(|c| format!("({}, {})", text(c.scac), text(c.name)));
    format!(
        "BEGIN; SET LOCAL ROLE erp_owner;\n\
         INSERT INTO customers (party_code, name, credit_limit, city, country) VALUES {customers};\n\
         INSERT INTO products (sku, description, base_uom, net_weight, list_price) \
         VALUES {products};\n\
         INSERT INTO carriers (scac, name) VALUES {carriers};\n{}COMMIT; ANALYZE;",
        include_str!("../sql/history/erp.sql")
    )
}

fn wms_us_script() -> String {
    let items = products(|number, sku, uom| format!("({sku}, 'Part {number}', {uom})"));
    format!(
        "BEGIN; SET LOCAL ROLE wms_owner;\n\
         INSERT INTO wms.item_master (item_nbr, item_desc, stock_uom) VALUES {items};\n{}\
         INSERT INTO wms.facility_inventory (item_id, qty_on_hand) \
         SELECT item_id, {} FROM wms.item_master ORDER BY item_id;\nCOMMIT; ANALYZE;",
        include_str!("../sql/history/wms_us.sql"),
        milli(OPENING_STOCK)
    )
}

fn wms_eu_script() -> String {
    let limit = minor(CREDIT_LIMIT);
    let customers = customers(|code, name, city, country| {
        format!("({code}, {name}, {limit}, {city}, {country})")
    });
    let articles = products(|number, sku, uom| format!("({sku}, 'Part {number}', {uom})"));
    format!(
        "START TRANSACTION;\n\
         INSERT INTO customers (party_code, name, credit_limit, city, country) VALUES {customers};\n\
         INSERT INTO articles (sku, description, unit) VALUES {articles};\n{}\
         INSERT INTO stock (sku, on_hand) SELECT sku, {} FROM articles;\nCOMMIT;",
        include_str!("../sql/history/wms_eu.sql"),
        milli(OPENING_STOCK)
    )
}

fn tms_script() -> String {
    let carriers = carriers(|c| {
        format!("({}, {}, {}, {})", text(c.scac), text(c.name), text(c.region), text(c.standard))
    });
    format!(
        "START TRANSACTION;\n\
         INSERT INTO carriers (scac, name, region, code_standard) VALUES {carriers};\n{}COMMIT;",
        include_str!("../sql/history/tms.sql")
    )
}

/// The account of the history.
pub fn model() -> Model {
    let mut model = Model::default();
    for n in 1..=HISTORY {
        for fact in facts(n) {
            model.note(&fact);
        }
    }
    model
}

fn facts(n: u32) -> Vec<Fact> {
    let (order, site, fate) = (master::order_no(n), history_site(n), fate(n));
    let shipment = site.shipment_no(n);
    let state = match fate {
        Fate::Delivered => "done",
        Fate::Cancelled => "cancelled",
        Fate::Open | Fate::Packed => "released",
    };
    let mut facts = vec![
        Fact::OrderState { order: order.clone(), state },
        Fact::Delivery {
            order: order.clone(),
            site,
            shipment: shipment.clone(),
            incoterm: master::incoterm(n),
        },
        Fact::InWarehouse { shipment: shipment.clone() },
    ];
    let lines = if n.is_multiple_of(3) { 2 } else { 1 };
    let worked = matches!(fate, Fate::Delivered | Fate::Packed);
    for line_no in 1..=lines {
        let qty = i64::from((n + line_no * 2) % 9 + 1) * 1000;
        facts.push(Fact::Line { order: order.clone(), line_no, qty });
        if worked {
            let task = match site {
                Site::Eu => format!("T-{order}-{line_no}"),
                Site::Us => format!("{order}/{line_no}"),
            };
            let (order, shipment) = (order.clone(), shipment.clone());
            facts.push(Fact::Picked { site, task, order, line_no, shipment, qty });
        }
        // The US warehouse books what it ships when the truck leaves, the EU one when it packs.
        if fate == Fate::Delivered || (fate == Fate::Packed && site == Site::Eu) {
            facts.push(Fact::LineShipped { order: order.clone(), line_no, qty });
        }
    }
    if worked {
        let at = At::history_day(n).plus_minutes(1440 + 570);
        facts.push(Fact::Packed { shipment: shipment.clone(), at });
    }
    if fate == Fate::Cancelled {
        facts.push(Fact::ShipmentCancelled { shipment: shipment.clone() });
    }
    if fate == Fate::Delivered {
        facts.extend(transport_facts(n, site, &shipment));
    }
    facts
}

fn transport_facts(n: u32, site: Site, shipment: &str) -> Vec<Fact> {
    let day = At::history_day(n);
    let load = site.load_no(n);
    let shipment = shipment.to_owned();
    let mut facts = vec![
        Fact::Loaded { shipment: shipment.clone() },
        Fact::Tender { load: load.clone(), state: "accepted" },
        Fact::Cost {
            shipment: shipment.clone(),
            load,
            version: 1,
            amount: Some(5_000 + 13 * i64::from(n)),
            site,
        },
    ];
    if site == Site::Us {
        let at = day.plus_minutes(1440 + 995);
        facts.push(Fact::LeftDock { shipment: shipment.clone(), at });
    }
    let reports = [
        ("DEP", Meaning::Departed, day.plus_minutes(1440 + 1000)),
        ("DLV", Meaning::Delivered, day.plus_minutes(3 * 1440 + 780)),
    ];
    for (mark, meaning, at) in reports {
        let id = format!("MS-{shipment}-{mark}");
        facts.push(Fact::Milestone { id, shipment: shipment.clone(), meaning, at });
    }
    facts
}
