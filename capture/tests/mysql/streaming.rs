//! Snapshot, stream, and what stands between them.

use std::time::Duration;

use crossdock_capture::{DatabaseKind, Severity, check, describe, probe};
use crossdock_model::{Op, Position, RowImage, Value};

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    a_snapshot_joins_the_stream_while_others_write,
    compressed_events_rotation_and_a_large_transaction,
    definitions_change_in_mid_stream,
    minimal_row_images_name_what_changed,
    the_server_is_checked_described_and_probed,
);

const ORDERS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE orders(id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, note VARCHAR(200));
    CREATE TABLE other(id INT PRIMARY KEY);";

fn server(kind: DatabaseKind) -> Server {
    let server = Server::start(kind);
    server.sql("", ORDERS).unwrap();
    server
}

/// Inserts, updates and deletes until dropped.
fn write(server: &Server, from: u32, to: u32) {
    let mut script = String::new();
    for i in from..to {
        script.push_str(&format!(
            "BEGIN; INSERT INTO orders(n, note) VALUES ({i}, REPEAT('x', {})), ({i}, NULL);
             UPDATE orders SET n = n + 1 WHERE id % 7 = {}; COMMIT;
             DELETE FROM orders WHERE id = {i}; INSERT INTO other VALUES ({i});\n",
            i % 100,
            i % 7
        ));
    }
    server.sql("wms", &script).unwrap();
}

async fn a_snapshot_joins_the_stream_while_others_write(kind: DatabaseKind) {
    let server = server(kind);
    write(&server, 0, 150);
    let options = options(&server, &["wms.orders"]);
    let rig = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&server, 150, 300));
        let handle = tokio::runtime::Handle::current();
        let reading = scope.spawn(move || {
            handle.block_on(async {
                let mut rig = Rig::open(&options, None).await;
                rig.snapshot().await;
                rig
            })
        });
        writer.join().unwrap();
        reading.join().unwrap()
    });
    let mut rig = rig;
    server.sql("wms", "INSERT INTO orders(id, n) VALUES (99999, 1)").unwrap();
    rig.until(|rig| {
        rig.events("orders").iter().any(|e| {
            e.after.as_ref().is_some_and(|image| image.get(0) == Some(&Value::Int(99_999)))
        })
    })
    .await;
    assert_eq!(rig.rows("orders"), server_rows(&server, "SELECT * FROM orders"));
    assert!(rig.events("other").is_empty());
    for fragment in &rig.fragments {
        assert_eq!(fragment.header.origin, None);
    }
}

async fn compressed_events_rotation_and_a_large_transaction(kind: DatabaseKind) {
    let server = match kind {
        DatabaseKind::Mysql => {
            Server::start_with(kind, &[("binlog_transaction_compression", "ON")])
        }
        _ => {
            let settings = [("log_bin_compress", "ON"), ("log_bin_compress_min_len", "10")];
            Server::start_with(kind, &settings)
        }
    };
    server.sql("", ORDERS).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    let rows: Vec<_> =
        (1..=5000).map(|n| format!("({n}, REPEAT(CHAR(65 + {n} % 26), 100))")).collect();
    let script = format!(
        "INSERT INTO orders(n, note) VALUES {}; FLUSH BINARY LOGS; UPDATE orders SET n = -n;
         FLUSH BINARY LOGS; DELETE FROM orders WHERE id % 2 = 0;",
        rows.join(",")
    );
    server.sql("wms", &script).unwrap();
    rig.until(|rig| rig.events("orders").len() == 12_500).await;
    assert_eq!(rig.rows("orders"), server_rows(&server, "SELECT * FROM orders"));
    let parts = rig.fragments.iter().filter(|f| !f.last).count();
    assert!(parts > 10, "{parts}");
    assert_eq!(rig.fragments.iter().filter(|f| f.first && f.events.len() > 1).count(), 3);
    let ordinals: Vec<_> = rig.events("orders").iter().map(|e| e.ordinal).collect();
    assert!(ordinals[..5000].iter().copied().eq(0..5000));
    let bytes = rig.blocks.iter().map(|b| b.bytes.len()).max().unwrap();
    assert!(bytes < 64 * 1024, "{bytes}");
    let Some(Position::Binlog { file, gtid, .. }) = &rig.durable else { panic!() };
    assert!(file.ends_with("000003") || file.ends_with("000004"), "{file}");
    assert!(gtid.starts_with(if server.is_mysql() { &gtid[..36] } else { "0-" }), "{gtid}");
}

