//! What will happen to one order, decided from the workload's seed and the order's number alone.

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::master::{self, Carrier, Site};
use crate::times::At;

/// First number of live orders; smaller ones are history.
pub const FIRST_LIVE: u32 = 100_001;

/// When an order is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The warehouse has it and has not begun.
    BeforePick,
    /// Picked, not packed.
    AfterPick,
    /// Packed and with a cost already known, not loaded.
    AfterPack,
}

/// When the TMS learns the cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostTime {
    /// Before the truck leaves.
    BeforeDeparture,
    /// After it.
    AfterDeparture,
    /// Before departure without an amount, which follows after it.
    AmountLater,
}

/// One line of an order. Quantities in thousandths, price in minor units.
#[derive(Clone, Debug)]
pub struct LinePlan {
    /// Line number.
    pub line_no: u32,
    /// Product number.
    pub product: u32,
    /// Ordered.
    pub qty: i64,
    /// What the warehouse finds.
    pub picked: i64,
    /// Price.
    pub price: i64,
    /// Site that serves it.
    pub site: Site,
}

/// What one site does for the order.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// The site.
    pub site: Site,
    /// Shipment number.
    pub shipment: String,
    /// Load number.
    pub load: String,
    /// The carrier that takes it in the end.
    pub carrier: &'static Carrier,
    /// A carrier that declines first.
    pub declines: Option<&'static Carrier>,
    /// First cost, in minor units.
    pub cost: i64,
    /// Offset of this part's times, in minutes.
    pub offset: i64,
}

/// One order and its fate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Position in the workload, from 0.
    pub index: u32,
    /// Number of the order.
    pub number: u32,
    /// The order's number as systems write it.
    pub order_no: String,
    /// Customer number.
    pub customer: u32,
    /// Currency of the order.
    pub currency: &'static str,
    /// Terms of delivery.
    pub incoterm: &'static str,
    /// Lines.
    pub lines: Vec<LinePlan>,
    /// One for each site.
    pub parts: Vec<PartPlan>,
    /// Whether and when it is cancelled.
    pub cancel: Option<Cancel>,
    /// A scanner confirms its first pick twice.
    pub duplicate_pick: bool,
    /// Milestones arrive late and in the wrong order.
    pub out_of_order: bool,
    /// A carrier reports departure in a code that nobody knows.
    pub unknown_code: bool,
    /// When its costs become known.
    pub cost_time: CostTime,
    /// A corrected cost follows.
    pub second_cost: bool,
    /// A shipment of the history whose terms a warehouse overwrites meanwhile: its order number.
    pub overwrite_terms: Option<u32>,
    /// A customer whose credit limit a warehouse overwrites meanwhile.
    pub overwrite_credit: Option<u32>,
}

