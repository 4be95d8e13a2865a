//! Two systems whose triggers answer each other: what Crossdock causes again and again ends.

use crossdock_model::canonical::Tally;
use crossdock_model::mark::{Mark, PREFIX};
use crossdock_model::{ChangeEvent, Op};

use crate::judging::{ERP, RULES, TMS, WMS, order};
use crate::store::{Look, Store, event, i, load, put, run, s, snapshot, table, tx};

#[test]
fn what_crossdock_has_caused_too_often_is_not_told_any_more() {
    let mapped = "\n[[table]]\ntable = \"wms.orders2\"\nentity = \"sales_order\"\n[table.fields]\n\
                  order_no = \"order_no\"\nincoterm = \"incoterm\"\n";
    let rule = RULES.replace(
        "[entity.sales_order]\nowner = \"erp\"",
        "[entity.sales_order]\nowner = \"erp\"\n[entity.sales_order.fields]\n\
         incoterm = { owner = \"erp\", on_violation = \"revert\" }",
    );
    let two = WMS.to_string() + mapped;
    let rules =
        load(&[("erp.toml", ERP), ("wms_eu.toml", &two), ("tms.toml", TMS)], &rule).unwrap();
    let t = table("wms.orders2", &["id*", "order_no", "incoterm"]);
    let mut store = Store::default();
    run(&rules, &mut store, &[tx("erp", 10, vec![order(Op::Create, "SO-1", "FCA")])]);
    let first = put(Op::Read, &t, vec![i(9), s("SO-1"), s("FCA")]);
    run(&rules, &mut store, &[snapshot("wms_eu", 5, vec![first])]);
    // A trigger that answers every write of ours with a value of its own.
    let answer = |hops: u8, incoterm: &str| {
        let mark = Mark { by: "test".into(), rows: Vec::new(), hops };
        let message = ChangeEvent {
            table: None,
            message: Some((PREFIX.into(), mark.to_json().into_bytes())),
            ..event(Op::Message, &t, None, None)
        };
        vec![message, put(Op::Update, &t, vec![i(9), s("SO-1"), s(incoterm)])]
    };
    for hops in 0..4_u8 {
        let lsn = 20 + u64::from(hops);
        let theirs = answer(hops, ["EXW", "DAP", "CIF", "DDP"][usize::from(hops)]);
        run(&rules, &mut store, &[tx("wms_eu", lsn, theirs)]);
        let last = store.deliveries.last().unwrap();
        assert_eq!((last.hops, last.reverts.as_deref()), (hops + 1, Some("incoterm")));
    }
    assert_eq!((store.deliveries.len(), store.open("loop_detected")), (4, 0));
    run(&rules, &mut store, &[tx("wms_eu", 30, answer(4, "FAS"))]);
    assert_eq!((store.deliveries.len(), store.open("loop_detected")), (4, 1));
    assert_eq!(store.tallies.get(&Tally::Loop { source: "wms_eu".into() }), Some(&1));
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("FCA"));
    // What somebody changes later begins anew.
    let theirs = put(Op::Update, &t, vec![i(9), s("SO-1"), s("CPT")]);
    run(&rules, &mut store, &[tx("wms_eu", 40, vec![theirs])]);
    assert_eq!(store.deliveries.last().unwrap().hops, 0);
    assert_eq!(store.deliveries.len(), 5);
}