async fn definitions_change_in_mid_stream(kind: DatabaseKind) {
    let server = server(kind);
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    server
        .sql(
            "wms",
            "INSERT INTO orders(n) VALUES (1); ALTER TABLE orders ADD COLUMN kg DECIMAL(9,3) AFTER n;
             UPDATE orders SET kg = 5; ALTER TABLE orders RENAME COLUMN note TO remark;
             INSERT INTO orders(n, remark) VALUES (2, 'two'); TRUNCATE TABLE orders;
             INSERT INTO orders(n) VALUES (3);",
        )
        .unwrap();
    rig.until(|rig| rig.events("orders").len() == 5).await;
    let events = rig.events("orders");
    let names = |at: usize| -> Vec<String> {
        let table = events[at].table.as_ref().unwrap();
        table.columns.iter().map(|c| c.name.to_string()).collect()
    };
    assert_eq!(names(0), ["id", "n", "note"]);
    assert_eq!(names(1), ["id", "n", "kg", "note"]);
    assert_eq!(names(2), ["id", "n", "kg", "remark"]);
    let kg = events[1].after.as_ref().unwrap().get(2);
    assert_eq!(kg, Some(&Value::Decimal("5.000".into())));
    assert_eq!(events[3].op, Op::Truncate);
    let types: Vec<_> =
        events[4].table.as_ref().unwrap().columns.iter().map(|c| c.type_name.to_string()).collect();
    let int = if server.is_mysql() { "int" } else { "int(11)" };
    assert_eq!(types, [int, int, "decimal(9,3)", "varchar(200)"]);
    assert_eq!(events[4].table.as_ref().unwrap().key_columns(), [0]);
}

async fn minimal_row_images_name_what_changed(kind: DatabaseKind) {
    let server = server(kind);
    server.sql("wms", "INSERT INTO orders(n, note) VALUES (1, 'a'), (2, 'b')").unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    server
        .sql(
            "wms",
            "SET binlog_row_image = MINIMAL; UPDATE orders SET n = 10 WHERE id = 1;
             DELETE FROM orders WHERE id = 2; INSERT INTO orders(n) VALUES (7);",
        )
        .unwrap();
    rig.until(|rig| rig.events("orders").len() == 5).await;
    let events = rig.events("orders");
    let key = |id| Some(RowImage::Key(vec![Some(Value::Int(id)), None, None]));
    assert_eq!(events[2].before, key(1));
    let after = RowImage::Partial(vec![Some(Value::Int(1)), Some(Value::Int(10)), None]);
    assert_eq!(events[2].after, Some(after));
    assert_eq!((&events[3].before, &events[3].after), (&key(2), &None));
    // Columns that an insert does not name have their defaults.
    let inserted = RowImage::Full(vec![Value::Int(3), Value::Int(7), Value::Null]);
    assert_eq!(events[4].after, Some(inserted));
}

