//! Lost connections, restarts, purged logs, wrong passwords.

use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_capture::{CaptureError, DatabaseKind, Memory, Start, open, probe};
use crossdock_model::Value;

use super::proxy;
use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    connections_are_cut_and_fall_silent_under_load,
    a_transaction_that_was_cut_off_comes_again_whole,
    nothing_is_lost_or_doubled_over_restarts,
    a_server_that_only_was_started_again_has_nothing_new,
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

/// It writes into a new file, whose first bytes nobody waits for.
async fn a_server_that_only_was_started_again_has_nothing_new(kind: DatabaseKind) {
    let mut server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    count(&server, 0, 10);
    rig.until(|rig| rig.events("counter").len() >= 10).await;
    server.kill();
    server.start_again().unwrap();
    let read = rig.durable.clone().unwrap();
    let head = probe(&rig.options).await.unwrap().head(Some(&read)).await.unwrap();
    assert_eq!((head.behind_bytes, head.unread_bytes), (0, 0), "{head:?}");
    assert_eq!(head.position, read);
    count(&server, 10, 11);
    let head = probe(&rig.options).await.unwrap().head(Some(&read)).await.unwrap();
    assert!(head.behind_bytes > 100, "{head:?}");
}

async fn connections_are_cut_and_fall_silent_under_load(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let mut options = options(&server, &["wms.counter"]);
    let gate = proxy::gate(server.port()).await;
    options.port = gate.port;
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let over = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut next = 0;
            while !over.load(Ordering::Relaxed) {
                count(&server, next, next + 20);
                next += 20;
            }
            next
        });
        let handle = tokio::runtime::Handle::current();
        let (rig, server) = (&mut rig, &server);
        let reading = scope.spawn(move || handle.block_on(cut_and_silence(rig, server, &gate)));
        let read = reading.join();
        over.store(true, Ordering::Relaxed);
        read.unwrap();
        writing.join().unwrap()
    });
    let all = usize::try_from(last).unwrap();
    // The connection that starved lives on in the server for a while, and holds up the next one.
    while rig.events("counter").len() < all {
        if let Err(error) = rig.block().await {
            assert!(error.is_transient(), "{error}");
            rig.reopen().await;
        }
    }
    assert_eq!(numbers(&rig), (0..i64::from(last)).collect::<Vec<_>>());
}

async fn cut_and_silence(rig: &mut Rig, server: &Server, gate: &proxy::Gate) {
    for round in 1..=4 {
        let seen = rig.events("counter").len();
        rig.until(|rig| rig.events("counter").len() > seen + 30).await;
        match round {
            1 | 3 => kill_dumps(server),
            2 => gate.cut(),
            _ => gate.silence(),
        }
        let error = rig.error().await;
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.to_string().contains("no sign of life"), round == 4, "{error}");
        gate.open();
        rig.reopen().await;
    }
}

/// Blocks end within a transaction, too, when it is longer than one. What had come of it is dropped.
async fn a_transaction_that_was_cut_off_comes_again_whole(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", COUNTER).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.counter"]), None).await;
    rig.snapshot().await;
    count(&server, 0, 10);
    let rows: Vec<String> = (10..2000).map(|n| format!("({n})")).collect();
    server.sql("wms", &format!("INSERT INTO counter(n) VALUES {}", rows.join(","))).unwrap();
    rig.until(|rig| rig.blocks.last().is_some_and(|block| !block.boundary)).await;
    rig.reopen().await;
    rig.until(|rig| rig.events("counter").len() >= 2000).await;
    assert_eq!(numbers(&rig), (0..2000).collect::<Vec<_>>());
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
    // MariaDB says which GTIDs belong to a place; MySQL does so where a file begins.
    assert_eq!(rig.durable.as_ref().unwrap().to_string().contains('('), !server.is_mysql());
    server.sql("", "FLUSH BINARY LOGS").unwrap();
    count(&server, 9, 11);
    rig.until(|rig| rig.events("counter").len() >= 6).await;
    assert!(rig.durable.as_ref().unwrap().to_string().contains('('), "{:?}", rig.durable);
    rig.reopen().await;
    count(&server, 11, 13);
    rig.until(|rig| rig.events("counter").len() >= 8).await;
    assert_eq!(numbers(&rig), (5..13).collect::<Vec<_>>());
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
