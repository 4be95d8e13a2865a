//! The rule language, whole: the worked rule files load as they are and do what they say.

use std::path::Path;

use crossdock_canonical::{Known, Rules};
use crossdock_model::canonical::{Name, RecordKey};
use crossdock_model::{ChangeEvent, Op, Problem, SourceText, Value};
use crossdock_schema_registry::Entities;

use crate::store::{Look, Store, Tx, i, names, put, run, run_at, s, table, text, tx};

const SOURCES: [&str; 5] = ["erp", "wms_eu", "wms_us", "tms_eu", "tms_us"];
const WORKED: [&str; 3] = ["10-ownership.toml", "20-shipment.toml", "30-finance.toml"];
const HOUR: i64 = 3_600_000_000;

fn file(folder: &str, name: &str) -> SourceText {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder).join(name);
    text(name, &std::fs::read_to_string(path).unwrap())
}

fn worked(more: &[SourceText]) -> Result<Rules, Vec<Problem>> {
    let mut entities = Entities::default();
    assert_eq!(entities.extend(&[file("fitting", "entities.toml")]), []);
    with(entities, more, &["erp", "wms_eu", "wms_us"])
}

fn with(entities: Entities, more: &[SourceText], targets: &[&str]) -> Result<Rules, Vec<Problem>> {
    let mappings = SOURCES.map(|source| file("fitting", &format!("{source}.toml")));
    let mut rules: Vec<SourceText> = WORKED.map(|name| file("rules", name)).into();
    rules.push(file("fitting", "15-installation.toml"));
    rules.sort_by(|a, b| a.file.cmp(&b.file));
    rules.extend_from_slice(more);
    let (sources, targets) = (names(&SOURCES), names(targets));
    Rules::load(entities, &mappings, &rules, &Known { sources: &sources, targets: &targets })
}

