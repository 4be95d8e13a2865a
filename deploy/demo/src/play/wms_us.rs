//! What the US warehouse does: integer keys, numeric states, times with their zone.

use anyhow::Result;

use super::{System, Transaction};
use crate::expect::Fact;
use crate::master::{self, Site};
use crate::plan::{Cancel, LinePlan, PartPlan, Plan};
use crate::sql::{milli, text};

fn set(part: &PartPlan, assignments: &str) -> String {
    format!(
        "UPDATE wms.shipment_header SET {assignments} WHERE shipment_nbr = {}",
        text(&part.shipment)
    )
}

fn outbound(plan: &Plan) -> String {
    format!(
        "(SELECT outbound_id FROM wms.outbound_order WHERE customer_order = {})",
        text(&plan.order_no)
    )
}

fn item(sku: &str) -> String {
    format!("(SELECT item_id FROM wms.item_master WHERE item_nbr = {})", text(sku))
}

fn order_status(plan: &Plan, status: u32) -> String {
    format!(
        "UPDATE wms.outbound_order SET order_status = {status} WHERE customer_order = {}",
        text(&plan.order_no)
    )
}

/// The order arrives in the warehouse, and stock is allocated.
pub(super) fn release(plan: &Plan, part: &PartPlan) -> Transaction {
    let mut release = Transaction::new(System::WmsUs).run(format!(
        "INSERT INTO wms.outbound_order (customer_order, ship_to_code) VALUES ({}, {})",
        text(&plan.order_no),
        text(&master::party_code(plan.customer))
    ));
    for line in plan.lines_of(Site::Us) {
        let sku = master::sku(line.product);
        release = release
            .run(format!(
                "INSERT INTO wms.outbound_order_line \
                 (outbound_id, line_nbr, item_id, qty_requested) VALUES ({}, {}, {}, {})",
                outbound(plan),
                line.line_no,
                item(&sku),
                milli(line.qty)
            ))
            .run(format!(
                "UPDATE wms.facility_inventory SET qty_allocated = qty_allocated + {} \
                 WHERE item_id = {}",
                milli(line.qty),
                item(&sku)
            ))
            .fact(Fact::Stock { site: Site::Us, sku, on_hand: 0, allocated: line.qty });
    }
    release
        .run(format!(
            "INSERT INTO wms.shipment_header (shipment_nbr, outbound_id, freight_terms) \
             VALUES ({}, {}, {})",
            text(&part.shipment),
            outbound(plan),
            text(plan.incoterm)
        ))
        .run(order_status(plan, 20))
        .fact(Fact::InWarehouse { shipment: part.shipment.clone() })
}

/// One pick task is confirmed; `copy` 2 is the same task, sent again by the scanner.
pub(super) fn pick(
    plan: &Plan,
    part: &PartPlan,
    line: &LinePlan,
    copy: u32,
) -> Result<Transaction> {
    let task = format!("{}/{}", plan.order_no, line.line_no);
    let minutes = part.offset + 60 + i64::from(line.line_no) + 5 * i64::from(copy - 1);
    let pick = Transaction::new(System::WmsUs)
        .run(format!(
            "INSERT INTO wms.pick_confirm \
             (task_nbr, line_id, shipment_id, qty_task, qty_confirmed, confirm_ts) \
             SELECT {}, l.line_id, h.shipment_id, {}, {}, {} \
             FROM wms.outbound_order_line l JOIN wms.shipment_header h USING (outbound_id) \
             WHERE l.outbound_id = {} AND l.line_nbr = {}",
            text(&task),
            milli(line.qty),
            milli(line.picked),
            text(&plan.start().plus_minutes(minutes).rfc3339()?),
            outbound(plan),
            line.line_no
        ))
        .run(set(part, "ship_status = 30"))
        .fact(Fact::Picked {
            site: Site::Us,
            task,
            order: plan.order_no.clone(),
            line_no: line.line_no,
            shipment: part.shipment.clone(),
            qty: line.picked,
        });
    Ok(if copy == 1 {
        pick.fact(Fact::Stock {
            site: Site::Us,
            sku: master::sku(line.product),
            on_hand: -line.picked,
            allocated: -line.qty,
        })
    } else {
        pick
    })
}

