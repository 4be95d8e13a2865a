//! XA transactions: whole at XA COMMIT, nothing of them before, and nothing after XA ROLLBACK,
//! whatever lies between prepare and commit.

use crossdock_capture::{CaptureError, DatabaseKind};
use crossdock_harness::wait_until;
use crossdock_model::Value;
use std::time::Duration;

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    prepared_transactions_come_whole_when_they_are_committed,
    readers_that_did_not_see_the_prepare_find_it_in_the_log,
    large_prepared_transactions_are_read_from_the_log,
    a_purged_prepare_is_a_gap,
);

const ITEMS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE item(id INT PRIMARY KEY, n INT, note VARCHAR(2000));
    CREATE TABLE other(id INT PRIMARY KEY); INSERT INTO item VALUES (1, 1, NULL);";

fn start(kind: DatabaseKind) -> Server {
    let compressed = [("binlog_transaction_compression", "ON")];
    let server = match kind {
        DatabaseKind::Mysql => Server::start_with(kind, &compressed),
        _ => Server::start(kind),
    };
    server.sql("", ITEMS).unwrap();
    server
}

/// Prepares a transaction in a session that ends then.
fn prepare(server: &Server, xid: &str, statements: &str) {
    let sql = format!("XA START {xid}; {statements}; XA END {xid}; XA PREPARE {xid};");
    server.sql("wms", &sql).unwrap();
}

/// The ids that came, by transaction.
fn transactions(rig: &Rig) -> Vec<Vec<i64>> {
    let mut all: Vec<Vec<i64>> = Vec::new();
    for fragment in rig.fragments.iter().filter(|fragment| !fragment.header.snapshot) {
        if fragment.first {
            all.push(Vec::new());
        }
        for event in &fragment.events {
            let image = event.after.as_ref().or(event.before.as_ref()).unwrap();
            let Some(Value::Int(id)) = image.get(0) else { panic!("{event:?}") };
            all.last_mut().unwrap().push(*id);
        }
    }
    all
}

async fn prepared_transactions_come_whole_when_they_are_committed(kind: DatabaseKind) {
    let server = start(kind);
    let mut rig = Rig::open(&options(&server, &["wms.item"]), None).await;
    rig.snapshot().await;
    prepare(&server, "'a','b',7", "INSERT INTO item VALUES (2, 2, 'a'), (3, 3, 'ü')");
    prepare(&server, "'gone'", "INSERT INTO item VALUES (4, 4, NULL)");
    prepare(&server, "'away'", "INSERT INTO other VALUES (1)");
    prepare(
        &server,
        "X'00ff'",
        "INSERT INTO other VALUES (2); INSERT INTO item VALUES (5, 5, NULL); \
         INSERT INTO other VALUES (3); UPDATE item SET n = 6 WHERE id = 5",
    );
    server.sql("wms", "INSERT INTO item VALUES (10, 10, NULL)").unwrap();
    server.sql("wms", "XA COMMIT 'away'; XA ROLLBACK 'gone'; XA COMMIT X'00ff';").unwrap();
    server.sql("wms", "UPDATE item SET n = 11 WHERE id = 10; XA COMMIT 'a','b',7;").unwrap();
    // The same name once more, at once and in one phase.
    server
        .sql(
            "wms",
            "XA START 'a','b',7; DELETE FROM item WHERE id = 2; XA END 'a','b',7; \
             XA PREPARE 'a','b',7; XA COMMIT 'a','b',7; XA START 'one'; \
             INSERT INTO item VALUES (12, 12, NULL); XA END 'one'; XA COMMIT 'one' ONE PHASE; \
             XA START 'empty'; XA END 'empty'; XA PREPARE 'empty'; XA COMMIT 'empty'; \
             INSERT INTO item VALUES (13, 13, NULL);",
        )
        .unwrap();
    rig.until(|rig| transactions(rig).last().is_some_and(|ids| ids == &[13])).await;
    let expected: [&[i64]; 7] = [&[10], &[5, 5], &[10], &[2, 3], &[2], &[12], &[13]];
    assert_eq!(transactions(&rig), expected);
    assert_eq!(rig.rows("item"), server_rows(&server, "SELECT * FROM item"));
    let orders: Vec<_> = rig.fragments.iter().map(|f| f.header.commit.order(0)).collect();
    assert!(orders.is_sorted(), "{orders:?}");
}

