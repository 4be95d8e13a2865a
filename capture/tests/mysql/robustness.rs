//! Lost connections, restarts, purged logs, wrong passwords.

use crossdock_capture::{CaptureError, DatabaseKind, Memory, Start, open};
use crossdock_model::Value;

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    nothing_is_lost_or_doubled_over_restarts,
    a_purged_log_is_a_gap,
    a_position_without_gtid_goes_on_by_file_and_offset,
    statements_and_wrong_passwords_are_definite,
);

const COUNTER: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE counter(id INT PRIMARY KEY AUTO_INCREMENT, n INT) ENGINE=InnoDB;";

fn count(server: &Server, from: u32, to: u32) {
    let script: String =
        (from..to).map(|n| format!("INSERT INTO counter(n) VALUES ({n});\n")).collect();
    server.sql("wms", &script).unwrap();
}

fn numbers(rig: &Rig) -> Vec<i64> {
    let of = |value: Option<&Value<'_>>| match value {
        Some(Value::Int(n)) => *n,
        other => panic!("{other:?}"),
    };
    let numbers: Vec<i64> =
        rig.events("counter").iter().map(|e| of(e.after.as_ref().unwrap().get(1))).collect();
    numbers
}

async fn nothing_is_lost_or_doubled_over_restarts(kind: DatabaseKind) {
    let mut server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    count(&server, 0, 10);
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    count(&server, 10, 60);
    rig.until(|rig| rig.events("counter").len() >= 30).await;
    kill_dumps(&server);
    let error = rig.error().await;
    assert!(error.is_transient(), "{error}");
    count(&server, 60, 100);
    rig.reopen().await;
    rig.until(|rig| rig.events("counter").len() >= 80).await;
    server.kill();
    let error = rig.error().await;
    assert!(error.is_transient(), "{error}");
    server.start_again().unwrap();
    count(&server, 100, 150);
    rig.reopen().await;
    rig.until(|rig| rig.events("counter").len() >= 150).await;
    assert_eq!(numbers(&rig), (0..150).collect::<Vec<_>>());
    assert_eq!(rig.rows("counter"), server_rows(&server, "SELECT * FROM counter"));
}

fn kill_dumps(server: &Server) {
    let found = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    let ids = server.sql("", found).unwrap();
    assert!(!ids.trim().is_empty());
    for id in ids.lines() {
        server.sql("", &format!("KILL CONNECTION {id}")).unwrap();
    }
}

async fn a_purged_log_is_a_gap(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    drop(rig);
    count(&server, 0, 3);
    server.sql("", "FLUSH BINARY LOGS").unwrap();
    count(&server, 3, 6);
    server.sql("", "FLUSH BINARY LOGS").unwrap();
    let files = server.sql("", "SHOW BINARY LOGS").unwrap();
    let file = files.lines().last().unwrap().split('\t').next().unwrap();
    // The file is kept as long as the server takes to notice that the reader has gone.
    crossdock_harness::wait_until(std::time::Duration::from_secs(20), || {
        server.sql("", &format!("PURGE BINARY LOGS TO '{file}'")).unwrap();
        server.sql("", "SHOW BINARY LOGS").unwrap().lines().count() == 1
    });
    for from in [from.clone(), without_gtid(&from)] {
        let mut rig = Rig::open(&options(&server, &["wms.counter"]), Some(&from)).await;
        let error = rig.error().await;
        assert!(matches!(error, CaptureError::Gap { .. }), "{error:?}");
    }
}

fn without_gtid(position: &crossdock_model::Position) -> crossdock_model::Position {
    let text = position.to_string();
    text.split(" (").next().unwrap().parse().unwrap()
}

async fn a_position_without_gtid_goes_on_by_file_and_offset(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let options = options(&server, &["wms.counter"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    count(&server, 0, 5);
    rig.until(|rig| rig.events("counter").len() == 5).await;
    let from = without_gtid(&rig.durable.clone().unwrap());
    drop(rig);
    count(&server, 5, 9);
    let mut rig = Rig::open(&options, Some(&from)).await;
    rig.until(|rig| rig.events("counter").len() >= 4).await;
    assert_eq!(numbers(&rig), [5, 6, 7, 8]);
    assert!(rig.durable.unwrap().to_string().contains('('));
}

async fn statements_and_wrong_passwords_are_definite(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let mut options = options(&server, &["wms.counter"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    server.sql("wms", "SET binlog_format = STATEMENT; INSERT INTO counter(n) VALUES (1)").unwrap();
    let error = rig.error().await;
    assert!(matches!(error, CaptureError::Definite { .. }), "{error:?}");
    assert!(error.to_string().contains("binlog_format"), "{error}");
    options.user = "nobody".into();
    options.password = "secret".to_string().into();
    let Err(error) = open(&options, Start::Snapshot, Memory::default()).await else {
        panic!("must fail")
    };
    assert!(matches!(error, CaptureError::Definite { .. }), "{error:?}");
    assert!(error.to_string().contains("GRANT REPLICATION SLAVE"), "{error}");
    assert!(!error.to_string().contains("secret"));
}
