//! First snapshots by several connections: one state, whole, resumable, with the rights there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_capture::{
    CaptureError, CopyState, DatabaseKind, Severity, SnapshotOptions, SourceOptions, Start, check,
};
use crossdock_model::{Op, SnapshotPart, TableName};

use super::rig::{Rig, Server, on_both, options, server_rows};

on_both!(
    several_connections_see_one_state,
    a_snapshot_in_ranges_goes_on_where_it_was,
    rows_of_all_sizes_arrive_whole,
    the_rights_decide_what_is_locked,
);

const ACCOUNTS: u32 = 4000;

/// Two tables between which money is moved: what there is in both together never changes.
fn bank(kind: DatabaseKind) -> Server {
    let server = Server::start(kind);
    let rows: Vec<_> =
        (0..ACCOUNTS).map(|n| format!("({}, 100, REPEAT('x', 300))", n * 3)).collect();
    let rows = rows.join(",");
    server
        .sql(
            "",
            &format!(
                "CREATE DATABASE wms; USE wms;
                 CREATE TABLE cash(id INT PRIMARY KEY, amount INT NOT NULL, note TEXT);
                 CREATE TABLE debts(id BIGINT UNSIGNED, n INT, amount INT NOT NULL, note TEXT,
                     PRIMARY KEY (id, n));
                 INSERT INTO cash VALUES {rows};
                 INSERT INTO debts SELECT id, 7, amount, note FROM cash;
                 ANALYZE TABLE cash, debts;"
            ),
        )
        .unwrap();
    server
}

/// Moves money about until it is told to stop.
fn trade(server: &Server, stop: &AtomicBool) {
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let script: String = (0..40)
            .map(|n| {
                let (from, to) = (round * 40 + n, round.wrapping_mul(7919) + n * 101);
                format!(
                    "BEGIN; UPDATE cash SET amount = amount - 5 WHERE id = {};
                     UPDATE debts SET amount = amount + 5 WHERE id = {}; COMMIT;\n",
                    from % ACCOUNTS * 3,
                    to % ACCOUNTS * 3
                )
            })
            .collect();
        server.sql("wms", &script).unwrap();
        round += 1;
    }
}

/// Several connections, and ranges of a page or two.
fn in_ranges(server: &Server) -> SourceOptions {
    let mut options = options(server, &["wms.cash", "wms.debts"]);
    options.snapshot = SnapshotOptions { workers: 3, chunk_pages: 2, rows_per_second: None };
    options
}

/// All amounts that the snapshot has read.
fn sum(rig: &Rig, table: &str, column: usize) -> i64 {
    let reads = rig.events(table).into_iter().filter(|event| event.op == Op::Read);
    let amount = |event: &crossdock_model::ChangeEvent| {
        event.after.as_ref().unwrap().get(column).unwrap().to_text().unwrap()
    };
    reads.map(|event| amount(event).parse::<i64>().unwrap()).sum()
}

async fn several_connections_see_one_state(kind: DatabaseKind) {
    let server = bank(kind);
    let options = in_ranges(&server);
    let stop = AtomicBool::new(false);
    for _ in 0..3 {
        stop.store(false, Ordering::Relaxed);
        let mut rig = std::thread::scope(|scope| {
            scope.spawn(|| trade(&server, &stop));
            let handle = tokio::runtime::Handle::current();
            let options = &options;
            let reading = scope.spawn(move || {
                handle.block_on(async {
                    let mut rig = Rig::open(options, None).await;
                    rig.snapshot().await;
                    rig
                })
            });
            let rig = reading.join();
            stop.store(true, Ordering::Relaxed);
            rig.unwrap()
        });
        let all = sum(&rig, "cash", 1) + sum(&rig, "debts", 2);
        assert_eq!(all, i64::from(ACCOUNTS) * 200, "every transaction whole, or not at all");
        for copy in &rig.memory().tables {
            assert_eq!((&copy.state, copy.rows), (&CopyState::Done, u64::from(ACCOUNTS)));
        }
        // And the stream begins exactly there.
        server.sql("wms", "INSERT INTO cash VALUES (9000000, 0, NULL)").unwrap();
        rig.until(|rig| rig.images("cash").contains_key(&9_000_000)).await;
        assert_eq!(rig.rows("cash"), server_rows(&server, "SELECT * FROM cash"));
        server.sql("wms", "DELETE FROM cash WHERE id = 9000000").unwrap();
    }
}

