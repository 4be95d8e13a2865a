//! Snapshots that are interrupted, and go on from where they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_capture::{CopyState, SnapshotOptions};
use rand::Rng;

use super::backfill::{WIDE, write_at_random};
use super::ledger::Ledger;
use super::*;

/// Reads until the reader is abandoned at random, or the snapshot is over. Returns whether it is.
async fn read_some(ledger: &mut Ledger, reader: &mut PostgresReader, blocks_max: u32) -> bool {
    for _ in 0..blocks_max {
        let block = next(reader).await.expect("the snapshot goes on");
        let last = block.snapshot == SnapshotPart::Last;
        ledger.keep(reader, &block);
        if last {
            return true;
        }
        assert_ne!(block.snapshot, SnapshotPart::Stream, "not before the snapshot is over");
    }
    false
}

/// Abandons a snapshot again and again, with `between` done in between; returns how often.
async fn with_interruptions(
    ledger: &mut Ledger,
    options: &SourceOptions,
    between: &[&str],
    client: &Client,
) -> u32 {
    let mut reader = ledger.open(options, Start::Snapshot).await;
    let mut between = between.iter();
    let mut interruptions: u32 = 0;
    loop {
        // In the end it is let finish.
        let random = rand::rng().random_range(2..if between.len() > 0 { 12 } else { 60 });
        let blocks = if interruptions < 12 { random } else { u32::MAX };
        if read_some(ledger, &mut reader, blocks).await {
            break;
        }
        interruptions += 1;
        drop(reader);
        for statement in between.next().iter().flat_map(|script| script.split(';')) {
            client.batch_execute(statement).await.expect("runs");
        }
        let position = ledger.position.clone().expect("a block was durable");
        reader = ledger.open(options, Start::Resume(position)).await;
    }
    say_done(client).await;
    ledger.until_done(&mut reader).await;
    interruptions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_snapshot_goes_on_while_somebody_writes() {
    let script = format!(
        "{WIDE}
         CREATE TABLE keyless(n int); INSERT INTO keyless VALUES (1), (2);
         CREATE TABLE part(id int, d date, note text, PRIMARY KEY(id, d)) PARTITION BY RANGE(d);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
         INSERT INTO part SELECT i, '2026-01-15'::date + i % 30, repeat('y', 200)
             FROM generate_series(1, 10000) i;
         ANALYZE;"
    );
    let tables = ["public.wide", "public.part"];
    let (mut options, client) = database("interrupted", &script, &tables).await;
    options.snapshot = SnapshotOptions { workers: 3, chunk_pages: 5, rows_per_second: None };
    options.block_bytes_max = 32 * 1024;
    let mut ledger = Ledger::default();
    let stop = Arc::new(AtomicBool::new(false));
    let database = options.database.clone();
    let writer = tokio::spawn(write_at_random(database, options.port, stop.clone()));
    let interruptions = with_interruptions(&mut ledger, &options, &[], &client).await;
    stop.store(true, Ordering::Release);
    writer.await.unwrap();
    let mut reader = ledger.open(&options, Start::After(ledger.position.clone().unwrap())).await;
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert!(interruptions > 2, "{interruptions}");
    assert!(ledger.memory.tables.iter().all(|copy| copy.state == CopyState::Done));
    for (table, columns) in [("wide", "id,n,big"), ("part", "id,d,note")] {
        let expected = server_texts(&client, table, columns).await;
        assert_eq!(ledger.texts(&format!("public.{table}"), columns), expected, "{table}");
    }
    let count = |part| ledger.parts.iter().filter(|p| **p == part).count();
    assert_eq!((count(SnapshotPart::First), count(SnapshotPart::Last)), (1, 1));
}

#[tokio::test]
async fn a_table_that_was_rewritten_or_changed_meanwhile() {
    let (mut options, client) = database("rewritten", WIDE, &["public.wide"]).await;
    options.snapshot = SnapshotOptions { workers: 2, chunk_pages: 4, rows_per_second: None };
    options.block_bytes_max = 32 * 1024;
    let mut ledger = Ledger::default();
    let between = [
        // Small columns of rows that were read, or were not; their large ones are not in the log.
        "UPDATE wide SET n = n + 1; UPDATE wide SET n = n + 1 WHERE id % 3 = 0",
        "DELETE FROM wide WHERE id % 10 = 0; VACUUM wide; UPDATE wide SET n = 7 WHERE id > 3000",
        "VACUUM FULL wide",
        "UPDATE wide SET id = -id WHERE id % 100 = 1",
        "ALTER TABLE wide ADD more int; UPDATE wide SET more = 1",
        "TRUNCATE wide; INSERT INTO wide SELECT i, 0, repeat('z', 3000), i
             FROM generate_series(1, 500) i",
    ];
    let interruptions = with_interruptions(&mut ledger, &options, &between, &client).await;
    assert!(interruptions as usize >= between.len(), "{interruptions}");
    let columns = "id,n,big,more";
    let expected = server_texts(&client, "wide", columns).await;
    assert_eq!(ledger.texts("public.wide", columns), expected);
}

#[tokio::test]
async fn rows_that_were_read_are_not_read_again() {
    if server().version().unwrap() < 140_000 {
        // There a table is one range.
        return;
    }
    let (mut options, _client) = database("unread", WIDE, &["public.wide"]).await;
    options.snapshot = SnapshotOptions { workers: 1, chunk_pages: 4, rows_per_second: None };
    options.block_bytes_max = 32 * 1024;
    let mut ledger = Ledger::default();
    let mut reader = ledger.open(&options, Start::Snapshot).await;
    while ledger.reads < 3_000 {
        let block = next(&mut reader).await.unwrap();
        ledger.keep(&mut reader, &block);
    }
    drop(reader);
    let cursor = ledger.memory.tables[0].cursor.to_string();
    assert!(cursor.contains("\"done\":[[0,"), "{cursor}");
    let position = ledger.position.clone().unwrap();
    let mut reader = ledger.open(&options, Start::Resume(position)).await;
    assert!(read_some(&mut ledger, &mut reader, 10_000).await);
    // A range that was not complete is read again.
    assert!((4_000..4_400).contains(&ledger.reads), "{}", ledger.reads);
    assert_eq!(ledger.rows.len(), 4_000);
}

#[tokio::test]
async fn a_table_without_key_is_complete_or_the_snapshot_begins_anew() {
    let script = format!(
        "{WIDE} CREATE TABLE keyless(n int, note text);
         INSERT INTO keyless SELECT i, repeat('k', 500) FROM generate_series(1, 500) i;"
    );
    let tables = ["public.wide", "public.keyless"];
    let (mut options, _client) = database("keyless", &script, &tables).await;
    options.snapshot = SnapshotOptions { workers: 1, chunk_pages: 4, rows_per_second: None };
    options.block_bytes_max = 16 * 1024;
    let count = |blocks: &[Block]| changes(blocks).len();
    // Within the table without key, which comes first.
    let mut reader = open(&options, None).await;
    let (first, second) = (next(&mut reader).await.unwrap(), next(&mut reader).await.unwrap());
    assert_eq!((first.snapshot, second.snapshot), (SnapshotPart::First, SnapshotPart::Middle));
    let memory = reader.memory().clone();
    drop(reader);
    let mut ledger = Ledger { memory, ..Ledger::default() };
    let mut reader = ledger.open(&options, Start::Resume(second.end)).await;
    let mut blocks = vec![next(&mut reader).await.unwrap()];
    assert_eq!(blocks[0].snapshot, SnapshotPart::First, "taken anew");
    // After it.
    let done = |reader: &PostgresReader| {
        let name = TableName::new("public", "keyless");
        reader.memory().table(&name).unwrap().state == CopyState::Done
    };
    while !done(&reader) {
        blocks.push(next(&mut reader).await.unwrap());
    }
    assert_eq!(count(&blocks), 500);
    let mut ledger = Ledger { memory: reader.memory().clone(), ..Ledger::default() };
    drop(reader);
    let position = blocks[0].end.clone();
    let mut reader = ledger.open(&options, Start::Resume(position)).await;
    assert!(read_some(&mut ledger, &mut reader, 10_000).await);
    assert_eq!((ledger.reads, ledger.rows.len()), (4_000, 4_000));
    // Only the last block was lost.
    drop(reader);
    let position = ledger.position.clone().unwrap();
    let mut reader = ledger.open(&options, Start::Resume(position)).await;
    assert!(read_some(&mut ledger, &mut reader, 1).await);
}
