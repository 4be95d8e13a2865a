//! What the ERP does with an order.

use anyhow::Result;

use super::{System, Transaction};
use crate::expect::Fact;
use crate::master;
use crate::plan::Plan;
use crate::sql::{milli, minor, text};

fn set(plan: &Plan, assignments: &str) -> String {
    format!("UPDATE sales_orders SET {assignments} WHERE order_no = {}", text(&plan.order_no))
}

/// A salesperson enters the order: header, lines, totals, and it is quoted and confirmed at once.
pub(super) fn capture(plan: &Plan) -> Result<Transaction> {
    let order = text(&plan.order_no);
    let lines: Vec<String> = plan
        .lines
        .iter()
        .map(|line| {
            format!(
                "({}, {}, {}, {}, {})",
                line.line_no,
                text(&master::sku(line.product)),
                milli(line.qty),
                minor(line.price),
                text(line.site.code())
            )
        })
        .collect();
    let mut capture = Transaction::new(System::Erp)
        .run(format!(
            "INSERT INTO sales_orders (order_no, customer_id, ordered_on, requested_on, currency) \
             SELECT {order}, id, {}, {}, {} FROM customers WHERE party_code = {}",
            text(&plan.start().date()?),
            text(&plan.start().plus_minutes(4 * 1440).date()?),
            text(plan.currency),
            text(&master::party_code(plan.customer))
        ))
        .run(format!(
            "INSERT INTO sales_order_lines \
             (order_id, line_no, product_id, quantity, unit_price, ship_from) \
             SELECT o.id, v.line_no, p.id, v.qty, v.price, v.site \
             FROM (VALUES {}) AS v (line_no, sku, qty, price, site) \
             JOIN products p ON p.sku = v.sku JOIN sales_orders o ON o.order_no = {order} \
             ORDER BY v.line_no",
            lines.join(", ")
        ))
        .run(set(plan, &format!("total = {}", minor(plan.total()))))
        .run(set(plan, "state = 'quoted'"))
        .run(set(plan, "state = 'confirmed'"))
        .fact(Fact::OrderState { order: plan.order_no.clone(), state: "confirmed" });
    for line in &plan.lines {
        let order = plan.order_no.clone();
        capture = capture.fact(Fact::Line { order, line_no: line.line_no, qty: line.qty });
    }
    Ok(capture)
}

/// The order goes to the warehouses: one delivery for each.
pub(super) fn release(plan: &Plan) -> Transaction {
    let mut release = Transaction::new(System::Erp).run(set(plan, "total = total"));
    for part in &plan.parts {
        release = release
            .run(format!(
                "INSERT INTO deliveries (order_id, site, shipment_no, incoterm) \
                 SELECT id, {}, {}, {} FROM sales_orders WHERE order_no = {}",
                text(part.site.code()),
                text(&part.shipment),
                text(plan.incoterm),
                text(&plan.order_no)
            ))
            .fact(Fact::Delivery {
                order: plan.order_no.clone(),
                site: part.site,
                shipment: part.shipment.clone(),
                incoterm: plan.incoterm,
            });
    }
    release
        .run(set(plan, "state = 'released'"))
        .run(set(plan, "requested_on = requested_on"))
        .fact(Fact::OrderState { order: plan.order_no.clone(), state: "released" })
}

/// The customer changes his mind.
pub(super) fn cancel(plan: &Plan) -> Transaction {
    Transaction::new(System::Erp)
        .run(set(plan, "state = 'cancelled'"))
        .fact(Fact::OrderState { order: plan.order_no.clone(), state: "cancelled" })
}

/// Delivered and invoiced: the order is done.
pub(super) fn invoice(plan: &Plan) -> Transaction {
    Transaction::new(System::Erp)
        .run(format!(
            "INSERT INTO invoices (invoice_no, order_id, amount, currency) \
             SELECT 'INV-' || order_no, id, total, currency FROM sales_orders WHERE order_no = {}",
            text(&plan.order_no)
        ))
        .run(set(plan, "state = 'done'"))
        .fact(Fact::OrderState { order: plan.order_no.clone(), state: "done" })
}
