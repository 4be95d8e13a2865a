//! Invariants under random input, against an independent model where there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crossdock_canonical::Memory;
use crossdock_canonical::Rules;
use crossdock_model::{ChangeEvent, Op, RowImage};
use proptest::prelude::*;

use crate::judging::{cost, milestone, order, rules, shipment, wms_order};
use crate::store::{Look, Store, Tx, i, load, put, run, run_remembering, s, table, tx};

static RULES: LazyLock<Rules> = LazyLock::new(rules);

/// Transactions that may arrive in any order: each is about rows of its own.
fn facts() -> Vec<Tx> {
    let one = |source, lsn, event: ChangeEvent| tx(source, lsn, vec![event]);
    vec![
        one("erp", 10, order(Op::Create, "SO-1", "FCA")),
        one("wms_eu", 10, wms_order()),
        one("wms_eu", 20, shipment(Op::Create, "CONFIRMED", "5")),
        one("tms", 10, milestone(1, "AF", "2023-11-10T17:40:00Z")),
        one("tms", 20, milestone(2, "D1", "2023-11-11T17:40:00Z")),
        one("tms", 30, milestone(3, "AF", "2023-11-10T16:00:00Z")),
        one("tms", 40, milestone(4, "XX", "2023-11-12T16:00:00Z")),
        one("tms", 50, cost(Op::Create, s("12.30"))),
    ]
}

/// Ids of deliveries that may exist once only, whatever the order.
fn accruals(store: &Store) -> BTreeSet<uuid::Uuid> {
    store.told("freight_accrual").iter().map(|d| d.event_id).collect()
}

/// A log of changes of a few rows by several sources.
fn log() -> impl Strategy<Value = Vec<Tx>> {
    let change = (0..3usize, 0..3i64, 0..5u8, "[A-C]{3}");
    proptest::collection::vec(proptest::collection::vec(change, 1..5), 1..12).prop_map(|txs| {
        let t = table("public.orders", &["id*", "order_no", "incoterm", "cents"]);
        let mut lsn = 0;
        // A database changes and deletes only rows that are there.
        let mut there = BTreeSet::new();
        let mut make = |(_, id, op, term): &(usize, i64, u8, String)| {
            let full = vec![i(*id), s(&format!("SO-{id}")), s(term), i(i64::from(*op))];
            if there.insert(*id) {
                return put(Op::Create, &t, full);
            }
            match op {
                0 => {
                    there.remove(id);
                    crate::store::delete(&t, vec![i(*id)])
                }
                1 => {
                    let partial = vec![Some(i(*id)), None, Some(s(term)), None];
                    let mut event = put(Op::Update, &t, Vec::new());
                    event.after = Some(RowImage::Partial(partial));
                    event
                }
                // The row moves to another key, and its order to another number.
                2 if there.insert(id + 10) => {
                    there.remove(id);
                    let moved = vec![i(id + 10), s(&format!("SO-{}", id + 10)), s(term), i(2)];
                    let mut before = full.clone();
                    before[2] = crossdock_model::Value::Null;
                    crate::store::event(Op::Update, &t, Some(before), Some(moved))
                }
                _ => put(Op::Update, &t, full),
            }
        };
        txs.iter()
            .map(|changes| {
                lsn += 10;
                tx("erp", lsn, changes.iter().map(&mut make).collect())
            })
            .collect()
    })
}

/// I5, exactly: a NULL that comes before the first value leaves the record that it leaves after it.
#[test]
fn a_null_leaves_the_same_record_whenever_it_comes() {
    let mapping = |source: &str| {
        format!(
            "source = \"{source}\"\n[[table]]\ntable = \"a.orders\"\nentity = \"sales_order\"\n\
             fields = {{ order_no = \"no\", incoterm = \"f0\", channel = \"f1\" }}\n"
        )
    };
    let files = ["erp", "tms"].map(|name| (format!("{name}.toml"), mapping(name)));
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (&**a, &**b)).collect();
    let rules = load(
        &files,
        "[entity.sales_order]\nowner = \"erp\"\n\
         [entity.sales_order.fields]\nchannel = { owner = \"tms\" }\n",
    )
    .unwrap();
    let t = table("a.orders", &["id*", "no", "f0", "f1"]);
    let null = crossdock_model::Value::Null;
    let row = |first| put(Op::Create, &t, vec![i(1), s("SO-1"), first, null.clone()]);
    let arrivals = [tx("erp", 10, vec![row(s("FCA"))]), tx("tms", 10, vec![row(null.clone())])];
    let [forwards, backwards] = [[0, 1], [1, 0]].map(|order| {
        let mut store = Store::default();
        order.iter().for_each(|n| run(&rules, &mut store, &arrivals[*n..=*n]));
        store.meaning()
    });
    assert_eq!(forwards, backwards);
}

