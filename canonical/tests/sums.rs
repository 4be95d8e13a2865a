//! Fields that are the sum of what many rows say: stock as the sum of all moves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crossdock_canonical::Rules;
use crossdock_model::{ChangeEvent, Op, Value};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::pieces::run_any_way;
use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, delete, i, load, put, run, s, table, tx};

/// What is moved leaves one place and reaches another.
fn moves(source: &str) -> String {
    let block = |site: &str, sign: &str| {
        format!(
            "[[table]]\ntable = \"a.moves\"\nentity = \"inventory_position\"\n\
             when = 'present(row.{site}) && row.state == \"done\"'\n[table.fields]\n\
             site = \"{site}\"\nsku = \"sku\"\n\
             on_hand = {{ expr = 'present(row.qty) ? {sign} : null' }}\n"
        )
    };
    let (from, to) = (block("origin", "dec(\"0\") - dec(row.qty)"), block("goal", "dec(row.qty)"));
    format!("source = \"{source}\"\n{from}{to}")
}

const OWNED: &str = "[group]\nwms = [\"wms_eu\", \"wms_us\"]\n\
    [entity.inventory_position]\nowner = \"wms\"\n\
    [entity.inventory_position.fields]\non_hand = { owner = \"wms\", merge = \"sum\" }\n";

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let (eu, us) = (moves("wms_eu"), moves("wms_us"));
    load(&[("eu.toml", &eu), ("us.toml", &us)], OWNED).unwrap_or_else(|p| panic!("{p:#?}"))
});

fn a_move(op: Op, id: i64, (from, to): (&str, &str), qty: Value<'static>) -> ChangeEvent {
    stated(op, id, (from, to), qty, "done")
}

fn stated(
    op: Op,
    id: i64,
    (from, to): (&str, &str),
    qty: Value<'static>,
    state: &str,
) -> ChangeEvent {
    let place = |site: &str| if site.is_empty() { Value::Null } else { s(site) };
    put(op, &table_of_moves(), vec![i(id), s("A"), place(from), place(to), qty, s(state)])
}

fn table_of_moves() -> std::sync::Arc<crossdock_model::TableSchema> {
    table("a.moves", &["id*", "sku", "origin", "goal", "qty", "state"])
}

fn stock(store: &Store, site: &str) -> Option<String> {
    let key = format!("inv:{site}:A");
    let there = store.records.values().any(|r| *r.key.key == *key && !r.deleted);
    store.field(&key, "on_hand").filter(|_| there)
}

#[test]
fn stock_is_the_sum_of_all_moves() {
    let mut store = Store::default();
    let mut lsn = 0;
    let mut happens = |store: &mut Store, events: Vec<ChangeEvent>| {
        lsn += 10;
        run(&RULES, store, &[tx("wms_eu", lsn, events)]);
    };
    happens(&mut store, vec![a_move(Op::Create, 1, ("", "HH"), s("10.1"))]);
    happens(&mut store, vec![a_move(Op::Create, 2, ("HH", "B"), s("3.2"))]);
    assert_eq!(stock(&store, "HH").as_deref(), Some("6.9"), "exactly");
    assert_eq!(stock(&store, "B").as_deref(), Some("3.2"));
    // Not yet done; then done; then more than was said first; then within one place.
    happens(&mut store, vec![stated(Op::Create, 3, ("HH", "B"), s("1"), "draft")]);
    assert_eq!(stock(&store, "HH").as_deref(), Some("6.9"));
    happens(&mut store, vec![a_move(Op::Update, 3, ("HH", "B"), s("1"))]);
    happens(&mut store, vec![a_move(Op::Update, 3, ("HH", "B"), s("2"))]);
    assert_eq!((stock(&store, "HH"), stock(&store, "B")), (Some("4.9".into()), Some("5.2".into())));
    happens(&mut store, vec![a_move(Op::Create, 4, ("B", "B"), s("5"))]);
    assert_eq!(stock(&store, "B").as_deref(), Some("5.2"), "out of it and into it");
    // What is gone takes its part with it.
    happens(&mut store, vec![delete(&table_of_moves(), vec![i(2)])]);
    assert_eq!((stock(&store, "HH"), stock(&store, "B")), (Some("8.1".into()), Some("2".into())));
    happens(&mut store, vec![stated(Op::Update, 3, ("HH", "B"), s("2"), "cancelled")]);
    assert_eq!((stock(&store, "HH"), stock(&store, "B")), (Some("10.1".into()), Some("0".into())));
    assert!(store.exceptions.is_empty(), "{:?}", store.exceptions);
    assert!(store.tallies.keys().all(|t| !format!("{t:?}").starts_with("Duplicate")));
}

