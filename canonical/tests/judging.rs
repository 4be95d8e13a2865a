//! Worked examples, with results by hand.

use crossdock_canonical::Rules;
use crossdock_model::canonical::{Tally, WriteKind};
use crossdock_model::mark::{Mark, PREFIX, RowDigest, digest};
use crossdock_model::{ChangeEvent, Op, Value};

use crate::store::{
    Look, Store, Tx, delete, event, i, load, put, run, run_gone, s, snapshot, table, tx,
};

pub const ERP: &str = r#"
source = "erp"
[[table]]
table = "public.orders"
entity = "sales_order"
[table.fields]
order_no = "order_no"
incoterm = "incoterm"
total_amount = { column = "cents", shift = -2 }
"#;

pub const WMS: &str = r#"
source = "wms_eu"
timezone = "Europe/Berlin"
[[table]]
table = "wms.shipments"
entity = "shipment"
lookup.order = { table = "wms.orders", key = "order_id" }
deleted_when = 'row.gone == 1'
[table.fields]
site = { value = "EU" }
shipment_no = "no"
weight = "weight"
incoterm = "incoterm"
[table.links]
sales_order = { order_no = "order.order_no" }
"#;

pub const TMS: &str = r#"
source = "tms"
[[table]]
table = "tms.outbox"
entity = "milestone"
[table.fields]
milestone_id = "id"
code = "code"
[table.links]
shipment = { site = "site", shipment_no = "shipment_no" }
[[table]]
table = "tms.costs"
entity = "freight_cost"
[table.fields]
shipment_no = "shipment_no"
charge_code = "charge"
cost_version = "version"
amount = "amount"
currency = "currency"
[table.links]
shipment = { site = "site", shipment_no = "shipment_no" }
"#;

pub const RULES: &str = r#"
[group]
wms = ["wms_eu", "wms_us"]
[defaults]
on_violation = "quarantine"
[entity.sales_order]
owner = "erp"
[entity.shipment]
owner = "wms"
[entity.milestone]
owner = "tms"
[entity.freight_cost]
owner = "tms"

[[normalise]]
source = "wms_eu"
table = "wms.shipments"
when = 'row.status == "CONFIRMED" && before.status != "CONFIRMED"'
emit = "shipment.packed"
event_time = "confirmed_at"
authority = 50
[[normalise]]
source = "wms_eu"
table = "wms.shipments"
when = 'row.status == "CANCELLED"'
emit = "shipment.cancelled"
[[normalise]]
source = "tms"
table = "tms.outbox"
codes = { table = "milestone", key = ["code"] }
emit = "milestone.*"
about = "shipment"
event_time = "event_time"

[codes.milestone]
AF = "departed_origin"
D1 = "delivered"

[lifecycle.shipment]
field = "status"
order = ["planned", "packed", "departed", "delivered"]
side = ["cancelled"]
initial = "planned"
[[lifecycle.shipment.transition]]
to = "packed"
on = ["shipment.packed"]
[[lifecycle.shipment.transition]]
to = "departed"
on = ["milestone.departed_origin"]
by = ["tms"]
guard = 'ev.event_time != ""'
sets = { departed_at = "event_time" }
[[lifecycle.shipment.transition]]
to = "delivered"
on = ["milestone.delivered"]
[[lifecycle.shipment.transition]]
to = "cancelled"
on = ["shipment.cancelled"]
from = ["planned", "packed"]
otherwise = "exception:cancel_after_load"

[[project]]
entity = "sales_order"
field = "customer_status"
value = 'rec.shipments.exists(s, present(s.departed_at)) ? "On its way" : "Preparing"'

[[subscribe]]
name = "shipment_status"
target = "erp"
entity = "shipment"
fields = ["status", "departed_at"]
when = 'rec.status != "planned"'
table = "public.crossdock_inbox"
write = "insert"
key = { event_id = 'event_id' }
columns = { payload = '{"status": rec.status, "order_no": sales_order.order_no}' }

[[release]]
name = "freight_accrual"
target = "erp"
from = "freight_cost"
dedupe = ["shipment_no", "charge_code", "cost_version"]
when = [
  { name = "departed", expr = 'present(shipment.departed_at)' },
  { name = "cost_known", expr = 'present(rec.amount) && dec(rec.amount) > dec("0")' },
]
table = "public.freight_accruals"
write = "insert"
key = { shipment_no = 'rec.shipment_no' }
columns = { amount = 'rec.amount' }
owner_team = "finance"
"#;