proptest! {
    #![proptest_config(crate::schedules::cases(48))]

    /// I5: every order of arrival, with repetitions, gives the same record.
    #[test]
    fn arrival_order_does_not_matter(
        order in Just((0..8usize).chain(0..8).collect::<Vec<_>>()).prop_shuffle(),
        batch in 1..5usize,
    ) {
        let (rules, facts) = (&*RULES, facts());
        let mut straight = Store::default();
        run(rules, &mut straight, &facts);
        let mut shuffled = Store::default();
        for chunk in order.chunks(batch) {
            let txs: Vec<Tx> = chunk.iter().map(|n| facts[*n].clone()).collect();
            run(rules, &mut shuffled, &txs);
        }
        prop_assert_eq!(shuffled.meaning(), straight.meaning());
        prop_assert_eq!(&shuffled.evidence, &straight.evidence);
        prop_assert_eq!(accruals(&shuffled), accruals(&straight));
        prop_assert_eq!(accruals(&straight).len(), 1);
        let status = straight.field("shp:EU:S1", "status");
        prop_assert_eq!(status.as_deref(), Some("delivered"));
        let departed = straight.field("shp:EU:S1", "departed_at");
        prop_assert_eq!(departed.as_deref(), Some("2023-11-10T16:00:00Z"));
    }

    /// What is remembered from batch to batch is what the store would have said, whether or not the
    /// last batch has been committed there.
    #[test]
    fn remembering_makes_no_difference(
        order in Just((0..8usize).chain(0..8).collect::<Vec<_>>()).prop_shuffle(),
        log in log(),
        batch in 1..5usize,
        bytes in prop_oneof![Just(0), 0..40_000usize, Just(usize::MAX / 2)],
    ) {
        let (rules, facts) = (&*RULES, facts());
        let facts: Vec<Tx> = order.iter().map(|n| facts[*n].clone()).collect();
        for txs in [facts, [log.clone(), log].concat()] {
            let (mut asking, mut remembering) = (Store::default(), Store::default());
            txs.chunks(batch).for_each(|chunk| run(rules, &mut asking, chunk));
            run_remembering(rules, &mut remembering, Memory::of(bytes), txs.chunks(batch));
            prop_assert_eq!(remembering, asking);
        }
    }

    /// I8: replaying any stretch of the log changes nothing.
    #[test]
    fn replay_changes_nothing(log in log(), from in 0..12usize, batch in 1..5usize) {
        let rules = &*RULES;
        let mut store = Store::default();
        log.chunks(batch).for_each(|chunk| run(rules, &mut store, chunk));
        let before = store.clone();
        for chunk in log[from.min(log.len())..].chunks(2) {
            run(rules, &mut store, chunk);
        }
        store.tallies.clone_from(&before.tallies);
        prop_assert_eq!(store, before);
    }

    /// A folded transaction has the effect of its changes one by one, and batches do not matter.
    #[test]
    fn folding_and_batching_do_not_alter_the_result(log in log(), batch in 1..5usize) {
        let rules = &*RULES;
        let (mut folded, mut single) = (Store::default(), Store::default());
        log.chunks(batch).for_each(|chunk| run(rules, &mut folded, chunk));
        let mut lsn = 0;
        for event in log.iter().flat_map(|t| &t.events) {
            lsn += 1;
            run(rules, &mut single, &[tx("erp", lsn, vec![event.clone()])]);
        }
        let alive = |store: &Store| {
            let all = store.meaning().into_iter();
            all.filter(|(_, (deleted, _))| !deleted).collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(alive(&folded), alive(&single));
    }
}
