//! What must come out: facts that the workload has made true, and what follows from them.
//!
//! Written against the business, not against the rule files: no expression, mapping or code table
//! is read here.

use std::collections::{BTreeMap, BTreeSet};

use crate::master::{self, OPENING_STOCK, Site};
use crate::times::At;

/// What a carrier's report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The truck is where the goods are.
    ArrivedOrigin,
    /// The goods have left.
    Departed,
    /// They are on the way.
    InTransit,
    /// They are late.
    Delayed,
    /// The truck is where the goods go.
    ArrivedDestination,
    /// They are delivered.
    Delivered,
    /// Nobody knows this code.
    Unknown,
}

/// Something that became true in a source system. Quantities are thousandths, amounts minor units.
#[expect(missing_docs, reason = "the fields' names are the business's own words")]
#[derive(Clone, Debug)]
pub enum Fact {
    /// The ERP gave an order a state.
    OrderState { order: String, state: &'static str },
    /// An order has a line. Quantity in thousandths.
    Line { order: String, line_no: u32, qty: i64 },
    /// The ERP asked a site for a shipment.
    Delivery { order: String, site: Site, shipment: String, incoterm: &'static str },
    /// The warehouse took a shipment in.
    InWarehouse { shipment: String },
    /// A pick task was done (a second confirmation of a task is no second pick).
    Picked { site: Site, task: String, order: String, line_no: u32, shipment: String, qty: i64 },
    /// A shipment was packed.
    Packed { shipment: String, at: At },
    /// The warehouse booked what it ships of a line.
    LineShipped { order: String, line_no: u32, qty: i64 },
    /// A shipment is on the truck.
    Loaded { shipment: String },
    /// The warehouse says that the truck left.
    LeftDock { shipment: String, at: At },
    /// The warehouse cancelled a shipment.
    ShipmentCancelled { shipment: String },
    /// A carrier reported something.
    Milestone { id: String, shipment: String, meaning: Meaning, at: At },
    /// A carrier reported with a code that nobody knows.
    UnknownCode { partner: String, code: String },
    /// The TMS gave a load a tender state.
    Tender { load: String, state: &'static str },
    /// The TMS knows a cost. Minor units; `None` while the amount is open.
    Cost { shipment: String, load: String, version: u32, amount: Option<i64>, site: Site },
    /// Stock moved, in thousandths.
    Stock { site: Site, sku: String, on_hand: i64, allocated: i64 },
    /// A warehouse overwrote terms that the ERP decides.
    TermsOverwritten { shipment: String },
    /// A warehouse raised a credit limit in its copy of a customer.
    CreditOverwritten { party_code: String },
}

/// An order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// State in the ERP.
    pub state: &'static str,
    /// Its shipments.
    pub shipments: BTreeSet<String>,
}

/// An order line; quantities in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Ordered.
    pub ordered: i64,
    /// Picked: the sum of the picks.
    pub picked: i64,
    /// Shipped, once the warehouse has booked it.
    pub shipped: Option<i64>,
}

/// How far a shipment is, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Known, nothing done.
    Planned,
    /// Being picked.
    Picking,
    /// Packed.
    Packed,
    /// On the truck.
    Loaded,
    /// Left.
    Departed,
    /// On the way.
    InTransit,
    /// At the consignee's.
    Delivered,
    /// Will never leave.
    Cancelled,
}

impl Stage {
    /// The word that the canonical record uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Picking => "picking",
            Self::Packed => "packed",
            Self::Loaded => "loaded",
            Self::Departed => "departed",
            Self::InTransit => "in_transit",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    fn has_left(self) -> bool {
        matches!(self, Self::Departed | Self::InTransit | Self::Delivered)
    }
}

/// A shipment.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// Site that ships it.
    pub site: Site,
    /// Its order.
    pub order: String,
    /// Terms, as the ERP decided them.
    pub incoterm: &'static str,
    /// The furthest stage for which there is evidence.
    pub furthest: Stage,
    /// When it was packed.
    pub packed: Option<At>,
    /// Departure as the warehouse saw it.
    pub left_dock: Option<At>,
    /// Departure as the carrier reported it.
    pub carrier_departed: Option<At>,
    /// Delivery as the carrier reported it.
    pub delivered: Option<At>,
}

impl Shipment {
    /// When it left: the carrier's word before the warehouse's.
    pub fn departed(&self) -> Option<At> {
        self.carrier_departed.or(self.left_dock)
    }

    fn reach(&mut self, stage: Stage) {
        self.furthest = self.furthest.max(stage);
    }
}

/// A freight cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Load that it is for.
    pub load: String,
    /// Minor units; `None` while open.
    pub amount: Option<i64>,
    /// Currency.
    pub currency: &'static str,
}

/// A pick; quantity in thousandths.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Its line: order and line number.
    pub line: (String, u32),
    /// Quantity.
    pub qty: i64,
}

