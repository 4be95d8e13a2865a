//! Columns that refer to rows of several tables by a text such as `shipment,2`.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_canonical::{Memory, Rules};
use crossdock_model::{ChangeEvent, Op, Value};

use rand::Rng;
use rand::rngs::StdRng;

use crate::schedules::try_all;
use crate::store::{Look, Store, Tx, i, load, put, run, run_remembering, s, table, tx};

const MOVES: &str = r#"
source = "erp"
[[table]]
table = "public.moves"
entity = "shipment_line"
lookup.shipment = { table = "public.shipments", key = "document", prefix = "shipment," }
when = 'present(shipment.no)'
[table.fields]
site = { value = "EU" }
shipment_no = "shipment.no"
line_no = "id"
qty = "qty"
"#;

const RULES: &str = "[entity.shipment_line]\nowner = \"erp\"\n";

fn a_move(id: i64, document: Value<'static>) -> ChangeEvent {
    let t = table("public.moves", &["id*", "document", "qty"]);
    put(Op::Create, &t, vec![i(id), document, s("2.5")])
}

fn shipment(op: Op, no: &str) -> ChangeEvent {
    put(op, &table("public.shipments", &["id*", "no"]), vec![i(2), s(no)])
}

#[test]
fn a_text_refers_to_a_row_of_the_table_whose_name_it_begins_with() {
    let rules = load(&[("erp.toml", MOVES)], RULES).unwrap_or_else(|p| panic!("{p:?}"));
    let mut store = Store::default();
    let others = [s("return,2"), s("shipment"), s(""), Value::Null, i(2)];
    let moves = (10..).zip(others).map(|(id, document)| a_move(id, document));
    let mut events: Vec<ChangeEvent> = moves.collect();
    events.push(a_move(1, s("shipment,2")));
    run(&rules, &mut store, &[tx("erp", 10, events)]);
    let waiting = |store: &Store| store.rows.values().filter(|r| !r.waiting_for.is_empty()).count();
    assert_eq!(waiting(&store), 1, "only the move of a shipment waits for it");
    assert!(store.records.is_empty());

    run(&rules, &mut store, &[tx("erp", 20, vec![shipment(Op::Create, "S2")])]);
    assert_eq!(waiting(&store), 0);
    assert_eq!(store.field("shl:EU:S2:1", "qty").as_deref(), Some("2.5"));
    assert_eq!(store.records.len(), 1);

    // A new number of the shipment is a new key of its line.
    run(&rules, &mut store, &[tx("erp", 30, vec![shipment(Op::Update, "S3")])]);
    assert_eq!(store.field("shl:EU:S3:1", "qty").as_deref(), Some("2.5"));
}

const LINES: &str = r#"
source = "erp"
[[table]]
table = "public.lines"
entity = "order_line"
lookup.order = { table = "public.orders", key = "order_id" }
lookup.product = { table = "public.products", key = "product_id" }
[table.fields]
order_no = "order.no"
line_no = "id"
sku = "product.sku"
"#;

/// Two lines of two orders about one product, and the changes of an order and of the product.
struct Family {
    rules: Rules,
    store: Store,
}

impl Family {
    fn there() -> Self {
        let rules = load(&[("erp.toml", LINES)], "[entity.order_line]\nowner = \"erp\"\n").unwrap();
        let lines = table("public.lines", &["id*", "order_id", "product_id"]);
        let line = |id, order| put(Op::Create, &lines, vec![i(id), i(order), i(5)]);
        let (order, product) = (Self::order, Self::product);
        let orders = [order(Op::Create, 1, "A"), order(Op::Create, 2, "B")];
        let rest = [product(Op::Create, "old"), line(7, 1), line(8, 2)];
        let mut store = Store::default();
        run(&rules, &mut store, &[tx("erp", 10, orders.into_iter().chain(rest).collect())]);
        Self { rules, store }
    }

    fn order(op: Op, id: i64, no: &str) -> ChangeEvent {
        put(op, &table("public.orders", &["id*", "no"]), vec![i(id), s(no)])
    }

    fn product(op: Op, sku: &str) -> ChangeEvent {
        put(op, &table("public.products", &["id*", "sku"]), vec![i(5), s(sku)])
    }

    /// What follows, a batch each, by a process that remembers about so many bytes.
    fn goes_on(&mut self, bytes: usize, changes: Vec<ChangeEvent>) {
        let at = (2..).map(|n| n * 10);
        let txs: Vec<_> = at.zip(changes).map(|(at, change)| tx("erp", at, vec![change])).collect();
        run_remembering(&self.rules, &mut self.store, Memory::of(bytes), txs.chunks(1));
    }

    fn alive(&self) -> Vec<String> {
        let alive = self.store.records.values().filter(|r| !r.deleted);
        alive.map(|r| r.key.key.to_string()).collect()
    }

    fn skus(&self, keys: [&str; 2]) -> [Option<String>; 2] {
        keys.map(|key| self.store.field(key, "sku"))
    }
}

/// Who refers to a row is known once it was asked, and not because one of them was loaded for
/// another reason.
#[test]
fn a_row_that_was_loaded_for_another_is_not_the_only_one_that_refers() {
    let mut family = Family::there();
    let changes = vec![Family::order(Op::Update, 1, "C"), Family::product(Op::Update, "new")];
    family.goes_on(usize::MAX / 2, changes);
    assert_eq!(family.skus(["oln:C:7", "oln:B:8"]), ["new", "new"].map(|s| Some(s.to_string())));
}

