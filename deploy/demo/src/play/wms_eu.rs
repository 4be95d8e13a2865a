//! What the EU warehouse does: text keys, times of the wall clock in Hamburg.

use anyhow::Result;

use super::{System, Transaction};
use crate::expect::Fact;
use crate::master::{self, Site};
use crate::plan::{Cancel, LinePlan, PartPlan, Plan};
use crate::sql::{milli, text};

fn line_ref(plan: &Plan, line: &LinePlan) -> String {
    format!("{}-{}", plan.order_no, line.line_no)
}

fn set(part: &PartPlan, assignments: &str) -> String {
    format!("UPDATE shipments SET {assignments} WHERE shipment_no = {}", text(&part.shipment))
}

/// The order arrives in the warehouse, and stock is allocated.
pub(super) fn release(plan: &Plan, part: &PartPlan) -> Transaction {
    let order = text(&plan.order_no);
    let mut release = Transaction::new(System::WmsEu).run(format!(
        "INSERT INTO orders (order_ref, party_code) VALUES ({order}, {})",
        text(&master::party_code(plan.customer))
    ));
    for line in plan.lines_of(Site::Eu) {
        let sku = master::sku(line.product);
        release = release
            .run(format!(
                "INSERT INTO order_lines (line_ref, order_ref, line_no, sku, qty) \
                 VALUES ({}, {order}, {}, {}, {})",
                text(&line_ref(plan, line)),
                line.line_no,
                text(&sku),
                milli(line.qty)
            ))
            .run(format!(
                "UPDATE stock SET allocated = allocated + {} WHERE sku = {}",
                milli(line.qty),
                text(&sku)
            ))
            .fact(Fact::Stock { site: Site::Eu, sku, on_hand: 0, allocated: line.qty });
    }
    release
        .run(format!(
            "INSERT INTO shipments (shipment_no, order_ref, incoterm) VALUES ({}, {order}, {})",
            text(&part.shipment),
            text(plan.incoterm)
        ))
        .run(format!("UPDATE orders SET status = 'WAVED' WHERE order_ref = {order}"))
        .fact(Fact::InWarehouse { shipment: part.shipment.clone() })
}

/// One pick task is confirmed; `copy` 2 is the same task, sent again by the scanner.
pub(super) fn pick(
    plan: &Plan,
    part: &PartPlan,
    line: &LinePlan,
    copy: u32,
) -> Result<Transaction> {
    let task = format!("T-{}", line_ref(plan, line));
    let minutes = part.offset + 60 + i64::from(line.line_no) + 5 * i64::from(copy - 1);
    let pick = Transaction::new(System::WmsEu)
        .run(format!(
            "INSERT INTO picks (pick_id, task_no, line_ref, shipment_no, qty_task, qty, picked_at) \
             VALUES ({}, {}, {}, {}, {}, {}, {})",
            text(&format!("PK-{}-{copy}", line_ref(plan, line))),
            text(&task),
            text(&line_ref(plan, line)),
            text(&part.shipment),
            milli(line.qty),
            milli(line.picked),
            text(&plan.start().plus_minutes(minutes).berlin()?)
        ))
        .run(set(part, "status = 'PICKING'"))
        .fact(Fact::Picked {
            site: Site::Eu,
            task,
            order: plan.order_no.clone(),
            line_no: line.line_no,
            shipment: part.shipment.clone(),
            qty: line.picked,
        });
    Ok(if copy == 1 {
        pick.fact(Fact::Stock {
            site: Site::Eu,
            sku: master::sku(line.product),
            on_hand: -line.picked,
            allocated: -line.qty,
        })
    } else {
        pick
    })
}

/// Packed, weighed and confirmed: four changes of one row, and the lines.
pub(super) fn pack(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let at = plan.start().plus_minutes(part.offset + 120);
    let weight: i64 = plan.lines_of(Site::Eu).map(|line| line.picked / 2).sum();
    let mut pack = Transaction::new(System::WmsEu)
        .run(set(part, "gross_weight = 0"))
        .run(set(part, &format!("gross_weight = {}", milli(weight))))
        .run(set(part, "status = 'CONFIRMED'"))
        .run(set(part, &format!("confirmed_at = {}", text(&at.berlin()?))))
        .fact(Fact::Packed { shipment: part.shipment.clone(), at });
    for line in plan.lines_of(Site::Eu) {
        pack = pack
            .run(format!(
                "UPDATE order_lines SET qty_shipped = {} WHERE line_ref = {}",
                milli(line.picked),
                text(&line_ref(plan, line))
            ))
            .fact(Fact::LineShipped {
                order: plan.order_no.clone(),
                line_no: line.line_no,
                qty: line.picked,
            });
    }
    Ok(pack)
}

/// On the truck. This warehouse has nothing more to say.
pub(super) fn load(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let at = plan.start().plus_minutes(part.offset + 300).berlin()?;
    Ok(Transaction::new(System::WmsEu)
        .run(set(part, &format!("loaded_at = {}", text(&at))))
        .run(set(part, "status = 'LOADED'"))
        .run(format!(
            "UPDATE orders SET status = 'DONE' WHERE order_ref = {}",
            text(&plan.order_no)
        ))
        .fact(Fact::Loaded { shipment: part.shipment.clone() }))
}

/// Cancelled: what was picked goes back to the shelf. Stock moves only while the shipment is not
/// yet cancelled, so that the transaction can be run again.
pub(super) fn cancel(plan: &Plan, part: &PartPlan) -> Transaction {
    let mut cancel = Transaction::new(System::WmsEu);
    for line in plan.lines_of(Site::Eu) {
        let (column, sign, qty) = match plan.cancel {
            Some(Cancel::BeforePick) => ("allocated", -1, line.qty),
            _ => ("on_hand", 1, line.picked),
        };
        let sku = master::sku(line.product);
        cancel = cancel
            .run(format!(
                "UPDATE stock s JOIN shipments h ON h.shipment_no = {} \
                 SET s.{column} = s.{column} + {} WHERE s.sku = {} AND h.status <> 'CANCELLED'",
                text(&part.shipment),
                milli(sign * qty),
                text(&sku)
            ))
            .fact(Fact::Stock {
                site: Site::Eu,
                sku,
                on_hand: if column == "on_hand" { qty } else { 0 },
                allocated: if column == "allocated" { -qty } else { 0 },
            });
    }
    cancel
        .run(set(part, "status = 'CANCELLED'"))
        .run(format!(
            "UPDATE orders SET status = 'CANCELLED' WHERE order_ref = {}",
            text(&plan.order_no)
        ))
        .fact(Fact::ShipmentCancelled { shipment: part.shipment.clone() })
}

/// A clerk writes other terms on a shipment of the history. The ERP decides terms.
pub(super) fn overwrite_terms(number: u32) -> Transaction {
    let shipment = Site::Eu.shipment_no(number);
    Transaction::new(System::WmsEu)
        .run(format!(
            "UPDATE shipments SET incoterm = 'EXW' WHERE shipment_no = {}",
            text(&shipment)
        ))
        .fact(Fact::TermsOverwritten { shipment })
}

/// A clerk raises a credit limit in the warehouse's copy of a customer.
pub(super) fn overwrite_credit(customer: u32, index: u32) -> Transaction {
    let party_code = master::party_code(customer);
    Transaction::new(System::WmsEu)
        .run(format!(
            "UPDATE customers SET credit_limit = {} WHERE party_code = {}",
            25_000 + index,
            text(&party_code)
        ))
        .fact(Fact::CreditOverwritten { party_code })
}
