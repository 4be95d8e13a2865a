//! Rate guards: a flood of changes waits until somebody has looked.

use crossdock_canonical::Rules;
use crossdock_model::Op;
use proptest::prelude::*;

use crate::store::{Look, Store, Tx, delete, i, load, put, release, run, s, snapshot, table, tx};

const ERP: &str = r#"
source = "erp"
[[table]]
table = "public.products"
entity = "product"
[table.fields]
sku = "sku"
list_price = "price"
description = "name"
"#;

const RULES: &str = r#"
[entity.product]
owner = "erp"
[[quarantine]]
name = "mass_change"
on = "product"
rate = { changes = 3, window = "1m", source = "erp", column = "list_price" }
scope = "stream"
exception = "mass_price_change"
owner_team = "pricing"
"#;

fn rules() -> Rules {
    load(&[("erp.toml", ERP)], RULES).unwrap()
}

/// A change of one product at so many seconds.
fn product(second: u64, op: Op, id: i64, price: &str, name: &str) -> Tx {
    products(second, op, &[(id, price, name)])
}

fn products(second: u64, op: Op, rows: &[(i64, &str, &str)]) -> Tx {
    let t = table("public.products", &["id*", "sku", "price", "name"]);
    let row = |(id, price, name): &(i64, &str, &str)| {
        put(op, &t, vec![i(*id), s(&format!("P{id}")), s(price), s(name)])
    };
    tx("erp", second, rows.iter().map(row).collect())
}

/// Six products at 10 each, as a snapshot has them.
fn stocked(rules: &Rules) -> Store {
    let mut store = Store::default();
    let all: Vec<_> = (1..=6).map(|id| (id, "10", "a")).collect();
    let Tx { events, .. } = products(1, Op::Read, &all);
    run(rules, &mut store, &[snapshot("erp", 1, events)]);
    store
}

fn price(store: &Store, id: i64) -> String {
    store.field(&format!("prd:P{id}"), "list_price").unwrap()
}

#[test]
fn a_transaction_that_is_too_much_waits_whole_until_it_is_released() {
    let rules = rules();
    let mut store = stocked(&rules);
    let flood: Vec<_> = (1..=4).map(|id| (id, "99", "a")).collect();
    run(&rules, &mut store, &[products(100, Op::Update, &flood)]);
    for id in 1..=4 {
        assert_eq!(price(&store, id), "10", "it waits");
    }
    assert_eq!(store.open("mass_price_change"), 1);
    let raised = store.exceptions.values().next().unwrap();
    assert_eq!((&*raised.team, raised.context["changes"].as_u64()), ("pricing", Some(4)));
    assert!(raised.text.contains("list_price of product 4 times within 60 s"), "{}", raised.text);

    // Later changes of prices wait, too, and all that is said by rows that wait already.
    run(&rules, &mut store, &[product(9000, Op::Update, 5, "11", "a")]);
    run(&rules, &mut store, &[product(9001, Op::Update, 1, "99", "b")]);
    assert_eq!(price(&store, 5), "10");
    assert_eq!(store.field("prd:P1", "description").unwrap(), "a");
    // Others do not.
    run(&rules, &mut store, &[product(9002, Op::Update, 6, "10", "c")]);
    assert_eq!(store.field("prd:P6", "description").unwrap(), "c");
    assert_eq!(store.open("mass_price_change"), 1, "one flood is one exception");

    release(&rules, &mut store, "mass_change", 2);
    let prices: Vec<String> = (1..=6).map(|id| price(&store, id)).collect();
    assert_eq!(prices, ["99", "99", "99", "99", "11", "10"]);
    assert_eq!(store.field("prd:P1", "description").unwrap(), "b");
    assert!(store.rows.values().all(|r| r.waiting_for.is_empty() && r.refers_to.is_empty()));
    run(&rules, &mut store, &[product(9100, Op::Update, 1, "12", "b")]);
    assert_eq!(price(&store, 1), "12", "it counts anew");
}