#[tokio::test]
async fn marks_origins_and_progress_rows_are_seen() {
    let server = server(DatabaseKind::Mariadb);
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    server
        .sql(
            "wms",
            "SET skip_replication = 1; INSERT INTO orders(n) VALUES (1); SET skip_replication = 0;
             CREATE TABLE crossdock_progress(id INT PRIMARY KEY, mark TEXT);
             INSERT INTO crossdock_progress VALUES (1, 'ours');
             SET server_id = 77; SET gtid_domain_id = 5; INSERT INTO orders(n) VALUES (2);",
        )
        .unwrap();
    rig.until(|rig| rig.events("orders").len() == 2).await;
    assert_eq!(rig.events("crossdock_progress").len(), 1);
    let origins: Vec<_> = rig.fragments.iter().map(|f| f.header.origin.as_deref()).collect();
    assert_eq!(origins, [Some("skip_replication"), None, Some("77")]);
    assert!(rig.fragments[2].header.id.starts_with("5-77-"), "{}", rig.fragments[2].header.id);
    let Some(Position::Binlog { gtid, .. }) = &rig.durable else { panic!() };
    assert_eq!(gtid.split(',').count(), 2, "{gtid}");
}

#[tokio::test]
async fn tagged_gtids_and_progress_rows_of_mysql_are_seen() {
    if !crossdock_harness::MySql::installed() {
        return;
    }
    let server = server(DatabaseKind::Mysql);
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), None).await;
    rig.snapshot().await;
    server
        .sql(
            "wms",
            "CREATE TABLE crossdock_progress(id INT PRIMARY KEY, mark TEXT);
             SET gtid_next = 'AUTOMATIC:ours';
             BEGIN; INSERT INTO crossdock_progress VALUES (1, 'ours');
             INSERT INTO orders(n) VALUES (1); COMMIT;
             SET gtid_next = 'AUTOMATIC'; INSERT INTO orders(n) VALUES (2);",
        )
        .unwrap();
    rig.until(|rig| rig.events("orders").len() == 2).await;
    assert_eq!(rig.events("crossdock_progress").len(), 1);
    let ids: Vec<_> = rig.fragments.iter().map(|f| &f.header.id[36..]).collect();
    assert_eq!(ids[0], ":ours:1");
    assert!(!ids[1].contains("ours"), "{ids:?}");
    let from = rig.durable.clone().unwrap();
    assert!(from.to_string().contains(":ours:1"), "{from}");
    drop(rig);
    server.sql("wms", "INSERT INTO orders(n) VALUES (3)").unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.orders"]), Some(&from)).await;
    rig.until(|rig| !rig.events("orders").is_empty()).await;
    assert_eq!(rig.events("orders")[0].after.as_ref().unwrap().get(1), Some(&Value::Int(3)));
}

async fn the_server_is_checked_described_and_probed(kind: DatabaseKind) {
    let server = server(kind);
    let options = options(&server, &["wms.orders", "wms.missing"]);
    server.sql("", "SET GLOBAL binlog_expire_logs_seconds = 7200").unwrap();
    let found = check(&options).await.unwrap();
    let short = found.iter().find(|f| f.what.contains("expire")).unwrap();
    assert_eq!((short.severity, &*short.what), (Severity::Warning, "binlogs expire after 2 hours"));
    let errors: Vec<_> =
        found.iter().filter(|f| f.severity == Severity::Error).map(|f| &f.what).collect();
    assert_eq!(errors.len(), 1, "{found:#?}");
    assert!(errors[0].contains("wms.missing"));
    let schemas = describe(&options).await.unwrap();
    assert_eq!(schemas.len(), 1);
    assert_eq!(&*schemas[0].columns[2].type_name, "varchar(200)");
    let mut probe = probe(&options).await.unwrap();
    let head = probe.head(None).await.unwrap();
    // The file that is being written does not expire.
    assert_eq!((head.unread_bytes, head.keep_limit_age), (0, None));
    server.sql("wms", "INSERT INTO orders(n) VALUES (1); FLUSH BINARY LOGS;").unwrap();
    let later = probe.head(Some(&head.position)).await.unwrap();
    assert!(later.behind_bytes > 100 && later.behind_bytes < 4096, "{later:?}");
    assert!(later.retained_bytes >= later.unread_bytes);
    assert!(later.unread_bytes > later.behind_bytes, "files count whole: {later:?}");
    assert_eq!(later.keep_limit_age, Some(Duration::from_secs(7200)));
    assert_eq!(later.keep_limit_bytes, None);
}
