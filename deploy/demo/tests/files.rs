//! The demo's mapping and rule files are accepted as they are.

use std::fs;
use std::path::{Path, PathBuf};

use crossdock_canonical::{Known, Rules};
use crossdock_model::canonical::Name;
use crossdock_model::problem::SourceText;
use crossdock_schema_registry::Entities;

fn folder(name: &str) -> Vec<SourceText> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| SourceText {
        file: format!("{name}/{}", path.file_name().unwrap().to_string_lossy()),
        text: fs::read_to_string(path).unwrap(),
    };
    files.iter().map(read).collect()
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| (*name).into()).collect()
}

/// The rules of the demo; fails with every problem of every file.
pub(crate) fn rules() -> Rules {
    let sources = names(&["erp", "wms_eu", "wms_us", "tms"]);
    let targets = names(&["erp", "wms_eu", "wms_us"]);
    let known = Known { sources: &sources, targets: &targets };
    let loaded = Rules::load(Entities::shipped(), &folder("mappings"), &folder("rules"), &known);
    loaded.unwrap_or_else(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", texts.join("\n"))
    })
}

#[test]
fn mappings_and_rules_load_without_problems() {
    let rules = rules();
    for (source, tables) in [("erp", 6), ("wms_eu", 5), ("wms_us", 6), ("tms", 5)] {
        assert_eq!(rules.tables(source).len(), tables, "tables of {source}");
    }
}
