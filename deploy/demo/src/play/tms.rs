//! What the TMS does: loads, tenders, costs, and milestones through its outbox.

use anyhow::Result;
use serde_json::json;

use super::{System, Transaction};
use crate::expect::{CHARGE, Fact, Meaning};
use crate::plan::{PartPlan, Plan};
use crate::sql::text;
use crate::times::At;

fn load_id(part: &PartPlan) -> String {
    format!("(SELECT id FROM loads WHERE load_no = {})", text(&part.load))
}

/// For statements on tenders: their trigger changes the load, so they may not read it themselves.
fn remember_load(part: &PartPlan) -> String {
    format!("SET @load_id = {}", load_id(part))
}

fn shipment_id(part: &PartPlan) -> String {
    format!("(SELECT id FROM shipments WHERE shipment_no = {})", text(&part.shipment))
}

/// A load with two stops for the shipment.
pub(super) fn plan_load(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let pickup = text(&plan.start().plus_minutes(part.offset + 330).utc()?);
    let delivery = text(&plan.start().plus_minutes(part.offset + 1800).utc()?);
    Ok(Transaction::new(System::Tms)
        .run(format!(
            "INSERT INTO loads (load_no, planned_pickup) VALUES ({}, NULL)",
            text(&part.load)
        ))
        .run(format!(
            "INSERT INTO stops (load_id, stop_seq, stop_role, planned_at) \
             VALUES ({id}, 1, 'pickup', {pickup}), ({id}, 2, 'delivery', {delivery})",
            id = load_id(part)
        ))
        .run(format!(
            "INSERT INTO shipments (site, shipment_no, load_id, planned_ship) \
             VALUES ({}, {}, {}, {pickup})",
            text(part.site.code()),
            text(&part.shipment),
            load_id(part)
        ))
        .run(format!(
            "UPDATE loads SET planned_pickup = {pickup} WHERE load_no = {}",
            text(&part.load)
        ))
        .fact(Fact::Tender { load: part.load.clone(), state: "none" }))
}

/// The load is offered; a carrier that declines is followed by one that accepts.
pub(super) fn tenders(plan: &Plan, part: &PartPlan) -> Result<Vec<Transaction>> {
    let mut all = Vec::new();
    let offers = part.declines.map(|carrier| (carrier.scac, "declined"));
    let offers = offers.into_iter().chain([(part.carrier.scac, "accepted")]);
    for (attempt, (scac, answer)) in (1..).zip(offers) {
        let at = plan.start().plus_minutes(part.offset + 20 + 10 * attempt).utc()?;
        all.push(
            Transaction::new(System::Tms)
                .run(remember_load(part))
                .run(format!(
                    "INSERT INTO tenders (load_id, carrier_id, attempt, sent_at) \
                     SELECT @load_id, id, {attempt}, {} FROM carriers WHERE scac = {}",
                    text(&at),
                    text(scac)
                ))
                .fact(Fact::Tender { load: part.load.clone(), state: "sent" }),
        );
        all.push(
            Transaction::new(System::Tms)
                .run(remember_load(part))
                .run(format!(
                    "UPDATE tenders SET state = {} WHERE load_id = @load_id AND attempt = {attempt}",
                    text(answer)
                ))
                .fact(Fact::Tender { load: part.load.clone(), state: answer }),
        );
    }
    Ok(all)
}

/// The order was cancelled: the carrier is told not to come.
pub(super) fn withdraw(part: &PartPlan) -> Transaction {
    Transaction::new(System::Tms)
        .run(remember_load(part))
        .run(
            "UPDATE tenders SET state = 'withdrawn' \
             WHERE load_id = @load_id AND state = 'accepted'",
        )
        .fact(Fact::Tender { load: part.load.clone(), state: "withdrawn" })
}

/// A cost, with or without its amount.
pub(super) fn cost(part: &PartPlan, version: u32, amount: Option<i64>) -> Transaction {
    let literal = amount.map_or_else(|| "NULL".to_owned(), |minor| minor.to_string());
    Transaction::new(System::Tms)
        .run(format!(
            "INSERT INTO costs (shipment_id, charge_code, version, amount_minor, currency) \
             VALUES ({}, '{CHARGE}', {version}, {literal}, {})",
            shipment_id(part),
            text(part.site.currency())
        ))
        .fact(cost_fact(part, version, amount))
}

