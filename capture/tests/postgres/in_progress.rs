//! Transactions that the server sends before they have ended.

use super::*;

const ITEM: &str = "CREATE TABLE item(id int PRIMARY KEY, note text)";

/// A client whose database streams every transaction of more than some hundred rows.
async fn impatient(name: &str, script: &str, tables: &[&str]) -> (SourceOptions, Client) {
    let (options, client) = database(name, script, tables).await;
    // Read by the walsender when it starts: its memory for decoding.
    let small = format!("ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'");
    client.batch_execute(&small).await.unwrap();
    (options, client)
}

async fn fill(client: &Client, from: i32, to: i32) {
    let insert =
        format!("INSERT INTO item SELECT i, repeat('y', 100) FROM generate_series({from}, {to}) i");
    client.batch_execute(&insert).await.unwrap();
}

fn ids(fragments: &[Fragment]) -> Vec<i64> {
    let events = fragments.iter().flat_map(|fragment| &fragment.events);
    let ids = events.filter_map(|event| event.after.as_ref()?.get(0).cloned());
    ids.map(|id| if let Value::Int(id) = id { id } else { panic!("no id: {id:?}") }).collect()
}

/// Every fragment of one transaction, told by its place.
fn by_transaction(blocks: &[Block]) -> Vec<Vec<Fragment>> {
    let mut out: Vec<Vec<Fragment>> = Vec::new();
    for fragment in blocks.iter().flat_map(fragments) {
        match out.last_mut() {
            Some(last) if last[0].header == fragment.header => last.push(fragment),
            _ => out.push(vec![fragment]),
        }
    }
    out
}

fn assert_whole(parts: &[Fragment]) {
    assert!(parts[0].first && parts[parts.len() - 1].last);
    assert!(parts[1..].iter().all(|part| !part.first));
    assert!(parts[..parts.len() - 1].iter().all(|part| !part.last));
    let ordinals = parts.iter().flat_map(|part| &part.events).map(|event| event.ordinal);
    assert!(ordinals.enumerate().all(|(i, ordinal)| i == ordinal as usize));
}

async fn streamed(client: &Client, slot: &str) -> i64 {
    let sql = "SELECT stream_count FROM pg_stat_replication_slots WHERE slot_name = $1";
    client.query_opt(sql, &[&slot]).await.unwrap().map_or(0, |row| row.get(0))
}

#[tokio::test]
async fn a_transaction_in_progress_comes_whole_without_what_was_rolled_back() {
    if !is_talkative() {
        return;
    }
    let (options, client) = impatient("savepoints", ITEM, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    client.batch_execute("BEGIN").await.unwrap();
    fill(&client, 1, 5_000).await;
    client.batch_execute("SAVEPOINT a").await.unwrap();
    fill(&client, 5_001, 10_000).await;
    client.batch_execute("SAVEPOINT b").await.unwrap();
    fill(&client, 10_001, 15_000).await;
    // Takes b with it, a second time round.
    client.batch_execute("RELEASE b; SAVEPOINT c").await.unwrap();
    fill(&client, 15_001, 15_010).await;
    client.batch_execute("ROLLBACK TO c").await.unwrap();
    fill(&client, 20_001, 20_005).await;
    client.batch_execute("ROLLBACK TO a").await.unwrap();
    fill(&client, 30_001, 31_000).await;
    client.batch_execute("SELECT pg_logical_emit_message(true, 'mark', 'ours')").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    let transactions = by_transaction(&blocks);
    assert_eq!(transactions.len(), 2);
    assert_whole(&transactions[0]);
    let expected: Vec<i64> = (1..=5_000).chain(30_001..=31_000).collect();
    assert_eq!(ids(&transactions[0]), expected);
    let last = transactions[0].last().unwrap().events.last().unwrap();
    assert_eq!(last.message, Some(("mark".to_string(), b"ours".to_vec())));
    assert!(blocks.len() > 5);
    assert!(blocks.iter().all(|block| block.bytes.len() < options.block_bytes_max + 1024));
}

#[tokio::test]
async fn interleaved_transactions_come_in_the_order_of_their_commits() {
    if !is_talkative() {
        return;
    }
    let (options, first) = impatient("interleaved", ITEM, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    let start = snapshot(&mut reader).await.pop().unwrap().end;
    let second = client(options.port, &options.database).await;
    let third = client(options.port, &options.database).await;
    for one in [&first, &second, &third] {
        one.batch_execute("BEGIN").await.unwrap();
    }
    for round in 0..4 {
        fill(&first, round * 1_000, round * 1_000 + 999).await;
        fill(&second, 10_000 + round * 1_000, 10_000 + round * 1_000 + 999).await;
        fill(&third, 20_000 + round * 1_000, 20_000 + round * 1_000 + 999).await;
        // A small one commits at once, between the pieces of the large ones.
        let small = client(options.port, &options.database).await;
        fill(&small, 30_000 + round, 30_000 + round).await;
    }
    second.batch_execute("COMMIT").await.unwrap();
    third.batch_execute("ROLLBACK").await.unwrap();
    first.batch_execute("COMMIT").await.unwrap();
    say_done(&first).await;
    let check = |blocks: &[Block]| {
        let transactions = by_transaction(blocks);
        let found: Vec<Vec<i64>> = transactions.iter().map(|t| ids(t)).collect();
        let mut expected: Vec<Vec<i64>> = (30_000..30_004).map(|id| vec![id]).collect();
        expected.push((10_000..14_000).collect());
        expected.push((0..4_000).collect());
        expected.push(vec![]);
        assert_eq!(found, expected);
        transactions.iter().for_each(|t| assert_whole(t));
        let places = transactions.iter().map(|t| t[0].header.commit.order(0));
        assert!(places.is_sorted());
    };
    let blocks = until_done_without_word(&mut reader).await;
    check(&blocks);
    // Places and ordinals are the same when all of it is read again.
    drop(reader);
    wait_until_free(&options).await;
    let mut reader = open(&options, Some(&start)).await;
    let again = until_done(&mut reader).await;
    check(&again);
    let parts = |blocks: &[Block]| {
        let parts = by_transaction(blocks).into_iter().flatten();
        parts.map(|part| (part.header, part.events)).collect::<Vec<_>>()
    };
    let events = |blocks: &[Block]| {
        let parts = parts(blocks).into_iter();
        parts
            .flat_map(|(header, events)| events.into_iter().map(move |e| (header.id.clone(), e)))
            .collect::<Vec<_>>()
    };
    assert_eq!(events(&blocks), events(&again));
}

/// Reads on without acknowledging anything: all of it comes again.
async fn until_done_without_word(reader: &mut PostgresReader) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        blocks.push(next(reader).await.expect("stream goes on"));
        let mut events = blocks.iter().rev().take(1).flat_map(fragments).flat_map(|f| f.events);
        if events.any(|event| event.message.is_some_and(|(prefix, _)| prefix == "done")) {
            return blocks;
        }
    }
}

