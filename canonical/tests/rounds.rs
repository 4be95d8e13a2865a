//! How often a batch asks the store: each time is a round trip, so that it must not grow with the
//! batch or with how things hang together.

use crossdock_model::Op;

use crate::language::{good, milestone, one, order, shipment};
use crate::store::{Store, Tx, run_at};

/// Rows, what they refer to, and those that refer to them; records, those around them, and what
/// those link to.
const ROUNDS_MAX: usize = 6;

fn day(from: u64) -> Vec<Tx> {
    let lsn = |n: u64| from + n;
    vec![
        one("erp", lsn(1), order("open")),
        one("wms_eu", lsn(2), shipment(Op::Create, "OPEN", "")),
        one("wms_eu", lsn(3), shipment(Op::Update, "CONFIRMED", "")),
        one("tms_eu", lsn(4), milestone(1, "24", "2023-11-10T12:00:00Z")),
        one("tms_eu", lsn(5), milestone(2, "31", "2023-11-10T13:00:00Z")),
        one("erp", lsn(6), order("paid")),
    ]
}

#[test]
fn a_batch_foresees_its_needs_in_few_rounds() {
    let rules = good();
    let now = 1_800_000_000_000_000;
    let mut store = Store::default();
    let first = run_at(&rules, &mut store, now, &day(0), &[]);
    assert!((1..=ROUNDS_MAX).contains(&first), "{first} rounds on an empty store");
    let again = run_at(&rules, &mut store, now, &day(100), &[]);
    assert!((1..=ROUNDS_MAX).contains(&again), "{again} rounds on known records");
    // Forty days at once ask no oftener than one.
    let many: Vec<Tx> = (2..42).flat_map(|n| day(n * 100)).collect();
    let whole = run_at(&rules, &mut store, now, &many, &[]);
    assert!(whole <= again, "{whole} rounds for forty days, {again} for one");
}
