//! Tables that are read beside the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossdock_capture::{CopyMessage, CopyState, Purpose};
use rand::Rng;

use super::ledger::{Ledger, open_again};
use super::*;

/// Rows with a column that is stored apart, and so left out of the log when it does not change.
pub const WIDE: &str = "
    CREATE TABLE wide(id int PRIMARY KEY, n int NOT NULL, big text NOT NULL);
    ALTER TABLE wide ALTER big SET STORAGE EXTERNAL, SET (fillfactor = 60);
    INSERT INTO wide SELECT i, 0, repeat(md5(i::text), 80) FROM generate_series(1, 4000) i;
    ANALYZE wide;";

/// Writes at random until told to stop: small updates, large ones, inserts, deletes, and moves
/// between pages.
pub async fn write_at_random(database: String, port: u16, stop: Arc<AtomicBool>) -> u32 {
    let client = client(port, &database).await;
    let mut written = 0;
    while !stop.load(Ordering::Acquire) {
        written += 1;
        let (what, id) = {
            let mut random = rand::rng();
            (random.random_range(0..10), random.random_range(1..5_000))
        };
        let statement = match what {
            0 => format!("DELETE FROM wide WHERE id = {id}"),
            1 => format!("UPDATE wide SET big = repeat(md5('{written}'), 80) WHERE id = {id}"),
            2 => format!(
                "INSERT INTO wide VALUES ({id}, {written}, repeat(md5('{id}'), 90))
                 ON CONFLICT DO NOTHING"
            ),
            3 => format!("UPDATE wide SET n = n + 1 WHERE id BETWEEN {id} AND {id} + 20"),
            _ => format!("UPDATE wide SET n = {written} WHERE id = {id}"),
        };
        client.batch_execute(&statement).await.expect("writes");
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_table_read_beside_the_stream_equals_the_table() {
    let (options, client) = database("beside", WIDE, &["public.wide"]).await;
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Requested);
    let mut reader = ledger.open(&options, Start::Now).await;
    let stop = Arc::new(AtomicBool::new(false));
    let database = options.database.clone();
    let writer = tokio::spawn(write_at_random(database, options.port, stop.clone()));
    ledger.until_copied(&mut reader).await;
    stop.store(true, Ordering::Release);
    let written = writer.await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert_eq!(ledger.state("public.wide"), CopyState::Done);
    assert!(written > 20 && ledger.reads > 1000, "{written} written, {} read", ledger.reads);
    assert!(matches!(
        &ledger.copied[..],
        [CopyMessage::Copied { purpose: Purpose::Requested, .. }]
    ));
    let expected = server_texts(&client, "wide", "id,n,big").await;
    assert_eq!(ledger.texts("public.wide", "id,n,big"), expected);
    assert!(ledger.parts.iter().all(|part| *part == SnapshotPart::Stream));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on_after_any_number_of_restarts() {
    let (mut options, client) = database("restarts", WIDE, &["public.wide"]).await;
    options.snapshot.rows_per_second = Some(20_000);
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Added);
    let mut reader = ledger.open(&options, Start::Now).await;
    let stop = Arc::new(AtomicBool::new(false));
    let database = options.database.clone();
    let writer = tokio::spawn(write_at_random(database, options.port, stop.clone()));
    let mut restarts = 0;
    while ledger.state("public.wide") == CopyState::Pending {
        let block = match next(&mut reader).await {
            Ok(block) => block,
            // The server may need a while to see that the connection before is gone.
            Err(CaptureError::Transient { .. }) => {
                let from = ledger.position.clone().map_or(Start::Now, Start::After);
                reader = ledger.open(&options, from).await;
                continue;
            }
            Err(error) => panic!("{error:?}"),
        };
        let lost = ledger.position.is_some() && rand::rng().random_range(0..30) == 0;
        if lost && restarts < 20 {
            // Also what has been handed over, but is not durable, is lost.
            drop(reader);
            restarts += 1;
            let position = ledger.position.clone().unwrap();
            reader = ledger.open(&options, Start::After(position)).await;
            continue;
        }
        ledger.keep(&mut reader, &block);
    }
    stop.store(true, Ordering::Release);
    writer.await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert!(restarts > 3, "{restarts}");
    let expected = server_texts(&client, "wide", "id,n,big").await;
    assert_eq!(ledger.texts("public.wide", "id,n,big"), expected);
}

#[tokio::test]
async fn keys_of_all_kinds_and_partitions_are_read_in_order() {
    let script = r#"
        CREATE EXTENSION IF NOT EXISTS citext;
        CREATE TABLE pair("A" text, b numeric, c int, PRIMARY KEY(b, "A"));
        INSERT INTO pair SELECT E'x\\' || chr(9) || 'it''s ' || i % 7, i / 3.0, i
            FROM generate_series(1, 3000) i;
        CREATE TABLE folded(id citext PRIMARY KEY, n int);
        INSERT INTO folded SELECT CASE i % 2 WHEN 0 THEN 'k' ELSE 'K' END || i, i
            FROM generate_series(1, 3000) i;
        CREATE TYPE mood AS ENUM ('z', 'a', 'm');
        CREATE TABLE typed(m mood, u uuid, t timestamptz, d bytea, PRIMARY KEY(m, t, u, d));
        INSERT INTO typed SELECT ('{z,a,m}'::mood[])[1 + i % 3], md5(i::text)::uuid,
            '2026-01-01'::timestamptz + i * interval '1 hour', decode(md5(i::text), 'hex')
            FROM generate_series(1, 3000) i;
        CREATE TABLE identified(a int NOT NULL, b int NOT NULL, PRIMARY KEY(a), UNIQUE(b));
        ALTER TABLE identified REPLICA IDENTITY USING INDEX identified_b_key;
        INSERT INTO identified SELECT i, 5000 - i FROM generate_series(1, 3000) i;
        CREATE TABLE part(id int, d date, PRIMARY KEY(id, d)) PARTITION BY RANGE(d);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO part SELECT i, '2026-01-15'::date + i % 30 FROM generate_series(1, 3000) i;
        CREATE TABLE empty(id int PRIMARY KEY);"#;
    let tables = [
        "public.pair",
        "public.folded",
        "public.typed",
        "public.identified",
        "public.part",
        "public.empty",
    ];
    let (options, client) = database("keys", script, &tables).await;
    let mut ledger = Ledger::with(&tables, Purpose::Added);
    let mut reader = ledger.open(&options, Start::Now).await;
    ledger.until_copied(&mut reader).await;
    for copy in &ledger.memory.tables {
        assert_eq!(copy.state, CopyState::Done, "{copy:?}");
        let rows = if &*copy.table.table == "empty" { 0 } else { 3000 };
        assert_eq!(copy.rows, rows, "{copy:?}");
    }
    for (table, columns) in
        [("pair", "\"A\",trim_scale(b),c"), ("folded", "id,n"), ("part", "id,d")]
    {
        let expected = server_texts(&client, table, columns).await;
        let plain = columns.replace('"', "").replace("trim_scale(b)", "b");
        assert_eq!(ledger.texts(&format!("public.{table}"), &plain), expected);
    }
    assert_eq!(ledger.copied.len(), tables.len());
}

#[tokio::test]
async fn a_filter_chooses_rows_and_a_wrong_one_fails_alone() {
    let script = "CREATE TABLE item(id int PRIMARY KEY, kind text);
                  INSERT INTO item SELECT i, CASE i % 2 WHEN 0 THEN 'even' ELSE 'odd' END
                      FROM generate_series(1, 1000) i;
                  CREATE TABLE other(LIKE item INCLUDING ALL); INSERT INTO other TABLE item;
                  CREATE TABLE keyless(n int); INSERT INTO keyless VALUES (1);";
    let tables = ["public.item", "public.other", "public.keyless"];
    let (options, client) = database("filters", script, &tables).await;
    let mut ledger = Ledger::with(&tables, Purpose::Requested);
    let filters =
        ["kind = 'even' AND id > 10 -- all of them", "kind = 'odd'); DROP TABLE item; --"];
    for (copy, filter) in ledger.memory.tables.iter_mut().zip(filters) {
        copy.filter = Some(filter.to_string());
    }
    let mut reader = ledger.open(&options, Start::Now).await;
    ledger.until_copied(&mut reader).await;
    assert_eq!(ledger.state("public.item"), CopyState::Done);
    assert_eq!(ledger.reads, 495);
    let failed = |table: &str, with: &str| match ledger.state(table) {
        CopyState::Failed(why) => assert!(why.contains(with), "{why}"),
        other => panic!("{other:?}"),
    };
    failed("public.other", "SQLSTATE 42601");
    failed("public.keyless", "give public.keyless a primary key");
    client.batch_execute("INSERT INTO other VALUES (0, 'live')").await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert_eq!(ledger.texts("public.other", "id,kind"), ["0|live"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_change_while_a_table_is_read() {
    let (mut options, client) = database("altered", WIDE, &["public.wide"]).await;
    options.snapshot.rows_per_second = Some(4_000);
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Requested);
    let mut reader = ledger.open(&options, Start::Now).await;
    let mut altered = 0;
    while ledger.state("public.wide") == CopyState::Pending {
        let block = next(&mut reader).await.unwrap();
        let read = block.counts.iter().any(|(_, op, _)| *op == Op::Read);
        ledger.keep(&mut reader, &block);
        if read && altered < 3 {
            let statement = match altered {
                0 => "ALTER TABLE wide ADD more int; UPDATE wide SET more = id, n = n + 1",
                1 => "ALTER TABLE wide ALTER n TYPE bigint; UPDATE wide SET n = n + 1 WHERE id > 7",
                _ => "ALTER TABLE wide DROP n; UPDATE wide SET more = more + 1",
            };
            client.batch_execute(statement).await.unwrap();
            altered += 1;
        }
    }
    assert_eq!((altered, ledger.state("public.wide")), (3, CopyState::Done));
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    let expected = server_texts(&client, "wide", "id,big,more").await;
    assert_eq!(ledger.texts("public.wide", "id,big,more"), expected);
}

#[tokio::test]
async fn a_login_that_may_write_nothing_reads_beside_the_stream() {
    let script = format!(
        "{WIDE}
         DO $$ DECLARE emit regprocedure; BEGIN
            -- 17 gave it one parameter more.
            FOR emit IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
                EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', emit);
            END LOOP;
         END $$;
         DO $$ BEGIN CREATE ROLE looker LOGIN REPLICATION PASSWORD 'x';
            EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT SELECT ON wide TO looker;
         CREATE PUBLICATION pub_looking FOR TABLE ONLY wide
             WITH (publish_via_partition_root = true);"
    );
    let (options, client) = database("looking", &script, &["public.wide"]).await;
    let options = SourceOptions { user: "looker".into(), password: "x".into(), ..options };
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Requested);
    let mut reader = ledger.open(&options, Start::Now).await;
    ledger.until_copied(&mut reader).await;
    assert_eq!(ledger.state("public.wide"), CopyState::Done);
    let expected = server_texts(&client, "wide", "id,n,big").await;
    assert_eq!(ledger.texts("public.wide", "id,n,big"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_get_other_keys_are_not_lost() {
    let (mut options, client) = database("rekeyed", WIDE, &["public.wide"]).await;
    options.snapshot.rows_per_second = Some(20_000);
    let mut ledger = Ledger::with(&["public.wide"], Purpose::Requested);
    let mut reader = ledger.open(&options, Start::Now).await;
    let mut rekeyed = 0;
    while ledger.state("public.wide") == CopyState::Pending {
        let block = next(&mut reader).await.unwrap();
        let read = block.counts.iter().any(|(_, op, _)| *op == Op::Read);
        ledger.keep(&mut reader, &block);
        if read && rekeyed < 2 {
            // From where nothing was read yet to where everything was.
            let statement =
                format!("UPDATE wide SET id = -{rekeyed} - 1 WHERE id = 4000 - {rekeyed}");
            client.batch_execute(&statement).await.unwrap();
            rekeyed += 1;
        }
    }
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert_eq!(ledger.state("public.wide"), CopyState::Done);
    let expected = server_texts(&client, "wide", "id,n,big").await;
    assert_eq!(ledger.texts("public.wide", "id,n,big"), expected);
}

#[tokio::test]
async fn a_transaction_that_began_before_its_table_was_added_is_not_lost() {
    let script = "CREATE TABLE old(id int PRIMARY KEY); CREATE TABLE item(id int PRIMARY KEY);";
    let (options, client) = database("adding", script, &["public.old", "public.item"]).await;
    let before = SourceOptions { tables: vec![TableName::new("public", "old")], ..options.clone() };
    let mut ledger = Ledger::default();
    let mut reader = ledger.open(&before, Start::Now).await;
    let block = next(&mut reader).await.unwrap();
    ledger.keep(&mut reader, &block);
    drop(reader);
    let mut writer = self::client(options.port, &options.database).await;
    let transaction = writer.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO item VALUES (1)").await.unwrap();
    ledger.memory = Ledger::with(&["public.item"], Purpose::Added).memory;
    let position = ledger.position.clone().unwrap();
    let mut reader = open_again(&options, Start::After(position), &ledger.memory).await;
    client.batch_execute("INSERT INTO old VALUES (1)").await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    assert_eq!(ledger.state("public.item"), CopyState::Pending, "the writer is waited for");
    transaction.commit().await.unwrap();
    ledger.until_copied(&mut reader).await;
    assert_eq!(ledger.texts("public.item", "id"), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_committed_and_is_not_visible_yet_is_waited_for() {
    // A commit that waits for a standby is in the log, and nobody sees its rows.
    let server = Postgres::start().expect("a private server starts");
    let script = "CREATE TABLE item(id int PRIMARY KEY, n int, big text);
                  INSERT INTO item SELECT i, 0, 'x' FROM generate_series(1, 10) i;";
    let (options, client) = database_on(server.port(), "hidden", script, &["public.item"]).await;
    let mut ledger = Ledger::default();
    let mut reader = ledger.open(&options, Start::Now).await;
    let block = next(&mut reader).await.unwrap();
    ledger.keep(&mut reader, &block);
    let standby = |name: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    client.batch_execute(&standby("nobody")).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let shown = "SHOW synchronous_standby_names";
    let writer = loop {
        let writer = self::client(options.port, &options.database).await;
        if writer.query_one(shown, &[]).await.unwrap().get::<_, String>(0) == "nobody" {
            break writer;
        }
    };
    let update = tokio::spawn(async move {
        writer.batch_execute("UPDATE item SET n = 1").await.unwrap();
    });
    // The stream has it.
    while ledger.rows.is_empty() {
        let block = next(&mut reader).await.unwrap();
        ledger.keep(&mut reader, &block);
    }
    drop(reader);
    ledger.memory = Ledger::with(&["public.item"], Purpose::Requested).memory;
    let position = ledger.position.clone().unwrap();
    let mut reader = open_again(&options, Start::After(position), &ledger.memory).await;
    let early = tokio::time::timeout(Duration::from_secs(2), ledger.until_copied(&mut reader));
    assert!(early.await.is_err(), "rows were read that are older than the stream");
    client.batch_execute("SET synchronous_commit = 'local'").await.unwrap();
    client.batch_execute(&standby("")).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    update.await.unwrap();
    ledger.until_copied(&mut reader).await;
    let expected = server_texts(&client, "item", "id,n,big").await;
    assert_eq!(ledger.texts("public.item", "id,n,big"), expected);
}
