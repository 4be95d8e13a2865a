//! Which server answers: another one, a promoted one, one that was restored from a copy.

use crossdock_capture::ServerIdentity;

use super::*;

const SCRIPT: &str = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);";

/// Reads a snapshot and one change; returns where reading stands, and what the reader remembers.
async fn read_one(options: &SourceOptions, client: &Client) -> (Position, Memory) {
    let mut reader = open(options, None).await;
    snapshot(&mut reader).await;
    client.batch_execute("INSERT INTO item VALUES (2)").await.unwrap();
    say_done(client).await;
    let end = until_done(&mut reader).await.pop().unwrap().end;
    (end, reader.memory().clone())
}

async fn reopened(
    options: &SourceOptions,
    position: &Position,
    memory: &Memory,
) -> Result<PostgresReader, CaptureError> {
    let start = Start::After(position.clone());
    let mut reader = postgres::open(options, start, memory.clone()).await?;
    // Whatever is wrong with the server is found by the reading thread.
    match tokio::time::timeout(Duration::from_secs(3), reader.next()).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(reader),
    }
}

fn is_gap(result: Result<PostgresReader, CaptureError>, word: &str) {
    let error = result.err().expect("can't be read on");
    assert!(matches!(error, CaptureError::Gap { .. }), "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

#[tokio::test]
async fn another_server_at_the_same_address_is_a_gap() {
    let (options, client) = database("another", SCRIPT, &["public.item"]).await;
    let (position, memory) = read_one(&options, &client).await;
    let server = memory.server.clone().expect("the server is remembered");
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    assert_eq!(server.id, client.query_one(sql, &[]).await.unwrap().get::<_, String>(0));
    assert_eq!(server.timeline, 1);
    // Its LSNs, slot and publication may look as good as they like.
    let other = Memory {
        server: Some(ServerIdentity { id: "6000000000000000000".into(), ..server }),
        ..memory.clone()
    };
    wait_for_free(&client, &options).await;
    is_gap(reopened(&options, &position, &other).await, "another server");
    reopened(&options, &position, &memory).await.expect("the right one goes on");
    // Where only the replication connection tells, that is soon enough.
    let revoke = "REVOKE ALL ON FUNCTION pg_control_system() FROM public;
         CREATE ROLE asks_little LOGIN REPLICATION PASSWORD 'x'; GRANT SELECT ON item TO asks_little;";
    client.batch_execute(revoke).await.unwrap();
    let little =
        SourceOptions { user: "asks_little".into(), password: "x".into(), ..options.clone() };
    wait_for_free(&client, &options).await;
    is_gap(reopened(&little, &position, &other).await, "another server");
}

#[tokio::test]
async fn a_new_timeline_is_read_on_where_nothing_is_missing_and_else_a_gap() {
    let mut server = Postgres::start().unwrap();
    let (mut options, client) =
        database_on(server.port(), "promoted", SCRIPT, &["public.item"]).await;
    let (position, memory) = read_one(&options, &client).await;
    drop(client);
    let mut copy = Postgres::copy_of(&mut server).unwrap();
    // The copy has everything that was read.
    copy.start_on_new_timeline().unwrap();
    options.port = copy.port();
    let client = self::client(copy.port(), "promoted").await;
    let start = Start::After(position.clone());
    let mut reader = postgres::open(&options, start, memory.clone()).await.unwrap();
    client.batch_execute("INSERT INTO item VALUES (3)").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    assert_eq!(changes(&blocks).len(), 1);
    let promoted = reader.memory().clone();
    assert_eq!(promoted.server.as_ref().map(|server| server.timeline), Some(2));
    let position_on_copy = blocks.last().unwrap().end.clone();
    drop(reader);
    // The old primary has gone on as well: one can't be exchanged for the other any more.
    options.port = server.port();
    is_gap(reopened(&options, &position_on_copy, &promoted).await, "former primary");
    let client = self::client(server.port(), "promoted").await;
    let mut reader = open(&options, Some(&position)).await;
    client.batch_execute("INSERT INTO item SELECT generate_series(4, 10000)").await.unwrap();
    say_done(&client).await;
    let beyond = until_done(&mut reader).await.pop().unwrap().end;
    options.port = copy.port();
    is_gap(reopened(&options, &beyond, &memory).await, "was promoted");
}

#[tokio::test]
async fn a_server_that_was_restored_from_a_copy_is_a_gap() {
    let mut server = Postgres::start().unwrap();
    let (mut options, client) =
        database_on(server.port(), "restored", SCRIPT, &["public.item"]).await;
    drop(open(&options, None).await);
    wait_for_free(&client, &options).await;
    drop(client);
    let mut copy = Postgres::copy_of(&mut server).unwrap();
    let client = self::client(server.port(), "restored").await;
    let (position, memory) = read_one(&options, &client).await;
    // Same system, same timeline: only that its log ends too early tells them apart.
    copy.start_again().unwrap();
    let make = format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput');
         CREATE PUBLICATION {} FOR TABLE ONLY item;",
        options.slot, options.publication
    );
    let _ = copy.sql("restored", &make);
    options.port = copy.port();
    is_gap(reopened(&options, &position, &memory).await, "restored from a copy");
}
