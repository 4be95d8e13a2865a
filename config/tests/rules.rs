//! Mapping and rule files: read with the config, and reported with it.

use std::path::Path;

use crossdock_config::load;

use crate::world::{HEAD, SOURCE, World};

const MAPPING: &str = r#"source = "erp"
[[table]]
table = "public.products"
entity = "product"
[table.fields]
sku = "sku"
description = "description"
"#;

const OWNERS: &str = r#"[entity.product]
owner = "erp"
"#;

fn world(mapping: &str, owners: &str) -> World {
    let world = World::new(&format!(
        "{HEAD}{}tables = [\"public.log\"]\n",
        SOURCE.trim_end_matches('\n').to_string() + "\n"
    ));
    world.file("mappings/erp.toml", mapping.as_bytes());
    world.file("rules/owners.toml", owners.as_bytes());
    world
}

#[test]
fn tables_of_mapping_files_are_captured() {
    let world = world(MAPPING, OWNERS);
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    let tables: Vec<_> = config.tables_of("erp").iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["public.log", "public.products"]);
    let names = ["crossdock.toml", "mappings/erp.toml", "rules/owners.toml"];
    assert_eq!(config.files, names.map(|name| world.path(name)));
}

#[test]
fn rules_of_regions_lie_over_the_others() {
    let world = world(MAPPING, &format!("[ruleset]\nname = \"base\"\nlocked = true\n{OWNERS}"));
    let overlay = "[entity.product.fields]\ndescription = \"erp\"\n";
    world.file("rules/regions/eu/10-eu.toml", overlay.as_bytes());
    assert_eq!(
        world.messages(),
        "rules/regions/eu/10-eu.toml:2: product.description is locked by the rule set base at \
         rules/owners.toml:5: an overlay may not change it\n    \
         remove it here, or ask those who own that rule set"
    );
    world.file("rules/owners.toml", OWNERS.as_bytes());
    let config = world.load().unwrap_or_else(|e| panic!("{e}"));
    let regions: Vec<_> = config.rules.rulesets().filter_map(|r| r.region.as_deref()).collect();
    assert_eq!(regions, ["eu"]);
}

#[test]
fn mistakes_in_all_files_are_reported_together() {
    let world = world(
        &MAPPING.replace("description =", "descriptoin ="),
        &OWNERS.replace("\"erp\"", "\"epr\""),
    );
    world.file("crossdock.toml", format!("{HEAD}{SOURCE}port = 0\n").as_bytes());
    let messages = world.messages();
    for place in ["crossdock.toml:18: ", "mappings/erp.toml:7: ", "rules/owners.toml:2: "] {
        assert!(messages.contains(place), "{place}\n{messages}");
    }
}

#[test]
fn a_source_with_a_mistake_is_still_known_to_its_mapping() {
    let world = world(MAPPING, OWNERS);
    let bad = SOURCE.replace("postgres", "oracle");
    world.file("crossdock.toml", format!("{HEAD}{bad}").as_bytes());
    assert_eq!(
        world.messages(),
        "crossdock.toml:12: `kind` cannot be `oracle`\n    write one of: postgres, mysql, mariadb"
    );
}

/// Every variable set: only the files themselves are in question.
#[test]
fn the_demo_is_a_good_config() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo/crossdock.toml");
    let environment = |name: &str| {
        let value = match name {
            "CROSSDOCK_LISTEN" => "127.0.0.1:9180",
            "TMS_KIND" => "mariadb",
            port if port.ends_with("_PORT") => "5433",
            _ => "something",
        };
        Some(value.to_string())
    };
    let config = load(&path, &environment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.sources.len(), 4);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
