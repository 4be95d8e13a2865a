//! Random business of four systems, arriving in random interleavings, in batches, and again after
//! rewinds: what is decided is what the demo's own account of the business expects, which reads no
//! rule file and knows no order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_canonical::Memory;
use crossdock_demo::expect::{Fact, Meaning, Model};
use crossdock_demo::master::Site;
use crossdock_demo::times::At;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::demo::{Logs, RULES, erp_delivery};
use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, run, run_remembering};

/// 2026-05-01T00:00:00Z in seconds.
const MIDNIGHT: i64 = 1_777_593_600;
const GONE: [&str; 3] = ["departed", "in_transit", "delivered"];

/// A transaction, what became true with it, and the shipment that has left for sure once it is
/// known.
struct Step {
    tx: Tx,
    facts: Vec<Fact>,
    proves_departure: Option<String>,
}

/// What happens, by source, each in its own order.
#[derive(Default)]
struct Story {
    logs: Logs,
    steps: BTreeMap<&'static str, Vec<Step>>,
    milestones: u32,
    rows: u32,
}

fn at(hour: i64, minute: i64) -> At {
    At(MIDNIGHT + hour * 3600 + minute * 60)
}

fn code(site: Site) -> &'static str {
    site.code()
}

fn shipment(n: u32, site: Site) -> String {
    format!("{}-{n}", code(site))
}

impl Story {
    fn random(rng: &mut StdRng) -> Self {
        let mut story = Self::default();
        story.push("erp", Logs::master_data, vec![]);
        for n in 1..=rng.random_range(1..=2) {
            let mut sites: Vec<Site> = Site::ALL.into();
            sites.shuffle(rng);
            sites.truncate(rng.random_range(1..=2));
            if story.order(rng, n, &sites) {
                for site in sites {
                    let cancelled = story.warehouse(rng, n, site);
                    story.transport(rng, n, site, cancelled);
                }
            }
        }
        story
    }

    fn push(
        &mut self,
        source: &'static str,
        commit: impl FnOnce(&mut Logs) -> Tx,
        facts: Vec<Fact>,
    ) {
        let step = Step { tx: commit(&mut self.logs), facts, proves_departure: None };
        self.steps.entry(source).or_default().push(step);
    }

    /// The step that was pushed last proves that a shipment has left.
    fn proves(&mut self, source: &str, shipment: &str) {
        let last = self.steps.get_mut(source).and_then(|steps| steps.last_mut());
        last.unwrap().proves_departure = Some(shipment.to_owned());
    }

    /// What the ERP does; whether warehouses get to know of it.
    fn order(&mut self, rng: &mut StdRng, n: u32, sites: &[Site]) -> bool {
        let codes: Vec<&str> = sites.iter().map(|site| code(*site)).collect();
        let order = format!("SO-{n}");
        let state = |state| Fact::OrderState { order: order.clone(), state };
        let mut facts = vec![state("confirmed")];
        for site in sites {
            let line_no = if *site == Site::Eu { 1 } else { 2 };
            facts.push(Fact::Line { order: order.clone(), line_no, qty: 5_000 });
        }
        self.push("erp", |l| l.captured(n, &codes), facts);
        if rng.random_bool(0.1) {
            return false;
        }
        let mut facts = vec![state("released")];
        for site in sites {
            let (order, shipment) = (order.clone(), shipment(n, *site));
            facts.push(Fact::Delivery { order, site: *site, shipment, incoterm: "FCA" });
        }
        self.push("erp", |l| l.released(n, &codes), facts);
        if rng.random_bool(0.1) {
            let row = format!("id={n}, state=cancelled");
            let cancel = |l: &mut Logs| l.tx("erp", &[("public.sales_orders", &row)]);
            self.push("erp", cancel, vec![state("cancelled")]);
        }
        true
    }

