//! Tables that are read in parts beside the stream, snapshots that go on after an interruption,
//! and the other ways to begin.

use std::time::Duration;

use crossdock_capture::{
    CopyState, DatabaseKind, Finding, LogReader, Memory, Purpose, Reader, Start, TableCopy, check,
    open,
};
use crossdock_model::{Op, SnapshotPart, TableName, Value};

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    an_interrupted_snapshot_goes_on,
    tables_are_read_beside_the_stream,
    keys_of_many_kinds_are_read_in_parts,
    from_now_on_and_snapshots_alone,
);

const ORDERS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE orders(id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, note VARCHAR(200));
    CREATE TABLE keyless(n INT);";

fn server(kind: DatabaseKind) -> Server {
    let server = Server::start(kind);
    server.sql("", ORDERS).unwrap();
    fill(&server, 4000);
    server
}

fn fill(server: &Server, rows: u32) {
    let rows: Vec<_> = (0..rows).map(|n| format!("({n}, REPEAT('x', {}))", n % 90)).collect();
    let script = format!("INSERT INTO orders(n, note) VALUES {}", rows.join(","));
    server.sql("wms", &script).unwrap();
}

/// Updates, deletes, moves and inserts rows all over the table.
fn write(server: &Server, rounds: std::ops::Range<u32>) {
    let mut script = String::new();
    for i in rounds {
        script.push_str(&format!(
            "UPDATE orders SET n = n + 1 WHERE id % 97 = {}; DELETE FROM orders WHERE id % 991 = {};
             UPDATE orders SET id = id + 1000000 WHERE id = {};
             INSERT INTO orders(n, note) VALUES ({i}, NULL);\n",
            i % 97,
            i % 991,
            i * 7 + 3
        ));
    }
    server.sql("wms", &script).unwrap();
}

/// Says that this is the end, so that a reader can stop.
fn end(server: &Server) {
    server.sql("wms", "INSERT INTO orders(id, n) VALUES (9000000, 0)").unwrap();
}

fn has_ended(rig: &Rig) -> bool {
    let last = |e: &&crossdock_model::ChangeEvent| {
        e.after.as_ref().is_some_and(|image| image.get(0) == Some(&Value::Int(9_000_000)))
    };
    rig.events("orders").iter().any(last)
}

fn copy(rig: &Rig, table: &str) -> TableCopy {
    rig.memory().table(&TableName::new("wms", table)).unwrap().clone()
}

async fn an_interrupted_snapshot_goes_on(kind: DatabaseKind) {
    let server = server(kind);
    let options = options(&server, &["wms.orders"]);
    let mut rig = Rig::open(&options, None).await;
    rig.until(|rig| rig.events("orders").len() > 1000).await;
    let memory = rig.memory().clone();
    assert!(!copy(&rig, "orders").cursor.is_null());
    assert_eq!(copy(&rig, "orders").rows, rig.events("orders").len() as u64);
    let from = rig.blocks.last().unwrap().end.clone();
    write(&server, 0..40);
    let writer = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(&server, 40..120));
        let handle = tokio::runtime::Handle::current();
        let rig = &mut rig;
        let reading = scope.spawn(move || {
            handle.block_on(async {
                rig.restart(Start::Resume(from), memory).await;
                rig.until(|rig| {
                    rig.blocks.last().is_some_and(|b| b.snapshot == SnapshotPart::Last)
                })
                .await;
            })
        });
        reading.join().unwrap();
        writing.join()
    });
    writer.unwrap();
    end(&server);
    rig.until(has_ended).await;
    assert_eq!(rig.images("orders"), server_rows(&server, "SELECT * FROM orders"));
    let done = copy(&rig, "orders");
    assert_eq!((&done.state, done.purpose), (&CopyState::Done, Purpose::Initial), "{done:?}");
    let first = rig.blocks.iter().filter(|b| b.snapshot == SnapshotPart::First).count();
    assert_eq!(first, 1, "the snapshot was not taken anew");
}

