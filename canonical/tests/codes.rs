//! Code lists that come with Crossdock, and evidence in EPCIS's words.

use std::collections::BTreeMap;

use crossdock_canonical::{Epcis, Rules};
use crossdock_model::canonical::{Evidence, Name, RecordKey, RowKey};
use crossdock_model::{Op, Position, Problem};
use serde_json::json;
use uuid::Uuid;

use crate::store::{Look, Store, load, put, run, s, table, tx};

const TMS: &str = r#"
source = "tms"
[[table]]
table = "tms.outbox"
entity = "milestone"
[table.fields]
milestone_id = "id"
code = { column = "code", codes = "milestone_by_code" }
[table.links]
shipment = { site = "site", shipment_no = "shipment_no" }
[[table]]
table = "tms.shipments"
entity = "shipment"
[table.fields]
site = "site"
shipment_no = "shipment_no"
"#;

const RULES: &str = r#"
[entity.milestone]
owner = "tms"
[entity.shipment]
owner = "tms"
[codes.milestone]
base = { x12_214_status = "acme:{}:*", rec24_status = "*:{}" }
"acme:X6:*" = "on_the_road"
[codes.milestone_by_code]
base = "x12_214_status"
unmapped = "keep"
[[normalise]]
source = "tms"
table = "tms.outbox"
codes = { table = "milestone", key = ["partner", "code", "role"] }
emit = "milestone.*"
about = "shipment"
"#;

fn rules(rules: &str) -> Result<Rules, Vec<Problem>> {
    load(&[("tms.toml", TMS)], rules)
}

fn meant(partner: &str, code: &str, role: &str) -> (String, String) {
    let columns = ["id*", "partner", "code", "role", "site", "shipment_no"];
    let row = [s("1"), s(partner), s(code), s(role), s("EU"), s("7")];
    let event = put(Op::Create, &table("tms.outbox", &columns), row.into());
    let mut store = Store::default();
    run(&rules(RULES).unwrap(), &mut store, &[tx("tms", 1, vec![event])]);
    let kind = store.evidence.values().next().unwrap().kind.to_string();
    (kind, store.field("mst:1", "code").unwrap())
}

#[test]
fn shipped_code_lists_are_the_base_of_tables() {
    let kind = |partner, code, role| meant(partner, code, role).0;
    assert_eq!(
        meant("acme", "AF", "origin"),
        ("milestone.departed_origin".into(), "departed_origin".into())
    );
    assert_eq!(kind("acme", "X3", ""), "milestone.arrived_origin");
    assert_eq!(
        kind("acme", "X1", ""),
        "milestone.arrived_destination",
        "never the other way round"
    );
    assert_eq!(kind("acme", "X4", ""), "milestone.arrived_terminal", "which is no pickup");
    assert_eq!(kind("acme", "X6", ""), "milestone.on_the_road", "the table's own word comes first");
    assert_eq!(kind("dhl", "24", "origin"), "milestone.departed_origin");
    assert_eq!(kind("dhl", "24", "dest"), "milestone.departed_destination");
    assert_eq!(kind("dhl", "24", ""), "milestone.unmapped", "a departure from where?");
    assert_eq!(kind("dhl", "21", ""), "milestone.delivered");
    assert_eq!(meant("dhl", "AF", ""), ("milestone.unmapped".into(), "departed_origin".into()));
}

#[test]
fn a_base_that_is_not_there_is_said_with_its_line() {
    let wrong =
        RULES.replace("rec24_status = ", "rec25_status = ").replace("\"acme:{}:*\"", "\"acme:*\"");
    let problems = rules(&wrong).unwrap_err();
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    assert!(said.contains("no code list is called `rec25_status`"), "{said}");
    assert!(said.contains("did you mean `rec24_status`"), "{said}");
    assert!(said.contains("has no place for the codes of x12_214_status"), "{said}");
    assert!(problems.iter().all(|p| p.line == 7), "{said}");
}

