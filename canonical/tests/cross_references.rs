//! Rows name each other by surrogate keys of their own system; records by what the business calls
//! them. What becomes of records when a key is renamed, when two become one, and when children
//! come before their parents.

use proptest::prelude::*;

use crate::demo::{Business, Logs, RULES};
use crate::store::{Look, Store, Tx, run};

fn link(b: &Business, key: &str, name: &str) -> String {
    let record = b.store.records.values().find(|r| &*r.key.key == key).unwrap();
    record.links.get(name).map(|to| to.key.to_string()).unwrap_or_default()
}

fn is_deleted(b: &Business, key: &str) -> bool {
    b.store.records.values().find(|r| &*r.key.key == key).unwrap().deleted
}

/// The ERP gives a customer another code. The record moves to the new key with all its values, and
/// the orders that named the customer by its row name the new record.
#[test]
fn a_renamed_key_moves_the_record_and_who_links_to_it() {
    let mut b = Business::begin();
    b.ordered(1, &["EU"]);
    assert_eq!(link(&b, "ord:SO-1", "customer"), "cus:C-1");
    b.happens(|l| l.tx("erp", &[("public.customers", "id=1, party_code=C-9")]));
    assert!(is_deleted(&b, "cus:C-1"));
    assert_eq!(b.field("cus:C-9", "name"), "Nord AG");
    assert_eq!(b.field("cus:C-9", "credit_limit"), "5000");
    assert_eq!(link(&b, "ord:SO-1", "customer"), "cus:C-9");
    assert_eq!(b.field("ord:SO-1", "party_code"), "C-9");
    // And back: it is the record that it was, not another one.
    b.happens(|l| l.tx("erp", &[("public.customers", "id=1, party_code=C-1")]));
    assert!(is_deleted(&b, "cus:C-9") && !is_deleted(&b, "cus:C-1"));
    assert_eq!(link(&b, "ord:SO-1", "customer"), "cus:C-1");
}

/// A system that still uses the old code keeps the old record alive: nobody guesses that both are
/// the same party. Once it uses the new code, too, there is one record again.
#[test]
fn systems_that_rename_one_after_the_other_come_together_again() {
    let mut b = Business::begin();
    let label = "party_code=C-1, name=Nord AG, credit_limit=5000.00";
    b.happens(|l| l.tx("wms_eu", &[("wms.customers", label)]));
    b.happens(|l| l.tx("erp", &[("public.customers", "id=1, party_code=C-9")]));
    assert!(!is_deleted(&b, "cus:C-1"));
    assert_eq!(b.field("cus:C-1", "name"), "", "its owner says nothing of it any more");
    let renamed = "party_code=C-9, name=Nord AG, credit_limit=5000.00";
    let rows = [("wms.customers", "-party_code=C-1"), ("wms.customers", renamed)];
    b.happens(|l| l.tx("wms_eu", &rows));
    assert!(is_deleted(&b, "cus:C-1"));
    let of = |key: &str| b.store.contributions.keys().filter(|(r, _)| &*r.key == key).count();
    assert_eq!((of("cus:C-1"), of("cus:C-9")), (0, 2));
    assert_eq!(b.open(), [""; 0]);
}

/// The ERP finds that two parties are one: it points the orders of the one to the other and
/// deletes it.
#[test]
fn two_parties_that_are_one_end_as_one_record_with_all_orders() {
    let mut b = Business::begin();
    b.happens(|l| l.tx("erp", &[("public.customers", "id=2, party_code=C-2, name=Nord")]));
    b.ordered(1, &["EU"]);
    let other = "id=2, order_no=SO-2, customer_id=2, state=confirmed";
    b.happens(|l| l.tx("erp", &[("public.sales_orders", other)]));
    assert_eq!(link(&b, "ord:SO-2", "customer"), "cus:C-2");
    let merge = [("public.sales_orders", "id=2, customer_id=1"), ("public.customers", "-id=2")];
    b.happens(|l| l.tx("erp", &merge));
    assert!(is_deleted(&b, "cus:C-2"));
    for order in ["ord:SO-1", "ord:SO-2"] {
        assert_eq!(link(&b, order, "customer"), "cus:C-1");
        assert_eq!(b.field(order, "party_code"), "C-1");
    }
}

/// A pick of the US warehouse and everything that it refers to, each row in a transaction of its
/// own.
fn family() -> Vec<Tx> {
    let mut logs = Logs::default();
    [
        ("wms.item_master", "item_id=1, item_nbr=SKU-1"),
        ("wms.outbound_order", "outbound_id=9, customer_order=SO-1"),
        ("wms.outbound_order_line", "line_id=91, outbound_id=9, line_nbr=2, item_id=1"),
        ("wms.shipment_header", "shipment_id=92, shipment_nbr=OB-1, outbound_id=9, ship_status=10"),
        (
            "wms.pick_confirm",
            "confirm_id=1, task_nbr=T-1, line_id=91, shipment_id=92, qty_confirmed=4.000, \
             confirm_ts=2026-05-01 07:00:00+00",
        ),
    ]
    .map(|row| logs.tx("wms_us", &[row]))
    .into()
}

proptest! {
    #![proptest_config(crate::schedules::cases(120))]

    /// Whichever row of a family comes first: what lacks a parent is parked and says nothing, and
    /// with the last one all of them are there.
    #[test]
    fn children_wait_for_their_parents_in_any_order(
        order in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
        batch in 1..3usize,
    ) {
        let family = family();
        let mut store = Store::default();
        let mut come = Vec::new();
        for part in order.chunks(batch) {
            let txs: Vec<Tx> = part.iter().map(|n| family[*n].clone()).collect();
            run(&RULES, &mut store, &txs);
            come.extend(part);
            let there = store.field("pck:US:T-1", "qty").is_some();
            prop_assert_eq!(there, come.len() == family.len(), "{:?}", come);
            let status = store.field("shp:US:OB-1", "status");
            prop_assert_eq!(status.is_some(), come.contains(&1) && come.contains(&3), "{:?}", come);
        }
        prop_assert!(store.rows.values().all(|row| row.waiting_for.is_empty()));
        let pick = |field| store.field("pck:US:T-1", field).unwrap();
        prop_assert_eq!([pick("order_no"), pick("line_no"), pick("sku"), pick("qty")],
                        ["SO-1", "2", "SKU-1", "4"].map(str::to_owned));
        let status = store.field("shp:US:OB-1", "status");
        prop_assert_eq!(status.as_deref(), Some("picking"));
    }
}