/// Packed and weighed.
pub(super) fn pack(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let at = plan.start().plus_minutes(part.offset + 120);
    let weight: i64 = plan.lines_of(Site::Us).map(|line| line.picked / 2).sum();
    Ok(Transaction::new(System::WmsUs)
        .run(set(part, "gross_weight = 0"))
        .run(set(part, &format!("gross_weight = {}", milli(weight))))
        .run(set(part, &format!("packed_ts = {}", text(&at.rfc3339()?))))
        .run(set(part, "ship_status = 50"))
        .fact(Fact::Packed { shipment: part.shipment.clone(), at }))
}

/// On the truck.
pub(super) fn load(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let at = plan.start().plus_minutes(part.offset + 300).rfc3339()?;
    Ok(Transaction::new(System::WmsUs)
        .run(set(part, &format!("loaded_ts = {}", text(&at))))
        .run(set(part, "ship_status = 70"))
        .fact(Fact::Loaded { shipment: part.shipment.clone() }))
}

/// The truck leaves the dock, and only now this warehouse confirms.
pub(super) fn leave_dock(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let at = plan.start().plus_minutes(part.offset + 355);
    let mut leave = Transaction::new(System::WmsUs)
        .run(set(part, &format!("ship_confirm_ts = {}", text(&at.rfc3339()?))))
        .run(set(part, "ship_status = 90"))
        .run(order_status(plan, 90))
        .fact(Fact::LeftDock { shipment: part.shipment.clone(), at });
    for line in plan.lines_of(Site::Us) {
        leave = leave
            .run(format!(
                "UPDATE wms.outbound_order_line SET qty_shipped = {} \
                 WHERE outbound_id = {} AND line_nbr = {}",
                milli(line.picked),
                outbound(plan),
                line.line_no
            ))
            .fact(Fact::LineShipped {
                order: plan.order_no.clone(),
                line_no: line.line_no,
                qty: line.picked,
            });
    }
    Ok(leave)
}

/// Cancelled: what was picked goes back to the shelf. Stock moves only while the shipment is not
/// yet cancelled, so that the transaction can be run again.
pub(super) fn cancel(plan: &Plan, part: &PartPlan) -> Transaction {
    let mut cancel = Transaction::new(System::WmsUs);
    for line in plan.lines_of(Site::Us) {
        let (column, sign, qty) = match plan.cancel {
            Some(Cancel::BeforePick) => ("qty_allocated", -1, line.qty),
            _ => ("qty_on_hand", 1, line.picked),
        };
        let sku = master::sku(line.product);
        cancel = cancel
            .run(format!(
                "UPDATE wms.facility_inventory SET {column} = {column} + {} \
                 WHERE item_id = {} AND EXISTS (SELECT FROM wms.shipment_header \
                 WHERE shipment_nbr = {} AND ship_status <> 99)",
                milli(sign * qty),
                item(&sku),
                text(&part.shipment)
            ))
            .fact(Fact::Stock {
                site: Site::Us,
                sku,
                on_hand: if column == "qty_on_hand" { qty } else { 0 },
                allocated: if column == "qty_allocated" { -qty } else { 0 },
            });
    }
    cancel
        .run(set(part, "ship_status = 99"))
        .run(order_status(plan, 99))
        .fact(Fact::ShipmentCancelled { shipment: part.shipment.clone() })
}

/// A clerk writes other terms on a shipment of the history. The ERP decides terms.
pub(super) fn overwrite_terms(number: u32) -> Transaction {
    let shipment = Site::Us.shipment_no(number);
    Transaction::new(System::WmsUs)
        .run(format!(
            "UPDATE wms.shipment_header SET freight_terms = 'EXW' WHERE shipment_nbr = {}",
            text(&shipment)
        ))
        .fact(Fact::TermsOverwritten { shipment })
}