const SHIPMENT: [&str; 8] =
    ["id*", "no", "order_id", "status", "confirmed_at", "weight", "incoterm", "gone"];

pub fn rules() -> Rules {
    load(&[("erp.toml", ERP), ("wms_eu.toml", WMS), ("tms.toml", TMS)], RULES).unwrap_or_else(|p| {
        panic!("{}", p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

pub fn order(op: Op, no: &str, incoterm: &str) -> ChangeEvent {
    let t = table("public.orders", &["id*", "order_no", "incoterm", "cents"]);
    put(op, &t, vec![i(1), s(no), s(incoterm), i(1250)])
}

pub fn wms_order() -> ChangeEvent {
    let t = table("wms.orders", &["id*", "order_no"]);
    put(Op::Create, &t, vec![i(7), s("SO-1")])
}

pub fn shipment(op: Op, status: &str, weight: &str) -> ChangeEvent {
    let t = table("wms.shipments", &SHIPMENT);
    let confirmed = if status == "OPEN" { Value::Null } else { s("2023-11-10 10:00:00") };
    let row = vec![i(812), s("S1"), i(7), s(status), confirmed, s(weight), Value::Null, i(0)];
    put(op, &t, row)
}

pub fn milestone(id: i64, code: &str, time: &str) -> ChangeEvent {
    let t = table("tms.outbox", &["id*", "code", "site", "shipment_no", "event_time"]);
    put(Op::Create, &t, vec![i(id), s(code), s("EU"), s("S1"), s(time)])
}

pub fn cost(op: Op, amount: Value<'static>) -> ChangeEvent {
    let columns = ["id*", "site", "shipment_no", "charge", "version", "amount", "currency"];
    let t = table("tms.costs", &columns);
    put(op, &t, vec![i(5), s("EU"), s("S1"), s("FRT"), i(1), amount, s("EUR")])
}

fn one(source: &str, lsn: u64, event: ChangeEvent) -> Tx {
    tx(source, lsn, vec![event])
}

#[test]
fn pack_time_confirmation_is_not_departure_and_accrual_waits_for_it() {
    let (rules, mut store) = (rules(), Store::default());
    run(&rules, &mut store, &[one("erp", 10, order(Op::Create, "SO-1", "FCA"))]);
    assert_eq!(store.field("ord:SO-1", "customer_status").as_deref(), Some("Preparing"));
    assert_eq!(store.field("ord:SO-1", "total_amount").as_deref(), Some("12.5"));
    // The shipment comes before the order that it refers to: it is parked.
    run(&rules, &mut store, &[one("wms_eu", 10, shipment(Op::Create, "OPEN", "5"))]);
    assert_eq!(store.field("shp:EU:S1", "status"), None);
    assert_eq!(store.rows.values().filter(|r| !r.waiting_for.is_empty()).count(), 1);
    run(&rules, &mut store, &[one("wms_eu", 20, wms_order())]);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("planned"));
    run(&rules, &mut store, &[one("wms_eu", 30, shipment(Op::Update, "CONFIRMED", "5"))]);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("packed"));
    assert_eq!(store.field("ord:SO-1", "customer_status").as_deref(), Some("Preparing"));
    let packed = store.evidence.values().find(|e| &*e.kind == "shipment.packed").unwrap();
    assert_eq!(crossdock_model::time::instant_text(packed.event_micros), "2023-11-10T09:00:00Z");
    run(&rules, &mut store, &[one("tms", 10, cost(Op::Create, s("100.50")))]);
    let release = store.releases.values().next().unwrap();
    assert_eq!(release.unmet.iter().map(|n| &**n).collect::<Vec<_>>(), ["departed"]);
    assert!(store.told("freight_accrual").is_empty());
    run(&rules, &mut store, &[one("tms", 20, milestone(1, "AF", "2023-11-10T17:40:00Z"))]);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("departed"));
    let departed = store.field("shp:EU:S1", "departed_at");
    assert_eq!(departed.as_deref(), Some("2023-11-10T17:40:00Z"));
    assert_eq!(store.field("ord:SO-1", "customer_status").as_deref(), Some("On its way"));
    assert!(store.releases.values().all(|r| r.released && r.unmet.is_empty()));
    let accruals = store.told("freight_accrual");
    assert_eq!(accruals.len(), 1);
    assert_eq!(accruals[0].writes[0].columns[0].1.to_text().as_deref(), Some("100.5"));
    let told = store.told("shipment_status");
    let payload = told[0].writes[0].columns[0].1.to_json();
    assert_eq!(payload, serde_json::json!({"order_no": "SO-1", "status": "packed"}));
    assert_eq!(told.len(), 2);
    assert!(store.exceptions.is_empty(), "{:?}", store.exceptions);
}

#[test]
fn a_change_of_a_looked_up_row_reaches_the_rows_that_refer_to_it() {
    let link = |store: &Store| {
        let (_, record) = store.records.iter().find(|(key, _)| &*key.key == "shp:EU:S1").unwrap();
        (record.version, record.links.get("sales_order").unwrap().key.to_string())
    };
    let renumbered = || {
        let t = table("wms.orders", &["id*", "order_no"]);
        put(Op::Update, &t, vec![i(7), s("SO-2")])
    };
    let (rules, mut store) = (rules(), Store::default());
    run(&rules, &mut store, &[one("wms_eu", 10, wms_order())]);
    run(&rules, &mut store, &[one("wms_eu", 20, shipment(Op::Create, "OPEN", "5"))]);
    let (version, order) = link(&store);
    assert_eq!(order, "ord:SO-1");
    run(&rules, &mut store, &[one("wms_eu", 30, renumbered())]);
    assert_eq!(link(&store), (version + 1, "ord:SO-2".to_string()));
    // Said again, nothing changes.
    run(&rules, &mut store, &[one("wms_eu", 40, renumbered())]);
    assert_eq!(link(&store), (version + 1, "ord:SO-2".to_string()));
    // All in one batch it comes out the same.
    let mut batch = Store::default();
    let all = [
        one("wms_eu", 10, wms_order()),
        one("wms_eu", 20, shipment(Op::Create, "OPEN", "5")),
        one("wms_eu", 30, renumbered()),
    ];
    run(&rules, &mut batch, &all);
    assert_eq!(link(&batch).1, "ord:SO-2");
}

#[test]
fn unknown_codes_move_nothing_and_late_cancellations_are_illegal() {
    let (rules, mut store) = (rules(), Store::default());
    let all = [
        tx("wms_eu", 10, vec![wms_order(), shipment(Op::Create, "OPEN", "5")]),
        one("tms", 10, milestone(1, "XX", "2023-11-10T17:40:00Z")),
        one("tms", 11, milestone(2, "XX", "2023-11-10T17:41:00Z")),
    ];
    run(&rules, &mut store, &all);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("planned"));
    assert_eq!(store.open("unmapped_code"), 1);
    assert_eq!(store.evidence.values().filter(|e| &*e.kind == "milestone.unmapped").count(), 2);
    run(&rules, &mut store, &[one("tms", 12, milestone(3, "AF", "2023-11-10T17:40:00Z"))]);
    run(&rules, &mut store, &[one("wms_eu", 20, shipment(Op::Update, "CANCELLED", "5"))]);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("departed"));
    assert_eq!(store.open("cancel_after_load"), 1);
}

