//! Compares what stands in the store and in the systems with the account of the workload.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::expect::{CHARGE, Model, Shipment, Stage};
use crate::master::{self, CARRIERS, CREDIT_LIMIT};
use crate::service::Status;
use crate::sql::text;
use crate::systems::Systems;
use crate::times::At;

/// How many differences of one check are shown.
const SHOWN: usize = 5;

type Rows = BTreeMap<String, String>;

/// One line of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was compared.
    pub name: &'static str,
    /// What must be there.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// Whether they agree.
    pub ok: bool,
    /// The first differences.
    pub differences: Vec<String>,
}

impl Check {
    fn equal(name: &'static str, expected: impl ToString, actual: impl ToString) -> Self {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        Self { name, ok: expected == actual, expected, actual, differences: Vec::new() }
    }

    fn rows(name: &'static str, expected: &Rows, actual: &Rows) -> Self {
        let mut differences = Vec::new();
        let keys = expected.keys().chain(actual.keys().filter(|k| !expected.contains_key(*k)));
        for key in keys {
            let (wanted, found) = (expected.get(key), actual.get(key));
            if wanted != found {
                let none = "nothing".to_owned();
                let (wanted, found) = (wanted.unwrap_or(&none), found.unwrap_or(&none));
                differences.push(format!("{key}: expected {wanted}, found {found}"));
            }
        }
        let ok = differences.is_empty();
        let actual = if ok {
            format!("{} right", actual.len())
        } else {
            format!("{} rows, {} differ", actual.len(), differences.len())
        };
        differences.truncate(SHOWN);
        Self { name, expected: format!("{} rows", expected.len()), actual, ok, differences }
    }
}

/// All comparisons of databases with the account.
pub fn verify(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let mut checks = orders(systems, model)?;
    checks.extend(shipments(systems, model)?);
    checks.extend(warehouse(systems, model)?);
    checks.extend(transport(systems, model)?);
    checks.extend(erp(systems, model)?);
    checks.extend(ownership(systems, model)?);
    Ok(checks)
}

/// What the process says of itself once all is done.
pub fn verify_status(status: &Status) -> Vec<Check> {
    let behind: u64 = status.sources.iter().map(|source| source.behind_bytes).sum();
    let pending: u64 = status.targets.iter().map(|target| target.pending).sum();
    vec![
        Check::equal("Own writes taken for foreign ones", 0, status.echo_leaked_total),
        Check::equal("Bytes behind the sources", 0, behind),
        Check::equal("Deliveries pending", 0, pending),
    ]
}

/// True when every check holds.
pub fn all_ok(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.ok)
}

/// The verdict as a table, with the first differences below it.
pub fn table(checks: &[Check]) -> String {
    let name = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let expected = checks.iter().map(|check| check.expected.len()).max().unwrap_or(0).max(8);
    let mut out = format!("{:name$}  {:expected$}  {:6}  found\n", "check", "expected", "");
    for check in checks {
        let verdict = if check.ok { "ok" } else { "DIFFERS" };
        out.push_str(&format!(
            "{:name$}  {:expected$}  {verdict:7} {}\n",
            check.name, check.expected, check.actual
        ));
    }
    for check in checks.iter().filter(|check| !check.differences.is_empty()) {
        out.push_str(&format!("\n{}:\n", check.name));
        for difference in &check.differences {
            out.push_str(&format!("  {difference}\n"));
        }
    }
    out
}

