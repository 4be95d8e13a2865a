//! Snapshots by several connections, what the memory says of them, and the other ways to begin.

use crossdock_capture::{CopyState, Purpose, SnapshotOptions};

use super::*;

const MANY: &str = "
    CREATE TABLE big(id int PRIMARY KEY, note text NOT NULL);
    INSERT INTO big SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i;
    CREATE TABLE keyless(n int, note text); INSERT INTO keyless SELECT i FROM generate_series(1, 5) i;
    CREATE TABLE empty(id int PRIMARY KEY);
    CREATE TABLE bare(); INSERT INTO bare DEFAULT VALUES;
    CREATE TABLE part(id int, d date, PRIMARY KEY(id, d)) PARTITION BY RANGE(d);
    CREATE TABLE hollow(id int PRIMARY KEY) PARTITION BY RANGE(id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE part_2(d date NOT NULL, id int NOT NULL);
    ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO part SELECT i, '2026-01-05' FROM generate_series(1, 3000) i;
    INSERT INTO part SELECT i, '2026-02-05' FROM generate_series(1, 4000) i;
    ANALYZE;";
const TABLES: [&str; 6] =
    ["public.big", "public.keyless", "public.empty", "public.bare", "public.part", "public.hollow"];

/// How many rows of a table the blocks hold.
fn count(blocks: &[Block], table: &str) -> u64 {
    let counts = blocks.iter().flat_map(|block| &block.counts);
    counts.filter(|(name, ..)| name.to_string() == table).map(|(.., n)| n).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_connections_read_every_row_once() {
    let (mut options, client) = database("ranges", MANY, &TABLES).await;
    options.snapshot = SnapshotOptions { workers: 4, chunk_pages: 16, rows_per_second: None };
    options.block_bytes_max = 16 * 1024;
    let mut reader = open(&options, None).await;
    let mut blocks = Vec::new();
    let mut between = 0;
    loop {
        let block = next(&mut reader).await.unwrap();
        let last = block.snapshot == SnapshotPart::Last;
        blocks.push(block);
        let big = reader.memory().table(&TableName::new("public", "big")).unwrap();
        assert_eq!(big.rows, count(&blocks, "public.big"), "the memory is of what was handed over");
        between += u32::from(!big.cursor.is_null() && big.rows > 0);
        if last {
            break;
        }
    }
    assert!(between > 20, "progress is seen on the way: {between}");
    let mut replica = Replica::default();
    let keyed = |block: &&Block| {
        !block
            .counts
            .iter()
            .any(|(t, ..)| ["public.keyless", "public.bare"].contains(&&*t.to_string()))
    };
    blocks.iter().filter(keyed).for_each(|block| replica.apply(block));
    assert_eq!(replica.texts("public.big"), server_texts(&client, "big", "id,note").await);
    assert_eq!(replica.texts("public.part"), server_texts(&client, "part", "id,d").await);
    assert_eq!((count(&blocks, "public.keyless"), count(&blocks, "public.bare")), (5, 1));
    assert_eq!(count(&blocks, "public.empty"), 0);
    for copy in &reader.memory().tables {
        assert_eq!((&copy.state, copy.purpose), (&CopyState::Done, Purpose::Initial), "{copy:?}");
        assert_eq!(
            (copy.rows, copy.rows_estimated),
            (count(&blocks, &copy.table.to_string()), copy.rows)
        );
        assert!(copy.since.is_some() && copy.started_micros > 0 && copy.finished_micros > 0);
    }
    assert_eq!(reader.memory().tables.len(), TABLES.len());
}

#[tokio::test]
async fn a_throttled_snapshot_takes_its_time() {
    let (mut options, _client) = database("throttled", MANY, &["public.big"]).await;
    options.snapshot =
        SnapshotOptions { workers: 2, chunk_pages: 16, rows_per_second: Some(20_000) };
    let start = std::time::Instant::now();
    let mut reader = open(&options, None).await;
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 30_000);
    assert!(start.elapsed() > Duration::from_millis(1_000), "{:?}", start.elapsed());
    // One that is dropped while it waits ends soon.
    options.snapshot.rows_per_second = Some(1);
    options.slot = "slot_throttled_2".to_string();
    let mut reader = open(&options, None).await;
    next(&mut reader).await.unwrap();
    drop(reader);
}

#[tokio::test]
async fn a_lone_snapshot_leaves_nothing_on_the_server() {
    let (options, client) = database("lone", MANY, &["public.big", "public.part"]).await;
    let start = Start::SnapshotOnly;
    let mut reader = postgres::open(&options, start, Memory::default()).await.unwrap();
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 37_000);
    client.batch_execute("INSERT INTO big VALUES (0, 'later')").await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(300), reader.next()).await;
    assert!(more.is_err(), "nothing follows a lone snapshot");
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)
                     + (SELECT count(*) FROM pg_publication WHERE pubname = $2)";
    let left = client.query_one(left, &[&options.slot, &options.publication]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn from_now_on_means_no_snapshot() {
    let (options, client) = database("now", MANY, &["public.big"]).await;
    let mut reader = postgres::open(&options, Start::Now, Memory::default()).await.unwrap();
    let first = next(&mut reader).await.unwrap();
    assert!(first.boundary && fragments(&first).is_empty());
    assert_eq!(first.snapshot, SnapshotPart::Stream);
    client.batch_execute("INSERT INTO big VALUES (0, 'later')").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    assert_eq!(changes(&blocks).len(), 1);
    drop(reader);
    if !is_talkative() {
        // The slot has moved on, with the block that said `done`.
        return;
    }
    // From the first block's position everything comes again: the slot is there from then on.
    let mut reader = loop {
        match postgres::open(&options, Start::After(first.end.clone()), Memory::default()).await {
            Ok(reader) => break reader,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    say_done(&client).await;
    reader.acknowledge(&first.end);
    drop(reader);
    // Made anew, it knows nothing of what was before.
    let mut reader = loop {
        match postgres::open(&options, Start::Now, Memory::default()).await {
            Ok(reader) => break reader,
            Err(error) => assert!(error.to_string().contains("in use by process"), "{error}"),
        }
    };
    let again = next(&mut reader).await.unwrap();
    assert!(again.end.compare(&first.end).is_gt());
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 0);
}