#[test]
fn others_do_not_add_to_it() {
    let other = "source = \"erp\"\n[[table]]\ntable = \"a.stock\"\nentity = \"inventory_position\"\n\
         fields = { site = \"site\", sku = \"sku\", on_hand = \"qty\" }\n";
    let eu = moves("wms_eu");
    let rules = load(&[("eu.toml", &eu), ("erp.toml", other)], OWNED).unwrap();
    let mut store = Store::default();
    let t = table("a.stock", &["id*", "site", "sku", "qty"]);
    let erp = |op, qty| put(op, &t, vec![i(1), s("HH"), s("A"), s(qty)]);
    run(&rules, &mut store, &[tx("erp", 10, vec![erp(Op::Create, "7")])]);
    assert_eq!(stock(&store, "HH"), None);
    let one = a_move(Op::Create, 1, ("", "HH"), s("10"));
    run(&rules, &mut store, &[tx("wms_eu", 10, vec![one])]);
    run(&rules, &mut store, &[tx("erp", 20, vec![erp(Op::Update, "8")])]);
    assert_eq!(stock(&store, "HH").as_deref(), Some("10"));
    assert_eq!(store.open("ownership_violation"), 1);
}

#[test]
fn only_a_decimal_is_a_sum() {
    let rule = "[entity.inventory_position]\nowner = \"erp\"\n\
        [entity.inventory_position.fields]\nuom = { owner = \"erp\", merge = \"sum\" }\n";
    let problems = load(&[], rule).err().unwrap_or_default();
    let said: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.line, p.what)).collect();
    assert_eq!(said, ["4: only a decimal can be a sum"]);
}

/// Random moves of one warehouse system, and what is so in the end: id → from, to, tenths.
fn log(
    rng: &mut StdRng,
    source: &str,
    state: &mut BTreeMap<(String, i64), (usize, usize, Option<i64>)>,
) -> Vec<Tx> {
    let mut txs = Vec::new();
    for n in 1..=rng.random_range(1..8u64) {
        let mut events = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let id = rng.random_range(1..6);
            let key = (source.to_string(), id);
            if rng.random_bool(0.25) && state.remove(&key).is_some() {
                events.push(delete(&table_of_moves(), vec![i(id)]));
                continue;
            }
            let (from, to) = (rng.random_range(0..3), rng.random_range(0..3));
            let tenths = rng.random_bool(0.9).then(|| rng.random_range(-50..200));
            let known = state.insert(key, (from, to, tenths));
            let op = if known.is_some() { Op::Update } else { Op::Create };
            let qty = tenths.map_or(Value::Null, |t| s(&tenth(t)));
            events.push(a_move(op, id, (SITES[from], SITES[to]), qty));
        }
        txs.push(tx(source, n * 10, events));
    }
    txs
}

const SITES: [&str; 3] = ["", "HH", "B"];

/// Tenths as text, without zeros that mean nothing.
fn tenth(tenths: i64) -> String {
    let sign = if tenths < 0 { "-" } else { "" };
    match (tenths.abs() / 10, tenths.abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, part) => format!("{sign}{whole}.{part}"),
    }
}

/// I5 for sums: two warehouses whose logs come in any order with each other, in batches or pieces,
/// and are read again from anywhere, give the sums of the rows that are there in the end.
#[test]
fn every_order_of_arrival_gives_the_same_sums() {
    try_all("every_order_of_arrival_gives_the_same_sums", 150, |rng| {
        let mut state = BTreeMap::new();
        let logs = ["wms_eu", "wms_us"].map(|source| log(rng, source, &mut state));
        let mut turns: Vec<usize> =
            logs.iter().enumerate().flat_map(|(at, log)| vec![at; log.len()]).collect();
        turns.shuffle(rng);
        let mut next = [0, 0];
        let mut arrivals: Vec<Tx> = Vec::new();
        for at in turns {
            arrivals.push(logs[at][next[at]].clone());
            next[at] += 1;
            // Some of it is read again, as after a restart.
            if rng.random_bool(0.2) {
                let from = rng.random_range(0..next[at]);
                arrivals.extend_from_slice(&logs[at][from..next[at]]);
            }
        }
        let mut store = Store::default();
        run_any_way(&RULES, &mut store, &arrivals, rng);
        for (at, site) in SITES.iter().enumerate().skip(1) {
            let parts = state.values().flat_map(|(from, to, tenths)| {
                let sign = |of: usize, sign: i64| (of == at).then(|| tenths.map(|t| t * sign));
                [sign(*from, -1), sign(*to, 1)].into_iter().flatten()
            });
            let parts: Vec<Option<i64>> = parts.collect();
            let some = parts.iter().any(Option::is_some);
            let expected = some.then(|| tenth(parts.iter().flatten().sum()));
            assert_eq!(stock(&store, site), expected, "{site}");
        }
    });
}
