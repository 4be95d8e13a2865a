//! Comparing two sets of rules over a piece of a log, with what was before from a store.

use std::convert::Infallible;

use crossdock_canonical::{Comparison, ReplayTx, Rules};
use crossdock_model::Op;
use crossdock_model::canonical::Needs;

use crate::store::{Store, Tx, i, load, put, run, s, table, tx};

const ERP: &str = r#"
source = "erp"
[[table]]
table = "public.products"
entity = "product"
lookup.group = { table = "public.groups", key = "group_id" }
[table.fields]
sku = "sku"
list_price = "price"
tax_class = "group.tax"
[[table]]
table = "public.groups"
entity = "carrier"
[table.fields]
scac = "id"
name = "tax"
"#;
const WMS: &str = r#"
source = "wms_eu"
[[table]]
table = "wms.goods"
entity = "product"
[table.fields]
sku = "sku"
list_price = "price"
"#;

fn rules(owner: &str) -> Rules {
    let rules = format!(
        "[defaults]\non_violation = \"ignore\"\n[entity.product]\nowner = \"erp\"\n\
         [entity.product.fields]\nlist_price = {{ owner = \"{owner}\" }}\n\
         [entity.carrier]\nowner = \"erp\"\n"
    );
    load(&[("erp.toml", ERP), ("wms.toml", WMS)], &rules).unwrap()
}

fn group(second: u64, tax: &str) -> Tx {
    let t = table("public.groups", &["id*", "tax"]);
    tx("erp", second, vec![put(Op::Create, &t, vec![i(1), s(tax)])])
}

fn product(second: u64, op: Op, id: i64, price: &str) -> Tx {
    let t = table("public.products", &["id*", "sku", "price", "group_id"]);
    tx("erp", second, vec![put(op, &t, vec![i(id), s(&format!("P{id}")), s(price), i(1)])])
}

fn goods(second: u64, op: Op, id: i64, price: &str) -> Tx {
    let t = table("wms.goods", &["id*", "sku", "price"]);
    tx("wms_eu", second, vec![put(op, &t, vec![i(id), s(&format!("P{id}")), s(price)])])
}

fn compare(
    old: &Rules,
    new: &Rules,
    store: &Store,
    log: &[Tx],
) -> Vec<(String, String, Option<String>, Option<String>)> {
    let mut comparison = Comparison::new(old, new, "test", 1_800_000_000_000_000);
    let mut outside = |needs: &Needs| Ok::<_, Infallible>(store.load(needs));
    for tx in log {
        let Tx { source, header, events } = tx.clone();
        comparison.judge(&[ReplayTx { source, header, events }], &mut outside).unwrap();
    }
    let found = comparison.differences().into_iter().flat_map(|d| {
        let key = d.record.key.to_string();
        d.fields.into_iter().map(move |f| (key.clone(), f.field.to_string(), f.old, f.new))
    });
    found.collect()
}

#[test]
fn what_was_before_the_log_comes_from_the_store() {
    let (old, new) = (rules("erp"), rules("wms_eu"));
    let mut store = Store::default();
    let before = [
        group(1, "full"),
        product(2, Op::Create, 1, "10"),
        product(3, Op::Create, 2, "20"),
        goods(4, Op::Create, 1, "11"),
        goods(5, Op::Create, 2, "20"),
    ];
    run(&old, &mut store, &before);
    // Only the ERP's price is in the log; the warehouse's, and the group, are in the store.
    let log = [product(10, Op::Update, 1, "12"), product(11, Op::Update, 2, "20")];
    run(&old, &mut store, &log);
    let known = store.clone();
    let text = |t: &str| Some(t.to_string());
    let expected = vec![("prd:P1".into(), "list_price".into(), text("12"), text("11"))];
    assert_eq!(compare(&old, &new, &store, &log), expected);
    assert_eq!(store, known, "nothing is written");
    assert_eq!(compare(&old, &old, &store, &log), vec![]);
    assert_eq!(compare(&old, &new, &store, &[]), vec![], "nobody has touched a record");
}

#[test]
fn a_mapping_that_reads_another_column_shows() {
    let old = rules("erp");
    let other =
        ERP.replace("list_price = \"price\"", "list_price = { column = \"price\", shift = 1 }");
    let ruled = "[entity.product]\nowner = \"erp\"\n[entity.carrier]\nowner = \"erp\"\n";
    let new = load(&[("erp.toml", &other)], ruled).unwrap();
    let mut store = Store::default();
    let log = [group(1, "full"), product(2, Op::Create, 1, "10")];
    run(&old, &mut store, &log);
    let text = |t: &str| Some(t.to_string());
    let expected = vec![("prd:P1".into(), "list_price".into(), text("10"), text("100"))];
    assert_eq!(compare(&old, &new, &store, &log[1..]), expected);
}

#[test]
fn what_is_found_by_other_columns_comes_from_the_store_too() {
    let found_by = |extra: &str| {
        let erp = format!(
            "source = \"erp\"\n[[table]]\ntable = \"public.products\"\nentity = \"product\"\n\
             lookup.group = {{ table = \"public.groups\", key = \"group_id\", by = \"nr\" }}\n\
             [table.fields]\nsku = \"sku\"\ntax_class = {extra}\n"
        );
        load(&[("erp.toml", &erp)], "[entity.product]\nowner = \"erp\"\n").unwrap()
    };
    let old = found_by("\"group.tax\"");
    let new = found_by("{ expr = 'group.tax + \"!\"' }");
    let groups = table("public.groups", &["id*", "nr", "tax"]);
    let group = put(Op::Create, &groups, vec![i(9), i(1), s("full")]);
    let mut store = Store::default();
    run(&old, &mut store, &[tx("erp", 1, vec![group]), product(2, Op::Create, 1, "10")]);
    let log = [product(10, Op::Update, 1, "12")];
    run(&old, &mut store, &log);
    let text = |t: &str| Some(t.to_string());
    let expected = vec![("prd:P1".into(), "tax_class".into(), text("full"), text("full!"))];
    assert_eq!(compare(&old, &new, &store, &log), expected);
}