async fn wait_until_free(options: &SourceOptions) {
    let client = client(options.port, &options.database).await;
    let sql = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1";
    while !client.query_one(sql, &[&options.slot]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_schema_may_change_within_a_transaction_in_progress() {
    let (options, client) = impatient("ddl_in_progress", ITEM, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    client.batch_execute("BEGIN").await.unwrap();
    fill(&client, 1, 2_000).await;
    client.batch_execute("SAVEPOINT a; ALTER TABLE item ADD lost int").await.unwrap();
    let lost = "INSERT INTO item SELECT i, 'x', i FROM generate_series(2001, 6000) i";
    client.batch_execute(lost).await.unwrap();
    client.batch_execute("ROLLBACK TO a; ALTER TABLE item ADD price numeric(8,2)").await.unwrap();
    let priced = "INSERT INTO item SELECT i, 'x', 1.5 FROM generate_series(7001, 9000) i";
    client.batch_execute(priced).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    client.batch_execute("INSERT INTO item VALUES (9001, 'after', 2)").await.unwrap();
    say_done(&client).await;
    let events = changes(&until_done(&mut reader).await);
    let widths: Vec<usize> = events.iter().map(|event| full(&event.after).len()).collect();
    let expected = [vec![2; 2_000], vec![3; 2_001]].concat();
    assert_eq!(widths, expected);
    let last = events.last().unwrap();
    assert_eq!(full(&last.after)[2], Value::Decimal("2.00".into()));
    assert_eq!(&*last.table.as_ref().unwrap().columns[2].name, "price");
}

#[tokio::test]
async fn the_server_does_send_before_the_commit() {
    if !is_talkative() {
        return;
    }
    let (options, client) = impatient("early", ITEM, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    client.batch_execute("BEGIN").await.unwrap();
    fill(&client, 1, 5_000).await;
    // The server sends what is on its disk: somebody else's commit brings it there.
    let other = self::client(options.port, &options.database).await;
    other.batch_execute("CREATE TABLE elsewhere(id int)").await.unwrap();
    let started = std::time::Instant::now();
    while streamed(&other, &options.slot).await == 0 {
        assert!(started.elapsed() < LIMIT, "nothing was streamed");
        if let Ok(block) = tokio::time::timeout(Duration::from_millis(50), reader.next()).await {
            let block = block.unwrap();
            assert!(fragments(&block).is_empty(), "a change before its commit");
            reader.acknowledge(&block.end);
        }
    }
    client.batch_execute("COMMIT").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 5_000);
}