#[test]
fn others_values_are_withheld_counted_and_reverted() {
    let two = WMS.to_string()
        + r#"
[[table]]
table = "wms.orders2"
entity = "sales_order"
[table.fields]
order_no = "order_no"
incoterm = "incoterm"
total_amount = { column = "cents", shift = -2 }
"#;
    let rule = RULES.replace(
        "[entity.sales_order]\nowner = \"erp\"",
        "[entity.sales_order]\nowner = \"erp\"\n[entity.sales_order.fields]\n\
         incoterm = { owner = \"erp\", on_violation = \"revert\" }",
    );
    let rules =
        load(&[("erp.toml", ERP), ("wms_eu.toml", &two), ("tms.toml", TMS)], &rule).unwrap();
    let t = table("wms.orders2", &["id*", "order_no", "incoterm", "cents"]);
    let theirs =
        |op, incoterm: &str, cents| put(op, &t, vec![i(9), s("SO-1"), s(incoterm), i(cents)]);
    let mut store = Store::default();
    run(&rules, &mut store, &[one("erp", 10, order(Op::Create, "SO-1", "FCA"))]);
    run(&rules, &mut store, &[snapshot("wms_eu", 5, vec![theirs(Op::Read, "DAP", 1)])]);
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("FCA"));
    assert!(store.deliveries.is_empty() && store.exceptions.is_empty());
    run(&rules, &mut store, &[one("wms_eu", 10, theirs(Op::Update, "EXW", 2))]);
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("FCA"));
    assert_eq!(store.open("ownership_violation"), 1);
    let revert = &store.deliveries[0];
    assert_eq!(&*revert.target, "wms_eu");
    let write = &revert.writes[0];
    assert_eq!(write.kind, WriteKind::Update);
    assert_eq!(write.key, [("id".into(), i(9))]);
    assert_eq!(write.columns, [("incoterm".into(), s("FCA"))]);
    // Our write comes back, marked: dropped. A trigger's change of another column is kept.
    let mark = Mark {
        by: "test".into(),
        rows: vec![RowDigest {
            table: "wms.orders2".into(),
            key: vec!["id".into()],
            columns: vec!["id".into(), "incoterm".into()],
            values: digest([&i(9), &s("FCA")]),
        }],
        hops: 0,
    };
    let message = ChangeEvent {
        table: None,
        message: Some((PREFIX.into(), mark.to_json().into_bytes())),
        ..event(Op::Message, &t, None, None)
    };
    let before = store.tallies.clone();
    run(&rules, &mut store, &[tx("wms_eu", 20, vec![message, theirs(Op::Update, "FCA", 3)])]);
    assert_eq!(store.tallies.get(&Tally::Echo { source: "wms_eu".into() }), Some(&1));
    let withheld = |tallies: &std::collections::BTreeMap<Tally, u64>, field: &str| {
        tallies
            .iter()
            .filter(|(t, _)| matches!(t, Tally::Withheld { field: f, .. } if &**f == field))
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    assert_eq!(withheld(&store.tallies, "incoterm"), withheld(&before, "incoterm"));
    assert_eq!(withheld(&store.tallies, "total_amount"), withheld(&before, "total_amount") + 1);
    assert_eq!(store.deliveries.len(), 1);
}