#[test]
fn evidence_is_told_in_the_words_of_epcis() {
    let shipment = RecordKey { entity: "shipment".into(), key: "shp:EU:SHP/1%3A7".into() };
    let order = RecordKey { entity: "sales_order".into(), key: "ord:SO-1".into() };
    let links: BTreeMap<Name, RecordKey> = [("order".into(), order.clone())].into();
    let fact = |id: u128, kind: &str, record: &RecordKey, withdrawn: bool| Evidence {
        id: Uuid::from_u128(id),
        record: record.clone(),
        kind: kind.into(),
        event_micros: 1_699_617_600_000_000,
        recorded_micros: 1_699_617_900_250_000,
        row: RowKey { source: "tms".into(), table: "tms.outbox".into(), pk: "1".into() },
        authority: 100,
        at: Position::Postgres { lsn: 1 }.order(1),
        withdrawn,
        data: json!({}),
    };
    let epcis = Epcis::new("https://id.example.org/");
    let now = 1_700_000_000_000_000;
    let mut document = Epcis::document(now);
    document["epcisBody"]["eventList"] = json!([
        epcis.event(&fact(1, "milestone.departed_origin", &shipment, false), &links, now),
        epcis.event(&fact(2, "shipment.packed", &shipment, true), &links, now),
        epcis.event(&fact(3, "sales_order.released", &order, false), &BTreeMap::new(), now),
        epcis.event(&fact(4, "milestone.unmapped", &shipment, false), &BTreeMap::new(), now),
    ]);
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("golden/epcis.json")).unwrap();
    assert_eq!(document, golden, "{document:#}");
}

/// Business steps of the Core Business Vocabulary 2.0, section 7.1.
const STEPS: &str = "accepting arriving assembling collecting commissioning consigning \
    creating_class_instance cycle_counting decommissioning departing destroying disassembling \
    dispensing encoding entering_exiting holding inspecting installing killing loading other \
    packing picking receiving removing repackaging repairing replacing reserving retail_selling \
    shipping staging_outbound stock_taking stocking storing transporting unloading unpacking \
    void_shipping sensor_reporting sampling";
/// Dispositions of the same, section 7.2.
const DISPOSITIONS: &str = "active container_closed damaged destroyed dispensed disposed encoded \
    expired in_progress in_transit inactive no_pedigree_match non_sellable_other \
    partially_dispensed recalled reserved retail_sold returned sellable_accessible \
    sellable_not_accessible stolen unknown available completeness_verified \
    completeness_inferred conformant container_open mismatch_instance mismatch_class \
    mismatch_quantity needs_replacement non_conformant unavailable";
/// Types of business transactions of the same, section 7.3.
const TRANSACTIONS: &str =
    "bol cert desadv inv pedigree po poc prodorder recadv rma testprd testres upevt";

/// GS1's schema takes any word; that each is one of its vocabulary is said here.
#[test]
fn every_kind_of_evidence_is_in_the_words_of_the_vocabulary() {
    let vocabulary: toml::Table = toml::from_str(include_str!("../codes/epcis.toml")).unwrap();
    let among = |words: &str, word: &str| words.split_whitespace().any(|w| w == word);
    let kinds = vocabulary["kind"].as_table().unwrap();
    assert!(kinds.len() > 30);
    for (kind, said) in kinds {
        for (name, value) in said.as_table().unwrap() {
            let value = value.as_str().unwrap();
            let known = match name.as_str() {
                "type" => among("ObjectEvent TransactionEvent", value),
                "step" => among(STEPS, value),
                "disposition" => among(DISPOSITIONS, value),
                _ => false,
            };
            assert!(known, "{kind}: {name} = {value}");
        }
    }
    for (entity, kind) in vocabulary["transaction"].as_table().unwrap() {
        assert!(among(TRANSACTIONS, kind.as_str().unwrap()), "{entity}: {kind}");
    }
}
