//! The manufacturer's scenario with everything running: one ERP, two regional warehouse systems and
//! a TMS, real databases, the process with the demo's rule files. Started once; the rows S2 to S14
//! are steps of one story. S1 is in `scenarios.rs`, S12 in `order_states.rs`, each row again in
//! `canonical/tests/manufacturer.rs`, and its interleavings in `canonical/tests/interleavings.rs`.

use crate::plant::Plant;

const BOTH: [&str; 2] = ["EU", "US"];

#[test]
fn the_manufacturers_scenario_s2_to_s14() {
    let mut plant = Plant::start();
    s2_an_order_is_split_over_two_warehouses(&plant);
    s3_picks_loads_and_tenders_are_records(&plant);
    s11_a_hold_names_what_it_waits_for(&plant);
    s7_confirmed_is_packed_for_everybody(&plant);
    s13_what_is_stuck_or_failed_is_seen(&plant);
    s9_nothing_but_departure_makes_it_shipped(&plant);
    s4_departure_lets_go_of_the_accrual_and_delivery_of_the_proof(&plant);
    s8_codes_of_all_carriers_come_to_one_departure(&plant);
    s10_what_never_leaves_costs_nothing(&plant);
    s11_what_was_released_is_not_released_again(&mut plant);
    s6_a_region_adds_and_may_not_change(&plant);
    s5_customer_service_has_read_one_story(&plant);
    s14_regions_can_be_told_apart(&plant);
    plant.nothing_was_early();
}

fn s2_an_order_is_split_over_two_warehouses(plant: &Plant) {
    plant.captured(1, &BOTH);
    plant.becomes("ord:SO-1", "customer_status", "Received");
    plant.released(1);
    plant.becomes("ord:SO-1", "customer_status", "Confirmed");
    BOTH.iter().for_each(|site| plant.taken_in(1, site));
    plant.becomes("ord:SO-1", "fulfilment", "allocated");
    let shipments = "SELECT string_agg(key, ' ' ORDER BY key) FROM crossdock.link
                     WHERE entity = 'shipment' AND to_key = 'ord:SO-1'";
    assert_eq!(plant.store(shipments), "shp:EU:EU-1 shp:US:US-1");
    for site in BOTH {
        plant.becomes(&format!("inv:{site}:SKU-1"), "allocated", "5");
    }
    assert_eq!(plant.field("oln:SO-1:1", "ship_from"), "EU");
    assert_eq!(plant.field("oln:SO-1:2", "ship_from"), "US");
}

fn s3_picks_loads_and_tenders_are_records(plant: &Plant) {
    for site in BOTH {
        plant.picked(1, site);
        plant.becomes(&format!("pck:{site}:T-1"), "qty", "5");
        plant.becomes(&format!("shp:{site}:{site}-1"), "status", "picking");
    }
    plant.becomes("oln:SO-1:2", "qty_picked", "5");
    plant.becomes("ord:SO-1", "customer_status", "Preparing");
    for (load, shipment) in [(1, "EU-1"), (2, "US-1")] {
        plant.planned(load, shipment);
        plant.becomes(&format!("lod:L-{load}"), "tender_state", "none");
    }
    plant.becomes("shp:EU:EU-1", "load_no", "L-1");
}

