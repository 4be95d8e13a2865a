//! Plays one order: the transactions that applications would run, in order, and what each of
//! them makes true.
//!
//! Applications change one row several times in a transaction, and so does this one. A
//! transaction can be run again when its outcome is unknown: it either inserts a unique key or
//! sets absolute values.

mod erp;
mod tms;
mod wms_eu;
mod wms_us;

use anyhow::Result;

use crate::expect::Fact;
use crate::master::Site;
use crate::plan::{Cancel, CostTime, PartPlan, Plan};

/// A source system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// PostgreSQL.
    Erp,
    /// MariaDB.
    WmsEu,
    /// PostgreSQL.
    WmsUs,
    /// MariaDB.
    Tms,
}

/// One transaction of an application.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Where it runs.
    pub system: System,
    /// Statements between begin and commit.
    pub statements: Vec<String>,
    /// What is true once it has committed.
    pub facts: Vec<Fact>,
}

impl Transaction {
    fn new(system: System) -> Self {
        Self { system, statements: Vec::new(), facts: Vec::new() }
    }

    fn run(mut self, statement: impl Into<String>) -> Self {
        self.statements.push(statement.into());
        self
    }

    fn fact(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }
}

/// All transactions of an order, in the order in which they must commit.
pub fn transactions(plan: &Plan) -> Result<Vec<Transaction>> {
    let mut all = vec![erp::capture(plan)?, erp::release(plan)];
    let mut parts: Vec<_> = Vec::new();
    for part in &plan.parts {
        parts.push(part_transactions(plan, part)?.into_iter());
    }
    // Two sites work side by side.
    loop {
        let before = all.len();
        all.extend(parts.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            break;
        }
    }
    if let Some(number) = plan.overwrite_terms {
        all.insert(2, overwrite_terms(number));
    }
    if let Some(customer) = plan.overwrite_credit {
        all.insert(2, wms_eu::overwrite_credit(customer, plan.index));
    }
    if plan.cancel.is_some() {
        all.push(erp::cancel(plan));
        for part in &plan.parts {
            all.push(tms::withdraw(part));
            all.push(warehouse_cancel(plan, part));
        }
    } else {
        all.push(erp::invoice(plan));
    }
    Ok(all)
}

fn part_transactions(plan: &Plan, part: &PartPlan) -> Result<Vec<Transaction>> {
    let mut all = vec![warehouse_release(plan, part), tms::plan_load(plan, part)?];
    all.extend(tms::tenders(plan, part)?);
    if plan.cancel == Some(Cancel::BeforePick) {
        return Ok(all);
    }
    for line in plan.lines_of(part.site) {
        all.push(match part.site {
            Site::Eu => wms_eu::pick(plan, part, line, 1)?,
            Site::Us => wms_us::pick(plan, part, line, 1)?,
        });
    }
    if let Some(line) = plan.lines_of(part.site).next().filter(|_| plan.duplicate_pick) {
        all.push(match part.site {
            Site::Eu => wms_eu::pick(plan, part, line, 2)?,
            Site::Us => wms_us::pick(plan, part, line, 2)?,
        });
    }
    if plan.cancel == Some(Cancel::AfterPick) {
        return Ok(all);
    }
    all.push(match part.site {
        Site::Eu => wms_eu::pack(plan, part)?,
        Site::Us => wms_us::pack(plan, part)?,
    });
    let early = match plan.cost_time {
        _ if plan.cancel.is_some() => Some(Some(part.cost)),
        CostTime::BeforeDeparture => Some(Some(part.cost)),
        CostTime::AmountLater => Some(None),
        CostTime::AfterDeparture => None,
    };
    if let Some(amount) = early {
        all.push(tms::cost(part, 1, amount));
    }
    if plan.cancel.is_none() {
        transport(plan, part, &mut all)?;
    }
    Ok(all)
}

/// From the dock to the consignee.
fn transport(plan: &Plan, part: &PartPlan, all: &mut Vec<Transaction>) -> Result<()> {
    all.push(tms::arrived_origin(plan, part)?);
    all.push(match part.site {
        Site::Eu => wms_eu::load(plan, part)?,
        Site::Us => wms_us::load(plan, part)?,
    });
    if part.site == Site::Us {
        all.push(wms_us::leave_dock(plan, part)?);
    }
    all.extend(tms::journey(plan, part)?);
    match plan.cost_time {
        CostTime::BeforeDeparture => {}
        CostTime::AmountLater => all.push(tms::amount_known(part)),
        CostTime::AfterDeparture => all.push(tms::cost(part, 1, Some(part.cost))),
    }
    if plan.second_cost {
        all.push(tms::cost(part, 2, Some(part.cost + 500)));
    }
    Ok(())
}

fn warehouse_release(plan: &Plan, part: &PartPlan) -> Transaction {
    match part.site {
        Site::Eu => wms_eu::release(plan, part),
        Site::Us => wms_us::release(plan, part),
    }
}

fn warehouse_cancel(plan: &Plan, part: &PartPlan) -> Transaction {
    match part.site {
        Site::Eu => wms_eu::cancel(plan, part),
        Site::Us => wms_us::cancel(plan, part),
    }
}

fn overwrite_terms(number: u32) -> Transaction {
    match crate::seed::history_site(number) {
        Site::Eu => wms_eu::overwrite_terms(number),
        Site::Us => wms_us::overwrite_terms(number),
    }
}