async fn readers_that_did_not_see_the_prepare_find_it_in_the_log(kind: DatabaseKind) {
    let server = start(kind);
    // Prepared before the snapshot, which does not see it.
    prepare(&server, "'early'", "INSERT INTO item VALUES (2, 2, 'early')");
    let mut rig = Rig::open(&options(&server, &["wms.item"]), None).await;
    rig.snapshot().await;
    assert_eq!(rig.rows("item").len(), 1);
    prepare(&server, "'late'", "INSERT INTO item VALUES (3, 3, 'late')");
    prepare(&server, "'never'", "INSERT INTO item VALUES (9, 9, NULL)");
    server.sql("wms", "INSERT INTO item VALUES (4, 4, NULL)").unwrap();
    rig.until(|rig| rig.events("item").len() == 2).await;
    let passed = rig.durable.clone().unwrap();
    // An earlier one of the same name, and one that was ended.
    server.sql("wms", "FLUSH BINARY LOGS; XA ROLLBACK 'never'").unwrap();
    prepare(&server, "'never'", "INSERT INTO other VALUES (9)");
    server.sql("wms", "FLUSH BINARY LOGS; XA COMMIT 'late'; XA COMMIT 'never'").unwrap();
    rig.reopen().await;
    assert_eq!(rig.durable, Some(passed));
    server.sql("wms", "XA COMMIT 'early'; INSERT INTO item VALUES (5, 5, NULL)").unwrap();
    rig.until(|rig| transactions(rig).last().is_some_and(|ids| ids == &[5])).await;
    assert_eq!(transactions(&rig), [[4], [3], [2], [5]]);
    assert_eq!(rig.rows("item"), server_rows(&server, "SELECT * FROM item"));
    // The reader's own dump goes on beside those that searched.
    server.sql("wms", "INSERT INTO item VALUES (6, 6, NULL)").unwrap();
    rig.until(|rig| transactions(rig).last().is_some_and(|ids| ids == &[6])).await;
}

async fn large_prepared_transactions_are_read_from_the_log(kind: DatabaseKind) {
    let server = start(kind);
    let mut rig = Rig::open(&options(&server, &["wms.item"]), None).await;
    rig.snapshot().await;
    let insert = |from: u32| {
        let rows: Vec<_> = (from..from + 3000)
            .map(|id| format!("({id}, 1, REPEAT(SHA2({id}, 256), 20))"))
            .collect();
        format!("INSERT INTO item VALUES {}", rows.join(","))
    };
    prepare(&server, "'large'", &insert(1000));
    server.sql("wms", "INSERT INTO item VALUES (2, 2, NULL)").unwrap();
    let one = format!("XA START 'o'; {}; XA END 'o'; XA COMMIT 'o' ONE PHASE;", insert(10_000));
    server.sql("wms", &one).unwrap();
    server.sql("wms", "XA COMMIT 'large'; INSERT INTO item VALUES (3, 3, NULL)").unwrap();
    rig.until(|rig| rig.events("item").len() == 6003).await;
    let sizes: Vec<_> = transactions(&rig).iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 3000, 3000, 1]);
    assert_eq!(transactions(&rig)[2][0], 1000);
    assert_eq!(rig.rows("item"), server_rows(&server, "SELECT * FROM item"));
    let bytes = rig.blocks.iter().map(|block| block.bytes.len()).max().unwrap();
    assert!(bytes < 64 * 1024, "{bytes}");
}

async fn a_purged_prepare_is_a_gap(kind: DatabaseKind) {
    let server = start(kind);
    prepare(&server, "'early'", "INSERT INTO item VALUES (2, 2, 'early')");
    server.sql("", "FLUSH BINARY LOGS").unwrap();
    let files = server.sql("", "SHOW BINARY LOGS").unwrap();
    let file = files.lines().last().unwrap().split('\t').next().unwrap().to_string();
    let alone = wait_until(Duration::from_secs(20), || {
        server.sql("", &format!("PURGE BINARY LOGS TO '{file}'")).unwrap();
        server.sql("", "SHOW BINARY LOGS").unwrap().lines().count() == 1
    });
    assert!(alone, "{files}");
    let mut rig = Rig::open(&options(&server, &["wms.item"]), None).await;
    rig.snapshot().await;
    server.sql("", "XA COMMIT 'early'").unwrap();
    let error = rig.error().await;
    assert!(matches!(error, CaptureError::Gap { .. }), "{error:?}");
    assert!(error.to_string().contains("XA"), "{error}");
}
