//! A day of operation: real connections, an outage, metrics, a changed owner, a clean end.

use std::time::Duration;

use crossdock_demo::demo;
use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::{free_port, wait_until};
use crossdock_tests::Crossdock;

use crate::stage::{copy_demo_files, environment};

const SOON: Duration = Duration::from_secs(180);

#[test]
fn outages_metrics_and_a_changed_owner() {
    let mut systems = demo::start_systems(TmsKind::Mariadb).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = copy_demo_files(folder.path());
    let port = free_port().unwrap();
    let env = environment(&systems, &folder.path().join("state"), port);
    let mut crossdock = Crossdock::new(&config, &env, port, folder.path());

    let check = crossdock.run(&["check"]).unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    crossdock.start().unwrap();
    crossdock.wait_caught_up(Duration::from_secs(180)).unwrap();

    the_servers_see_replicas(&systems);
    metrics_are_there(&crossdock);
    one_source_may_be_away(&mut systems, &crossdock);
    a_second_process_is_refused(&crossdock);
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
    a_changed_owner_changes_what_is_applied(&systems, folder.path(), &mut crossdock);
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
    lost_state_is_noticed(&folder.path().join("state"), &mut crossdock);
    assert!(crossdock.stop().unwrap(), "{}", crossdock.log_tail());
    let status = crossdock.run(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(1), "nothing runs any more");
    let list = crossdock.run(&["checkpoints", "list"]).unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for name in ["source", "integrate", "target", "wms_eu", "tms"] {
        assert!(list.contains(name), "{list}");
    }
}

fn the_servers_see_replicas(systems: &Systems) {
    for (server, database) in [(&systems.erp, "erp"), (&systems.wms_us, "wms_us")] {
        let senders = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        assert_eq!(server.sql(database, senders).unwrap(), "1");
    }
    for server in [&*systems.wms_eu, &*systems.tms] {
        let threads = server.sql("", "SHOW PROCESSLIST").unwrap();
        assert!(threads.contains("Binlog Dump"), "{threads}");
    }
}

fn metrics_are_there(crossdock: &Crossdock) {
    let metrics = crossdock.page("/metrics").unwrap();
    for line in [
        "crossdock_source_lag_seconds{source=\"erp\"} 0",
        "crossdock_source_behind_bytes{source=\"wms_eu\"} 0",
        "crossdock_source_retained_log_bytes{source=\"tms\"} ",
        "crossdock_events_total{op=\"r\",source=\"erp\",table=\"public.sales_orders\"} ",
        "crossdock_journal_bytes{source=\"wms_us\"} ",
        "crossdock_journal_oldest_age_seconds{source=\"wms_us\"} ",
        "crossdock_target_lag_seconds{target=\"erp\"} 0",
        "crossdock_target_pending{target=\"erp\"} 0",
        "crossdock_exceptions_open ",
        "crossdock_holds ",
        "crossdock_echo_leaked_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert_eq!(crossdock.page("/healthz").unwrap(), "ok\n");
    assert_eq!(crossdock.page("/readyz").unwrap(), "ready\n");
}

fn customer_name(systems: &Systems, code: &str) -> String {
    let sql = format!(
        "SELECT fields ->> 'name' FROM crossdock.record WHERE entity = 'customer' AND key = 'cus:{code}'"
    );
    systems.store.sql("canonical", &sql).unwrap()
}

fn a_customer(systems: &Systems) -> String {
    systems.erp.sql("erp", "SELECT min(party_code) FROM customers").unwrap()
}

fn one_source_may_be_away(systems: &mut Systems, crossdock: &Crossdock) {
    let code = a_customer(systems);
    systems.wms_eu.stop();
    let retrying = wait_until(SOON, || {
        crossdock.page("/readyz").is_ok_and(|page| page.contains("source wms_eu: retrying"))
    });
    assert!(retrying, "{}", crossdock.page("/readyz").unwrap());
    let sql =
        format!("UPDATE customers SET name = 'During the outage' WHERE party_code = '{code}'");
    systems.erp.sql("erp", &sql).unwrap();
    assert!(wait_until(SOON, || customer_name(systems, &code) == "During the outage"));

    systems.wms_eu.start_again().unwrap();
    let sql = "UPDATE stock SET on_hand = 4711 ORDER BY sku LIMIT 1; SELECT min(sku) FROM stock";
    let sku = systems.wms_eu.sql("wms", sql).unwrap();
    let sql = format!(
        "SELECT fields ->> 'on_hand' FROM crossdock.record
         WHERE entity = 'inventory_position' AND key = 'inv:EU:{sku}'"
    );
    let caught_up = wait_until(SOON, || systems.store.sql("canonical", &sql).unwrap() == "4711");
    assert!(caught_up, "{}", crossdock.log_tail());
    assert!(wait_until(SOON, || crossdock.page("/readyz").is_ok_and(|page| page == "ready\n")));
}

fn a_second_process_is_refused(crossdock: &Crossdock) {
    let second = crossdock.run(&["run"]).unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another crossdock"), "{said}");
}

fn a_changed_owner_changes_what_is_applied(
    systems: &Systems,
    files: &std::path::Path,
    crossdock: &mut Crossdock,
) {
    let code = a_customer(systems);
    let rules = files.join("rules/10-ownership.toml");
    let text = std::fs::read_to_string(&rules).unwrap();
    let from = "credit_limit = { owner = \"erp\", on_violation = \"quarantine\" }";
    assert!(text.contains(from));
    let to = format!("{from}\nname = {{ owner = \"wms_eu\" }}");
    std::fs::write(&rules, text.replacen(from, &to, 1)).unwrap();
    crossdock.start().unwrap();
    let sql =
        format!("UPDATE customers SET name = 'The warehouse says' WHERE party_code = '{code}'");
    systems.wms_eu.sql("wms", &sql).unwrap();
    let applied = wait_until(SOON, || customer_name(systems, &code) == "The warehouse says");
    assert!(applied, "{} {}", customer_name(systems, &code), crossdock.log_tail());
}

/// Lost checkpoints are only a warning. A lost journal is noticed, and the message mends it.
fn lost_state_is_noticed(state: &std::path::Path, crossdock: &mut Crossdock) {
    let forget_checkpoints = || {
        for entry in std::fs::read_dir(state).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("checkpoints") {
                let removed = std::fs::remove_dir_all(&path);
                removed.or_else(|_| std::fs::remove_file(&path)).unwrap();
            }
        }
    };
    forget_checkpoints();
    crossdock.start().unwrap();
    crossdock.wait_caught_up(SOON).unwrap();
    assert!(crossdock.stop().unwrap());

    forget_checkpoints();
    std::fs::remove_dir_all(state.join("journal/wms_us")).unwrap();
    crossdock.start().unwrap();
    let mut page = String::new();
    let noticed = wait_until(SOON, || {
        page = crossdock.page("/readyz").unwrap_or_default();
        page.contains("the journal of wms_us is not the one")
    });
    assert!(noticed, "{page}");
    let advice = page.split("crossdock rewind ").nth(1).unwrap().lines().next().unwrap();
    let words: Vec<&str> = std::iter::once("rewind").chain(advice.split(' ')).collect();
    let output = crossdock.run(&words).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    crossdock.wait_caught_up(SOON).unwrap();
}
