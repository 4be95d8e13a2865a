//! S1 of the manufacturer's scenario. The other rows are steps of one story in `manufacturer.rs`, and
//! S12 is in `order_states.rs`.

use std::process::Command;

use crossdock_tests::binary;

/// S1: a cloud ERP, two regional warehouse systems and a TMS come up with one command, work, and
/// end with what the workload's own account says.
#[test]
fn s1_one_command_brings_the_manufacturer_up() {
    let demo = binary().unwrap().with_file_name("crossdock-demo");
    let output = Command::new(demo).args(["run", "--seconds", "4", "--rate", "5"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{errors}");
    for system in ["  erp ", "  wms_eu ", "  wms_us ", "  tms ", "  store "] {
        assert!(said.lines().any(|line| line.starts_with(system)), "{system}\n{said}");
    }
    assert!(said.contains("Everything is as it must be."), "{said}");
}