async fn tables_are_read_beside_the_stream(kind: DatabaseKind) {
    let server = server(kind);
    let mut options = options(&server, &["wms.keyless"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    options.tables.push(TableName::new("wms", "orders"));
    rig.options = options;
    let mut memory = rig.memory().clone();
    let orders = TableName::new("wms", "orders");
    memory.tables.push(TableCopy::new(orders, Purpose::Added));
    let keyless = TableName::new("wms", "keyless");
    memory.tables.retain(|copy| copy.table != keyless);
    memory.tables.push(TableCopy::new(keyless, Purpose::Requested));
    std::thread::scope(|scope| {
        scope.spawn(|| write(&server, 0..100));
        let handle = tokio::runtime::Handle::current();
        let rig = &mut rig;
        scope.spawn(move || {
            handle.block_on(async {
                rig.restart(Start::After(from), memory).await;
                rig.until(|rig| copy(rig, "orders").state == CopyState::Done).await;
                rig.until(|rig| copy(rig, "keyless").state != CopyState::Pending).await;
            })
        });
    });
    end(&server);
    rig.until(has_ended).await;
    assert_eq!(rig.images("orders"), server_rows(&server, "SELECT * FROM orders"));
    let CopyState::Failed(why) = copy(&rig, "keyless").state else { panic!() };
    assert!(why.contains("primary key"), "{why}");
    let done = copy(&rig, "orders");
    // How many of them the stream has given whole meanwhile, nobody knows.
    assert!(done.rows > 0 && done.since.is_some(), "{done:?}");
    let messages = rig.fragments.iter().flat_map(|f| &f.events).filter(|e| e.op == Op::Message);
    assert_eq!(messages.count(), 1);
    // Part of them, with a condition.
    let mut memory = rig.memory().clone();
    memory.tables.retain(|copy| &*copy.table.table != "orders");
    let filter = Some("id % 10 = 0 OR n < 0".to_string());
    let orders = TableName::new("wms", "orders");
    memory.tables.push(TableCopy { filter, ..TableCopy::new(orders, Purpose::Requested) });
    let (from, before) = (rig.durable.clone().unwrap(), rig.events("orders").len());
    rig.restart(Start::After(from), memory).await;
    rig.until(|rig| copy(rig, "orders").state == CopyState::Done).await;
    let expected = server.sql("wms", "SELECT COUNT(*) FROM orders WHERE id % 10 = 0").unwrap();
    assert_eq!((rig.events("orders").len() - before).to_string(), expected.trim());
}

const KEYS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE texts(k VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german1_ci, d DECIMAL(9,3),
        PRIMARY KEY (k, d));
    CREATE TABLE bytes(b BINARY(4), at DATETIME(3), PRIMARY KEY (b, at));
    CREATE TABLE days(d DATE, t TIME, ts TIMESTAMP(6), u BIGINT UNSIGNED, PRIMARY KEY (d, t, ts, u));
    CREATE TABLE floats(f FLOAT, g DOUBLE(12,3), d DOUBLE, PRIMARY KEY (f, g, d));
    CREATE TABLE choices(e ENUM('z', 'it''s', 'a\\b', 'ö'), s SET('m', 'ä', 'c', 'b', 'k'), b BIT(64),
        y YEAR, PRIMARY KEY (e, s, b, y));
    CREATE TABLE kinds(k ENUM('b', '') PRIMARY KEY); INSERT INTO kinds VALUES ('b'), ('');
    CREATE TABLE starts(k VARCHAR(300), PRIMARY KEY (k(2))); INSERT INTO starts VALUES ('b');";

/// What is refused, and why.
const REFUSED: [(&str, &str); 2] = [("kinds", "key column k"), ("starts", "beginning of a column")];
const ORDERED: [&str; 5] = ["texts", "bytes", "days", "floats", "choices"];

async fn keys_of_many_kinds_are_read_in_parts(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", KEYS).unwrap();
    let mut script = "SET time_zone = '+00:00', sql_mode = '';".to_string();
    for i in 0..3000_u32 {
        let text = ["ä''b", "\\\\", "Z", "é x", "ß"][i as usize % 5];
        script.push_str(&format!(
            "INSERT INTO texts VALUES ('{text}{}', -{}.125 + {i});
             INSERT INTO bytes VALUES (x'{:08x}', '2026-11-23 08:15:30.{:03}');
             INSERT INTO days VALUES ('2026-01-01' + INTERVAL {} DAY, '-{}:00:00',
                 '2026-01-01 00:00:00' + INTERVAL {i} MICROSECOND, 18446744073709551615 - {i});
             INSERT INTO floats VALUES ({:e}, {:e}, {:e});
             INSERT INTO choices VALUES ({}, {}, 18446744073709551615 - {i}, {});\n",
            i % 40,
            i % 7,
            i.wrapping_mul(2_654_435_761),
            i % 1000,
            i % 9,
            i % 30,
            f64::from(i % 11) * 0.1 - 0.5,
            f64::from(i % 17) * 1e5 / 7.0 - 1e4,
            f64::from(i).sin() * 10_f64.powi(i as i32 % 60 - 30),
            i % 5,
            i % 32,
            1901 + i % 3,
        ));
    }
    server.sql("wms", &format!("BEGIN; {script} COMMIT;")).unwrap();
    let refused = REFUSED.iter().map(|(table, _)| *table);
    let names: Vec<_> =
        ORDERED.into_iter().chain(refused).map(|table| format!("wms.{table}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut options = options(&server, &names);
    let found = check(&options).await.unwrap();
    for (table, why) in REFUSED {
        let told = |finding: &Finding| {
            finding.what.contains(&format!("wms.{table}:")) && finding.what.contains(why)
        };
        assert!(found.iter().any(told), "{table}: {found:?}");
    }
    let mut now = open(&options, Start::Now, Memory::default()).await.unwrap();
    let from = now.next().await.unwrap().end;
    drop(now);
    options.server_id += 1;
    let tables = options.tables.iter().map(|t| TableCopy::new(t.clone(), Purpose::Requested));
    let memory = Memory { server: None, tables: tables.collect() };
    let mut rig = Rig::open(&options, Some(&from)).await;
    rig.restart(Start::After(from), memory).await;
    rig.until(|rig| rig.memory().tables.iter().all(|copy| copy.state != CopyState::Pending)).await;
    for table in ORDERED {
        let copy = copy(&rig, table);
        assert_eq!((&copy.state, copy.rows), (&CopyState::Done, 3000), "{copy:?}");
        let rows = rig.events(table).into_iter().map(|e| format!("{:?}", e.after));
        let distinct: std::collections::HashSet<String> = rows.collect();
        assert_eq!(distinct.len(), 3000, "{table}");
    }
    for (table, reason) in REFUSED {
        let CopyState::Failed(why) = copy(&rig, table).state else { panic!("{table}") };
        assert!(why.contains(reason), "{why}");
    }
}

async fn from_now_on_and_snapshots_alone(kind: DatabaseKind) {
    let server = server(kind);
    let options = options(&server, &["wms.orders"]);
    let mut rig = Rig::open(&options, None).await;
    rig.restart(Start::Now, Memory::default()).await;
    rig.until(|rig| rig.blocks.last().is_some_and(|block| block.boundary)).await;
    end(&server);
    rig.until(has_ended).await;
    assert_eq!(rig.events("orders").len(), 1);
    let mut reader = open(&options, Start::SnapshotOnly, Memory::default()).await.unwrap();
    let mut rows = 0;
    loop {
        let block = reader.next().await.unwrap();
        rows += block.counts.iter().map(|(.., n)| n).sum::<u64>();
        if block.snapshot == SnapshotPart::Last {
            break;
        }
    }
    assert_eq!(rows, 4001);
    server.sql("wms", "DELETE FROM orders WHERE id = 1").unwrap();
    let more = tokio::time::timeout(Duration::from_millis(500), next(&mut reader)).await;
    assert!(more.is_err(), "nothing follows a lone snapshot");
}

async fn next(reader: &mut Reader) {
    let _ = reader.next().await;
}
