//! What has happened, told as EPCIS 2.0, from a running installation's store.

use serde_json::Value as Json;

use crate::world::World;

const TABLE: &str =
    "CREATE TABLE parcels (no text PRIMARY KEY, order_no text, left_at timestamptz);
                     CREATE PUBLICATION crossdock FOR TABLE parcels;
                     GRANT SELECT ON parcels TO crossdock;";
const MAPPING: &str = r#"
source = "shop"
[[table]]
table = "public.parcels"
entity = "shipment"
[table.fields]
site = { value = "EU" }
shipment_no = "no"
[table.links]
sales_order = { order_no = "order_no" }
"#;
const RULES: &str = r#"
[entity.shipment]
owner = "shop"
[entity.shipment.fields]
status = { owner = "crossdock" }
[[normalise]]
source = "shop.parcels"
when = 'present(row.left_at)'
emit = "shipment.departed"
event_time = "left_at"
[lifecycle.shipment]
field = "status"
order = ["planned", "packed", "departed", "delivered"]
initial = "planned"
"#;

#[test]
fn departures_are_epcis_events() {
    let mut world = World::new(TABLE, "publication = \"crossdock\"");
    world.file("mappings/shop.toml", MAPPING);
    world.file("rules/shipment.toml", RULES);
    world.start();
    world.sql(
        "INSERT INTO parcels SELECT 'S' || n, 'SO-' || n, '2026-05-01T10:00:00Z'
         FROM generate_series(1, 600) n; INSERT INTO parcels VALUES ('X', NULL, NULL)",
    );
    world.crossdock.wait_caught_up(crate::world::LIMIT).unwrap();
    let document: Json = serde_json::from_str(&world.done(&["epcis"])).unwrap();
    assert_eq!(document["type"], "EPCISDocument");
    let events = document["epcisBody"]["eventList"].as_array().unwrap();
    assert_eq!(events.len(), 600, "more than one page, each once");
    let of = |key: &str| {
        let id = format!("urn:crossdock:test:{key}");
        events.iter().find(|e| e["epcList"][0] == id.as_str()).unwrap().clone()
    };
    let event = of("shp:EU:S7");
    assert_eq!(
        (&event["bizStep"], &event["disposition"]),
        (&"departing".into(), &"in_transit".into())
    );
    assert_eq!(event["eventTime"], "2026-05-01T10:00:00Z");
    let order = &event["bizTransactionList"][0];
    assert_eq!(
        (&order["type"], &order["bizTransaction"]),
        (&"po".into(), &"urn:crossdock:test:ord:SO-7".into())
    );
    let lines = world.done(&["epcis", "--lines", "--since", "1h", "--entity", "shipment"]);
    assert_eq!(lines.lines().count(), 600);
    assert_eq!(world.done(&["epcis", "--lines", "--since", "2100-01-01T00:00:00Z"]), "");
    assert!(world.refused(&["epcis", "--entity", "ship"]).contains("there is no entity `ship`"));

    let explained = world.done(&["rules", "explain", "shp:EU:S7", "status"]);
    assert!(explained.contains("inferred  packed"), "{explained}");
    let inferred = "SELECT count(*) FROM crossdock.v_inferred WHERE inferred = 'packed'";
    assert_eq!(world.store.sql("canonical", inferred).unwrap().trim(), "600");
}
