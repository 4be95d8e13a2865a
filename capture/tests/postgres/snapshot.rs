//! The snapshot, and the seam between it and the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_somebody_writes() {
    let script = "CREATE TABLE item(id int PRIMARY KEY, n int NOT NULL, note text);
                  INSERT INTO item SELECT i, 0, repeat('x', 200) FROM generate_series(1, 20000) i;";
    let (mut options, client) = database("writing", script, &["public.item"]).await;
    options.block_bytes_max = 16 * 1024;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(options.database.clone(), stop.clone()));
    // The writer is under way before the slot is made.
    while client.query_one("SELECT max(n) FROM item", &[]).await.unwrap().get::<_, i32>(0) < 20 {
        tokio::task::yield_now().await;
    }
    let mut reader = open(&options, None).await;
    let mut replica = Replica::default();
    let blocks = snapshot(&mut reader).await;
    assert_eq!(blocks.first().map(|b| b.snapshot), Some(SnapshotPart::First));
    assert!(blocks.len() > 10, "the snapshot has many blocks");
    blocks.iter().for_each(|block| replica.apply(block));
    stop.store(true, Ordering::Release);
    let written = writer.await.unwrap();
    say_done(&client).await;
    let stream = until_done(&mut reader).await;
    stream.iter().for_each(|block| replica.apply(block));
    assert!(written > 20 && !changes(&stream).is_empty(), "{written} written");
    assert_eq!(replica.texts("public.item"), server_texts(&client, "item", "id,n,note").await);
}

/// Updates, inserts and deletes until told to stop; returns how many transactions.
async fn write(database: String, stop: Arc<AtomicBool>) -> i32 {
    let mut client = client(server().port(), &database).await;
    let mut n = 0;
    while !stop.load(Ordering::Acquire) {
        n += 1;
        let transaction = client.transaction().await.unwrap();
        let id = 1 + n * 7919 % 20_000;
        transaction.execute("UPDATE item SET n = $1 WHERE id = $2", &[&n, &id]).await.unwrap();
        let (new, old) = (100_000 + n, 100_000 + n - 10);
        transaction.execute("INSERT INTO item VALUES ($1, $2, NULL)", &[&new, &n]).await.unwrap();
        transaction.execute("DELETE FROM item WHERE id = $1", &[&old]).await.unwrap();
        transaction.commit().await.unwrap();
    }
    n
}

#[tokio::test]
async fn a_snapshot_that_did_not_finish_is_taken_anew() {
    let script = "CREATE TABLE item(id int PRIMARY KEY);
                  INSERT INTO item SELECT generate_series(1, 1000);";
    let (options, client) = database("unfinished", script, &["public.item"]).await;
    let mut first = open(&options, None).await;
    next(&mut first).await.unwrap();
    drop(first);
    client.batch_execute("INSERT INTO item VALUES (1001)").await.unwrap();
    // The connection that made the slot is gone soon; until then the slot may be in use.
    let mut second = loop {
        match postgres::open(&options, Start::Snapshot, Memory::default()).await {
            Ok(reader) => break reader,
            Err(error) => assert!(error.to_string().contains("in use by process"), "{error}"),
        }
    };
    let blocks = snapshot(&mut second).await;
    assert_eq!(changes(&blocks).len(), 1001);
}

#[tokio::test]
async fn odd_names_partitions_and_inheritance() {
    let script = r#"
        CREATE SCHEMA "Ö dd";
        CREATE TABLE "Ö dd"."We""ird"("Sp ace" int PRIMARY KEY, "select" text);
        INSERT INTO "Ö dd"."We""ird" VALUES (1, E'tab\there\\and\nline');
        CREATE TABLE part(id int, d date, PRIMARY KEY(id, d)) PARTITION BY RANGE(d);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        INSERT INTO part VALUES (1, '2026-01-05');
        CREATE TABLE parent(id int PRIMARY KEY);
        CREATE TABLE child(PRIMARY KEY(id)) INHERITS (parent);
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
        CREATE TABLE generated(id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);
        INSERT INTO generated VALUES (1);"#;
    let tables = ["Ö dd.We\"ird", "public.part", "public.parent", "public.generated"];
    let (options, client) = database("odd", script, &tables).await;
    let mut reader = open(&options, None).await;
    let mut replica = Replica::default();
    snapshot(&mut reader).await.iter().for_each(|block| replica.apply(block));
    let script = r#"
        INSERT INTO "Ö dd"."We""ird" VALUES (2, 'x'); INSERT INTO part VALUES (2, '2026-01-06');
        INSERT INTO parent VALUES (3); INSERT INTO child VALUES (4);
        INSERT INTO generated VALUES (2);"#;
    client.batch_execute(script).await.unwrap();
    say_done(&client).await;
    until_done(&mut reader).await.iter().for_each(|block| replica.apply(block));
    assert_eq!(replica.texts("Ö dd.We\"ird"), ["1|tab\there\\and\nline", "2|x"]);
    assert_eq!(replica.texts("public.part"), ["1|2026-01-05", "2|2026-01-06"]);
    assert_eq!(replica.texts("public.parent"), ["1", "3"]);
    assert_eq!(replica.texts("public.generated"), ["1", "2"]);
}