impl Plan {
    /// The fate of order `index` under `seed`.
    pub fn new(seed: u64, index: u32) -> Self {
        let mix = (u64::from(index) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut rng = StdRng::seed_from_u64(seed ^ mix);
        let number = FIRST_LIVE + index;
        let home = if rng.random_bool(0.5) { Site::Eu } else { Site::Us };
        let split = index % 5 == 4;
        let short = index % 20 == 7;
        let lines = lines(&mut rng, home, split, short);
        let mut sites: Vec<Site> = lines.iter().map(|line| line.site).collect();
        sites.sort_unstable();
        sites.dedup();
        let parts = sites.iter().map(|site| part(&mut rng, *site, number, index)).collect();
        Self {
            index,
            number,
            order_no: master::order_no(number),
            customer: rng.random_range(1..=master::CUSTOMERS),
            currency: home.currency(),
            incoterm: master::incoterm(rng.random_range(0..3)),
            lines,
            parts,
            cancel: cancel(index),
            duplicate_pick: index % 10 == 2,
            out_of_order: index % 10 == 5,
            unknown_code: index % 20 == 11,
            cost_time: match index % 12 {
                1 | 3 | 5 | 9 => CostTime::BeforeDeparture,
                6 => CostTime::AmountLater,
                _ => CostTime::AfterDeparture,
            },
            second_cost: index.is_multiple_of(5),
            overwrite_terms: (index % 20 == 13)
                .then(|| crate::seed::delivered(index / 20))
                .flatten(),
            overwrite_credit: (index % 20 == 17)
                .then_some(index / 20 + 1)
                .filter(|customer| *customer <= master::CUSTOMERS),
        }
    }

    /// When the order is captured.
    pub fn start(&self) -> At {
        At::order(self.index)
    }

    /// Lines that `site` serves.
    pub fn lines_of(&self, site: Site) -> impl Iterator<Item = &LinePlan> {
        self.lines.iter().filter(move |line| line.site == site)
    }

    /// Value of the order in minor units, rounded down.
    pub fn total(&self) -> i64 {
        self.lines.iter().map(|line| line.price * line.qty / 1000).sum()
    }
}

fn cancel(index: u32) -> Option<Cancel> {
    if index % 20 != 3 {
        return None;
    }
    Some(match index / 20 % 3 {
        0 => Cancel::AfterPack,
        1 => Cancel::AfterPick,
        _ => Cancel::BeforePick,
    })
}

fn lines(rng: &mut StdRng, home: Site, split: bool, short: bool) -> Vec<LinePlan> {
    let count = if split { rng.random_range(2..=4) } else { rng.random_range(1..=3) };
    (1..=count)
        .map(|line_no| {
            let product = rng.random_range(1..=master::PRODUCTS);
            let fraction = if master::base_uom(product) == "KGM" { 250 } else { 0 };
            let qty = rng.random_range(2..=12) * 1000 + fraction;
            let site = match (split && line_no % 2 == 0, home) {
                (false, site) => site,
                (true, Site::Eu) => Site::Us,
                (true, Site::Us) => Site::Eu,
            };
            LinePlan {
                line_no,
                product,
                qty,
                picked: if short && line_no == 1 { qty - 1000 } else { qty },
                price: master::list_price(product) - rng.random_range(0..50),
                site,
            }
        })
        .collect()
}

fn part(rng: &mut StdRng, site: Site, number: u32, index: u32) -> PartPlan {
    let carrier = rng.random_range(0..3);
    PartPlan {
        site,
        shipment: site.shipment_no(number),
        load: site.load_no(number),
        carrier: site.carrier(carrier),
        declines: (index % 10 == 8).then(|| site.carrier(carrier + 1)),
        cost: rng.random_range(4_000..60_000),
        offset: rng.random_range(0..40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_depends_on_seed_and_number_only() {
        for index in [0, 3, 4, 57] {
            let first = format!("{:?}", Plan::new(7, index));
            assert_eq!(first, format!("{:?}", Plan::new(7, index)));
        }
        let differ =
            (0..20).any(|i| format!("{:?}", Plan::new(7, i)) != format!("{:?}", Plan::new(8, i)));
        assert!(differ);
    }

    #[test]
    fn every_awkward_case_is_in_sixty_orders() {
        let plans: Vec<Plan> = (0..60).map(|index| Plan::new(1, index)).collect();
        for cancel in [Cancel::BeforePick, Cancel::AfterPick, Cancel::AfterPack] {
            assert!(plans.iter().any(|p| p.cancel == Some(cancel)));
        }
        assert!(plans.iter().any(|p| p.lines.iter().any(|l| l.picked < l.qty)));
        assert!(plans.iter().any(|p| p.parts.len() == 2));
        assert!(plans.iter().any(|p| p.unknown_code));
        assert!(plans.iter().any(|p| p.overwrite_terms.is_some()));
        assert!(plans.iter().any(|p| p.overwrite_credit.is_some()));
        assert!(plans.iter().any(|p| p.parts.iter().any(|part| part.declines.is_some())));
    }
}