    /// What the warehouse does, up to some point; whether it cancels.
    fn warehouse(&mut self, rng: &mut StdRng, n: u32, site: Site) -> bool {
        let (name, source) = (shipment(n, site), wms(site));
        let end = rng.random_range(0..=7);
        let cancel = rng.random_bool(0.15);
        let facts = vec![Fact::InWarehouse { shipment: name.clone() }];
        self.push(source, |l| l.taken_in(n, code(site)), facts);
        for step in 0..end {
            match step {
                0 | 1 => self.pick(rng, n, site, step),
                2 => self.overwrite_terms(rng, n, site),
                3 if cancel => {
                    let facts = vec![Fact::ShipmentCancelled { shipment: name.clone() }];
                    self.push(source, |l| l.cancelled(n, code(site)), facts);
                    return true;
                }
                3 => {
                    let facts = vec![Fact::Packed { shipment: name.clone(), at: at(8, 0) }];
                    self.push(source, |l| l.packed(n, code(site)), facts);
                }
                4 => self.book(rng, n, site),
                5 => {
                    let facts = vec![Fact::Loaded { shipment: name.clone() }];
                    self.push(source, |l| l.loaded(n, code(site)), facts);
                }
                _ if site == Site::Us => {
                    let facts = vec![Fact::LeftDock { shipment: name.clone(), at: at(10, 0) }];
                    self.push(source, |l| l.left_dock(n), facts);
                    self.proves(source, &name);
                }
                _ => {}
            }
        }
        false
    }

    /// A pick, which the scanner may send twice.
    fn pick(&mut self, rng: &mut StdRng, n: u32, site: Site, task: u32) {
        let (order, shipment) = (format!("SO-{n}"), shipment(n, site));
        let (line_no, task) = (if site == Site::Eu { 1 } else { 2 }, format!("T-{n}-{task}"));
        let times = rng.random_range(1..=2);
        for _ in 0..times {
            self.rows += 1;
            let row = self.rows;
            let fact = Fact::Picked {
                site,
                task: task.clone(),
                order: order.clone(),
                line_no,
                shipment: shipment.clone(),
                qty: 2_000,
            };
            let commit = |l: &mut Logs| l.picked(n, code(site), &task, row, "2.000");
            self.push(wms(site), commit, vec![fact]);
        }
    }

    fn overwrite_terms(&mut self, rng: &mut StdRng, n: u32, site: Site) {
        if rng.random_bool(0.3) {
            let facts = vec![Fact::TermsOverwritten { shipment: shipment(n, site) }];
            self.push(wms(site), |l| l.terms(n, code(site), "EXW"), facts);
        }
    }

    /// The warehouse books what it ships of the line: all of it, or less.
    fn book(&mut self, rng: &mut StdRng, n: u32, site: Site) {
        let qty = rng.random_range(4..=5);
        let line_no = if site == Site::Eu { 1 } else { 2 };
        let fact = Fact::LineShipped { order: format!("SO-{n}"), line_no, qty: qty * 1_000 };
        self.push(wms(site), |l| l.line_shipped(n, code(site), &format!("{qty}.000")), vec![fact]);
    }

    fn transport(&mut self, rng: &mut StdRng, n: u32, site: Site, cancelled: bool) {
        let load = format!("L-{}-{n}", code(site));
        let tender = |state| Fact::Tender { load: load.clone(), state };
        self.push("tms", |l| l.planned(n, code(site)), vec![tender("none")]);
        let answers = ["sent", "declined", "sent", "accepted"];
        let answers = &answers[rng.random_range(0..2) * 2..rng.random_range(2..=4)];
        let mut steps: Vec<u32> = vec![0; answers.len()];
        steps.extend([1, 2, 3]);
        steps.shuffle(rng);
        let mut answers = answers.iter();
        let mut amounts = [None, Some(12_345)].into_iter();
        for step in steps {
            match step {
                0 => {
                    let state = *answers.next().unwrap();
                    self.push("tms", |l| l.tender(n, code(site), state), vec![tender(state)]);
                }
                1 => self.milestones(rng, n, site, cancelled),
                _ if rng.random_bool(0.8) => {
                    let (amount, shipment) = (amounts.next().unwrap(), shipment(n, site));
                    let cents = amount.map(|cents: i64| cents.to_string()).unwrap_or_default();
                    let commit = |l: &mut Logs| l.cost(n, code(site), 1, &cents);
                    let load = load.clone();
                    let fact = Fact::Cost { shipment, load, version: 1, amount, site };
                    self.push("tms", commit, vec![fact]);
                }
                _ => {}
            }
        }
    }

