//! Rows that are found by other columns than their primary key.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crossdock_canonical::Rules;
use crossdock_model::{ChangeEvent, Op, RowImage, Value};
use rand::Rng;
use rand::rngs::StdRng;

use crate::pieces::run_any_way;
use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, delete, i, load, put, run, run_gone, s, table, tx};

/// A price is found by company and template of the product, and need not be there; the brand is
/// found by its name, and must be there.
const PRODUCTS: &str = r#"
source = "erp"
[[table]]
table = "public.products"
entity = "product"
lookup.price.table = "public.prices"
lookup.price.key = ["template", "company"]
lookup.price.by = ["template", "company"]
lookup.price.optional = true
[table.fields]
sku = "code"
list_price = "price.amount"
"#;

const BRANDS: &str = r#"
source = "erp"
[[table]]
table = "public.products"
entity = "product"
lookup.brand = { table = "public.brands", key = "brand", by = "name" }
lookup.maker = { table = "public.makers", key = "brand.maker" }
[table.fields]
sku = "code"
category = "brand.category"
country_of_origin = "maker.country"
"#;

const OWNED: &str = "[entity.product]\nowner = \"erp\"\n";

static PRICED: LazyLock<Rules> = LazyLock::new(|| rules(PRODUCTS));

fn rules(mapping: &str) -> Rules {
    load(&[("erp.toml", mapping)], OWNED).unwrap_or_else(|p| panic!("{p:#?}"))
}

fn product(op: Op, id: i64, template: Value<'static>) -> ChangeEvent {
    let t = table("public.products", &["id*", "code", "template", "company"]);
    put(op, &t, vec![i(id), s(&format!("P{id}")), template, i(1)])
}

fn price(op: Op, id: i64, template: Value<'static>, amount: &str) -> ChangeEvent {
    put(op, &prices(), vec![i(id), i(1), template, s(amount)])
}

fn prices() -> std::sync::Arc<crossdock_model::TableSchema> {
    table("public.prices", &["id*", "company", "template", "amount"])
}

/// A store to which one transaction after the other happens.
struct World<'r> {
    rules: &'r Rules,
    store: Store,
    lsn: u64,
}

impl<'r> World<'r> {
    fn of(rules: &'r Rules) -> Self {
        Self { rules, store: Store::default(), lsn: 0 }
    }

    fn happens(&mut self, events: Vec<ChangeEvent>) {
        self.lsn += 10;
        run(self.rules, &mut self.store, &[tx("erp", self.lsn, events)]);
    }

    fn price_of(&self, id: i64) -> Option<String> {
        self.store.field(&format!("prd:P{id}"), "list_price")
    }

    /// The rows that exceptions name which are open.
    fn ambiguous(&self) -> Vec<String> {
        let open = self.store.exceptions.values().filter(|e| e.open);
        open.map(|e| format!("{} {}", e.kind, e.context["rows"])).collect()
    }
}

#[test]
fn a_row_is_found_by_other_columns_and_lets_go_of_what_it_was_found_by() {
    let mut w = World::of(&PRICED);
    w.happens(vec![product(Op::Create, 1, i(7)), product(Op::Create, 2, i(8))]);
    assert_eq!((w.price_of(1), w.price_of(2)), (None, None), "nobody waits for a price");
    assert!(w.store.records.len() == 2);
    w.happens(vec![price(Op::Create, 70, i(7), "10.50")]);
    assert_eq!((w.price_of(1).as_deref(), w.price_of(2)), (Some("10.5"), None));
    w.happens(vec![price(Op::Update, 70, i(7), "11")]);
    assert_eq!(w.price_of(1).as_deref(), Some("11"));
    // The price is one of the other template now.
    w.happens(vec![price(Op::Update, 70, i(8), "11")]);
    assert_eq!((w.price_of(1), w.price_of(2).as_deref()), (None, Some("11")));
    w.happens(vec![product(Op::Update, 1, i(8))]);
    assert_eq!(w.price_of(1).as_deref(), Some("11"));
    // A part of what it is found by is NULL: nobody finds it, and nobody looks for NULL.
    w.happens(vec![price(Op::Update, 70, Value::Null, "11"), product(Op::Update, 2, Value::Null)]);
    assert_eq!((w.price_of(1), w.price_of(2)), (None, None));
    w.happens(vec![price(Op::Update, 70, i(8), "12")]);
    w.happens(vec![delete(&prices(), vec![i(70)])]);
    assert_eq!(w.price_of(1), None, "a price that is deleted is no price");
    assert_eq!(w.ambiguous(), [""; 0]);
}

