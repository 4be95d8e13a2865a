//! The files of the demo are sound.

use std::path::Path;

use crossdock_canonical::{Known, Rules};
use crossdock_schema_registry::Entities;

use crate::store::{names, text};

fn folder(name: &str) -> Vec<crossdock_model::SourceText> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo").join(name);
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let read = |p: &std::path::PathBuf| {
        text(p.file_name().unwrap().to_str().unwrap(), &std::fs::read_to_string(p).unwrap())
    };
    files.iter().map(read).collect()
}

#[test]
fn the_demo_rules_load() {
    let sources = names(&["erp", "wms_eu", "wms_us", "tms"]);
    let known = Known { sources: &sources, targets: &sources };
    let rules = Rules::load(Entities::shipped(), &folder("mappings"), &folder("rules"), &known);
    let problems: Vec<String> =
        rules.as_ref().err().into_iter().flatten().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let rules = rules.unwrap();
    assert_eq!(rules.hash().len(), 12);
    assert!(rules.tables("wms_eu").len() > 3);
    assert!(!rules.targets_of().is_empty());
    let results = rules.run_tests();
    assert!(!results.is_empty());
    results.iter().for_each(|result| assert_eq!(result.failures, [], "{}", result.name));
    let doubts: Vec<String> = rules.doubts().iter().map(ToString::to_string).collect();
    assert_eq!(doubts, [""; 0]);
    let owners = rules.matrix();
    let incoterm = owners.iter().find(|o| &*o.entity == "shipment" && &*o.field == "incoterm");
    let incoterm = incoterm.unwrap();
    assert_eq!((&*incoterm.owner, &*incoterm.on_violation), ("erp", "revert"));
    let status = owners.iter().find(|o| &*o.entity == "shipment" && &*o.field == "status").unwrap();
    assert!(status.read_by.contains("erp (shipment_status)"), "{status:?}");
}