pub fn good() -> Rules {
    worked(&[]).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub fn one(source: &str, lsn: u64, event: ChangeEvent) -> Tx {
    tx(source, lsn, vec![event])
}

pub fn order(state: &str) -> ChangeEvent {
    let t = table("public.orders", &["id*", "order_no", "state"]);
    put(Op::Create, &t, vec![i(1), s("1"), s(state)])
}

fn line(table_name: &str, op: Op, qty: &str, ship_from: &str) -> ChangeEvent {
    let columns: &[&str] = match table_name {
        "public.order_lines" => &["id*", "order_no", "line_no", "qty", "ship_from"],
        _ => &["id*", "order_no", "line_no", "qty_ordered", "ship_from"],
    };
    put(op, &table(table_name, columns), vec![i(5), s("1"), i(1), s(qty), s(ship_from)])
}

/// A shipment of the EU warehouse, which has the number of its order.
pub fn shipment(op: Op, status: &str, reason: &str) -> ChangeEvent {
    let columns = ["id*", "status", "confirmed_at", "loaded_at", "void_reason"];
    let at = s("2023-11-10 10:00:00");
    let row = vec![i(1), s(status), at.clone(), at, s(reason)];
    put(op, &table("wms.shipments", &columns), row)
}

pub fn milestone(id: i64, code: &str, time: &str) -> ChangeEvent {
    let t = table("tms.milestones", &["id*", "shipment_no", "code", "stop_role", "event_time"]);
    put(Op::Create, &t, vec![i(id), s("1"), s(code), s("origin"), s(time)])
}

const LINE: &str = "oln:1:1";

#[test]
fn the_worked_rule_files_load_and_pass_their_own_tests() {
    let results = good().run_tests();
    let names: Vec<&str> = results.iter().map(|r| r.name.as_str()).collect();
    let expected =
        ["WMS may not change the credit limit", "EU pack-time confirmation is not shipped"];
    assert_eq!(names, expected);
    for result in results {
        assert_eq!(result.failures, [], "{}", result.name);
    }
}

#[test]
fn what_an_installation_lacks_is_said_by_file_and_line() {
    let entities = || {
        let mut entities = Entities::default();
        let text = file("fitting", "entities.toml").text.replace("list_price", "price");
        assert_eq!(entities.extend(&[self::text("entities.toml", &text)]), []);
        entities
    };
    let problems = lines(&with(entities(), &[], &["wms_eu", "wms_us"]).unwrap_err());
    for expected in [
        "10-ownership.toml:29: product has no field `list_price`",
        "30-finance.toml:8: there is no target `erp` in the configuration",
        "30-finance.toml:48: product has no field `list_price`",
        "30-finance.toml:53: there is no target `erp` in the configuration",
    ] {
        assert!(problems.contains(expected), "{expected}\n{problems}");
    }
}

#[test]
fn a_test_says_what_it_expected_and_what_came() {
    let wrong = r#"
[[test]]
name = "wrong"
events = [ { from = "wms_eu.shipments", after = { id = 1, status = "CONFIRMED" } } ]
expect = { status = "departed", exception = "stuck_packed", released = ["freight_accrual"] }
"#;
    let results = worked(&[text("90-more.toml", wrong)]).unwrap().run_tests();
    let failures: Vec<String> = results[2]
        .failures
        .iter()
        .map(|f| format!("{}: {} / {}", f.what, f.expected, f.got))
        .collect();
    let expected = [
        "exception: stuck_packed / none",
        "released: freight_accrual / none",
        "status: departed / packed",
    ];
    let mut failures = failures;
    failures.sort();
    assert_eq!(failures, expected);
}

#[test]
fn lanes_and_maintenance_windows_are_there_for_those_who_deliver() {
    let rules = good();
    let lanes: Vec<_> = rules.lanes().iter().map(|l| (&*l.name, l.weight, l.slo_micros)).collect();
    let expected = [
        ("critical", 8, Some(2_000_000)),
        ("operational", 4, Some(30_000_000)),
        ("bulk", 1, Some(HOUR)),
    ];
    assert_eq!(lanes, expected);
    assert_eq!(rules.lane_of("freight_accrual").map(|l| &*l.name), Some("operational"));
    assert_eq!(rules.lane_of("carrier_invoice").map(|l| &*l.name), Some("operational"));
    let windows: Vec<_> = rules.maintenance("erp").map(|m| m.window.text()).collect();
    assert_eq!(windows, ["Sun 02:00-04:00 Europe/Berlin"]);
    assert_eq!(rules.maintenance("wms_eu").count(), 0);
    let misspelt = "[[release]]\nname = \"x\"\ntarget = \"erp\"\nlane = \"critcal\"\n\
        from = \"load\"\nwrites = [\"load_no\"]\ndedupe = [\"load_no\"]\nwhen = []\n";
    let problems = lines(&worked(&[text("90-more.toml", misspelt)]).unwrap_err());
    assert_eq!(
        problems,
        "90-more.toml:4: there is no lane `critcal`\n    did you mean `critical`?"
    );
}

#[test]
fn an_owner_holds_until_a_condition_and_then_another_does() {
    let (rules, mut store) = (good(), Store::default());
    let both = |store: &mut Store, lsn, erp: &str, wms: &str| {
        run(&rules, store, &[one("erp", lsn, line("public.order_lines", Op::Update, "7", erp))]);
        run(&rules, store, &[one("wms_eu", lsn, line("wms.order_lines", Op::Update, "7", wms))]);
    };
    // Nothing is known of the order: the condition does not hold.
    both(&mut store, 10, "HAM", "LEJ");
    assert_eq!(store.field(LINE, "ship_from").as_deref(), Some("HAM"));
    run(&rules, &mut store, &[one("erp", 20, order("open"))]);
    assert_eq!(store.field("ord:1", "fulfilment").as_deref(), Some("captured"));
    assert_eq!(store.field(LINE, "ship_from").as_deref(), Some("HAM"));
    // A shipment is packed: from now on the warehouse says from where.
    run(&rules, &mut store, &[one("wms_eu", 30, shipment(Op::Create, "CONFIRMED", ""))]);
    assert_eq!(store.field("ord:1", "fulfilment").as_deref(), Some("packed"));
    assert_eq!(store.field(LINE, "ship_from").as_deref(), Some("LEJ"));
    both(&mut store, 40, "BRE", "DUS");
    assert_eq!(store.field(LINE, "ship_from").as_deref(), Some("DUS"));
}

#[test]
fn a_frozen_field_stays_whoever_writes_it() {
    let (rules, mut store) = (good(), Store::default());
    let erp = |qty: &str| line("public.order_lines", Op::Update, qty, "HAM");
    run(&rules, &mut store, &[one("erp", 10, order("open")), one("erp", 11, erp("7"))]);
    run(&rules, &mut store, &[one("erp", 20, erp("8"))]);
    assert_eq!(store.field(LINE, "qty_ordered").as_deref(), Some("8"));
    run(&rules, &mut store, &[one("wms_eu", 30, shipment(Op::Create, "LOADED", ""))]);
    assert_eq!(store.field("ord:1", "fulfilment").as_deref(), Some("loaded"));
    run(&rules, &mut store, &[one("erp", 40, erp("9"))]);
    assert_eq!(store.field(LINE, "qty_ordered").as_deref(), Some("8"));
    assert_eq!(store.open("ownership_violation"), 1);
    // Said as it was, there is nothing to look at any more.
    run(&rules, &mut store, &[one("erp", 50, erp("8"))]);
    assert_eq!(store.open("ownership_violation"), 0);
}

#[test]
fn moves_that_are_forbidden_and_evidence_without_a_reason() {
    let (rules, mut store) = (good(), Store::default());
    let status = |store: &Store| store.field("shp:1", "status");
    run(&rules, &mut store, &[one("wms_eu", 10, shipment(Op::Create, "LOADED", ""))]);
    assert_eq!(status(&store).as_deref(), Some("loaded"));
    run(&rules, &mut store, &[one("wms_eu", 20, shipment(Op::Update, "CANCELLED", ""))]);
    assert_eq!(status(&store).as_deref(), Some("loaded"));
    assert_eq!(store.open("cancel_after_load"), 1);
    let departed = milestone(1, "24", "2023-11-10T12:00:00Z");
    run(&rules, &mut store, &[one("tms_eu", 10, departed)]);
    assert_eq!(status(&store).as_deref(), Some("departed"));
    let at = store.field("shp:1", "departed_at");
    assert_eq!(at.as_deref(), Some("2023-11-10T12:00:00Z"));
    // Voiding needs a reason.
    run(&rules, &mut store, &[one("wms_eu", 30, shipment(Op::Update, "VOID", ""))]);
    assert_eq!(status(&store).as_deref(), Some("departed"));
    run(&rules, &mut store, &[one("wms_eu", 40, shipment(Op::Update, "VOID", "lost"))]);
    assert_eq!(status(&store).as_deref(), Some("voided"));
    assert_eq!(store.open("rule_error"), 0);
}

#[test]
fn evidence_of_the_future_waits_for_its_time() {
    let (rules, mut store) = (good(), Store::default());
    run(&rules, &mut store, &[one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", ""))]);
    let early = crossdock_model::time::parse_instant("2023-11-10T11:59:59.5Z").unwrap();
    let departed = milestone(1, "24", "2023-11-10T12:00:00Z");
    run_at(&rules, &mut store, early, &[one("tms_eu", 10, departed)], &[]);
    assert_eq!(store.field("shp:1", "status").as_deref(), Some("packed"));
    let next = store.deadlines.values().map(|d| d.due_micros).min().unwrap();
    assert_eq!(next, early + 500_000);
    assert_eq!(store.due(early), []);
    let due = store.due(next);
    run_at(&rules, &mut store, next, &[], &due);
    assert_eq!(store.field("shp:1", "status").as_deref(), Some("departed"));
    assert!(store.due(next).is_empty(), "it is not due again and again");
}

#[test]
fn a_state_that_lasts_too_long_is_an_exception_until_it_ends() {
    let (rules, mut store) = (good(), Store::default());
    // Ten in the morning in Berlin.
    let packed = crossdock_model::time::parse_instant("2023-11-10T09:00:00Z").unwrap();
    run_at(
        &rules,
        &mut store,
        packed,
        &[one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", ""))],
        &[],
    );
    assert_eq!(
        store.deadlines.values().map(|d| d.due_micros).collect::<Vec<_>>(),
        [packed + 8 * HOUR]
    );
    assert!(store.due(packed + 8 * HOUR - 1).is_empty());
    let now = packed + 8 * HOUR;
    let due = store.due(now);
    assert_eq!(due, [RecordKey { entity: "shipment".into(), key: "shp:1".into() }]);
    run_at(&rules, &mut store, now, &[], &due);
    assert_eq!(store.open("stuck_packed"), 1);
    let raised = store.exceptions.values().find(|e| &*e.kind == "stuck_packed").unwrap();
    assert_eq!(
        (&*raised.team, raised.text.as_str()),
        ("warehouse", "shp:1 has been packed for more than 8h.")
    );
    assert!(store.due(i64::MAX).is_empty(), "it is raised once");
    // A replay of the same rows changes nothing.
    let before = store.clone();
    run_at(
        &rules,
        &mut store,
        now,
        &[one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", ""))],
        &[],
    );
    store.tallies.clone_from(&before.tallies);
    assert_eq!(store, before);
    let departed = milestone(1, "24", "2023-11-10T12:00:00Z");
    run_at(&rules, &mut store, now, &[one("tms_eu", 10, departed)], &[]);
    assert_eq!(store.open("stuck_packed"), 0);
    let rules_of =
        |store: &Store| store.deadlines.values().map(|d| d.rule.clone()).collect::<Vec<Name>>();
    assert_eq!(rules_of(&store), [Name::from("no_milestone_since_departure")]);
}

#[test]
fn a_release_that_is_held_too_long_is_an_exception_until_it_is_let_go() {
    let (rules, mut store) = (good(), Store::default());
    let columns =
        ["id*", "shipment_no", "charge", "version", "amount", "currency", "period", "load_no"];
    let cost = put(
        Op::Create,
        &table("tms.costs", &columns),
        vec![i(1), s("1"), s("FRT"), i(1), s("100.00"), s("EUR"), s("2023-11"), s("L1")],
    );
    let begun = 1_700_000_010_000_000;
    run_at(&rules, &mut store, begun, &[one("tms_eu", 10, cost)], &[]);
    let held = store.releases.values().next().unwrap();
    let unmet: Vec<&str> = held.unmet.iter().map(|n| &**n).collect();
    assert_eq!(unmet, ["departed", "tender_ok", "period_open"]);
    let late = begun + 48 * HOUR;
    assert!(store.due(late - 1).is_empty());
    let due = store.due(late);
    run_at(&rules, &mut store, late, &[], &due);
    assert_eq!(store.open("freight_accrual_held"), 1);
    let load = put(
        Op::Create,
        &table("tms.loads", &["id*", "load_no", "tender_state"]),
        vec![i(1), s("L1"), s("accepted")],
    );
    let period = put(
        Op::Create,
        &table("public.periods", &["id*", "period", "state"]),
        vec![i(1), s("2023-11"), s("open")],
    );
    let departed = milestone(1, "24", "2023-11-10T12:00:00Z");
    let all = [
        one("tms_eu", 20, load),
        one("erp", 10, period),
        one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", "")),
        one("tms_eu", 30, departed),
    ];
    run_at(&rules, &mut store, late, &all, &[]);
    assert_eq!(store.open("freight_accrual_held"), 0);
    let told = store.told("freight_accrual");
    let write = &told[0].writes[0];
    assert_eq!((told.len(), write.table.to_string().as_str()), (1, "public.crossdock_inbox"));
    let column =
        |name: &str| write.columns.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.to_json());
    assert_eq!(column("topic"), Some("freight_accrual".into()));
    assert_eq!(column("business_key"), Some("1:FRT:1".into()));
    let payload = column("payload").unwrap();
    assert_eq!(
        (&payload["accrual_amount"], &payload["accrual_currency"]),
        (&"100".into(), &"EUR".into())
    );
}

fn stock(op: Op, on_hand: &str) -> ChangeEvent {
    let columns = ["id*", "site", "sku", "lot", "status", "on_hand"];
    put(op, &table("wms.stock", &columns), vec![i(1), s("EU"), s("A"), s("L"), s("ok"), s(on_hand)])
}

fn value(op: Op, unit_value: &str) -> ChangeEvent {
    let columns = ["id*", "site", "sku", "lot", "status", "unit_value"];
    put(
        op,
        &table("public.stock_values", &columns),
        vec![i(1), s("EU"), s("A"), s("L"), s("ok"), s(unit_value)],
    )
}

#[test]
fn a_row_in_quarantine_changes_nothing_until_it_says_otherwise() {
    let (rules, mut store) = (good(), Store::default());
    let key = "inv:EU:A:L:ok";
    run(&rules, &mut store, &[one("wms_eu", 10, stock(Op::Create, "-1"))]);
    assert_eq!((store.records.len(), store.open("negative_on_hand")), (0, 1));
    run(&rules, &mut store, &[one("wms_eu", 20, stock(Op::Update, "5"))]);
    assert_eq!(
        (store.field(key, "on_hand").as_deref(), store.open("negative_on_hand")),
        (Some("5"), 0)
    );
    run(&rules, &mut store, &[one("wms_eu", 30, stock(Op::Update, "-3"))]);
    run(&rules, &mut store, &[one("erp", 10, value(Op::Create, "2.50"))]);
    assert_eq!(store.field(key, "on_hand").as_deref(), Some("5"));
    assert_eq!(store.field(key, "unit_value").as_deref(), Some("2.5"), "others go on");
    assert_eq!(store.open("negative_on_hand"), 1);
    let raised = store.exceptions.values().find(|e| e.open).unwrap();
    assert!(!raised.text.contains("-3") && !raised.context.to_string().contains("-3"));
    run(&rules, &mut store, &[one("wms_eu", 40, stock(Op::Update, "4"))]);
    assert_eq!(
        (store.field(key, "on_hand").as_deref(), store.open("negative_on_hand")),
        (Some("4"), 0)
    );
}

#[test]
fn a_key_in_quarantine_stands_still_as_a_whole_and_catches_up() {
    let stop = "[[quarantine]]\nname = \"odd\"\non = \"inventory_position\"\nscope = \"key\"\n\
        when = 'present(after.on_hand) && dec(after.on_hand) > 1000'\nexception = \"odd\"\n";
    let rules = worked(&[text("90-more.toml", stop)]).unwrap();
    let (mut store, key) = (Store::default(), "inv:EU:A:L:ok");
    run(&rules, &mut store, &[one("wms_eu", 10, stock(Op::Create, "5"))]);
    run(&rules, &mut store, &[one("wms_eu", 20, stock(Op::Update, "5000"))]);
    run(&rules, &mut store, &[one("erp", 10, value(Op::Create, "2.50"))]);
    assert_eq!(store.field(key, "on_hand").as_deref(), Some("5"));
    assert_eq!(store.field(key, "unit_value"), None);
    assert_eq!(store.open("odd"), 1);
    run(&rules, &mut store, &[one("wms_eu", 30, stock(Op::Update, "6"))]);
    assert_eq!(store.field(key, "on_hand").as_deref(), Some("6"));
    assert_eq!(store.field(key, "unit_value").as_deref(), Some("2.5"), "nothing was lost");
    assert_eq!(store.open("odd"), 0);
}

/// S6: a region changes what the base leaves open, and nothing that the base locks.
#[test]
fn s6_overlays_may_not_change_locked_rules() {
    let overlay = |text: &str| worked(&[self::text("rules/regions/eu/10-eu.toml", text)]);
    for (what, text) in [
        ("customer.credit_limit", "[entity.customer.fields]\ncredit_limit = \"wms_eu\"\n"),
        ("customer.*", "[entity.customer]\nowner = \"wms_eu\"\n"),
        ("product.measured_at", "[entity.product.fields]\nmeasured_at = \"wms_eu\"\n"),
    ] {
        let problems = lines(&overlay(text).unwrap_err());
        let expected =
            format!("{what} is locked by the rule set ownership-base at 10-ownership.toml:");
        assert!(problems.contains(&expected), "{problems}");
        assert!(problems.starts_with("rules/regions/eu/10-eu.toml:"), "{problems}");
    }
    // What no locked file says is open to regions: here the owner of a shipment's field, and codes.
    let good = "[entity.shipment.fields]\npod_hash = \"wms_eu\"\n\
        [codes.milestone]\n\"tms_eu:99:*\" = \"departed_origin\"\n";
    let rules = overlay(good).unwrap_or_else(|p| panic!("{}", lines(&p)));
    let regions: Vec<_> = rules.rulesets().filter_map(|r| r.region.clone()).collect();
    assert_eq!(regions, [Name::from("eu")]);
    let mut store = Store::default();
    run(&rules, &mut store, &[one("wms_eu", 10, shipment(Op::Create, "CONFIRMED", ""))]);
    run(&rules, &mut store, &[one("tms_eu", 10, milestone(1, "99", "2023-11-10T12:00:00Z"))]);
    assert_eq!(store.field("shp:1", "status").as_deref(), Some("departed"));
    // The base's codes are still there.
    run(&rules, &mut store, &[one("tms_eu", 20, milestone(2, "SD", "2023-11-10T12:00:00Z"))]);
    assert_eq!(store.open("unmapped_code"), 0);
    // The same in a file that is no overlay is a second owner.
    let twice =
        worked(&[text("90-more.toml", "[entity.shipment.fields]\npod_hash = \"wms_eu\"\n")]);
    assert!(lines(&twice.unwrap_err()).contains("shipment.pod_hash has two owners"));
}

#[test]
fn a_revert_is_on_record_and_needs_nobody() {
    let (rules, mut store) = (good(), Store::default());
    let customer = |name: &str, op, limit: &str| {
        let t = table(name, &["id*", "code", "credit_limit"]);
        put(op, &t, vec![i(1), s("C-1"), s(limit)])
    };
    run(&rules, &mut store, &[one("erp", 10, customer("public.customers", Op::Create, "5000"))]);
    run(&rules, &mut store, &[one("wms_eu", 10, customer("wms.customers", Op::Create, "5000"))]);
    let raised = one("wms_eu", 20, customer("wms.customers", Op::Update, "9000"));
    run(&rules, &mut store, std::slice::from_ref(&raised));
    assert_eq!(store.field("cus:C-1", "credit_limit").as_deref(), Some("5000"));
    assert_eq!(store.deliveries.len(), 1);
    assert_eq!(
        store.deliveries[0].writes[0].columns,
        [("credit_limit".into(), Value::Decimal("5000".into()))]
    );
    let kinds: Vec<_> = store.exceptions.values().map(|e| (&*e.kind, e.open)).collect();
    assert_eq!(kinds, [("ownership_violation", false)]);
}

#[test]
fn steps_that_nobody_reported_are_marked_until_somebody_does() {
    let rules = good();
    let inferred = |store: &Store| -> Vec<String> {
        let record = store.records.values().find(|r| &*r.key.entity == "shipment").unwrap();
        record.origins.get("status").unwrap().inferred.iter().map(ToString::to_string).collect()
    };
    let departed = one("tms_eu", 20, milestone(2, "24", "2023-11-10T12:00:00Z"));
    let packed = one("wms_eu", 30, shipment(Op::Update, "CONFIRMED", ""));
    let created = one("wms_eu", 10, shipment(Op::Create, "OPEN", ""));
    let mut store = Store::default();
    run(&rules, &mut store, &[created.clone(), departed.clone()]);
    assert_eq!(inferred(&store), ["picking", "packed", "staged", "loaded"]);
    let last = store.history.iter().rev().find(|h| &*h.record.entity == "shipment").unwrap();
    let steps = r#""status.inferred":[null,["picking","packed","staged","loaded"]]"#;
    assert!(last.changes.contains(steps), "{}", last.changes);

    let version = |store: &Store| {
        store.records.values().find(|r| &*r.key.entity == "shipment").unwrap().version
    };
    let before = version(&store);
    run(&rules, &mut store, std::slice::from_ref(&packed));
    assert_eq!(inferred(&store), ["picking", "staged", "loaded"], "somebody has reported it");
    assert_eq!(version(&store), before + 1, "what is known of it is another thing now");

    let mut other = Store::default();
    run(&rules, &mut other, &[departed, created, packed]);
    assert_eq!(inferred(&other), inferred(&store), "whatever came first");
}
