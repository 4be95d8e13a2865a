//! `crossdock contract`: a live database against what the files read of it.

use std::fs;
use std::path::Path;
use std::process::Output;

use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::free_port;
use crossdock_tests::Crossdock;

use crate::stage::{demo_config, environment};

const SOURCES: [&str; 4] = ["erp", "wms_eu", "wms_us", "tms"];

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Where writes of a server end: the next transaction, the last GTID.
fn written(systems: &Systems) -> Vec<String> {
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let last = "SELECT @@gtid_binlog_pos";
    vec![
        systems.erp.sql("erp", next).unwrap(),
        systems.wms_us.sql("wms_us", next).unwrap(),
        systems.wms_eu.sql("wms", last).unwrap(),
        systems.tms.sql("tms", last).unwrap(),
    ]
}

#[test]
fn contracts_are_recorded_and_what_breaks_them_is_named() {
    let systems = Systems::start(TmsKind::Mariadb).unwrap();
    // Vacuuming takes transactions of its own.
    for server in [&systems.erp, &systems.wms_us] {
        server.sql("postgres", "ALTER SYSTEM SET autovacuum = off").unwrap();
        server.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let env = environment(&systems, &folder.path().join("state"), port);
    let crossdock = Crossdock::new(&demo_config(), &env, port, folder.path());
    let before = written(&systems);

    // The demo's own contracts are what would be recorded now, and hold.
    let new = folder.path().join("new");
    let recorded = crossdock.run(&["contract", "record", "--folder", new.to_str().unwrap()]);
    let recorded = recorded.unwrap();
    assert!(recorded.status.success(), "{}", said(&recorded));
    let contracts = demo_config().with_file_name("contracts");
    let read = |folder: &Path, source: &str| {
        fs::read_to_string(folder.join(source).join("tables.toml")).unwrap()
    };
    for source in SOURCES {
        assert_eq!(read(&new, source), read(&contracts, source), "{source}");
    }
    let verified = crossdock.run(&["contract", "verify"]).unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(said(&verified).matches("ok      source").count(), SOURCES.len());
    assert_eq!(written(&systems), before, "it only reads");

    breaks(&systems);
    let verified = crossdock.run(&["contract", "verify"]).unwrap();
    let text = said(&verified);
    assert_eq!(verified.status.code(), Some(1), "{text}");
    for (what, place) in EXPECTED {
        let line = text.lines().position(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what} is not in\n{text}"));
        let mut below = text.lines().skip(line + 1).take_while(|line| line.starts_with("    "));
        assert!(below.any(|line| line.contains(place)), "{what}: {place} is not in\n{text}");
    }
    let broken = text.lines().filter(|line| line.starts_with("BROKEN")).count();
    assert_eq!(broken, EXPECTED.len() - 2, "{text}");
    let one = crossdock.run(&["contract", "verify", "--source", "wms_us", "--no-codes"]).unwrap();
    assert!(one.status.success(), "only its codes have changed: {}", said(&one));
    let nobody = crossdock.run(&["contract", "verify", "--source", "mars"]).unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("there is no source mars"));
}

/// One of each: a column gone, of another kind, one that may be NULL, a code, and two that harm
/// nobody.
fn breaks(systems: &Systems) {
    systems.wms_eu.sql("wms", "ALTER TABLE shipments DROP COLUMN confirmed_at").unwrap();
    let erp = "ALTER TABLE customers DROP CONSTRAINT customers_credit_limit_check,
                   ALTER COLUMN credit_limit DROP DEFAULT,
                   ALTER COLUMN credit_limit TYPE text;
               ALTER TABLE products ALTER COLUMN list_price TYPE numeric(14,6);
               ALTER TABLE products ADD COLUMN colour text";
    systems.erp.sql("erp", erp).unwrap();
    let tms = "ALTER TABLE shipments MODIFY shipment_no VARCHAR(20) NULL";
    systems.tms.sql("tms", tms).unwrap();
    let wms_us = "ALTER TABLE wms.shipment_header DROP CONSTRAINT shipment_header_ship_status_check;
                  INSERT INTO wms.outbound_order VALUES (1, 'SO-1', 'C-1');
                  INSERT INTO wms.shipment_header (shipment_id, shipment_nbr, outbound_id, ship_status)
                  VALUES (1, 'OB-1', 1, 60), (2, 'OB-2', 1, 50)";
    systems.wms_us.sql("wms_us", wms_us).unwrap();
}

/// What is said, and a place under it.
const EXPECTED: [(&str, &str); 6] = [
    (
        "BROKEN  source wms_eu: column wms.shipments.confirmed_at is gone",
        "mappings/wms_eu.toml:44: reads column `confirmed_at`",
    ),
    ("BROKEN  source wms_eu: column wms.shipments.confirmed_at is gone", "rules/20-shipment.toml:"),
    (
        "BROKEN  source erp: column public.customers.credit_limit was numeric(12,2) not null and \
         is text not null; its values are of another kind",
        "mappings/erp.toml:11: reads column `credit_limit`",
    ),
    (
        "note    source erp: column public.products.list_price was numeric(12,4) not null and is \
         numeric(14,6) not null",
        "mappings/erp.toml:",
    ),
    (
        "BROKEN  source tms: column tms.shipments.shipment_no was varchar(20) not null and is \
         varchar(20); it may be NULL now",
        "mappings/tms.toml:",
    ),
    (
        "BROKEN  source wms_us: column wms.shipment_header.ship_status holds codes that are not \
         mapped: `60`",
        "mappings/wms_us.toml:31: reads column `ship_status` by code table `us_ship_status`",
    ),
];
