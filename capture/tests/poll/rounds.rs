//! What rounds see, and what they do not repeat.

use std::time::Duration;

use crossdock_capture::DatabaseKind;
use crossdock_model::{Op, SnapshotPart};
use mysql_async::prelude::Queryable;

use super::{Db, Rig, on_both, settings};

on_both!(
    changes_are_seen_through_a_view,
    rows_with_one_cursor_are_seen_across_pages,
    a_late_commit_is_seen,
    what_has_not_changed_is_not_repeated,
    a_text_or_two_columns_may_be_the_cursor,
    too_many_rows_with_one_cursor_are_passed,
);

/// A view with a key of two columns over a table that nobody may read.
async fn changes_are_seen_through_a_view(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_view",
        "CREATE TABLE order_lines (doc varchar(20), n int, qty decimal(10,2),
             changed timestamp(6) NULL, secret text, PRIMARY KEY (doc, n));
         CREATE VIEW orders_view AS SELECT doc AS order_no, n AS line, qty, changed AS changed_at
             FROM order_lines WHERE secret IS NULL;
         INSERT INTO order_lines VALUES ('it''s', 1, 1.50, '2026-11-23 10:00:00', NULL),
                                  ('B', 2, 2, '2026-11-23 10:00:01.5', NULL),
                                  ('C', 3, 3, '2026-11-23 10:00:02', 'x');",
        &["orders_view"],
    );
    let options = db.options("orders_view", &["order_no", "line"], &["changed_at"]);
    let mut rig = Rig::snapshot(&options).await;
    assert_eq!(rig.parts.first(), Some(&SnapshotPart::First));
    let keys: Vec<&str> = rig.seen.iter().map(|seen| &*seen.key).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.contains(&"it's/1") && keys.contains(&"B/2"), "{keys:?}");
    assert!(rig.seen.iter().all(|seen| seen.op == Op::Read));
    db.sql(
        "INSERT INTO order_lines VALUES ('D', 1, 4, '2026-11-23 10:00:03', NULL);
         UPDATE order_lines SET qty = 9, changed = '2026-11-23 10:00:04' WHERE doc = 'B';
         UPDATE order_lines SET secret = NULL, changed = '2026-11-23 10:00:05' WHERE doc = 'C';",
    );
    rig.until(|rig| rig.seen.len() >= 5).await;
    let polled: Vec<_> = rig.seen[2..].iter().map(|seen| (seen.op, &*seen.key)).collect();
    // By cursor; a row says what it holds now.
    assert_eq!(polled, [(Op::Update, "D/1"), (Op::Update, "B/2"), (Op::Update, "C/3")]);
    assert!(rig.rows().iter().any(|row| row.starts_with("B|2|9|")), "{:?}", rig.rows());
    let memory = serde_json::to_string(&rig.memory).unwrap();
    assert!(memory.contains("2026-11-23"), "it knows where cursors end: {memory}");
}

/// More rows than a page has, all with the same cursor; and the page's border among them.
async fn rows_with_one_cursor_are_seen_across_pages(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_pages",
        "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL, w text);",
        &["t"],
    );
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["version"])).await;
    assert_eq!(rig.seen.len(), 0);
    let rows = |from: u32, to: u32, version: u32| {
        let row = |id: u32| format!("({id}, {version}, '{}')", "x".repeat(200));
        let rows = (from..to).map(row).collect::<Vec<_>>().join(",");
        format!("INSERT INTO t VALUES {rows};")
    };
    db.sql(&rows(0, 3_500, 7));
    rig.until(|rig| rig.rows().len() == 3_500).await;
    rig.rounds(3).await;
    assert_eq!(rig.seen.len(), 3_500, "each came once");
    db.sql(&(rows(4_000, 6_500, 7) + &rows(6_500, 6_600, 8)));
    rig.until(|rig| rig.rows().len() == 6_100).await;
    rig.rounds(3).await;
    assert_eq!(rig.seen.len(), 6_100, "each came once");
    // Blocks are bounded, each a transaction of its own.
    let places: std::collections::BTreeSet<String> =
        rig.seen.iter().map(|seen| seen.at.to_string()).collect();
    assert!(places.len() > 50, "{}", places.len());
}

/// A transaction that has written its cursor before another one, and commits after that was seen.
async fn a_late_commit_is_seen(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_late",
        "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL);
         INSERT INTO t VALUES (1, 1);",
        &["t"],
    );
    let mut options = db.options("t", &["id"], &["version"]);
    settings(&mut options).overlap = Duration::from_secs(2);
    let mut rig = Rig::snapshot(&options).await;
    // Twice: after a while, too, when the overlap does not begin with the snapshot.
    for at in [10, 20] {
        let late = Late::insert(&db, at, at).await;
        db.sql(&format!("INSERT INTO t VALUES ({}, {})", at + 1, at + 1));
        rig.until_row(0, &format!("{0}|{0}", at + 1)).await;
        rig.rounds(2).await;
        assert!(!rig.seen.iter().any(|seen| seen.key == at.to_string()));
        late.commit().await;
        rig.until_row(0, &format!("{at}|{at}")).await;
        rig.rounds(120).await;
    }
    assert_eq!(rig.seen.len(), 5, "each came once: {:?}", rig.seen);
}