    /// What the carrier reports, some of it, perhaps late and in the wrong order.
    fn milestones(&mut self, rng: &mut StdRng, n: u32, site: Site, cancelled: bool) {
        use Meaning::{ArrivedDestination, ArrivedOrigin, Delayed, Departed, InTransit, Unknown};
        let mut all = vec![
            ("RDWY:X3:pickup", ArrivedOrigin),
            ("GEOD:1:pickup", ArrivedOrigin),
            ("KNNT:ZZ:pickup", Unknown),
            ("KNNT:13:pickup", ArrivedOrigin),
            ("GEOD:20:pickup", Delayed),
        ];
        if !cancelled {
            let departures = ["RDWY:AF:pickup", "GEOD:24:pickup", "GEOD:13:pickup", "KNNT:DEP:x"];
            all.push((departures[rng.random_range(0..4)], Departed));
            all.push(("KNNT:31:pickup", InTransit));
            all.push(("RDWY:X1:delivery", ArrivedDestination));
            all.push(("GEOD:21:delivery", Meaning::Delivered));
        }
        let name = shipment(n, site);
        let hours: BTreeMap<&str, i64> = all.iter().map(|(said, _)| *said).zip(9..).collect();
        if rng.random_bool(0.4) {
            all.shuffle(rng);
        }
        all.truncate(rng.random_range(0..=all.len()));
        all.retain(|_| rng.random_bool(0.7));
        for (said, meaning) in all {
            self.milestones += 1;
            let (id, hour) = (self.milestones, hours[said]);
            let fact = Fact::Milestone {
                id: format!("M-{id}"),
                shipment: name.clone(),
                meaning,
                at: at(hour, 30),
            };
            let time = format!("{hour:02}:30");
            self.push("tms", |l| l.milestone(n, code(site), id, said, &time), vec![fact]);
            if !matches!(meaning, ArrivedOrigin | Delayed | Unknown) {
                self.proves("tms", &name);
            }
        }
    }

    /// Everything that has become true.
    fn account(&self) -> Model {
        let mut model = Model::default();
        for source in crate::demo::SOURCES {
            let steps = self.steps.get(source).into_iter().flatten();
            steps.flat_map(|step| &step.facts).for_each(|fact| model.note(fact));
        }
        model
    }

    /// Lets the transactions arrive: each source's in its own order, some of them again after a
    /// rewind, in batches. `take` is called with each batch and the shipments that have left for
    /// sure after it.
    fn arrive(&self, rng: &mut StdRng, mut take: impl FnMut(&[Tx], &BTreeSet<&str>)) {
        let mut cursors: BTreeMap<&str, usize> = self.steps.keys().map(|s| (*s, 0)).collect();
        let (mut left, mut rewinds) = (BTreeSet::new(), rng.random_range(0..4));
        loop {
            let ends = |source: &str| self.steps[source].len();
            let open: Vec<&str> =
                cursors.iter().filter(|(s, at)| **at < ends(s)).map(|(s, _)| *s).collect();
            if open.is_empty() {
                return;
            }
            let mut batch = Vec::new();
            for _ in 0..rng.random_range(1..=4) {
                let source = open[rng.random_range(0..open.len())];
                let cursor = cursors.get_mut(source).unwrap();
                let Some(step) = self.steps[source].get(*cursor) else { continue };
                *cursor += 1;
                batch.push(step.tx.clone());
                left.extend(step.proves_departure.as_deref());
            }
            take(&batch, &left);
            if rewinds > 0 && rng.random_bool(0.15) {
                rewinds -= 1;
                let source = open[rng.random_range(0..open.len())];
                let cursor = cursors.get_mut(source).unwrap();
                *cursor = rng.random_range(0..=*cursor);
            }
        }
    }
}

/// The transactions of random business, by source.
pub fn transactions(rng: &mut StdRng) -> Vec<(&'static str, Vec<Tx>)> {
    let steps = Story::random(rng).steps.into_iter();
    steps.map(|(source, steps)| (source, steps.into_iter().map(|s| s.tx).collect())).collect()
}

fn wms(site: Site) -> &'static str {
    if site == Site::Eu { "wms_eu" } else { "wms_us" }
}

fn key(site: Site, shipment: &str) -> String {
    format!("shp:{}:{shipment}", code(site))
}

/// S7, S9, S10 at any moment: who has not left is not shipped, for nobody, and costs nothing.
fn nothing_is_shipped_before_it_has_left(model: &Model, store: &Store, left: &BTreeSet<&str>) {
    for (name, shipment) in &model.shipments {
        if left.contains(&**name) {
            continue;
        }
        let status = store.field(&key(shipment.site, name), "status").unwrap_or_default();
        assert!(!GONE.contains(&&*status), "{name} has not left and is {status}");
        let told = erp_delivery(store, name);
        assert!(!GONE.contains(&&*told), "{name} has not left and the ERP says {told}");
        let accrued = accruals(store);
        assert!(accrued.iter().all(|(of, _)| of != name), "{name} has not left and is accrued");
    }
    for (number, order) in &model.orders {
        let fulfilment = store.field(&format!("ord:{number}"), "fulfilment").unwrap_or_default();
        let gone = |name: &String| left.contains(&**name);
        let some = order.shipments.iter().any(gone);
        assert!(some || !["shipped", "part_shipped", "delivered"].contains(&&*fulfilment));
        let read = store.field(&format!("ord:{number}"), "customer_status").unwrap_or_default();
        assert!(some || !["On its way", "Delivered"].contains(&&*read), "{number}: {read}");
    }
}