#[test]
fn deletes_soft_deletes_moves_and_duplicates() {
    let (rules, mut store) = (rules(), Store::default());
    let t = table("public.orders", &["id*", "order_no", "incoterm", "cents"]);
    let row = |op, id, no: &str, incoterm: &str| put(op, &t, vec![i(id), s(no), s(incoterm), i(1)]);
    run(&rules, &mut store, &[one("erp", 10, row(Op::Create, 1, "SO-1", "FCA"))]);
    // The same business fact in another row: one record, the first row wins, counted once.
    run(&rules, &mut store, &[one("erp", 20, row(Op::Create, 2, "SO-1", "DAP"))]);
    run(&rules, &mut store, &[one("erp", 21, row(Op::Update, 2, "SO-1", "EXW"))]);
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("FCA"));
    let duplicate = Tally::Duplicate { entity: "sales_order".into(), source: "erp".into() };
    assert_eq!(store.tallies.get(&duplicate), Some(&1));
    run(&rules, &mut store, &[one("erp", 30, delete(&t, vec![i(1)]))]);
    assert_eq!(store.field("ord:SO-1", "incoterm").as_deref(), Some("EXW"));
    // The primary key changes: one row, the same record.
    let key = |id| Some(vec![i(id), s("SO-1"), s("EXW"), i(1)]);
    run(&rules, &mut store, &[one("erp", 40, event(Op::Update, &t, key(2), key(3)))]);
    assert!(store.records.values().all(|r| !r.deleted));
    assert_eq!(store.contributions.len(), 1);
    run(&rules, &mut store, &[one("erp", 50, delete(&t, vec![i(3)]))]);
    assert!(store.records.values().all(|r| r.deleted));
    assert_eq!(store.history.len(), 3, "{:?}", store.history);
    let unsubscribed = Tally::Unsubscribed { entity: "sales_order".into() };
    assert_eq!(store.tallies.get(&unsubscribed), Some(&3), "nobody is told of any version");
}