/// The amount of a cost that was open becomes known.
pub(super) fn amount_known(part: &PartPlan) -> Transaction {
    Transaction::new(System::Tms)
        .run(format!(
            "UPDATE costs SET amount_minor = {} \
             WHERE shipment_id = {} AND charge_code = '{CHARGE}' AND version = 1",
            part.cost,
            shipment_id(part)
        ))
        .fact(cost_fact(part, 1, Some(part.cost)))
}

fn cost_fact(part: &PartPlan, version: u32, amount: Option<i64>) -> Fact {
    Fact::Cost {
        shipment: part.shipment.clone(),
        load: part.load.clone(),
        version,
        amount,
        site: part.site,
    }
}

struct Report<'a> {
    code: &'a str,
    role: &'static str,
    meaning: Meaning,
    minutes: i64,
    /// Tells apart reports of one shipment.
    mark: &'static str,
}

/// The truck is at the dock.
pub(super) fn arrived_origin(plan: &Plan, part: &PartPlan) -> Result<Transaction> {
    let report = Report {
        code: part.carrier.arrived_origin,
        role: "pickup",
        meaning: Meaning::ArrivedOrigin,
        minutes: 290,
        mark: "ARO",
    };
    milestone(plan, part, &report)
}

/// What the carrier reports on the way. Out of order, delivery is reported before departure.
pub(super) fn journey(plan: &Plan, part: &PartPlan) -> Result<Vec<Transaction>> {
    let carrier = part.carrier;
    let report = |code, role, meaning, minutes, mark| Report { code, role, meaning, minutes, mark };
    let departed = if plan.unknown_code {
        report("QX9", "pickup", Meaning::Unknown, 360, "UNK")
    } else {
        report(carrier.departed, "pickup", Meaning::Departed, 360, "DEP")
    };
    let mut reports = vec![
        departed,
        report(carrier.in_transit, "pickup", Meaning::InTransit, 700, "TRA"),
        report(carrier.delayed, "delivery", Meaning::Delayed, 1200, "DLY"),
        report(carrier.arrived_destination, "delivery", Meaning::ArrivedDestination, 1800, "ARD"),
        report(carrier.delivered, "delivery", Meaning::Delivered, 1830, "DLV"),
    ];
    if !plan.index.is_multiple_of(3) {
        reports.retain(|report| report.meaning != Meaning::Delayed);
    }
    if plan.out_of_order {
        reports.reverse();
        let middle = reports.len() / 2;
        reports.swap(0, middle);
    }
    reports.iter().map(|report| milestone(plan, part, report)).collect()
}

fn milestone(plan: &Plan, part: &PartPlan, report: &Report<'_>) -> Result<Transaction> {
    let id = format!("MS-{}-{}", part.shipment, report.mark);
    let at: At = plan.start().plus_minutes(part.offset + report.minutes);
    let payload = json!({
        "site": part.site.code(),
        "shipment_no": part.shipment,
        "load_no": part.load,
        "partner": part.carrier.scac,
        "code": report.code,
        "stop_role": report.role,
        "event_time": at.rfc3339()?,
    });
    let milestone = Transaction::new(System::Tms)
        .run(format!(
            "INSERT INTO milestones \
             (milestone_ref, shipment_id, partner, code, stop_role, event_time) \
             VALUES ({}, {}, {}, {}, {}, {})",
            text(&id),
            shipment_id(part),
            text(part.carrier.scac),
            text(report.code),
            text(report.role),
            text(&at.utc()?)
        ))
        .run(format!(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) \
             VALUES ('milestone', {}, 'milestone.reported', {})",
            text(&id),
            text(&payload.to_string())
        ))
        .fact(Fact::Milestone { id, shipment: part.shipment.clone(), meaning: report.meaning, at });
    Ok(if report.meaning == Meaning::Unknown {
        let partner = part.carrier.scac.to_owned();
        milestone.fact(Fact::UnknownCode { partner, code: report.code.to_owned() })
    } else {
        milestone
    })
}