#[test]
fn of_two_rows_the_smallest_key_wins_whichever_came_first_and_both_are_named() {
    for order in [[9, 10], [10, 9]] {
        let mut w = World::of(&PRICED);
        w.happens(vec![product(Op::Create, 1, i(7))]);
        for id in order {
            w.happens(vec![price(Op::Create, id, i(7), &id.to_string())]);
        }
        // By value, not as texts.
        assert_eq!(w.price_of(1).as_deref(), Some("9"), "{order:?}");
        assert_eq!(w.ambiguous(), [r#"ambiguous_lookup ["9","10"]"#]);
        w.happens(vec![delete(&prices(), vec![i(9)])]);
        assert_eq!(w.price_of(1).as_deref(), Some("10"));
        assert_eq!(w.ambiguous(), [""; 0], "it closes by itself");
        w.happens(vec![price(Op::Create, 9, i(8), "9")]);
        assert_eq!(w.price_of(1).as_deref(), Some("10"));
        w.happens(vec![price(Op::Update, 9, i(7), "9.5")]);
        assert_eq!(w.price_of(1).as_deref(), Some("9.5"));
        assert_eq!(w.ambiguous().len(), 1);
        w.happens(vec![price(Op::Update, 10, i(8), "10")]);
        assert_eq!((w.price_of(1).as_deref(), w.ambiguous().len()), (Some("9.5"), 0));
    }
}

#[test]
fn a_lookup_that_needs_its_row_waits_for_it_and_leads_on_to_others() {
    let rules = rules(BRANDS);
    let mut w = World::of(&rules);
    let products = table("public.products", &["id*", "code", "brand"]);
    let brands = table("public.brands", &["id*", "name", "category", "maker"]);
    let makers = table("public.makers", &["id*", "country"]);
    let brand = |op, id, name: &str, category: &str| {
        put(op, &brands, vec![i(id), s(name), s(category), i(3)])
    };
    w.happens(vec![put(Op::Create, &products, vec![i(1), s("P1"), s("acme")])]);
    assert!(w.store.records.is_empty());
    w.happens(vec![brand(Op::Create, 5, "acme", "tools")]);
    assert!(w.store.records.is_empty(), "its maker is not there");
    w.happens(vec![put(Op::Create, &makers, vec![i(3), s("SE")])]);
    let of = |w: &World<'_>, field| w.store.field("prd:P1", field).unwrap_or_default();
    assert_eq!((of(&w, "category"), of(&w, "country_of_origin")), ("tools".into(), "SE".into()));
    // As for a lookup by its key: what is deleted is still what it was last.
    w.happens(vec![delete(&brands, vec![i(5)])]);
    assert_eq!(of(&w, "category"), "tools");
    w.happens(vec![brand(Op::Create, 6, "acme", "food")]);
    assert_eq!(of(&w, "category"), "food");
    w.happens(vec![put(Op::Update, &makers, vec![i(3), s("NO")])]);
    assert_eq!(of(&w, "country_of_origin"), "NO");
    // And a row that comes back is what it is now.
    w.happens(vec![delete(&makers, vec![i(3)])]);
    assert_eq!(of(&w, "country_of_origin"), "NO");
    w.happens(vec![put(Op::Create, &makers, vec![i(3), s("DK")])]);
    assert_eq!(of(&w, "country_of_origin"), "DK");
}

#[test]
fn rows_that_were_seen_before_are_found_once_they_are_replayed() {
    let without =
        rules(&PRODUCTS.replace("by = [\"template\", \"company\"]", "by = [\"company\", \"id\"]"));
    let mut w = World::of(&without);
    let txs = [vec![price(Op::Create, 70, i(7), "5")], vec![product(Op::Create, 1, i(7))]];
    txs.iter().for_each(|events| w.happens(events.clone()));
    assert_eq!(w.price_of(1), None);
    let mut w = World { rules: &PRICED, lsn: 0, ..w };
    txs.iter().for_each(|events| w.happens(events.clone()));
    assert_eq!(w.price_of(1).as_deref(), Some("5"));
}

#[test]
fn rows_that_a_resync_does_not_find_any_more_are_not_found() {
    let mut w = World::of(&PRICED);
    w.happens(vec![product(Op::Create, 1, i(7)), price(Op::Create, 70, i(7), "5")]);
    w.happens(vec![price(Op::Create, 71, i(7), "6")]);
    let gone = w.store.rows.values().filter(|r| &*r.key.pk == "70").cloned().collect();
    run_gone(&PRICED, &mut w.store, "erp", 100, gone);
    assert_eq!(w.price_of(1).as_deref(), Some("6"));
    assert_eq!(w.ambiguous(), [""; 0]);
}

#[test]
fn what_is_wrong_with_a_lookup_is_said() {
    let lookup = |text: &str| {
        let file = format!(
            "source = \"erp\"\n[[table]]\ntable = \"a.b\"\nentity = \"product\"\n\
             lookup.x = {{ table = \"a.c\", {text} }}\nfields = {{ sku = \"code\" }}\n"
        );
        let problems = load(&[("erp.toml", &file)], OWNED).err().unwrap_or_default();
        problems.into_iter().map(|p| format!("{}: {}; {}", p.line, p.what, p.remedy)).collect()
    };
    let said: Vec<Vec<String>> = [
        "key = \"code\", by = [\"a\", \"b\"]",
        "key = []",
        "key = [\"a\", \"b\"], prefix = \"x,\"",
        "key = \"code\", optional = 1",
        "by = \"a\"",
    ]
    .map(lookup)
    .into();
    let expected = [
        "5: the lookup `x` has not as many columns in `by` as in `key`; name in `by` the column \
         that each part of `key` is compared with",
        "5: the lookup `x` has a key without parts; write key = \"COLUMN\"",
        "5: the lookup `x` has a prefix and a key of several parts; a prefix stands in front of a \
         key of one part",
        "5: `optional` is integer, not true or false; write true or false",
        "5: `key` is missing in [x]; add `key = \"...\"`",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.iter().any(|line| line == expected), "{said:#?}\n{expected}");
    }
}

#[derive(Default)]
struct Model {
    products: BTreeMap<i64, Option<i64>>,
    prices: BTreeMap<i64, (Option<i64>, i64)>,
    lsn: u64,
}

impl Model {
    /// A transaction of some changes of a few rows.
    fn happens(&mut self, rng: &mut StdRng) -> Tx {
        let mut events = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let template = rng.random_bool(0.8).then(|| rng.random_range(1..4));
            let value = template.map_or(Value::Null, i);
            let id = rng.random_range(1..4);
            if rng.random_bool(0.4) {
                let op = self.products.insert(id, template).map_or(Op::Create, |_| Op::Update);
                events.push(product(op, id, value));
                continue;
            }
            // Of two digits, so that keys have another order as texts.
            let id = id + 8;
            if rng.random_bool(0.3) && self.prices.remove(&id).is_some() {
                events.push(delete(&prices(), vec![i(id)]));
                continue;
            }
            let amount = rng.random_range(1..100);
            match self.prices.get_mut(&id) {
                // The log does not carry what was not changed.
                Some((_, known)) if rng.random_bool(0.5) => {
                    *known = amount;
                    let some = vec![Some(i(id)), None, None, Some(s(&amount.to_string()))];
                    let mut event = put(Op::Update, &prices(), Vec::new());
                    event.after = Some(RowImage::Partial(some));
                    events.push(event);
                }
                known => {
                    let op = if known.is_some() { Op::Update } else { Op::Create };
                    self.prices.insert(id, (template, amount));
                    events.push(price(op, id, value, &amount.to_string()));
                }
            }
        }
        self.lsn += 10;
        tx("erp", self.lsn, events)
    }

    fn agrees(&self, store: &Store) {
        for (id, template) in &self.products {
            let of = |price: &&(Option<i64>, i64)| template.is_some() && price.0 == *template;
            let expected = self.prices.values().find(of).map(|price| price.1.to_string());
            assert_eq!(store.field(&format!("prd:P{id}"), "list_price"), expected, "P{id}");
        }
        let mut doubles = 0;
        for template in 1..4 {
            let of = |price: &&(Option<i64>, i64)| price.0 == Some(template);
            doubles += usize::from(self.prices.values().filter(of).count() > 1);
        }
        assert_eq!(store.open("ambiguous_lookup"), doubles);
    }
}

/// Whatever happens to prices and products, in whatever batches, with or without memory, whole or
/// in pieces: each product has the price that a search of the tables would find.
#[test]
fn every_lookup_finds_what_a_search_would_find() {
    try_all("every_lookup_finds_what_a_search_would_find", 150, |rng| {
        let mut model = Model::default();
        let txs: Vec<Tx> = (0..rng.random_range(1..12)).map(|_| model.happens(rng)).collect();
        let mut store = Store::default();
        run_any_way(&PRICED, &mut store, &txs, rng);
        model.agrees(&store);
        // A replay changes nothing.
        txs.chunks(3).for_each(|batch| run(&PRICED, &mut store, batch));
        model.agrees(&store);
    });
}