async fn a_snapshot_in_ranges_goes_on_where_it_was(kind: DatabaseKind) {
    let server = bank(kind);
    let options = in_ranges(&server);
    let mut rig = Rig::open(&options, None).await;
    rig.until(|rig| rig.events("cash").len() > 1500).await;
    let memory = rig.memory().clone();
    let cash = memory.table(&TableName::new("wms", "cash")).unwrap();
    let left = cash.cursor.get("left").and_then(|left| left.as_array()).unwrap();
    assert!(left.len() > 1, "several ranges are left: {left:?}");
    let before = rig.events("cash").len();
    let from = rig.blocks.last().unwrap().end.clone();
    server
        .sql(
            "wms",
            "UPDATE cash SET amount = 1 WHERE id % 7 = 0; DELETE FROM cash WHERE id % 11 = 0;
             UPDATE cash SET id = id + 1000000 WHERE id % 13 = 0; INSERT INTO cash VALUES (1, 2, '');
             UPDATE cash SET id = -id WHERE id % 17 = 0;",
        )
        .unwrap();
    rig.restart(Start::Resume(from), memory).await;
    rig.until(|rig| rig.blocks.last().is_some_and(|b| b.snapshot == SnapshotPart::Last)).await;
    server.sql("wms", "INSERT INTO cash VALUES (9000000, 0, NULL)").unwrap();
    rig.until(|rig| rig.images("cash").contains_key(&9_000_000)).await;
    assert_eq!(rig.images("cash"), server_rows(&server, "SELECT * FROM cash"));
    let debts: BTreeMap<_, _> = server_rows(&server, "SELECT * FROM debts");
    assert_eq!(rig.images("debts"), debts);
    let read = rig.events("cash").into_iter().filter(|event| event.op == Op::Read).count();
    // But for rows that moved to where had not been read.
    let moved = ACCOUNTS as usize / 13 + ACCOUNTS as usize / 17 + 2;
    assert!(before > 1500 && read <= ACCOUNTS as usize + moved, "ranges were read twice: {read}");
}

async fn rows_of_all_sizes_arrive_whole(kind: DatabaseKind) {
    let server = Server::start_with(kind, &[("max_allowed_packet", "64M")]);
    // Around what a packet can hold, and more than one.
    let sizes = [0, 1, 250, 251, 65_535, 65_536, 300_000, 16_777_210, 16_777_215, 40_000_000];
    server
        .sql("", "CREATE DATABASE wms; USE wms; CREATE TABLE blobs(id INT PRIMARY KEY, b LONGBLOB)")
        .unwrap();
    for size in sizes {
        let row = format!(
            "INSERT INTO blobs VALUES ({size}, REPEAT(CHAR({} USING latin1), {size}))",
            size % 251
        );
        server.sql("wms", &row).unwrap();
    }
    let options = options(&server, &["wms.blobs"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let read: Vec<usize> = rig
        .events("blobs")
        .into_iter()
        .map(|event| {
            let crossdock_model::Value::Bytes(bytes) =
                event.after.as_ref().unwrap().get(1).unwrap()
            else {
                panic!()
            };
            assert!(bytes.iter().all(|byte| usize::from(*byte) == bytes.len() % 251));
            bytes.len()
        })
        .collect();
    assert_eq!(read, sizes);
}

async fn the_rights_decide_what_is_locked(kind: DatabaseKind) {
    let server = bank(kind);
    let (replication, cases) = match kind {
        DatabaseKind::Mariadb => {
            ("REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR", vec![("", Some("no lock"))])
        }
        _ => (
            "REPLICATION SLAVE, REPLICATION CLIENT",
            vec![
                ("", None),
                ("GRANT LOCK TABLES ON wms.* TO reader", Some("captured tables")),
                ("GRANT RELOAD ON *.* TO reader", Some("global read lock")),
            ],
        ),
    };
    let user = format!(
        "CREATE USER reader IDENTIFIED BY ''; GRANT {replication} ON *.* TO reader;
         GRANT SELECT ON wms.* TO reader"
    );
    server.sql("", &user).unwrap();
    let mut options = in_ranges(&server);
    options.user = "reader".into();
    for (grant, says) in cases {
        server.sql("", grant).unwrap();
        let found = check(&options).await.unwrap();
        let lock = found.iter().find(|finding| finding.what.contains("first snapshot")).unwrap();
        let Some(says) = says else {
            assert_eq!(lock.severity, Severity::Warning, "{lock:?}");
            let error = Rig::open(&options, None).await.error().await;
            let CaptureError::Definite { remedy, .. } = &error else { panic!("{error:?}") };
            assert!(remedy.contains("RELOAD") && remedy.contains("LOCK TABLES"), "{remedy}");
            continue;
        };
        assert!(lock.severity == Severity::Ok && lock.what.contains(says), "{lock:?}");
        let mut rig = Rig::open(&options, None).await;
        rig.snapshot().await;
        assert_eq!(sum(&rig, "cash", 1), i64::from(ACCOUNTS) * 100);
        assert_eq!(server.sql("wms", "UPDATE cash SET amount = 100 WHERE id = 0").unwrap(), "");
    }
}