#[test]
fn the_clock_is_that_of_the_sources_commits() {
    let rules = rules();
    let mut store = stocked(&rules);
    // Three in a minute, and three in the next: all in one batch.
    let slow: Vec<Tx> =
        (0..6).map(|n| product(100 + n * 21, Op::Update, 1, &format!("2{n}"), "a")).collect();
    run(&rules, &mut store, &slow);
    assert_eq!((price(&store, 1).as_str(), store.open("mass_price_change")), ("25", 0));
    let fast: Vec<Tx> =
        (0..4).map(|n| product(300 + n, Op::Update, 1, &format!("3{n}"), "a")).collect();
    run(&rules, &mut store, &fast);
    assert_eq!((price(&store, 1).as_str(), store.open("mass_price_change")), ("32", 1));
}

#[test]
fn a_new_product_and_a_read_one_are_no_change_of_a_price() {
    let rules = rules();
    let mut store = stocked(&rules);
    let new: Vec<_> = (10..=19).map(|id| (id, "5", "a")).collect();
    run(&rules, &mut store, &[products(100, Op::Create, &new)]);
    assert_eq!(price(&store, 19), "5");
    let Tx { events, .. } = products(200, Op::Read, &[(10, "6", "a"), (11, "6", "a")]);
    run(&rules, &mut store, &[snapshot("erp", 200, events)]);
    assert_eq!(store.open("mass_price_change"), 0);
}

#[test]
fn without_a_column_every_change_counts_and_deletes_wait() {
    let all = RULES.replace(", column = \"list_price\"", "");
    let rules = load(&[("erp.toml", ERP)], &all).unwrap();
    let mut store = stocked(&rules);
    let t = table("public.products", &["id*", "sku", "price", "name"]);
    let gone: Vec<_> = (1..=5).map(|id| delete(&t, vec![i(id)])).collect();
    run(&rules, &mut store, &[tx("erp", 100, gone)]);
    let deleted = |store: &Store| store.records.values().filter(|r| r.deleted).count();
    assert_eq!((deleted(&store), store.open("mass_price_change")), (0, 1));
    release(&rules, &mut store, "mass_change", 100);
    assert_eq!(deleted(&store), 5);
}

#[test]
fn a_replay_counts_nothing_twice_and_ends_in_the_same_state() {
    let rules = rules();
    let mut store = stocked(&rules);
    let flood: Vec<_> = (1..=4).map(|id| (id, "99", "a")).collect();
    let log = [
        product(90, Op::Update, 6, "7", "a"),
        products(100, Op::Update, &flood),
        product(200, Op::Update, 5, "8", "a"),
    ];
    run(&rules, &mut store, &log);
    let stopped = (store.meaning(), store.guards.clone(), store.rows.clone());
    run(&rules, &mut store, &log);
    assert_eq!((store.meaning(), store.guards.clone(), store.rows.clone()), stopped);
    release(&rules, &mut store, "mass_change", 1);
    let released = (store.meaning(), store.rows.clone());
    run(&rules, &mut store, &log);
    assert_eq!((store.meaning(), store.rows.clone()), released);
    assert!(store.guards["mass_change"].stopped.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However a log is cut into batches, the same changes wait; and once they are released, the
    /// records are as if there had been no guard.
    #[test]
    fn batches_make_no_difference(
        changes in prop::collection::vec((0u64..40, 1i64..5, 1u8..4), 1..25),
        cuts in prop::collection::vec(1usize..6, 25),
    ) {
        let rules = rules();
        let free = load(&[("erp.toml", ERP)], "[entity.product]\nowner = \"erp\"\n").unwrap();
        let mut second = 100;
        let mut log = Vec::new();
        for (wait, id, price) in &changes {
            second += wait + 1;
            log.push(product(second, Op::Update, *id, &price.to_string(), "a"));
        }
        let (mut whole, mut cut, mut unguarded) = (stocked(&rules), stocked(&rules), stocked(&free));
        run(&rules, &mut whole, &log);
        run(&free, &mut unguarded, &log);
        let mut rest = &log[..];
        for at_once in cuts {
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            run(&rules, &mut cut, now);
            rest = later;
        }
        prop_assert_eq!(whole.meaning(), cut.meaning());
        prop_assert_eq!(&whole.guards, &cut.guards);
        prop_assert_eq!(&whole.rows, &cut.rows);
        if whole.guards.contains_key("mass_change") {
            release(&rules, &mut whole, "mass_change", 2);
        }
        prop_assert_eq!(whole.meaning(), unguarded.meaning());
    }
}
