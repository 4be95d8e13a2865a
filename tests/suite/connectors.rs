//! Every shipped connector can be read, and its own tests pass. What it makes of a real system is
//! tried by `make test-NAME`; see docs/connectors.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use crossdock_tests::binary;

#[test]
fn shipped_connectors_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("connectors");
    let mut tried = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let connector = entry.unwrap().path();
        for command in [["rules", "check"], ["rules", "test"]] {
            let output = Command::new(binary().unwrap())
                .args(command)
                .arg("--config")
                .arg(connector.join("crossdock.toml"))
                .env("CROSSDOCK_PASSWORD", "none")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} {command:?}: {said}", connector.display());
        }
        assert!(connector.join("grants.sql").exists(), "{}", connector.display());
        tried += 1;
    }
    assert!(tried > 0, "no connector was found");
}
