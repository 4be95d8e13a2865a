//! The manufacturer's scenario under the worked rule files: whatever comes first, goods are not
//! "shipped" before they have left, and finance accrues nothing before that either.

use std::sync::LazyLock;

use crossdock_canonical::Rules;
use crossdock_model::{ChangeEvent, Op};
use proptest::prelude::*;

use crate::language::{good, milestone, one, order, shipment};
use crate::store::{Look, Store, Tx, i, put, run, s, table};

const DEPARTURE: &str = "24";

/// Read once: reading them takes a hundred times as long as judging a schedule.
static GOOD: LazyLock<Rules> = LazyLock::new(good);

fn cost() -> ChangeEvent {
    let columns =
        ["id*", "shipment_no", "charge", "version", "amount", "currency", "period", "load_no"];
    let t = table("tms.costs", &columns);
    put(
        Op::Create,
        &t,
        vec![i(1), s("1"), s("FRT"), i(1), s("100"), s("EUR"), s("2023-11"), s("L1")],
    )
}

fn load_accepted() -> ChangeEvent {
    let t = table("tms.loads", &["id*", "load_no", "tender_state"]);
    put(Op::Create, &t, vec![i(1), s("L1"), s("accepted")])
}

fn period() -> ChangeEvent {
    let t = table("public.periods", &["id*", "period", "state"]);
    put(Op::Create, &t, vec![i(1), s("2023-11"), s("open")])
}

/// What each system does, in its own order.
fn systems() -> [(&'static str, Vec<ChangeEvent>); 3] {
    [
        ("erp", vec![order("open"), period(), order("paid")]),
        (
            "wms_eu",
            vec![
                shipment(Op::Create, "OPEN", ""),
                shipment(Op::Update, "CONFIRMED", ""),
                shipment(Op::Update, "LOADED", ""),
            ],
        ),
        (
            "tms_eu",
            vec![
                cost(),
                load_accepted(),
                milestone(1, "99", "2023-11-10T11:00:00Z"),
                milestone(2, DEPARTURE, "2023-11-10T12:00:00Z"),
                milestone(3, "31", "2023-11-10T13:00:00Z"),
            ],
        ),
    ]
}

/// All transactions in an order in which each system keeps its own.
fn interleaved(picks: &[usize]) -> Vec<Tx> {
    let mut systems = systems().map(|(name, events)| (name, events.into_iter(), 0));
    let mut all = Vec::new();
    let left = (0..systems.len()).cycle().take(64);
    for at in picks.iter().copied().chain(left) {
        let (name, events, lsn) = &mut systems[at];
        if let Some(event) = events.next() {
            *lsn += 10;
            all.push(one(name, *lsn, event));
        }
    }
    all
}

proptest! {
    #![proptest_config(crate::schedules::cases(256))]

    /// S7, S9: before evidence of departure the order is never "on its way", for anybody.
    /// S10: an accrual implies departure.
    #[test]
    fn s7_s9_s10_nothing_is_shipped_or_accrued_before_it_has_left(
        picks in proptest::collection::vec(0..3usize, 0..16),
        batch in 1..4usize,
    ) {
        let rules = &*GOOD;
        let mut store = Store::default();
        let mut departed = false;
        let all = interleaved(&picks);
        prop_assert_eq!(all.len(), 11);
        for chunk in all.chunks(batch) {
            run(rules, &mut store, chunk);
            departed |= chunk.iter().any(|tx| *tx.source == *"tms_eu" && tx.header.id == "tx40");
            let status = store.field("ord:1", "customer_status");
            let on_its_way = matches!(status.as_deref(), Some("On its way" | "Delivered"));
            prop_assert!(departed || !on_its_way, "{:?}", status);
            prop_assert!(departed || store.told("freight_accrual").is_empty());
        }
        let status = store.field("ord:1", "customer_status");
        prop_assert_eq!(status.as_deref(), Some("On its way"));
        prop_assert_eq!(store.told("freight_accrual").len(), 1);
        // An unknown code was told of, and moved nothing (S8).
        prop_assert!(store.open("unmapped_code") >= 1);
    }
}

/// S8: codes of two regions come to one milestone.
#[test]
fn s8_codes_of_all_regions_mean_the_same() {
    let rules = good();
    for (source, code) in [("tms_eu", "24"), ("tms_eu", "13"), ("tms_us", "AF")] {
        let mut store = Store::default();
        run(&rules, &mut store, &[one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", ""))]);
        run(&rules, &mut store, &[one(source, 10, milestone(1, code, "2023-11-10T12:00:00Z"))]);
        let status = store.field("shp:1", "status");
        assert_eq!(status.as_deref(), Some("departed"), "{source} {code}");
    }
}
