//! GTIDs that come, go and run beside each other.

use crossdock_capture::{CaptureError, DatabaseKind, Memory, Start};
use crossdock_harness::MySql;
use crossdock_model::Value;

use super::rig::{Rig, Server, options};

const COUNTER: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE counter(id INT PRIMARY KEY AUTO_INCREMENT, n INT) ENGINE=InnoDB;";

fn insert(server: &Server, before: &str, n: i64) {
    server.sql("wms", &format!("{before}; INSERT INTO counter(n) VALUES ({n})")).unwrap();
}

fn numbers(rig: &Rig) -> Vec<i64> {
    let of = |event: &crossdock_model::ChangeEvent| match event.after.as_ref().unwrap().get(1) {
        Some(Value::Int(n)) => *n,
        other => panic!("{other:?}"),
    };
    rig.events("counter").into_iter().map(of).collect()
}

/// Reads until so many have come, goes on with another reader, and expects all of them once.
async fn all_of(rig: &mut Rig, count: i64) {
    rig.until(|rig| rig.events("counter").len() as i64 >= count).await;
    assert_eq!(numbers(rig), (0..count).collect::<Vec<_>>());
}

fn mysql(mode: &str) -> Option<Server> {
    if !MySql::installed() {
        return None;
    }
    let server = Server::start_with(DatabaseKind::Mysql, &[("gtid_mode", mode)]);
    server.sql("", COUNTER).unwrap();
    Some(server)
}

#[tokio::test]
async fn gtid_modes_change_while_the_log_is_read() {
    let Some(server) = mysql("OFF") else { return };
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    let mut next = 0;
    let modes = ["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON", "ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"];
    for mode in modes {
        insert(&server, "", next);
        server.sql("", &format!("SET GLOBAL gtid_mode = {mode}")).unwrap();
        insert(&server, "", next + 1);
        all_of(&mut rig, next + 2).await;
        // By GTID in mode ON, where nothing is known of the server before.
        rig.reopen().await;
        insert(&server, "", next + 2);
        all_of(&mut rig, next + 3).await;
        // And as the same server, with a memory.
        let memory = rig.memory().clone();
        let from = rig.durable.clone().unwrap();
        rig.restart(Start::After(from), memory).await;
        insert(&server, "", next + 3);
        all_of(&mut rig, next + 4).await;
        next += 4;
    }
}

#[tokio::test]
async fn transactions_without_gtid_are_not_passed_over_in_mode_on() {
    let Some(server) = mysql("ON_PERMISSIVE") else { return };
    let options = options(&server, &["wms.counter"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    insert(&server, "", 0);
    all_of(&mut rig, 1).await;
    let (from, memory) = (rig.durable.clone().unwrap(), rig.memory().clone());
    rig.restart(Start::SnapshotOnly, Memory::default()).await;
    insert(&server, "SET gtid_next = 'ANONYMOUS'", 1);
    insert(&server, "SET gtid_next = 'AUTOMATIC'", 2);
    server.sql("", "SET GLOBAL gtid_mode = ON").unwrap();
    insert(&server, "", 3);
    // The server would leave out number 1 by GTID; by file it says that it can't send it.
    rig.restart(Start::After(from.clone()), memory.clone()).await;
    let error = rig.error().await;
    assert!(matches!(error, CaptureError::Definite { .. }), "{error:?}");
    assert!(error.to_string().contains("gtid_mode"), "{error}");
    server.sql("", "SET GLOBAL gtid_mode = ON_PERMISSIVE").unwrap();
    rig.restart(Start::After(from), memory).await;
    all_of(&mut rig, 4).await;
}

#[tokio::test]
async fn domains_of_mariadb_run_beside_each_other() {
    let server = Server::start(DatabaseKind::Mariadb);
    server.sql("", COUNTER).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    for n in 0..24 {
        // Sequences of each domain, with numbers that leave some out.
        let sequence =
            if n % 5 == 0 { format!("SET gtid_seq_no = {}", 1000 + n) } else { "".into() };
        insert(&server, &format!("SET gtid_domain_id = {}; {sequence}", n % 3), n);
        if n % 4 == 3 {
            all_of(&mut rig, n + 1).await;
            rig.reopen().await;
        }
        if n == 12 {
            server.sql("", "FLUSH BINARY LOGS").unwrap();
        }
    }
    all_of(&mut rig, 24).await;
    let text = rig.durable.unwrap().to_string();
    assert_eq!(text.split('(').nth(1).unwrap().split(',').count(), 3, "{text}");
}