/// An open transaction.
enum Late {
    Postgres(tokio_postgres::Client),
    Maria(mysql_async::Conn),
}

impl Late {
    async fn insert(db: &Db, id: i32, version: i32) -> Self {
        let insert = format!("INSERT INTO t VALUES ({id}, {version})");
        match db.kind {
            DatabaseKind::Postgres => {
                let (port, name) = (db.port(), &db.name);
                let text = format!("host=127.0.0.1 port={port} user=postgres dbname={name}");
                let connected = tokio_postgres::connect(&text, tokio_postgres::NoTls).await;
                let (client, connection) = connected.unwrap();
                tokio::spawn(connection);
                client.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
                Self::Postgres(client)
            }
            _ => {
                let (port, name) = (db.port(), &db.name);
                let url = format!("mysql://root@127.0.0.1:{port}/{name}");
                let mut conn = mysql_async::Conn::from_url(url).await.unwrap();
                conn.query_drop("BEGIN").await.unwrap();
                conn.query_drop(insert).await.unwrap();
                Self::Maria(conn)
            }
        }
    }

    async fn commit(self) {
        match self {
            Self::Postgres(client) => client.batch_execute("COMMIT").await.unwrap(),
            Self::Maria(mut conn) => conn.query_drop("COMMIT").await.unwrap(),
        }
    }
}

async fn what_has_not_changed_is_not_repeated(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_quiet",
        "CREATE TABLE t (id int PRIMARY KEY, at timestamp(6) NULL, v int);
         INSERT INTO t VALUES (1, '2026-11-23', 0), (2, '2026-11-23', 0), (3, NULL, 0);",
        &["t"],
    );
    let mut options = db.options("t", &["id"], &["at"]);
    settings(&mut options).overlap = Duration::from_secs(60 * 60);
    // What is on its way when it begins has an hour: a snapshot would wait for it.
    let never = crossdock_capture::Start::Now;
    let mut memory = crossdock_capture::Memory::default();
    let purpose = crossdock_capture::Purpose::Initial;
    let mut copy = crossdock_capture::TableCopy::new(db.table("t"), purpose);
    copy.state = crossdock_capture::CopyState::Done;
    memory.tables.push(copy);
    let mut rig = Rig::open(&options, never, memory).await;
    rig.until(|rig| rig.seen.len() >= 2).await;
    rig.rounds(5).await;
    assert_eq!(rig.seen.len(), 2, "{:?}", rig.seen);
    // Changed without a new cursor, and back again: within the overlap both are seen.
    for v in [5, 0] {
        let from = rig.seen.len();
        db.sql(&format!("UPDATE t SET v = {v}, at = '2026-11-23' WHERE id = 1"));
        rig.until(|rig| rig.seen.len() > from).await;
        assert!(rig.seen[from].row.ends_with(&format!("|{v}")), "{:?}", rig.seen[from]);
    }
    rig.rounds(5).await;
    assert_eq!(rig.seen.len(), 4, "{:?}", rig.seen);
}

async fn a_text_or_two_columns_may_be_the_cursor(kind: DatabaseKind) {
    let db = Db::new(
        kind,
        "polled_texts",
        "CREATE TABLE t (id int PRIMARY KEY, stamp varchar(30) NOT NULL, n smallint NOT NULL);
         INSERT INTO t VALUES (1, '20261123-10\\\\00', 1);",
        &["t"],
    );
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["stamp", "n"])).await;
    rig.until(|rig| !rig.seen.is_empty()).await;
    db.sql("INSERT INTO t VALUES (2, '20261123-11', 1), (3, '20261123-11', 2)");
    rig.until(|rig| rig.rows().len() == 3).await;
    rig.rounds(30).await;
    db.sql("INSERT INTO t VALUES (4, '20261123-11', 0), (5, '20261123-11', 3)");
    rig.until(|rig| rig.rows().len() == 4).await;
    rig.rounds(3).await;
    let keys: Vec<&str> = rig.seen.iter().map(|seen| &*seen.key).collect();
    assert_eq!(keys, ["1", "2", "3", "5"], "4 lies before what was seen");
}

/// A load that gave all rows the same cursor is not read again and again.
async fn too_many_rows_with_one_cursor_are_passed(kind: DatabaseKind) {
    let rows = 120_000;
    let series = match kind {
        DatabaseKind::Postgres => format!("generate_series(1, {rows}) AS s(seq)"),
        _ => format!("seq_1_to_{rows}"),
    };
    let db = Db::new(
        kind,
        "polled_load",
        &format!(
            "CREATE TABLE t (id int PRIMARY KEY, version bigint NOT NULL);
             INSERT INTO t SELECT seq, 1 FROM {series};"
        ),
        &["t"],
    );
    let mut rig = Rig::snapshot(&db.options("t", &["id"], &["version"])).await;
    assert_eq!(rig.seen.len(), rows);
    rig.until(|rig| serde_json::to_string(&rig.memory).unwrap().contains("\"passed\":true")).await;
    let seen = rig.seen.len();
    rig.rounds(20).await;
    assert_eq!(rig.seen.len(), seen);
    db.sql("UPDATE t SET version = 2 WHERE id = 5");
    rig.until_row(seen, "5|2").await;
    assert_eq!(rig.seen.len(), seen + 1);
}