/// Shipment and version of all accruals, as often as they were told.
fn accruals(store: &Store) -> Vec<(String, String)> {
    let told = store.told("freight_accrual").into_iter().flat_map(|d| &d.writes);
    let column = |name: &str, key: &[(crossdock_model::canonical::Name, _)]| {
        let found = key.iter().find(|(n, _)| &**n == name);
        found.and_then(|(_, v): &(_, crossdock_model::Value<'static>)| v.to_text()).unwrap()
    };
    let mut all: Vec<_> =
        told.map(|w| (column("shipment_no", &w.key), column("cost_version", &w.key))).collect();
    all.sort();
    all
}

/// What is decided in the end is what the account says.
fn everything_is_as_the_account_says(model: &Model, store: &Store) {
    let time = |at: Option<At>| at.map(|at| at.rfc3339().unwrap());
    for (name, expected) in &model.shipments {
        let field = |field: &str| store.field(&key(expected.site, name), field);
        assert_eq!(field("status").as_deref(), Some(expected.furthest.word()), "{name}");
        assert_eq!(field("departed_at"), time(expected.departed()), "{name}");
        assert_eq!(field("delivered_at"), time(expected.delivered), "{name}");
        assert_eq!(field("packed_at"), time(expected.packed), "{name}");
        assert_eq!(field("incoterm").as_deref(), Some(expected.incoterm), "{name}");
        let told = match expected.furthest.word() {
            "planned" => "open",
            other => other,
        };
        assert_eq!(erp_delivery(store, name), told, "{name}");
    }
    for (number, expected) in &model.orders {
        let field = |field: &str| store.field(&format!("ord:{number}"), field);
        assert_eq!(field("fulfilment").as_deref(), Some(model.fulfilment(expected)), "{number}");
        let status = model.customer_status(expected);
        assert_eq!(field("customer_status").as_deref(), Some(status), "{number}");
        let short = model.short_shipped(number).to_string();
        assert_eq!(field("short_shipped"), Some(short), "{number}");
    }
    for ((order, line_no), expected) in &model.lines {
        let picked = store.field(&format!("oln:{order}:{line_no}"), "qty_picked");
        assert_eq!(picked, Some((expected.picked / 1000).to_string()), "{order} {line_no}");
    }
    let accrues = model.costs.iter().filter(|((of, _), cost)| model.accrues(of, cost));
    let accrues: Vec<_> =
        accrues.map(|((of, version), _)| (of.clone(), version.to_string())).collect();
    assert_eq!(accruals(store), accrues);
    let of = |entity: &str| store.records.keys().filter(|key| &*key.entity == entity).count();
    assert_eq!(of("milestone"), model.milestones.len());
    assert_eq!(of("pick"), model.picks.len());
}

/// S7, S9, S10, I5: in every schedule nothing is early, and in the end everything is right.
#[test]
fn s9_any_schedule_keeps_the_promises_and_ends_as_the_account_says() {
    try_all("s9_any_schedule", 40, |rng| {
        let story = Story::random(rng);
        let model = story.account();
        let mut store = Store::default();
        story.arrive(rng, |batch, left| {
            run(&RULES, &mut store, batch);
            nothing_is_shipped_before_it_has_left(&model, &store, left);
        });
        everything_is_as_the_account_says(&model, &store);
    });
}

/// Of a record that is remembered only what a change has an influence on is computed; with nothing
/// remembered, all of it. Both come to the same, to the last place in a log, and so does what
/// remembers a part.
#[test]
fn following_changes_comes_to_the_same_as_computing_everything() {
    try_all("following_changes", 40, |rng| {
        let story = Story::random(rng);
        let mut batches = Vec::new();
        story.arrive(rng, |batch, _| batches.push(batch.to_vec()));
        let mut anew = Store::default();
        batches.iter().for_each(|batch| run(&RULES, &mut anew, batch));
        let mut followed = Store::default();
        let batches = batches.iter().map(Vec::as_slice);
        let memory = match rng.random_bool(0.5) {
            true => Memory::default(),
            false => Memory::of(rng.random_range(0..40_000)),
        };
        run_remembering(&RULES, &mut followed, memory, batches);
        assert_eq!(followed, anew);
    });
}