/// It may be remembered who refers to a row when these rows themselves are forgotten.
#[test]
fn rows_that_refer_to_a_row_are_mapped_again_although_they_were_forgotten() {
    for bytes in [0, 1_000, 2_000, 4_000] {
        let mut family = Family::there();
        let skus = ["one", "two", "three", "four", "five"];
        family.goes_on(bytes, skus.map(|sku| Family::product(Op::Update, sku)).into());
        let expected = ["five", "five"].map(|s| Some(s.to_string()));
        assert_eq!(family.skus(["oln:A:7", "oln:B:8"]), expected, "{bytes}");
    }
}

/// A line moves to an order that nobody knows yet. Until that comes it says what it said; then it
/// speaks of the other order, and of the first no more.
#[test]
fn a_row_that_waits_leaves_what_it_spoke_of_once_it_speaks_of_another() {
    for bytes in [0, usize::MAX / 2] {
        let mut family = Family::there();
        let lines = table("public.lines", &["id*", "order_id", "product_id"]);
        let moved = put(Op::Update, &lines, vec![i(7), i(3), i(5)]);
        let again = put(Op::Update, &lines, vec![i(7), i(3), i(5)]);
        family.goes_on(bytes, vec![moved, again, Family::order(Op::Create, 3, "C")]);
        assert_eq!(family.alive(), ["oln:B:8", "oln:C:7"], "{bytes}");
    }
}

/// One that is deleted while it waits takes back what it said before.
#[test]
fn a_row_that_is_deleted_while_it_waits_says_nothing_any_more() {
    for bytes in [0, usize::MAX / 2] {
        let mut family = Family::there();
        let lines = table("public.lines", &["id*", "order_id", "product_id"]);
        let moved = put(Op::Update, &lines, vec![i(7), i(3), i(5)]);
        let gone = crate::store::delete(&lines, vec![i(7)]);
        family.goes_on(bytes, vec![moved, gone]);
        assert_eq!(family.alive(), ["oln:B:8"], "{bytes}");
        family.goes_on(bytes, vec![Family::order(Op::Create, 3, "C")]);
        assert_eq!(family.alive(), ["oln:B:8"], "{bytes}");
    }
}

/// Lines that move between orders which may not have come yet, orders that are renamed and deleted:
/// what each line speaks of in the end, by a model that keeps nothing but that.
#[derive(Default)]
struct Model {
    /// Numbers of the orders that were ever seen, as they were last.
    orders: BTreeMap<i64, String>,
    /// The order of each line, and the key that it speaks of.
    lines: BTreeMap<i64, (i64, Option<String>)>,
    there: BTreeSet<i64>,
    lsn: u64,
}

impl Model {
    fn happens(&mut self, rng: &mut StdRng) -> Tx {
        self.lsn += 10;
        let (id, order) = (rng.random_range(7..10), rng.random_range(1..5));
        let lines = table("public.lines", &["id*", "order_id", "product_id"]);
        let orders = table("public.orders", &["id*", "no"]);
        let event = match rng.random_range(0..10) {
            0 | 1 if self.lines.remove(&id).is_some() => crate::store::delete(&lines, vec![i(id)]),
            2 if self.there.remove(&order) => crate::store::delete(&orders, vec![i(order)]),
            0..6 => {
                let op = if self.lines.contains_key(&id) { Op::Update } else { Op::Create };
                let line = self.lines.entry(id).or_default();
                line.0 = order;
                if let Some(no) = self.orders.get(&order) {
                    line.1 = Some(format!("oln:{no}:{id}"));
                }
                put(op, &lines, vec![i(id), i(order), Value::Null])
            }
            _ => {
                let no = format!("{order}{}", ["A", "B"][rng.random_range(0..2)]);
                for (id, line) in self.lines.iter_mut().filter(|(_, line)| line.0 == order) {
                    line.1 = Some(format!("oln:{no}:{id}"));
                }
                let op = if self.there.insert(order) { Op::Create } else { Op::Update };
                self.orders.insert(order, no.clone());
                Family::order(op, order, &no)
            }
        };
        tx("erp", self.lsn, vec![event])
    }
}

#[test]
fn whatever_waits_and_moves_each_line_speaks_of_one_record() {
    let rules = load(&[("erp.toml", LINES)], "[entity.order_line]\nowner = \"erp\"\n").unwrap();
    try_all("whatever_waits_and_moves", 200, |rng| {
        let mut model = Model::default();
        let txs: Vec<Tx> = (0..rng.random_range(1..20)).map(|_| model.happens(rng)).collect();
        let size = rng.random_range(1..4);
        let (mut asking, mut remembering) = (Store::default(), Store::default());
        txs.chunks(size).for_each(|batch| run(&rules, &mut asking, batch));
        let memory = Memory::of(rng.random_range(0..6_000));
        run_remembering(&rules, &mut remembering, memory, txs.chunks(size));
        assert!(remembering == asking, "what is remembered makes a difference");
        let alive = asking.records.values().filter(|r| !r.deleted);
        let alive: BTreeSet<String> = alive.map(|r| r.key.key.to_string()).collect();
        let spoken_of = model.lines.into_values().filter_map(|(_, key)| key);
        assert_eq!(alive, spoken_of.collect::<BTreeSet<String>>());
    });
}
