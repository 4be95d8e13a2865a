//! The demo's configuration, mapping and rule files are accepted as they are.

use std::path::Path;

use crossdock_config::{Config, load};

/// The demo's configuration with everything that it names; fails with every problem of every file.
pub(crate) fn config() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crossdock.toml");
    // Any port and password will do: nothing is connected to.
    let environment = |name: &str| match name {
        "CROSSDOCK_LISTEN" | "TMS_KIND" => None,
        "CROSSDOCK_STATE" => Some("state".to_owned()),
        _ if name.ends_with("_PORT") => Some("5432".to_owned()),
        _ => Some("secret".to_owned()),
    };
    load(&path, &environment).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn files_load_without_problems() {
    let config = config();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for (source, tables) in [("erp", 6), ("wms_eu", 5), ("wms_us", 6), ("tms", 5)] {
        assert_eq!(config.rules.tables(source).len(), tables, "tables of {source}");
    }
}
