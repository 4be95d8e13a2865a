//! The manufacturer's scenario, row by row: one ERP, two regional warehouse systems, one TMS, under
//! the demo's own mapping and rule files. With running systems: `tests/suite/manufacturer.rs`.

use std::collections::BTreeMap;

use crossdock_model::canonical::WriteKind;

use crate::demo::{Business, Logs, rules_with};
use crate::store::Look;

const BOTH: [&str; 2] = ["EU", "US"];

/// What the columns of a delivery's only row say, the key's included.
fn columns(business: &Business, rule: &str, nth: usize) -> BTreeMap<String, String> {
    let write = &business.store.told(rule)[nth].writes[0];
    let cells = write.key.iter().chain(&write.columns);
    cells.map(|(name, v)| (name.to_string(), v.to_text().unwrap_or_default())).collect()
}

/// S2: an order goes to the warehouses that serve its lines, one shipment for each.
#[test]
fn s2_an_order_is_split_over_the_warehouses_of_its_lines() {
    let mut b = Business::begin();
    b.ordered(1, &BOTH);
    b.ordered(2, &["US"]);
    let shipments = |order: &str| {
        let links = b.store.records.values().filter(|r| &*r.key.entity == "shipment");
        let of = links.filter(|r| r.links.get("sales_order").is_some_and(|l| &*l.key == order));
        of.map(|r| r.key.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(shipments("ord:SO-1"), ["shp:EU:EU-1", "shp:US:US-1"]);
    assert_eq!(shipments("ord:SO-2"), ["shp:US:US-2"]);
    assert_eq!(b.field("oln:SO-1:1", "ship_from"), "EU");
    assert_eq!(b.field("oln:SO-1:2", "ship_from"), "US");
    assert_eq!(b.field("inv:EU:SKU-1", "allocated"), "5");
    // The order is as far as its least advanced shipment.
    b.happens(|l| l.left_dock(1));
    assert_eq!(b.field("ord:SO-1", "fulfilment"), "part_shipped");
    b.happens(|l| l.milestone(1, "EU", 1, "GEOD:24:pickup", "11:00"));
    assert_eq!(b.field("ord:SO-1", "fulfilment"), "shipped");
}

/// S3: picks and packing come from the warehouse; loads, tenders and milestones from the TMS.
#[test]
fn s3_picks_packs_loads_tenders_and_milestones_are_records() {
    let mut b = Business::begin();
    b.ordered(1, &["EU"]);
    b.happens(|l| l.picked(1, "EU", "T-1", 1, "3.000"));
    assert_eq!(b.field("pck:EU:T-1", "qty"), "3");
    assert_eq!(b.field("oln:SO-1:1", "qty_picked"), "3");
    assert_eq!(b.field("shp:EU:EU-1", "status"), "picking");
    b.happens(|l| l.packed(1, "EU"));
    // The warehouse's clock shows ten in the morning in Hamburg.
    assert_eq!(b.field("shp:EU:EU-1", "packed_at"), "2026-05-01T08:00:00Z");
    b.happens(|l| l.planned(1, "EU"));
    assert_eq!(b.field("lod:L-EU-1", "tender_state"), "none");
    b.happens(|l| l.tender(1, "EU", "sent"));
    b.happens(|l| l.tender(1, "EU", "accepted"));
    assert_eq!(b.field("lod:L-EU-1", "tender_state"), "accepted");
    assert_eq!(b.field("lod:L-EU-1", "carrier"), "KNNT");
    assert_eq!(b.field("shp:EU:EU-1", "load_no"), "L-EU-1");
    b.happens(|l| l.milestone(1, "EU", 7, "KNNT:24:pickup", "10:30"));
    assert_eq!(b.field("mst:M-7", "event_time"), "2026-05-01T10:30:00Z");
    assert_eq!(b.field("shp:EU:EU-1", "departed_at"), "2026-05-01T10:30:00Z");
    assert_eq!(b.open(), [""; 0]);
}

/// S4: finance gets an accrual once the goods have left, a carrier has accepted and the cost is
/// known, whatever comes last.
#[test]
fn s4_freight_is_accrued_after_departure_acceptance_and_cost() {
    let facts: [fn(&mut Logs) -> crate::store::Tx; 3] = [
        |l| l.milestone(1, "EU", 1, "KNNT:DEP:pickup", "10:30"),
        |l| l.tender(1, "EU", "accepted"),
        |l| l.cost(1, "EU", 1, "12345"),
    ];
    for last in 0..facts.len() {
        let mut b = Business::begin();
        b.ordered(1, &["EU"]);
        b.happens(|l| l.planned(1, "EU"));
        b.happens(|l| l.cost(1, "EU", 1, ""));
        let earlier = (0..facts.len()).filter(|n| *n != last);
        earlier.for_each(|n| b.happens(facts[n]));
        assert!(b.store.told("freight_accrual").is_empty(), "{last}");
        b.happens(facts[last]);
        assert_eq!(b.store.told("freight_accrual").len(), 1, "{last}");
        assert_eq!(b.store.told("freight_accrual")[0].writes[0].kind, WriteKind::Insert);
        let accrual = columns(&b, "freight_accrual", 0);
        let expected = [
            ("amount", "123.45"),
            ("charge_code", "FRT"),
            ("cost_version", "1"),
            ("currency", "EUR"),
            ("shipment_no", "EU-1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(accrual, BTreeMap::from(expected));
    }
}

/// A rule as an installation adds it: the ERP hears of a proof of delivery.
const POD_STATUS: (&str, &str) = ("rules/90-pod.toml", include_str!("pod_status.toml"));

/// S4: the ERP hears of proof of delivery when goods are delivered and the document is there.
#[test]
fn s4_proof_of_delivery_needs_delivery_and_a_document() {
    let mut mapping = crate::demo::files("mappings");
    let wms = mapping.iter_mut().find(|file| file.file.ends_with("wms_eu.toml")).unwrap();
    // Where this warehouse keeps the number of the signed bill of lading is the test's choice.
    wms.text = wms.text.replace("weight = \"gross_weight\"", "bol_no = \"gross_weight\"");
    let rules = crate::demo::load(&mapping, &[POD_STATUS]).unwrap();
    for document_first in [true, false] {
        let mut b = Business::under(crate::demo::load(&mapping, &[POD_STATUS]).unwrap());
        assert_eq!(b.rules.hash(), rules.hash());
        b.ordered(1, &["EU"]);
        let document = |l: &mut Logs| {
            l.tx("wms_eu", &[("wms.shipments", "shipment_no=EU-1, gross_weight=B7")])
        };
        let delivered = |l: &mut Logs| l.milestone(1, "EU", 2, "KNNT:21:delivery", "16:00");
        assert_eq!(b.held("pod_status"), ["delivered", "document"]);
        if document_first {
            b.happens(document)
        } else {
            b.happens(delivered)
        }
        assert_eq!(b.held("pod_status").len(), 1);
        assert!(b.store.told("pod_status").is_empty());
        if document_first {
            b.happens(delivered)
        } else {
            b.happens(document)
        }
        assert_eq!(b.held("pod_status"), [""; 0]);
        assert_eq!(columns(&b, "pod_status", 0)["payload"], r#"{"bol":"B7"}"#);
    }
}

/// S5: one status for customer service, whichever warehouse has the goods.
#[test]
fn s5_customer_service_reads_one_status() {
    for site in BOTH {
        let mut b = Business::begin();
        let mut read = Vec::new();
        let mut look = |b: &Business| read.push(b.field("ord:SO-1", "customer_status"));
        b.happens(|l| l.captured(1, &[site]));
        look(&b);
        b.happens(|l| l.released(1, &[site]));
        look(&b);
        b.happens(|l| l.taken_in(1, site));
        b.happens(|l| l.picked(1, site, "T-1", 1, "5.000"));
        look(&b);
        b.happens(|l| l.packed(1, site));
        look(&b);
        b.happens(|l| l.loaded(1, site));
        look(&b);
        b.happens(|l| l.milestone(1, site, 1, "KNNT:DEP:pickup", "10:30"));
        look(&b);
        let code = if site == "EU" { "KNNT:21:delivery" } else { "RDWY:D1:delivery" };
        b.happens(|l| l.milestone(1, site, 2, code, "16:00"));
        look(&b);
        let expected =
            ["Received", "Confirmed", "Preparing", "Packed", "Packed", "On its way", "Delivered"];
        assert_eq!(read, expected, "{site}");
    }
    let mut b = Business::begin();
    b.ordered(2, &["EU"]);
    b.happens(|l| l.tx("erp", &[("public.sales_orders", "id=2, state=cancelled")]));
    assert_eq!(b.field("ord:SO-2", "customer_status"), "Cancelled");
}

/// S6: a region adds its carriers' codes; what "shipped" means, who owns a field and what finance
/// gets is locked.
#[test]
fn s6_regions_add_codes_and_may_not_change_what_is_locked() {
    let overlay = |text: &str| rules_with(&[("rules/regions/us/10-us.toml", text)]);
    let rules = overlay("[codes.milestone]\n\"SAIA:PU:pickup\" = \"departed_origin\"\n").unwrap();
    let mut b = Business::under(rules);
    b.ordered(1, &["US"]);
    b.happens(|l| l.milestone(1, "US", 1, "SAIA:PU:pickup", "10:30"));
    assert_eq!(b.field("shp:US:US-1", "status"), "departed");
    b.ordered(2, &["US"]);
    b.happens(|l| l.milestone(2, "US", 2, "RDWY:AF:pickup", "10:40"));
    assert_eq!(b.field("shp:US:US-2", "status"), "departed", "the base still counts");

    for (text, locked) in [
        (
            "[lifecycle.shipment]\nfield = \"status\"\norder = [\"planned\", \"departed\"]\n\
             initial = \"planned\"\n[[lifecycle.shipment.transition]]\nto = \"departed\"\n\
             on = [\"shipment.packed\"]\n",
            "the lifecycle of shipment is locked by the rule set shipment at rules/20-shipment.toml",
        ),
        ("[entity.shipment.fields]\nincoterm = { owner = \"wms\" }\n", "rule set ownership"),
        (
            "[[release]]\nname = \"freight_accrual\"\ntarget = \"erp\"\nfrom = \"freight_cost\"\n\
             dedupe = [\"shipment_no\"]\nwhen = []\ntable = \"public.freight_accruals\"\n\
             write = \"insert\"\nkey = { shipment_no = 'rec.shipment_no' }\ncolumns = {}\n",
            "rule set finance",
        ),
    ] {
        let problems = overlay(text).unwrap_err();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let refused =
            |p: &String| p.starts_with("rules/regions/us/10-us.toml:") && p.contains(locked);
        assert!(said.iter().any(refused), "{locked}: {said:?}");
    }
    // Evidence may be added, but whose word counts as departure is the base's to say.
    let own = "[[normalise]]\nsource = \"wms_eu.shipments\"\nwhen = 'row.status == \"CONFIRMED\"'\n\
               emit = \"shipment.departed\"\nevent_time = \"confirmed_at\"\n";
    let mut b = Business::under(overlay(own).unwrap());
    b.ordered(1, &["EU"]);
    b.happens(|l| l.packed(1, "EU"));
    assert!(b.store.evidence.values().any(|e| &*e.kind == "shipment.departed"));
    assert_eq!(b.field("shp:EU:EU-1", "status"), "packed");
    assert_eq!(b.erp_delivery("EU-1"), "packed");
}

/// S7: the EU warehouse "confirms" when it packs, the US one when the truck leaves. Neither is
/// shipped before the goods have left; both are after it.
#[test]
fn s7_confirmed_is_packed_in_the_eu_and_departed_in_the_us() {
    let mut b = Business::begin();
    b.ordered(1, &BOTH);
    for site in BOTH {
        b.happens(|l| l.packed(1, site));
    }
    assert_eq!(b.field("shp:EU:EU-1", "warehouse_status"), "CONFIRMED");
    assert_eq!(b.field("shp:US:US-1", "warehouse_status"), "PACKED");
    for (key, shipment) in [("shp:EU:EU-1", "EU-1"), ("shp:US:US-1", "US-1")] {
        assert_eq!(b.field(key, "status"), "packed");
        assert_eq!(b.field(key, "departed_at"), "");
        assert_eq!(b.erp_delivery(shipment), "packed");
    }
    assert_eq!(b.field("ord:SO-1", "fulfilment"), "packed");
    b.happens(|l| l.left_dock(1));
    assert_eq!(b.field("shp:US:US-1", "departed_at"), "2026-05-01T10:00:00Z");
    assert_eq!(b.erp_delivery("US-1"), "departed");
    assert_eq!(b.erp_delivery("EU-1"), "packed");
    b.happens(|l| l.milestone(1, "EU", 1, "GEOD:13:pickup", "11:00"));
    assert_eq!(b.erp_delivery("EU-1"), "departed");
    // The carrier's own word counts more than the warehouse's.
    b.happens(|l| l.milestone(1, "US", 2, "RDWY:AF:pickup", "10:07"));
    assert_eq!(b.field("shp:US:US-1", "departed_at"), "2026-05-01T10:07:00Z");
    assert_eq!(b.field("ord:SO-1", "customer_status"), "On its way");
}

/// S8: what carriers of two regions, or one alone, call departure is one milestone; their other
/// codes for "we have it" are not.
#[test]
fn s8_codes_of_all_carriers_come_to_one_milestone() {
    let cases = [
        ("US", "RDWY:AF:pickup", "departed"),
        ("EU", "GEOD:24:pickup", "departed"),
        ("EU", "GEOD:13:pickup", "departed"),
        ("EU", "KNNT:DEP:pickup", "departed"),
        ("EU", "KNNT:13:pickup", "packed"),
        ("US", "RDWY:X3:pickup", "packed"),
        ("EU", "GEOD:1:pickup", "packed"),
        ("EU", "GEOD:1:delivery", "in_transit"),
        ("US", "RDWY:X1:delivery", "in_transit"),
        ("EU", "GEOD:DEP:pickup", "packed"),
    ];
    for (site, said, status) in cases {
        let mut b = Business::begin();
        b.ordered(1, &[site]);
        b.happens(|l| l.packed(1, site));
        b.happens(|l| l.milestone(1, site, 1, said, "11:00"));
        assert_eq!(b.field(&format!("shp:{site}:{site}-1"), "status"), status, "{said}");
        let unknown = if said == "GEOD:DEP:pickup" { vec!["unmapped_code"] } else { vec![] };
        assert_eq!(b.open(), unknown, "{said}");
    }
}

/// S9: a carrier's word that the goods are loaded, late or collected is not departure, and neither
/// is a delivery's cancellation.
#[test]
fn s9_nothing_but_departure_makes_an_order_shipped() {
    let mut b = Business::begin();
    b.ordered(1, &["EU"]);
    b.happens(|l| l.packed(1, "EU"));
    b.happens(|l| l.loaded(1, "EU"));
    b.happens(|l| l.milestone(1, "EU", 1, "KNNT:CP:pickup", "09:10"));
    b.happens(|l| l.milestone(1, "EU", 2, "KNNT:13:pickup", "09:20"));
    b.happens(|l| l.milestone(1, "EU", 3, "KNNT:20:pickup", "09:30"));
    assert_eq!(b.field("ord:SO-1", "fulfilment"), "loaded");
    assert_eq!(b.erp_delivery("EU-1"), "loaded");
    b.happens(|l| l.cancelled(1, "EU"));
    assert_eq!(b.open(), ["cancel_after_load"]);
    assert_eq!(b.field("ord:SO-1", "customer_status"), "Packed");
}

/// S10: a cost that is known early is not booked early, and one of a shipment that never leaves is
/// never booked.
#[test]
fn s10_no_accrual_without_departure() {
    let mut b = Business::begin();
    b.ordered(1, &["EU"]);
    b.happens(|l| l.planned(1, "EU"));
    b.happens(|l| l.tender(1, "EU", "accepted"));
    b.happens(|l| l.cost(1, "EU", 1, "12345"));
    b.happens(|l| l.packed(1, "EU"));
    b.happens(|l| l.cancelled(1, "EU"));
    assert_eq!(b.field("shp:EU:EU-1", "status"), "cancelled");
    assert_eq!(b.held("freight_accrual"), ["departed"]);
    assert!(b.store.told("freight_accrual").is_empty());
}

/// S11: a hold names what it waits for, one condition less after the other; it is let go once,
/// and nothing that comes later lets it go again.
#[test]
fn s11_a_hold_names_its_conditions_and_is_released_once() {
    let mut b = Business::begin();
    b.ordered(1, &["EU"]);
    b.happens(|l| l.planned(1, "EU"));
    b.happens(|l| l.cost(1, "EU", 1, ""));
    assert_eq!(b.held("freight_accrual"), ["departed", "tender_accepted", "cost_known"]);
    b.happens(|l| l.tender(1, "EU", "accepted"));
    assert_eq!(b.held("freight_accrual"), ["departed", "cost_known"]);
    b.happens(|l| l.cost(1, "EU", 1, "12345"));
    assert_eq!(b.held("freight_accrual"), ["departed"]);
    // The carrier declines after all: the hold waits for more again.
    b.happens(|l| l.tender(1, "EU", "declined"));
    assert_eq!(b.held("freight_accrual"), ["departed", "tender_accepted"]);
    b.happens(|l| l.milestone(1, "EU", 1, "KNNT:DEP:pickup", "10:30"));
    b.happens(|l| l.tender(1, "EU", "accepted"));
    assert_eq!(b.held("freight_accrual"), [""; 0]);
    assert_eq!(b.store.told("freight_accrual").len(), 1);
    // The same departure again, another carrier, another amount, the row deleted and made again.
    b.happens(|l| l.milestone(1, "EU", 2, "KNNT:DEP:pickup", "10:20"));
    b.happens(|l| l.tender(1, "EU", "declined"));
    b.happens(|l| l.tender(1, "EU", "accepted"));
    b.happens(|l| l.cost(1, "EU", 1, "99999"));
    b.happens(|l| l.tx("tms", &[("tms.costs", "-id=111")]));
    b.happens(|l| l.cost(1, "EU", 1, "12345"));
    assert_eq!(b.store.told("freight_accrual").len(), 1);
    // A further version of the cost is a further posting.
    b.happens(|l| l.cost(1, "EU", 2, "100"));
    assert_eq!(b.store.told("freight_accrual").len(), 2);
    assert_eq!(columns(&b, "freight_accrual", 1)["amount"], "1");
}

/// S12: what a page about a shipment's life needs is in its record and its evidence: states with
/// their times, and who said so.
#[test]
fn s12_a_shipments_life_can_be_read_from_record_and_evidence() {
    let mut b = Business::begin();
    b.ordered(1, &["US"]);
    b.happens(|l| l.packed(1, "US"));
    b.happens(|l| l.milestone(1, "US", 3, "RDWY:D1:delivery", "16:00"));
    b.happens(|l| l.milestone(1, "US", 2, "RDWY:AF:pickup", "10:07"));
    b.happens(|l| l.loaded(1, "US"));
    let record = "shp:US:US-1";
    assert_eq!(b.field(record, "status"), "delivered");
    assert_eq!(b.field(record, "packed_at"), "2026-05-01T08:00:00Z");
    assert_eq!(b.field(record, "departed_at"), "2026-05-01T10:07:00Z");
    assert_eq!(b.field(record, "delivered_at"), "2026-05-01T16:00:00Z");
    let about = b.store.evidence.values().filter(|e| &*e.record.key == record && !e.withdrawn);
    let mut timeline: Vec<_> =
        about.map(|e| (e.event_micros, e.kind.to_string(), e.row.source.to_string())).collect();
    timeline.sort();
    let timeline: Vec<_> = timeline.iter().map(|(_, kind, by)| (&**kind, &**by)).collect();
    let expected = [
        ("shipment.packed", "wms_us"),
        ("shipment.loaded", "wms_us"),
        ("milestone.departed_origin", "tms"),
        ("milestone.delivered", "tms"),
    ];
    assert_eq!(timeline, expected, "in the order in which it happened, not in which it came");
}

/// S14: shipments of all regions are in one place and can be told apart.
#[test]
fn s14_records_of_all_regions_carry_their_site() {
    let mut b = Business::begin();
    b.ordered(1, &BOTH);
    b.ordered(2, &["US"]);
    let mut by_site: BTreeMap<String, usize> = BTreeMap::new();
    for record in b.store.records.values().filter(|r| &*r.key.entity == "shipment") {
        *by_site.entry(b.field(&record.key.key, "site")).or_default() += 1;
    }
    assert_eq!(by_site, BTreeMap::from([("EU".to_owned(), 1), ("US".to_owned(), 2)]));
    // Who says what is labelled by source in every history row, so lag and work can be told apart.
    let sources: Vec<_> = b.store.history.iter().map(|h| h.source.to_string()).collect();
    for source in ["erp", "wms_eu", "wms_us"] {
        assert!(sources.iter().any(|s| s == source), "{source}");
    }
}
