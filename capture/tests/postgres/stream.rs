//! What the stream makes of changes.

use super::*;

const NONE: Option<RowImage<'static>> = None;

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_string().into())
}

#[tokio::test]
async fn images_are_what_the_log_carries() {
    let script = "CREATE TABLE plain(id int PRIMARY KEY, n int, big text);
                  ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
                  CREATE TABLE whole(id int PRIMARY KEY, n int, big text);
                  ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
                  ALTER TABLE whole REPLICA IDENTITY FULL;";
    let (options, client) = database("images", script, &["public.plain", "public.whole"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    for table in ["plain", "whole"] {
        let script = format!(
            "INSERT INTO {table} VALUES (1, 1, repeat('b', 20000));
             UPDATE {table} SET n = 2;
             UPDATE {table} SET id = 7;
             DELETE FROM {table};
             INSERT INTO {table} VALUES (8, NULL, NULL);
             TRUNCATE {table};"
        );
        client.batch_execute(&script).await.unwrap();
    }
    say_done(&client).await;
    let events = changes(&until_done(&mut reader).await);
    let big = "b".repeat(20_000);
    let row = |id, n| RowImage::Full(vec![Value::Int(id), Value::Int(n), text(&big)]);
    let partial = |id, n| RowImage::Partial(vec![Some(Value::Int(id)), Some(Value::Int(n)), None]);
    let key = |id| RowImage::Key(vec![Some(Value::Int(id)), None, None]);
    let nulls = RowImage::Full(vec![Value::Int(8), Value::Null, Value::Null]);
    let expected = [
        // Default replica identity.
        (Op::Create, NONE, Some(row(1, 1))),
        (Op::Update, NONE, Some(partial(1, 2))),
        (Op::Update, Some(key(1)), Some(partial(7, 2))),
        (Op::Delete, Some(key(7)), NONE),
        (Op::Create, NONE, Some(nulls.clone())),
        (Op::Truncate, NONE, NONE),
        // Full replica identity: unchanged values come from the old row.
        (Op::Create, NONE, Some(row(1, 1))),
        (Op::Update, Some(row(1, 1)), Some(row(1, 2))),
        (Op::Update, Some(row(1, 2)), Some(row(7, 2))),
        (Op::Delete, Some(row(7, 2)), NONE),
        (Op::Create, NONE, Some(nulls)),
        (Op::Truncate, NONE, NONE),
    ];
    assert_eq!(events.len(), expected.len());
    for (i, (event, (op, before, after))) in events.iter().zip(expected).enumerate() {
        assert_eq!((event.op, &event.before, &event.after), (op, &before, &after), "event {i}");
        // Each script was one transaction.
        assert_eq!(event.ordinal as usize, i % 6);
    }
}

#[tokio::test]
async fn a_big_transaction_spans_blocks() {
    let script = "CREATE TABLE item(id int PRIMARY KEY, note text)";
    let (options, client) = database("big", script, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    let insert = "INSERT INTO item SELECT i, repeat('y', 100) FROM generate_series(1, 50000) i";
    client.batch_execute(insert).await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    let largest = blocks.iter().map(|block| block.bytes.len()).max().unwrap();
    assert!(largest < options.block_bytes_max + 1024, "largest block {largest}");
    let parts: Vec<Fragment> = blocks.iter().flat_map(fragments).collect();
    let id = &parts[0].header;
    let of_it: Vec<_> = parts.iter().filter(|part| part.header == *id).collect();
    assert!(of_it.len() > 50 && of_it[0].first && of_it[of_it.len() - 1].last);
    assert!(of_it[1..].iter().all(|part| !part.first));
    assert!(of_it[..of_it.len() - 1].iter().all(|part| !part.last));
    let ordinals = of_it.iter().flat_map(|part| &part.events).map(|event| event.ordinal);
    assert!(ordinals.eq(0..50_000));
}

#[tokio::test]
async fn the_schema_may_change() {
    let script = "CREATE TABLE item(id int PRIMARY KEY, n int)";
    let (options, client) = database("ddl", script, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    let script = "INSERT INTO item VALUES (1, 1);
                  ALTER TABLE item ADD price numeric(12,3) NOT NULL DEFAULT 0;
                  INSERT INTO item VALUES (2, 2, 1.500);
                  ALTER TABLE item DROP n;
                  INSERT INTO item VALUES (3, 2.5);";
    for statement in script.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
    say_done(&client).await;
    let events = changes(&until_done(&mut reader).await);
    let decimal = |text: &str| Value::Decimal(text.to_string().into());
    assert_eq!(full(&events[0].after), [Value::Int(1), Value::Int(1)]);
    assert_eq!(full(&events[1].after), [Value::Int(2), Value::Int(2), decimal("1.500")]);
    assert_eq!(full(&events[2].after), [Value::Int(3), decimal("2.500")]);
    let price = &events[2].table.as_ref().unwrap().columns[1];
    assert_eq!((&*price.type_name, price.nullable, price.key), ("numeric(12,3)", false, None));
}

#[tokio::test]
async fn messages_and_origins_are_kept() {
    let script = "CREATE TABLE item(id int PRIMARY KEY)";
    let (options, client) = database("messages", script, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    let script = "SELECT pg_replication_origin_create('elsewhere_m');
                  SELECT pg_replication_origin_session_setup('elsewhere_m');
                  SELECT pg_logical_emit_message(false, 'beat', 'now');";
    client.batch_execute(script).await.unwrap();
    let script = "BEGIN;
                  SELECT pg_replication_origin_xact_setup('0/1', now());
                  SELECT pg_logical_emit_message(true, 'crossdock', 'mark');
                  INSERT INTO item VALUES (1); COMMIT;
                  SELECT pg_replication_origin_session_reset();";
    client.batch_execute(script).await.unwrap();
    say_done(&client).await;
    let parts: Vec<Fragment> = until_done(&mut reader).await.iter().flat_map(fragments).collect();
    if !is_talkative() {
        // The transaction that made the origin, and the one that has it.
        let origins: Vec<_> = parts.iter().map(|part| part.header.origin.as_deref()).collect();
        return assert_eq!(origins, [Some("elsewhere_m")]);
    }
    let message = |prefix: &str, content: &str| Some((prefix.to_string(), content.into()));
    assert_eq!(parts[0].header.id, "message");
    assert_eq!(parts[0].events[0].message, message("beat", "now"));
    assert_eq!(parts[1].header.origin.as_deref(), Some("elsewhere_m"));
    assert_eq!(parts[1].events[0].message, message("crossdock", "mark"));
    assert_eq!((parts[1].events[1].op, parts[1].events[1].ordinal), (Op::Create, 1));
    assert_eq!(parts[2].header.origin, None);
}
