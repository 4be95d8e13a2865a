//! One system with several companies, each of which counts its documents from one: the files of the
//! example in docs/mapping-and-rules.md.

use crossdock_canonical::Rules;
use crossdock_model::{ChangeEvent, Op};

use crate::store::{Look, Store, i, load, put, run, s, table, tx};

/// The block of the page that speaks of several companies.
fn example() -> String {
    let page = include_str!("../../docs/mapping-and-rules.md");
    let section = page.split("### Several companies").nth(1).unwrap();
    section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_string()
}

fn rules() -> Rules {
    let owned = "[entity.sales_order]\nowner = \"erp\"\n[entity.order_line]\nowner = \"erp\"\n";
    load(&[("erp.toml", &example())], owned).unwrap_or_else(|p| panic!("{p:#?}"))
}

fn company(op: Op, id: i64, code: &str) -> ChangeEvent {
    put(op, &table("public.company", &["id*", "code"]), vec![i(id), s(code)])
}

fn order(id: i64, company: i64, number: &str) -> ChangeEvent {
    let t = table("public.sale", &["id*", "company", "number", "currency"]);
    put(Op::Create, &t, vec![i(id), i(company), s(number), s("EUR")])
}

fn line(id: i64, sale: i64, qty: &str) -> ChangeEvent {
    let t = table("public.sale_line", &["id*", "sale", "sequence", "quantity"]);
    put(Op::Create, &t, vec![i(id), i(sale), i(1), s(qty)])
}

#[test]
fn one_number_of_two_companies_is_two_orders() {
    let rules = rules();
    let mut store = Store::default();
    let txs = [
        vec![line(91, 11, "3"), line(92, 12, "4")],
        vec![order(11, 1, "SO-1"), order(12, 2, "SO-1")],
        vec![company(Op::Create, 1, "DE")],
        vec![company(Op::Create, 2, "US")],
    ];
    for (at, events) in (1..).zip(txs) {
        run(&rules, &mut store, &[tx("erp", at * 10, events)]);
    }
    let keys = |store: &Store| {
        let alive = store.records.values().filter(|r| !r.deleted);
        alive.map(|r| r.key.key.to_string()).collect::<Vec<_>>()
    };
    let expected = ["oln:DE-SO-1:1", "oln:US-SO-1:1", "ord:DE-SO-1", "ord:US-SO-1"];
    assert_eq!(keys(&store), expected);
    assert_eq!(store.field("oln:US-SO-1:1", "qty_ordered").as_deref(), Some("4"));
    let link = |key: &str| {
        let line = store.records.values().find(|r| &*r.key.key == key).unwrap();
        line.links.get("sales_order").map(|to| to.key.to_string())
    };
    assert_eq!(link("oln:US-SO-1:1").as_deref(), Some("ord:US-SO-1"));
    assert!(store.exceptions.is_empty());
    // A company gets another code: its documents move, and those of the other stay.
    run(&rules, &mut store, &[tx("erp", 90, vec![company(Op::Update, 2, "CA")])]);
    assert_eq!(keys(&store), ["oln:CA-SO-1:1", "oln:DE-SO-1:1", "ord:CA-SO-1", "ord:DE-SO-1"]);
}