#[test]
fn rows_that_a_resync_did_not_find_are_deleted() {
    let (rules, mut store) = (rules(), Store::default());
    let t = table("public.orders", &["id*", "order_no", "incoterm", "cents"]);
    let row = |op, id, no: &str| put(op, &t, vec![i(id), s(no), s("FCA"), i(1)]);
    let orders = vec![row(Op::Create, 1, "SO-1"), row(Op::Create, 2, "SO-2")];
    run(&rules, &mut store, &[tx("erp", 10, orders)]);
    // After the gap the second one is read again, the first one is not.
    run(&rules, &mut store, &[snapshot("erp", 50, vec![row(Op::Read, 2, "SO-2")])]);
    let stale: Vec<_> = store.rows.values().filter(|row| row.at.offset < 40).cloned().collect();
    assert_eq!(stale.len(), 1);
    run_gone(&rules, &mut store, "erp", 50, stale.clone());
    let deleted = |store: &Store, key: &str| {
        store.records.values().find(|r| &*r.key.key == key).unwrap().deleted
    };
    assert!(deleted(&store, "ord:SO-1") && !deleted(&store, "ord:SO-2"));
    let last = store.history.last().unwrap();
    assert_eq!((&*last.transaction, &*last.source), ("resync", "erp"));
    // The same is found again by a replay: nothing more happens.
    let before = store.clone();
    run_gone(&rules, &mut store, "erp", 50, before.rows.values().take(1).cloned().collect());
    assert_eq!((store.records.len(), store.history.len()), (2, before.history.len()));
    // Somebody inserts it again.
    run(&rules, &mut store, &[one("erp", 60, row(Op::Create, 1, "SO-1"))]);
    assert!(!deleted(&store, "ord:SO-1"));
}

#[test]
fn rows_that_cannot_be_read_are_exceptions_until_they_are_mended() {
    let (rules, mut store) = (rules(), Store::default());
    let t = table("tms.costs", &["id*", "site", "shipment_no", "charge", "version", "amount"]);
    let row = |op, no: Value<'static>, amount: &str| {
        put(op, &t, vec![i(5), s("EU"), no, s("FRT"), i(1), s(amount)])
    };
    run(&rules, &mut store, &[one("tms", 10, row(Op::Create, s("S1"), "a lot"))]);
    assert_eq!((store.open("mapping_error"), store.records.len()), (1, 0));
    let text = format!("{:?}", store.exceptions);
    assert!(text.contains("tms.costs.amount") && !text.contains("a lot"), "{text}");
    run(&rules, &mut store, &[one("tms", 20, row(Op::Update, s("S1"), "7"))]);
    assert_eq!((store.open("mapping_error"), store.records.len()), (0, 1));
    run(&rules, &mut store, &[one("tms", 30, row(Op::Update, Value::Null, "7"))]);
    assert_eq!(store.open("missing_key"), 1);
    assert!(store.records.values().all(|r| r.deleted));
}

#[test]
fn an_illegal_move_that_came_before_its_record_is_told_with_the_record() {
    // No guard reads the record: what its evidence means does not depend on it.
    let text = RULES
        .replace("guard = 'ev.event_time != \"\"'\n", "")
        .replace("D1 = \"delivered\"", "D1 = \"delivered\"\nCX = \"cancelled\"")
        .replace("[\"shipment.cancelled\"]", "[\"shipment.cancelled\", \"milestone.cancelled\"]");
    let rules = load(&[("erp.toml", ERP), ("wms_eu.toml", WMS), ("tms.toml", TMS)], &text).unwrap();
    let mut store = Store::default();
    run(&rules, &mut store, &[one("tms", 10, milestone(1, "AF", "2023-11-10T17:40:00Z"))]);
    run(&rules, &mut store, &[one("tms", 20, milestone(2, "CX", "2023-11-10T18:00:00Z"))]);
    assert_eq!(store.open("cancel_after_load"), 0, "there is no shipment yet");
    run(&rules, &mut store, &[one("wms_eu", 10, wms_order())]);
    run(&rules, &mut store, &[one("wms_eu", 20, shipment(Op::Create, "OPEN", "5"))]);
    assert_eq!(store.field("shp:EU:S1", "status").as_deref(), Some("departed"));
    assert_eq!(store.open("cancel_after_load"), 1);
}