/// All that is known, by business key.
#[derive(Clone, Debug)]
pub struct Model {
    /// By order number.
    pub orders: BTreeMap<String, Order>,
    /// By order number and line number.
    pub lines: BTreeMap<(String, u32), Line>,
    /// By shipment number.
    pub shipments: BTreeMap<String, Shipment>,
    /// By site and task.
    pub picks: BTreeMap<(Site, String), Pick>,
    /// Ids of milestones.
    pub milestones: BTreeSet<String>,
    /// Tender state by load number.
    pub loads: BTreeMap<String, &'static str>,
    /// By shipment and version; there is one charge code, [`CHARGE`].
    pub costs: BTreeMap<(String, u32), Cost>,
    /// On hand and allocated, by site and product.
    pub stock: BTreeMap<(Site, String), (i64, i64)>,
    /// Customers whose credit limit a warehouse overwrote.
    pub credit_overwritten: BTreeSet<String>,
    /// Shipments whose terms a warehouse overwrote.
    pub terms_overwritten: BTreeSet<String>,
    /// Shipments that their warehouse knows.
    pub in_warehouse: BTreeSet<String>,
    /// Partner and code that nobody knows.
    pub unknown_codes: BTreeSet<(String, String)>,
}

/// The charge code of all costs of the demo.
pub const CHARGE: &str = "FRT";

impl Default for Model {
    fn default() -> Self {
        let mut stock = BTreeMap::new();
        for site in Site::ALL {
            for number in 1..=master::PRODUCTS {
                stock.insert((site, master::sku(number)), (OPENING_STOCK, 0));
            }
        }
        Self {
            orders: BTreeMap::new(),
            lines: BTreeMap::new(),
            shipments: BTreeMap::new(),
            picks: BTreeMap::new(),
            milestones: BTreeSet::new(),
            loads: BTreeMap::new(),
            costs: BTreeMap::new(),
            stock,
            credit_overwritten: BTreeSet::new(),
            terms_overwritten: BTreeSet::new(),
            in_warehouse: BTreeSet::new(),
            unknown_codes: BTreeSet::new(),
        }
    }
}