/// The freight of both shipments waits, and everybody can see for what.
fn s11_a_hold_names_what_it_waits_for(plant: &Plant) {
    plant.freight_waits_for("EU-1", "departed, tender_accepted, cost_known");
    plant.freight_waits_for("US-1", "departed, tender_accepted, cost_known");
    let output = plant.crossdock.run(&["show", "frc:EU-1:FRT:1", "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let waits = serde_json::json!(["departed", "tender_accepted", "cost_known"]);
    assert_eq!(shown[0]["holds"][0]["waits_for"], waits, "{shown:#}");
    let held = || plant.store("SELECT count(*) FROM crossdock.v_holds");
    let metric = || plant.metric("crossdock_holds").map_or(String::new(), |n| n.to_string());
    plant.until("the metric of holds", &held(), metric);
    for load in [1, 2] {
        plant.tendered(load, 1, "accepted");
    }
    plant.becomes("lod:L-1", "tender_state", "accepted");
    plant.freight_waits_for("EU-1", "departed, cost_known");
    plant.costs(1, 12_345);
    plant.costs(2, 20_000);
    plant.freight_waits_for("EU-1", "departed");
    plant.freight_waits_for("US-1", "departed");
}

/// The EU warehouse "confirms" now; the US one says packed. The ERP reads the same of both.
fn s7_confirmed_is_packed_for_everybody(plant: &Plant) {
    plant.warehouse(1, "EU", "status = 'CONFIRMED', confirmed_at = '2026-05-01 10:00:00'");
    plant.warehouse(1, "US", "ship_status = 50, packed_ts = '2026-05-01 08:00:00+00'");
    for site in BOTH {
        let key = format!("shp:{site}:{site}-1");
        plant.becomes(&key, "status", "packed");
        assert_eq!(plant.field(&key, "packed_at"), "2026-05-01T08:00:00Z", "{site}");
        plant.erp_shows(&format!("{site}-1"), "packed");
    }
    assert_eq!(plant.field("shp:EU:EU-1", "warehouse_status"), "CONFIRMED");
    plant.becomes("ord:SO-1", "customer_status", "Packed");
    plant.nothing_was_early();
}

/// Latency, failed events and stuck work have metrics of their own. Two shipments are packed and do
/// not move; a carrier uses a code that nobody knows.
fn s13_what_is_stuck_or_failed_is_seen(plant: &Plant) {
    let open = "SELECT string_agg(concat_ws(' ', kind, team, key), ', ' ORDER BY kind, key)
                FROM crossdock.v_open_exceptions";
    let stuck = "stuck_packed warehouse shp:EU:EU-1, stuck_packed warehouse shp:US:US-1";
    plant.until("stuck shipments", stuck, || plant.store(open));
    let metric = |name: &str| plant.metric(name).map_or(String::new(), |n| n.to_string());
    plant.until("the metric of exceptions", "2", || metric("crossdock_exceptions_open"));
    plant.reported(1, "EU-1", "GEOD:DEP:pickup", "08:10");
    let unknown = "crossdock_unknown_codes_total{source=\"tms\",table=\"milestone\"}";
    plant.until("the metric of unknown codes", "1", || metric(unknown));
    let kinds = "SELECT count(*) FROM crossdock.v_open_exceptions WHERE kind = 'unmapped_code'";
    assert_eq!(plant.store(kinds), "1");
    for (site, system) in [("EU", "wms_eu"), ("US", "wms_us")] {
        let lag = format!("crossdock_source_lag_seconds{{source=\"{system}\"}}");
        assert!(plant.metric(&lag).is_some(), "{site}: {lag}");
    }
    let late = "crossdock_delivery_seconds_count{lane=\"\",target=\"erp\"}";
    assert!(plant.metric(late).is_some_and(|n| n > 0.0), "{late}");
    // They move on, and nobody need look at them any more.
    plant.warehouse(1, "EU", "status = 'LOADED', loaded_at = '2026-05-01 11:00:00'");
    plant.warehouse(1, "US", "ship_status = 70, loaded_ts = '2026-05-01 09:00:00+00'");
    let stuck = "SELECT count(*) FROM crossdock.v_open_exceptions WHERE kind = 'stuck_packed'";
    plant.until("nothing is stuck", "0", || plant.store(stuck));
}

/// Loaded, arrived, collected, late, and a code that nobody knows: none of that is departure.
fn s9_nothing_but_departure_makes_it_shipped(plant: &Plant) {
    plant.reported(2, "EU-1", "GEOD:1:pickup", "08:20");
    plant.reported(3, "EU-1", "KNNT:13:pickup", "08:30");
    plant.reported(4, "US-1", "RDWY:X3:pickup", "08:20");
    plant.reported(5, "US-1", "RDWY:SD:pickup", "08:30");
    for site in BOTH {
        plant.erp_shows(&format!("{site}-1"), "loaded");
        assert_eq!(plant.field(&format!("shp:{site}:{site}-1"), "status"), "loaded");
        assert_eq!(plant.field(&format!("shp:{site}:{site}-1"), "departed_at"), "");
        assert_eq!(plant.accruals(&format!("{site}-1")), "", "S10: nothing has left");
    }
    assert_eq!(plant.field("ord:SO-1", "customer_status"), "Packed");
    plant.nothing_was_early();
}

/// Finance gets the accrual of what has left, and of nothing else; and the proof of delivery once
/// there is the delivery and its document.
fn s4_departure_lets_go_of_the_accrual_and_delivery_of_the_proof(plant: &Plant) {
    plant.leaves("EU-1");
    plant.reported(6, "EU-1", "GEOD:24:pickup", "09:30");
    plant.erp_shows("EU-1", "departed");
    plant.until("the accrual of EU-1", "1:123.45", || plant.accruals("EU-1"));
    plant.freight_waits_for("EU-1", "");
    plant.becomes("ord:SO-1", "fulfilment", "part_shipped");
    plant.freight_waits_for("US-1", "departed");
    plant.erp_shows("US-1", "loaded");
    assert_eq!(plant.accruals("US-1"), "");
    // The US warehouse confirms when the truck leaves; the carrier's own word counts more.
    plant.leaves("US-1");
    plant.warehouse(1, "US", "ship_status = 90, ship_confirm_ts = '2026-05-01 10:00:00+00'");
    plant.erp_shows("US-1", "departed");
    plant.until("the accrual of US-1", "1:200.00", || plant.accruals("US-1"));
    assert_eq!(plant.field("shp:US:US-1", "departed_at"), "2026-05-01T10:00:00Z");
    plant.reported(7, "US-1", "RDWY:AF:pickup", "10:07");
    plant.becomes("shp:US:US-1", "departed_at", "2026-05-01T10:07:00Z");
    plant.becomes("ord:SO-1", "fulfilment", "shipped");

    let proofs = "SELECT string_agg(business_key || payload::text, ' ') FROM crossdock_inbox
                  WHERE topic = 'pod'";
    plant.reported(8, "EU-1", "GEOD:21:delivery", "16:00");
    plant.erp_shows("EU-1", "delivered");
    let waits = "SELECT waiting_for FROM crossdock.v_holds
                 WHERE rule = 'pod_status' AND key = 'shp:EU:EU-1'";
    plant.until("the proof of delivery", "document", || plant.store(waits));
    assert_eq!(plant.in_erp(proofs), "");
    plant.warehouse(1, "EU", "gross_weight = 77");
    plant.until("the proof of delivery", "EU-1{\"bol\": \"77\"}", || plant.in_erp(proofs));
    plant.reported(9, "US-1", "RDWY:D1:delivery", "17:00");
    plant.becomes("ord:SO-1", "customer_status", "Delivered");
}

/// What a US carrier calls AF, EU carriers call 24, 13 or a word of their own: one milestone. The
/// first two are above; the same code 13 means less to another carrier.
fn s8_codes_of_all_carriers_come_to_one_departure(plant: &Plant) {
    for (n, said) in [(2, "GEOD:13:pickup"), (3, "KNNT:DEP:pickup")] {
        plant.captured(n, &["EU"]);
        plant.released(n);
        plant.taken_in(n, "EU");
        let (shipment, key) = (format!("EU-{n}"), format!("shp:EU:EU-{n}"));
        plant.reported(10 * n, &shipment, "KNNT:13:pickup", "08:00");
        plant.becomes(&key, "status", "planned");
        plant.leaves(&shipment);
        plant.reported(10 * n + 1, &shipment, said, "12:00");
        plant.becomes(&key, "status", "departed");
        plant.erp_shows(&shipment, "departed");
    }
    let kinds = "SELECT string_agg(DISTINCT kind, ' ') FROM crossdock.evidence
                 WHERE data::text LIKE '%AF%' OR kind = 'milestone.departed_origin'";
    assert_eq!(plant.store(kinds), "milestone.departed_origin");
    let departed = "SELECT count(*) FROM crossdock.evidence
                    WHERE kind = 'milestone.departed_origin' AND NOT withdrawn";
    assert_eq!(plant.store(departed), "4");
}

/// Cost known, carrier willing, and then the goods stay: nothing is booked.
fn s10_what_never_leaves_costs_nothing(plant: &Plant) {
    plant.captured(4, &["EU"]);
    plant.released(4);
    plant.taken_in(4, "EU");
    plant.planned(4, "EU-4");
    plant.tendered(4, 1, "accepted");
    plant.costs(4, 5_000);
    plant.freight_waits_for("EU-4", "departed");
    plant.warehouse(4, "EU", "status = 'CONFIRMED', confirmed_at = '2026-05-01 10:00:00'");
    plant.becomes("shp:EU:EU-4", "status", "packed");
    plant.warehouse(4, "EU", "status = 'CANCELLED'");
    plant.erp_shows("EU-4", "cancelled");
    plant.freight_waits_for("EU-4", "departed");
    assert_eq!(plant.accruals("EU-4"), "");
}

/// The same departure again, another carrier, another amount, the row deleted and made again, and
/// everything judged anew: one accrual. A further version of the cost is a further one.
fn s11_what_was_released_is_not_released_again(plant: &mut Plant) {
    plant.reported(40, "EU-1", "GEOD:24:pickup", "09:20");
    plant.becomes("shp:EU:EU-1", "departed_at", "2026-05-01T09:20:00Z");
    plant.tendered(1, 2, "declined");
    plant.tendered(1, 3, "accepted");
    plant.in_tms(
        "UPDATE costs SET amount_minor = 99999 WHERE shipment_id = 1;
         DELETE FROM costs WHERE shipment_id = 1;
         INSERT INTO costs (shipment_id, charge_code, version, amount_minor, currency)
             VALUES (1, 'FRT', 1, 12345, 'EUR'), (1, 'FRT', 2, 100, 'EUR')",
    );
    plant.until("both versions", "1:123.45 2:1.00", || plant.accruals("EU-1"));
    let before = plant.in_erp("SELECT count(*) FROM crossdock_inbox");
    let rewound = plant.crossdock.run(&["rewind", "--integrate", "--to", "0"]).unwrap();
    assert!(rewound.status.success(), "{}", String::from_utf8_lossy(&rewound.stderr));
    plant.caught_up();
    assert_eq!(plant.accruals("EU-1"), "1:123.45 2:1.00");
    assert_eq!(plant.in_erp("SELECT count(*) FROM crossdock_inbox"), before);
    plant.nothing_was_early();
}

/// A region adds its carrier's code while everything runs; what "shipped" means is locked.
fn s6_a_region_adds_and_may_not_change(plant: &Plant) {
    let meaning = "[lifecycle.shipment]\nfield = \"status\"\norder = [\"planned\", \"departed\"]\n\
                   initial = \"planned\"\n[[lifecycle.shipment.transition]]\nto = \"departed\"\n\
                   on = [\"shipment.packed\"]\n";
    let owner = "[entity.shipment.fields]\nincoterm = { owner = \"wms\" }\n";
    for (overlay, locked) in [(meaning, "rule set shipment"), (owner, "rule set ownership")] {
        plant.us_overlay(overlay);
        for command in ["check", "reload"] {
            let output = plant.crossdock.run(&["rules", command]).unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success(), "{command}: {said}");
            let refused = said.lines().any(|l| l.contains("us/10-us.toml:") && l.contains(locked));
            assert!(refused, "{command}: {said}");
        }
    }
    plant.us_overlay("[codes.milestone]\n\"SAIA:PU:pickup\" = \"departed_origin\"\n");
    for command in ["check", "reload"] {
        let output = plant.crossdock.run(&["rules", command]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    plant.captured(5, &["US"]);
    plant.released(5);
    plant.taken_in(5, "US");
    plant.becomes("shp:US:US-5", "status", "planned");
    plant.leaves("US-5");
    plant.reported(50, "US-5", "SAIA:PU:pickup", "12:00");
    plant.erp_shows("US-5", "departed");
    plant.becomes("ord:SO-5", "customer_status", "On its way");
}

/// Everything that customer service could ever read of the order, in the order in which it could.
fn s5_customer_service_has_read_one_story(plant: &Plant) {
    let read = "SELECT string_agg(changes -> 'customer_status' ->> 1, ', ' ORDER BY version)
                FROM crossdock.history WHERE key = 'ord:SO-1' AND changes ? 'customer_status'";
    let story = "Received, Confirmed, Preparing, Packed, On its way, Delivered";
    assert_eq!(plant.store(read), story);
    assert_eq!(plant.field("ord:SO-4", "customer_status"), "Confirmed");
}

/// Every source and target carries its region, so that panels can be made of either; and records
/// say where they belong.
fn s14_regions_can_be_told_apart(plant: &Plant) {
    for (region, system) in [("eu", "wms_eu"), ("us", "wms_us")] {
        for kind in ["source", "target"] {
            let line = format!("crossdock_{kind}_info{{region=\"{region}\",{kind}=\"{system}\"}}");
            assert_eq!(plant.metric(&line), Some(1.0), "{line}");
            let lag = format!("crossdock_{kind}_lag_seconds{{{kind}=\"{system}\"}}");
            assert!(plant.metric(&lag).is_some(), "{lag}");
        }
    }
    let sites = "SELECT string_agg(site || ' ' || n, ', ' ORDER BY site) FROM (
                     SELECT fields ->> 'site' AS site, count(*) AS n FROM crossdock.record
                     WHERE entity = 'shipment' GROUP BY 1) s";
    assert_eq!(plant.store(sites), "EU 4, US 2");
}
