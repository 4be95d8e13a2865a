//! The demo's systems as a stage for whole-system tests.

use std::fs;
use std::path::{Path, PathBuf};

use crossdock_demo::systems::Systems;

/// The environment that the demo's config reads.
pub fn environment(systems: &Systems, state: &Path, port: u16) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = systems.environment().into_iter().collect();
    env.push(("CROSSDOCK_STATE".into(), state.display().to_string()));
    env.push(("CROSSDOCK_LISTEN".into(), format!("127.0.0.1:{port}")));
    env
}

fn demo_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo")
}

/// The demo's own config.
pub fn demo_config() -> PathBuf {
    demo_folder().join("crossdock.toml")
}

/// Copies the demo's config, mappings and rules, to be changed. Returns the config's path.
pub fn copy_demo_files(to: &Path) -> PathBuf {
    let demo = demo_folder();
    for folder in ["mappings", "rules"] {
        fs::create_dir(to.join(folder)).unwrap();
        for entry in fs::read_dir(demo.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    let config = to.join("crossdock.toml");
    fs::copy(demo.join("crossdock.toml"), &config).unwrap();
    config
}