impl Model {
    /// Takes note of a fact. Facts of one record come in the order in which they became true.
    pub fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::OrderState { order, state } => {
                self.orders.entry(order.clone()).or_default().state = state;
            }
            Fact::Line { order, line_no, qty } => {
                self.lines.entry((order.clone(), *line_no)).or_default().ordered = *qty;
            }
            Fact::Delivery { order, site, shipment, incoterm } => {
                self.note_delivery(order, *site, shipment, incoterm);
            }
            Fact::InWarehouse { shipment } => {
                self.in_warehouse.insert(shipment.clone());
            }
            Fact::Picked { site, task, order, line_no, shipment, qty } => {
                let line = (order.clone(), *line_no);
                let pick = Pick { line: line.clone(), qty: *qty };
                if self.picks.insert((*site, task.clone()), pick).is_none() {
                    self.lines.entry(line).or_default().picked += qty;
                }
                self.reach(shipment, Stage::Picking);
            }
            Fact::LineShipped { order, line_no, qty } => {
                self.lines.entry((order.clone(), *line_no)).or_default().shipped = Some(*qty);
            }
            Fact::Packed { .. }
            | Fact::Loaded { .. }
            | Fact::LeftDock { .. }
            | Fact::ShipmentCancelled { .. }
            | Fact::Milestone { .. } => self.note_progress(fact),
            Fact::UnknownCode { partner, code } => {
                self.unknown_codes.insert((partner.clone(), code.clone()));
            }
            Fact::Tender { load, state } => {
                self.loads.insert(load.clone(), state);
            }
            Fact::Cost { shipment, load, version, amount, site } => {
                let cost = Cost { load: load.clone(), amount: *amount, currency: site.currency() };
                self.costs.insert((shipment.clone(), *version), cost);
            }
            Fact::Stock { site, sku, on_hand, allocated } => {
                let position = self.stock.entry((*site, sku.clone())).or_default();
                position.0 += on_hand;
                position.1 += allocated;
            }
            Fact::TermsOverwritten { shipment } => {
                self.terms_overwritten.insert(shipment.clone());
            }
            Fact::CreditOverwritten { party_code } => {
                self.credit_overwritten.insert(party_code.clone());
            }
        }
    }

    fn note_delivery(&mut self, order: &str, site: Site, number: &str, incoterm: &'static str) {
        self.orders.entry(order.to_owned()).or_default().shipments.insert(number.to_owned());
        let shipment = Shipment {
            site,
            order: order.to_owned(),
            incoterm,
            furthest: Stage::Planned,
            packed: None,
            left_dock: None,
            carrier_departed: None,
            delivered: None,
        };
        self.shipments.insert(number.to_owned(), shipment);
    }

    fn note_progress(&mut self, fact: &Fact) {
        match fact {
            Fact::Packed { shipment, at } => {
                if let Some(known) = self.reach(shipment, Stage::Packed) {
                    known.packed = Some(*at);
                }
            }
            Fact::Loaded { shipment } => {
                self.reach(shipment, Stage::Loaded);
            }
            Fact::LeftDock { shipment, at } => {
                if let Some(known) = self.reach(shipment, Stage::Departed) {
                    known.left_dock = Some(*at);
                }
            }
            Fact::ShipmentCancelled { shipment } => {
                self.reach(shipment, Stage::Cancelled);
            }
            Fact::Milestone { id, shipment, meaning, at } => {
                self.milestones.insert(id.clone());
                self.note_milestone(shipment, *meaning, *at);
            }
            _ => {}
        }
    }

    fn note_milestone(&mut self, shipment: &str, meaning: Meaning, at: At) {
        match meaning {
            Meaning::ArrivedOrigin | Meaning::Delayed | Meaning::Unknown => {}
            Meaning::Departed => {
                if let Some(known) = self.reach(shipment, Stage::Departed) {
                    known.carrier_departed = Some(at);
                }
            }
            Meaning::InTransit | Meaning::ArrivedDestination => {
                self.reach(shipment, Stage::InTransit);
            }
            Meaning::Delivered => {
                if let Some(known) = self.reach(shipment, Stage::Delivered) {
                    known.delivered = Some(at);
                }
            }
        }
    }

    fn reach(&mut self, shipment: &str, stage: Stage) -> Option<&mut Shipment> {
        let known = self.shipments.get_mut(shipment)?;
        known.reach(stage);
        Some(known)
    }

    fn stages(&self, order: &Order) -> Vec<Stage> {
        order.shipments.iter().filter_map(|s| self.shipments.get(s)).map(|s| s.furthest).collect()
    }

    /// How far the order is, as the canonical record must say it.
    pub fn fulfilment(&self, order: &Order) -> &'static str {
        if order.state == "cancelled" {
            return "cancelled";
        }
        let mut stages = self.stages(order);
        stages.retain(|stage| *stage != Stage::Cancelled);
        let Some(least) = stages.iter().min().copied() else {
            let asked_for = order.state == "released" || !order.shipments.is_empty();
            return if asked_for { "released" } else { "captured" };
        };
        match least {
            Stage::Delivered => "delivered",
            stage if stage.has_left() => "shipped",
            _ if stages.iter().any(|stage| stage.has_left()) => "part_shipped",
            Stage::Loaded => "loaded",
            Stage::Packed => "packed",
            _ if stages.iter().any(|stage| *stage > Stage::Planned) => "picking",
            _ if self.is_allocated(order) => "allocated",
            _ => "released",
        }
    }

    /// Whether a warehouse has taken in, and reserved stock for, every shipment that is to leave.
    fn is_allocated(&self, order: &Order) -> bool {
        order.shipments.iter().all(|number| {
            let cancelled =
                self.shipments.get(number).is_some_and(|s| s.furthest == Stage::Cancelled);
            cancelled || self.in_warehouse.contains(number)
        })
    }

    /// What customer service reads out for it.
    pub fn customer_status(&self, order: &Order) -> &'static str {
        match self.fulfilment(order) {
            "cancelled" => "Cancelled",
            "delivered" => "Delivered",
            "shipped" | "part_shipped" => "On its way",
            "packed" | "loaded" => "Packed",
            "picking" => "Preparing",
            "released" | "allocated" => "Confirmed",
            _ => "Received",
        }
    }

    /// What the ERP must say about the order after all messages: its least advanced delivery.
    pub fn ship_status(&self, order: &Order) -> &'static str {
        let stages = self.stages(order);
        match stages.iter().min() {
            Some(Stage::Planned) if stages.iter().any(|s| *s != Stage::Planned) => "open",
            None | Some(Stage::Planned) => "none",
            Some(stage) => stage.word(),
        }
    }

    /// True when a line of the order was shipped with less than ordered.
    pub fn short_shipped(&self, order_no: &str) -> bool {
        let first = (order_no.to_owned(), 0);
        let last = (order_no.to_owned(), u32::MAX);
        self.lines
            .range(first..=last)
            .any(|(_, line)| line.shipped.is_some_and(|shipped| shipped < line.ordered))
    }

    /// True when the cost may be booked: the goods left, the carrier accepted, the amount is known.
    pub fn accrues(&self, shipment: &str, cost: &Cost) -> bool {
        let left = self.shipments.get(shipment).is_some_and(|s| s.departed().is_some());
        left && self.loads.get(&cost.load) == Some(&"accepted") && cost.amount.is_some()
    }
}