/// Splits `key|value` (or tab-separated) lines.
fn parse(output: &str) -> Rows {
    output
        .lines()
        .filter_map(|line| line.split_once('|').or_else(|| line.split_once('\t')))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Records of an entity: key and the value of an SQL expression over `fields`.
fn records(systems: &Systems, entity: &str, value: &str) -> Result<Rows> {
    let query = format!(
        "SELECT key, coalesce(({value})::text, 'none') FROM crossdock.record \
         WHERE entity = {} AND NOT deleted",
        text(entity)
    );
    Ok(parse(&systems.store.sql("canonical", &query)?))
}

fn decimal(field: &str, factor: u32) -> String {
    format!("round((fields ->> '{field}')::numeric * {factor})::bigint")
}

fn instant(field: &str) -> String {
    format!("extract(epoch FROM (fields ->> '{field}')::timestamptz)::bigint")
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn orders(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let found = |field: &str| records(systems, "sales_order", &format!("fields ->> '{field}'"));
    let expected = |value: &dyn Fn(&str) -> String| -> Rows {
        model.orders.keys().map(|no| (format!("ord:{no}"), value(no))).collect()
    };
    let order = |no: &str| model.orders.get(no).cloned().unwrap_or_default();
    let line = |(no, line): &(String, u32)| format!("oln:{no}:{line}");
    let quantities = format!(
        "concat_ws('/', {}, coalesce({}, 0), coalesce({}::text, 'none'))",
        decimal("qty_ordered", 1000),
        decimal("qty_picked", 1000),
        decimal("qty_shipped", 1000)
    );
    let lines: Rows = model
        .lines
        .iter()
        .map(|(key, q)| (line(key), format!("{}/{}/{}", q.ordered, q.picked, or_none(q.shipped))))
        .collect();
    Ok(vec![
        Check::rows(
            "Orders: state in the ERP",
            &expected(&|no| order(no).state.to_owned()),
            &found("erp_status")?,
        ),
        Check::rows(
            "Orders: fulfilment",
            &expected(&|no| model.fulfilment(&order(no)).to_owned()),
            &found("fulfilment")?,
        ),
        Check::rows(
            "Orders: what customers are told",
            &expected(&|no| model.customer_status(&order(no)).to_owned()),
            &found("customer_status")?,
        ),
        Check::rows(
            "Orders: short shipped",
            &expected(&|no| model.short_shipped(no).to_string()),
            &found("short_shipped")?,
        ),
        Check::rows(
            "Orders: the ERP trigger's own change",
            &expected(&|no| model.ship_status(&order(no)).to_owned()),
            &found("ship_status")?,
        ),
        Check::rows(
            "Order lines: ordered, picked, shipped",
            &lines,
            &records(systems, "order_line", &quantities)?,
        ),
    ])
}

fn shipment_rows(model: &Model, value: impl Fn(&Shipment) -> String) -> Rows {
    let key = |no: &String, shipment: &Shipment| format!("shp:{}:{no}", shipment.site.code());
    model.shipments.iter().map(|(no, shipment)| (key(no, shipment), value(shipment))).collect()
}

fn shipments(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let seconds = |at: Option<At>| or_none(at.map(|at| at.0));
    let compare = |name, value: &dyn Fn(&Shipment) -> String, sql: &str| -> Result<Check> {
        let found = records(systems, "shipment", sql)?;
        Ok(Check::rows(name, &shipment_rows(model, value), &found))
    };
    Ok(vec![
        compare("Shipments: status", &|s| s.furthest.word().to_owned(), "fields ->> 'status'")?,
        compare("Shipments: packed at", &|s| seconds(s.packed), &instant("packed_at"))?,
        compare("Shipments: departed at", &|s| seconds(s.departed()), &instant("departed_at"))?,
        compare("Shipments: delivered at", &|s| seconds(s.delivered), &instant("delivered_at"))?,
        compare("Shipments: terms", &|s| s.incoterm.to_owned(), "fields ->> 'incoterm'")?,
        compare("Shipments: order", &|s| s.order.clone(), "fields ->> 'order_no'")?,
    ])
}

fn warehouse(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let picks: Rows = model
        .picks
        .iter()
        .map(|((site, task), pick)| {
            let (order, line_no) = &pick.line;
            let value = format!("{order}/{line_no}/{}", pick.qty);
            (format!("pck:{}:{task}", site.code()), value)
        })
        .collect();
    let pick = format!(
        "concat_ws('/', fields ->> 'order_no', fields ->> 'line_no', {})",
        decimal("qty", 1000)
    );
    let stock: Rows = model
        .stock
        .iter()
        .map(|((site, sku), (on_hand, allocated))| {
            (format!("inv:{}:{sku}", site.code()), format!("{on_hand}/{allocated}"))
        })
        .collect();
    let position =
        format!("concat_ws('/', {}, {})", decimal("on_hand", 1000), decimal("allocated", 1000));
    Ok(vec![
        Check::rows("Picks, each once", &picks, &records(systems, "pick", &pick)?),
        Check::rows("Stock", &stock, &records(systems, "inventory_position", &position)?),
    ])
}

fn transport(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let loads: Rows =
        model.loads.iter().map(|(no, state)| (format!("lod:{no}"), (*state).to_owned())).collect();
    let milestones: Rows =
        model.milestones.iter().map(|id| (format!("mst:{id}"), "reported".to_owned())).collect();
    let costs: Rows = model
        .costs
        .iter()
        .map(|((shipment, version), cost)| {
            let key = format!("frc:{shipment}:{CHARGE}:{version}");
            (key, format!("{}/{}", or_none(cost.amount), cost.currency))
        })
        .collect();
    let cost = format!(
        "concat_ws('/', coalesce({}::text, 'none'), fields ->> 'currency')",
        decimal("amount", 100)
    );
    Ok(vec![
        Check::rows(
            "Loads: tender",
            &loads,
            &records(systems, "load", "fields ->> 'tender_state'")?,
        ),
        Check::rows("Milestones", &milestones, &records(systems, "milestone", "'reported'")?),
        Check::rows("Freight costs", &costs, &records(systems, "freight_cost", &cost)?),
    ])
}

fn erp(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let ask = |query: &str| -> Result<Rows> { Ok(parse(&systems.erp.sql("erp", query)?)) };
    let mut accruals: Rows = Rows::new();
    let mut held = 0;
    for ((shipment, version), cost) in &model.costs {
        if model.accrues(shipment, cost) {
            let value = format!("{}/{}", or_none(cost.amount), cost.currency);
            accruals.insert(format!("{shipment}/{CHARGE}/{version}"), value);
        } else {
            held += 1;
        }
    }
    let told: Rows = model
        .shipments
        .iter()
        .filter(|(_, shipment)| shipment.furthest != Stage::Planned)
        .map(|(no, shipment)| (no.clone(), shipment.furthest.word().to_owned()))
        .collect();
    let deliveries: Rows = model
        .shipments
        .iter()
        .map(|(no, shipment)| match shipment.furthest {
            Stage::Planned => (no.clone(), "open".to_owned()),
            stage => (no.clone(), stage.word().to_owned()),
        })
        .collect();
    let ship_status: Rows =
        model.orders.iter().map(|(no, o)| (no.clone(), model.ship_status(o).to_owned())).collect();
    let holds = systems
        .store
        .sql("canonical", "SELECT count(*) FROM crossdock.release WHERE NOT released")?;
    Ok(vec![
        Check::rows(
            "ERP: freight accruals",
            &accruals,
            &ask("SELECT concat_ws('/', shipment_no, charge_code, cost_version), \
                  concat_ws('/', (amount * 100)::bigint, currency) FROM freight_accruals")?,
        ),
        Check::equal("Freight held back", held, holds.trim()),
        Check::rows(
            "ERP: last message of each shipment",
            &told,
            &ask("SELECT DISTINCT ON (business_key) business_key, payload ->> 'status' \
                  FROM crossdock_inbox ORDER BY business_key, arrival DESC")?,
        ),
        Check::rows(
            "ERP: deliveries",
            &deliveries,
            &ask("SELECT shipment_no, status FROM deliveries")?,
        ),
        Check::rows(
            "ERP: orders",
            &ship_status,
            &ask("SELECT order_no, ship_status FROM sales_orders")?,
        ),
    ])
}

fn ownership(systems: &Systems, model: &Model) -> Result<Vec<Check>> {
    let limits: Rows = (1..=master::CUSTOMERS)
        .map(|number| (format!("cus:{}", master::party_code(number)), CREDIT_LIMIT.to_string()))
        .collect();
    let carriers: Rows = CARRIERS
        .iter()
        .map(|carrier| {
            (format!("car:{}", carrier.scac), format!("{}/{}", carrier.name, carrier.region))
        })
        .collect();
    let carrier = "concat_ws('/', fields ->> 'name', fields ->> 'region')";
    let mut exceptions = Rows::new();
    let kinds = [
        ("ownership_violation", model.credit_overwritten.len()),
        ("unmapped_code", model.unknown_codes.len()),
    ];
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        exceptions.insert(kind.to_owned(), count.to_string());
    }
    let open = systems.store.sql(
        "canonical",
        "SELECT kind, count(*) FROM crossdock.exception WHERE open GROUP BY kind",
    )?;
    Ok(vec![
        Check::rows(
            "Customers: credit limit is the ERP's",
            &limits,
            &records(systems, "customer", &decimal("credit_limit", 100))?,
        ),
        Check::rows(
            "Carriers: name by ERP, region by TMS",
            &carriers,
            &records(systems, "carrier", carrier)?,
        ),
        terms(systems, model)?,
        Check::rows("Open exceptions by kind", &exceptions, &parse(&open)),
    ])
}

/// Terms in the warehouses' own tables, all of them: the ERP's, also where they were overwritten.
fn terms(systems: &Systems, model: &Model) -> Result<Check> {
    let eu = systems.wms_eu.sql("wms", "SELECT shipment_no, incoterm FROM shipments")?;
    let us = systems
        .wms_us
        .sql("wms_us", "SELECT shipment_nbr, freight_terms FROM wms.shipment_header")?;
    let mut found = parse(&eu);
    found.extend(parse(&us));
    // A shipment that the ERP has announced and the warehouse has not yet taken in has no row.
    let expected: Rows = model
        .shipments
        .iter()
        .filter(|(no, _)| model.in_warehouse.contains(*no))
        .map(|(no, shipment)| (no.clone(), shipment.incoterm.to_owned()))
        .collect();
    Ok(Check::rows("Warehouses: terms put back", &expected, &found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Rows {
        parse(text)
    }

    #[test]
    fn a_missing_a_wrong_and_a_surplus_row_differ() {
        let expected = rows("a|1\nb|2\nc|3");
        let check = Check::rows("rows", &expected, &rows("a|1\nb|9\nd|4"));
        assert!(!check.ok);
        assert_eq!(
            check.differences,
            [
                "b: expected 2, found 9",
                "c: expected 3, found nothing",
                "d: expected nothing, found 4"
            ]
        );
        assert!(Check::rows("rows", &expected, &expected).ok);
        assert!(table(&[check]).contains("DIFFERS"));
    }
}
