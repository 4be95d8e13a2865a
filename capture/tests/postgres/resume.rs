//! Going on after the connection, the reader or the server has gone.

use super::*;

const COUNTER: &str = "CREATE TABLE counter(id int PRIMARY KEY, n int NOT NULL);
                       INSERT INTO counter VALUES (1, 0);";

async fn confirmed(client: &Client, slot: &str) -> u64 {
    let sql = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots
               WHERE slot_name = $1";
    client.query_one(sql, &[&slot]).await.unwrap().get::<_, i64>(0) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_count_is_lost_or_doubled_by_broken_connections() {
    let (options, client) = database("broken", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let mut position = snapshot(&mut reader).await.pop().unwrap().end;
    let writer = tokio::spawn(async move {
        for _ in 0..2000 {
            client.batch_execute("UPDATE counter SET n = n + 1").await.unwrap();
        }
        say_done(&client).await;
    });
    let admin = self::client(server().port(), "postgres").await;
    let kill = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
         WHERE slot_name = '{}' AND active",
        options.slot
    );
    let (mut counts, mut broken, mut blocks) = (Vec::new(), 0, 0);
    let mut kills = 1;
    loop {
        let block = match next(&mut reader).await {
            Ok(block) => block,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                broken += 1;
                reader = loop {
                    match postgres::open(
                        &options,
                        Start::After(position.clone()),
                        Memory::default(),
                    )
                    .await
                    {
                        Ok(reader) => break reader,
                        Err(error) => assert!(error.is_transient(), "{error}"),
                    }
                };
                continue;
            }
        };
        blocks += 1;
        if !block.boundary {
            continue;
        }
        // Durable: it counts from here on. The server hears of every third only.
        position = block.end.clone();
        if blocks % 3 == 0 {
            reader.acknowledge(&position);
        }
        for event in changes(std::slice::from_ref(&block)) {
            counts.push(full(&event.after)[1].clone());
        }
        if is_done("broken", &block) {
            break;
        }
        if counts.len() >= kills * 300 && kills <= 6 {
            admin.batch_execute(&kill).await.unwrap();
            kills += 1;
        }
    }
    writer.await.unwrap();
    assert!(broken > 0, "the connection was broken");
    assert_eq!(counts, (1..=2000).map(Value::Int).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_not_made_durable_comes_again() {
    let (options, client) = database("again", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let start = snapshot(&mut reader).await.pop().unwrap().end;
    client.batch_execute("UPDATE counter SET n = 1").await.unwrap();
    say_done(&client).await;
    let seen = next(&mut reader).await.unwrap();
    assert_eq!(changes(std::slice::from_ref(&seen)).len(), 1);
    drop(reader);
    wait_for(
        &client,
        &format!(
            "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{}'",
            options.slot
        ),
    )
    .await;
    let mut reader = open(&options, Some(&start)).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 1);
}

#[tokio::test]
async fn an_idle_source_holds_no_log_and_resumes_without_a_gap() {
    let script = format!("{COUNTER} CREATE TABLE other(id int);");
    let (options, client) = database("idle", &script, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let mut position = snapshot(&mut reader).await.pop().unwrap().end;
    let before = confirmed(&client, &options.slot).await;
    client.batch_execute("INSERT INTO other SELECT generate_series(1, 10000)").await.unwrap();
    let row = client.query_one("SELECT (pg_current_wal_lsn() - '0/0')::int8", &[]).await.unwrap();
    let target = row.get::<_, i64>(0) as u64;
    assert!(before < target);
    while confirmed(&client, &options.slot).await < target {
        if let Ok(block) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await {
            let block = block.unwrap();
            assert!(block.boundary && fragments(&block).is_empty());
            position = block.end.clone();
            reader.acknowledge(&block.end);
        }
    }
    // The slot has moved, and so has the position: no gap.
    drop(reader);
    wait_for(
        &client,
        &format!(
            "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{}'",
            options.slot
        ),
    )
    .await;
    let mut reader = open(&options, Some(&position)).await;
    client.batch_execute("UPDATE counter SET n = 1").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 1);
}

#[tokio::test]
async fn nothing_is_confirmed_before_it_is_acknowledged() {
    let (options, client) = database("unconfirmed", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let start = snapshot(&mut reader).await.pop().unwrap().end;
    client.batch_execute("UPDATE counter SET n = 1").await.unwrap();
    let block = next(&mut reader).await.unwrap();
    // The server is told of what was received; the slot stays where it is durable.
    let (Position::Postgres { lsn: start }, Position::Postgres { lsn: end }) =
        (start, block.end.clone())
    else {
        panic!("no LSN");
    };
    let written = format!(
        "SELECT coalesce(bool_or(write_lsn - '0/0' >= {end}), false)
        FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid
        WHERE s.slot_name = '{}'",
        options.slot
    );
    client.batch_execute("CREATE TABLE elsewhere(id int)").await.unwrap();
    wait_for(&client, &written).await;
    assert_eq!(confirmed(&client, &options.slot).await, start);
    reader.acknowledge(&block.end);
    while confirmed(&client, &options.slot).await < end {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lost_or_newer_slot_is_a_gap() {
    let (options, client) = database("gap", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    drop(reader);
    let inactive =
        format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{}'", options.slot);
    wait_for(&client, &inactive).await;
    let slot = &options.slot;
    client.batch_execute(&format!("SELECT pg_drop_replication_slot('{slot}')")).await.unwrap();
    let error = postgres::open(&options, Start::After(position.clone()), Memory::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, CaptureError::Gap { .. }), "{error}");
    client.batch_execute("UPDATE counter SET n = 5").await.unwrap();
    let make = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    client.batch_execute(&make).await.unwrap();
    let error = postgres::open(&options, Start::After(position.clone()), Memory::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, CaptureError::Gap { .. }), "{error}");
}

#[tokio::test]
async fn a_dropped_reader_frees_its_slot_at_once() {
    let (options, client) = database("dropped", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    let active =
        format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", options.slot);
    wait_for(&client, &active).await;
    // Also when nobody has taken the blocks that wait.
    client
        .batch_execute("INSERT INTO counter SELECT i, i FROM generate_series(2, 100000) i")
        .await
        .unwrap();
    drop(reader);
    let start = std::time::Instant::now();
    wait_for(&client, &active.replace("SELECT active", "SELECT NOT active")).await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_restarted_server_is_read_on() {
    let mut server = Postgres::start().expect("a private server starts");
    let (options, client) =
        database_on(server.port(), "restarted", COUNTER, &["public.counter"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    client.batch_execute("UPDATE counter SET n = 1").await.unwrap();
    server.kill();
    drop(client);
    let error = loop {
        if let Err(error) = next(&mut reader).await {
            break error;
        }
    };
    assert!(error.is_transient(), "{error}");
    server.start_again().expect("the server starts again");
    let client = self::client(server.port(), "restarted").await;
    let mut reader = open(&options, Some(&position)).await;
    client.batch_execute("UPDATE counter SET n = 2").await.unwrap();
    say_done(&client).await;
    let counts: Vec<_> = changes(&until_done(&mut reader).await)
        .iter()
        .map(|event| full(&event.after)[1].clone())
        .collect();
    assert_eq!(counts, [Value::Int(1), Value::Int(2)]);
}
