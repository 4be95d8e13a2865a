//! Reading a standby, and reading on after a standby was promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_capture::{CopyState, Purpose};

use super::backfill::{WIDE, write_at_random};
use super::ledger::Ledger;
use super::*;

const SCRIPT: &str = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);";

/// A primary and its standby, where standbys can be read.
fn pair(settings: &[(&str, &str)], from_version: u32) -> Option<(Postgres, Postgres)> {
    let mut primary = Postgres::start().unwrap();
    if primary.version().unwrap() < from_version {
        return None;
    }
    let standby = Postgres::standby_of(&mut primary, settings).unwrap();
    Some((primary, standby))
}

#[tokio::test]
async fn a_standby_is_read_like_its_primary() {
    let Some((primary, standby)) = pair(&[], 160_000) else { return };
    let (mut options, client) =
        database_on(primary.port(), "standby", SCRIPT, &["public.item"]).await;
    options.port = standby.port();
    caught_up(&client, &standby).await;
    publish(&options, &client, &standby).await;
    let findings = postgres::check(&options).await.unwrap();
    assert!(findings.iter().any(|f| f.what.contains("the server is a standby")), "{findings:?}");
    let mut reader = open(&options, None).await;
    let says = say_what_runs(&primary).await;
    let mut blocks = snapshot(&mut reader).await;
    says.abort();
    assert_eq!(changes(&blocks).len(), 1);
    let position = blocks.pop().unwrap().end;
    client.batch_execute("INSERT INTO item SELECT generate_series(2, 5000)").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    assert_eq!(changes(&blocks).len(), 4999);
    let mut probe = postgres::probe(&options).await.unwrap();
    let head = probe.head(Some(&position)).await.unwrap();
    assert!(head.behind_bytes > 100_000, "{head:?}");
    // Promoted, it goes on from the same place on its new timeline.
    let memory = reader.memory().clone();
    drop(reader);
    standby.promote().unwrap();
    drop(primary);
    let end = blocks.last().unwrap().end.clone();
    let client = self::client(standby.port(), "standby").await;
    wait_for_free(&client, &options).await;
    let mut reader = postgres::open(&options, Start::After(end), memory).await.unwrap();
    client.batch_execute("INSERT INTO item VALUES (5001)").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 1);
    assert_eq!(reader.memory().server.as_ref().map(|server| server.timeline), Some(2));
}

/// The publication has to come from the primary.
async fn publish(options: &SourceOptions, client: &Client, standby: &Postgres) {
    let error = postgres::open(options, Start::Snapshot, Memory::default()).await.err().unwrap();
    let CaptureError::Definite { remedy, .. } = &error else { panic!("{error}") };
    let (_, statement) = remedy.split_once("on the primary: ").expect("names the statement");
    client.batch_execute(statement).await.unwrap();
    caught_up(client, standby).await;
}

/// Making a slot on a standby waits for the primary's word: here it comes all the time.
async fn say_what_runs(primary: &Postgres) -> tokio::task::JoinHandle<()> {
    let client = self::client(primary.port(), "postgres").await;
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while client.batch_execute("SELECT pg_log_standby_snapshot()").await.is_ok() {
            tick.tick().await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_table_is_read_beside_the_stream_of_a_standby() {
    let Some((primary, standby)) = pair(&[], 160_000) else { return };
    let (mut options, client) =
        database_on(primary.port(), "standby_beside", WIDE, &["public.wide"]).await;
    options.port = standby.port();
    caught_up(&client, &standby).await;
    publish(&options, &client, &standby).await;
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Requested);
    let says = say_what_runs(&primary).await;
    let mut reader = ledger.open(&options, Start::Now).await;
    let stop = Arc::new(AtomicBool::new(false));
    let database = options.database.clone();
    let writer = tokio::spawn(write_at_random(database, primary.port(), stop.clone()));
    ledger.until_copied(&mut reader).await;
    stop.store(true, Ordering::Release);
    let written = writer.await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    says.abort();
    assert_eq!(ledger.state("public.wide"), CopyState::Done);
    assert!(written > 20 && ledger.reads > 1000, "{written} written, {} read", ledger.reads);
    let expected = server_texts(&client, "wide", "id,n,big").await;
    assert_eq!(ledger.texts("public.wide", "id,n,big"), expected);
}

#[tokio::test]
async fn a_failover_loses_and_doubles_nothing() {
    let settings = [("sync_replication_slots", "on")];
    let Some((mut primary, standby)) = pair(&settings, 170_000) else { return };
    primary.configure(&[("synchronized_standby_slots", "standby")]).unwrap();
    primary.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    let (mut options, client) =
        database_on(primary.port(), "failover", SCRIPT, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    let findings = postgres::check(&options).await.unwrap();
    assert!(findings.iter().any(|f| f.what.contains("is kept on standbys")), "{findings:?}");
    let mut seen = Vec::new();
    for id in 2..200 {
        client.batch_execute(&format!("INSERT INTO item VALUES ({id})")).await.unwrap();
    }
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    let ids = |blocks: &[Block]| -> Vec<Value<'static>> {
        changes(blocks).iter().map(|event| full(&event.after)[0].clone()).collect()
    };
    seen.extend(ids(&blocks));
    let mut position = blocks.last().unwrap().end.clone();
    // The standby has a copy of the slot that can be used after a promotion: once the slot has
    // moved past the place where the copy was begun.
    let standby_client = self::client(standby.port(), "postgres").await;
    let synced = format!(
        "SELECT EXISTS (SELECT FROM pg_replication_slots
                        WHERE slot_name = '{}' AND synced AND NOT temporary)",
        options.slot
    );
    let start = std::time::Instant::now();
    while !standby_client.query_one(&synced, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(start.elapsed() < LIMIT, "the slot is never copied: {}", standby.log());
        client.batch_execute("SELECT pg_log_standby_snapshot()").await.unwrap();
        if let Ok(block) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await {
            let block = block.unwrap();
            assert!(fragments(&block).is_empty(), "nothing was written");
            reader.acknowledge(&block.end);
            position = block.end;
        }
    }
    options.port = standby.port();
    let memory = reader.memory().clone();
    let start = Start::After(position.clone());
    let error = postgres::open(&options, start, memory.clone()).await.err().unwrap();
    assert!(error.to_string().contains("read the primary"), "{error}");
    // Written, on the standby, and not read yet.
    client.batch_execute("INSERT INTO item VALUES (200)").await.unwrap();
    caught_up(&client, &standby).await;
    drop(reader);
    primary.kill();
    standby.promote().unwrap();
    let client = self::client(standby.port(), "failover").await;
    let mut reader = postgres::open(&options, Start::After(position), memory).await.unwrap();
    client.batch_execute("INSERT INTO item VALUES (201)").await.unwrap();
    say_done(&client).await;
    seen.extend(ids(&until_done(&mut reader).await));
    assert_eq!(seen, (2..=201).map(Value::Int).collect::<Vec<_>>());
}

/// Waits until the standby has replayed what the primary has.
async fn caught_up(client: &Client, standby: &Postgres) {
    let row = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap();
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", row.get::<_, String>(0));
    let standby = self::client(standby.port(), "postgres").await;
    wait_for(&standby, &sql).await;
}
