//! The house rules that a machine can check: who imports whom, how long a file may be, that the
//! map in ARCHITECTURE.md is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of a crate → folders of the project's crates that it may import. The whole truth about
/// direction: what is not here is not allowed. Tests may import more (`dev-dependencies`).
const IMPORTS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("schema-registry", &["model"]),
    ("canonical", &["model", "schema-registry"]),
    ("config", &["model", "schema-registry", "canonical"]),
    ("state", &["model"]),
    ("capture", &["model"]),
    ("apply", &["model"]),
    ("service", &["model", "schema-registry", "canonical", "config", "state", "capture", "apply"]),
    ("tests/harness", &[]),
    ("deploy/demo", &["tests/harness"]),
    ("tests", &["tests/harness"]),
    (
        "bench",
        &[
            "model",
            "schema-registry",
            "capture",
            "state",
            "apply",
            "canonical",
            "tests/harness",
            "tests",
        ],
    ),
];
const LINES_MAX: usize = 500;
/// Files that are longer than they should be. This list may only become shorter.
const LONG_FILES: &[&str] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn manifest(folder: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    text.parse().unwrap()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_one_way() {
    let workspace = manifest(".");
    let members: BTreeSet<_> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap().to_string())
        .collect();
    let listed: BTreeSet<_> = IMPORTS.iter().map(|(folder, _)| folder.to_string()).collect();
    assert_eq!(members, listed, "every crate has a line in IMPORTS");
    let folders: BTreeMap<String, &str> = IMPORTS
        .iter()
        .map(|(folder, _)| (manifest(folder)["package"]["name"].as_str().unwrap().into(), *folder))
        .collect();
    for (folder, allowed) in IMPORTS {
        let manifest = manifest(folder);
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{folder}/Cargo.toml takes the workspace's lints"
        );
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
            continue;
        };
        for imported in dependencies.keys().filter_map(|name| folders.get(name)) {
            assert!(allowed.contains(imported), "{folder} may not import {imported}");
        }
    }
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let root = root();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut complaints = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let long = LONG_FILES.contains(&name.as_str());
        if !text.starts_with("//!") {
            complaints.push(format!("{name}: starts without //!"));
        }
        if lines > LINES_MAX && !long {
            complaints.push(format!("{name}: {lines} lines, more than {LINES_MAX}"));
        }
        if lines <= LINES_MAX && long {
            complaints.push(format!("{name}: short enough now, take it off LONG_FILES"));
        }
        for word in ["FIX\u{4d}E", "dbg\u{21}(", "#[ig\u{6e}ore"] {
            if text.contains(word) {
                complaints.push(format!("{name}: has {word}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_map_is_true() {
    let root = root();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for (folder, _) in IMPORTS {
        assert!(map.contains(&format!("`{folder}/`")), "ARCHITECTURE.md does not name {folder}/");
    }
    for file in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().unwrap();
            assert!(root.join(path).exists(), "{file} links to {link}, which does not exist");
        }
    }
    let quoted = map.split('`').skip(1).step_by(2);
    for path in quoted.filter(|q| q.contains('/') && q.ends_with(".rs")) {
        assert!(root.join(path).exists(), "ARCHITECTURE.md names {path}, which does not exist");
    }
}

#[test]
fn the_pipeline_fits_on_one_screen() {
    let text = fs::read_to_string(root().join("service/src/pipeline.rs")).unwrap();
    assert!(text.lines().count() <= 80, "service/src/pipeline.rs has more than 80 lines");
}

#[test]
fn no_system_has_its_name_in_the_code() {
    let root = root();
    let crates = ["model", "schema-registry", "canonical", "config", "state", "capture", "apply"];
    for folder in crates.iter().chain(&["service"]) {
        let mut files = Vec::new();
        rust_files(&root.join(folder).join("src"), &mut files);
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for name in ["\"wms_eu", "\"wms_us", "freight_accruals", "crossdock_inbox"] {
                    assert!(!line.contains(name), "{}: {line}", path.display());
                }
            }
        }
    }
}
