//! Transactions that were prepared (two-phase commit): they come whole when they are committed,
//! and never when they are rolled back.

use super::*;

#[tokio::test]
async fn a_prepared_transaction_comes_when_it_is_committed() {
    let item = "CREATE TABLE item(id int PRIMARY KEY, note text)";
    let (options, client) = database("prepared", item, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    snapshot(&mut reader).await;
    // Small ones, and ones that are sent while they are in progress.
    for (name, from, rows) in
        [("a", 1, 2), ("b", 100, 2), ("c", 1_000, 9_000), ("d", 20_000, 9_000)]
    {
        let script = format!(
            "BEGIN;
             INSERT INTO item SELECT i, repeat('p', 200)
             FROM generate_series({from}, {from} + {rows} - 1) i;
             PREPARE TRANSACTION '{name}';"
        );
        client.batch_execute(&script).await.unwrap();
    }
    client.batch_execute("INSERT INTO item VALUES (0, 'others go on')").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    assert_eq!(changes(&blocks).len(), 1);
    // Nothing that was prepared is lost by a reader that begins after it.
    let position = blocks.last().unwrap().end.clone();
    let confirmed = format!(
        "SELECT confirmed_flush_lsn >= '{position}' FROM pg_replication_slots
         WHERE slot_name = '{}'",
        options.slot
    );
    wait_for(&client, &confirmed).await;
    drop(reader);
    wait_for_free(&client, &options).await;
    let mut reader = open(&options, Some(&position)).await;
    for end in ["COMMIT PREPARED 'c'", "ROLLBACK PREPARED 'd'", "COMMIT PREPARED 'a'"] {
        client.batch_execute(end).await.unwrap();
    }
    client.batch_execute("ROLLBACK PREPARED 'b'").await.unwrap();
    say_done(&client).await;
    let blocks = until_done(&mut reader).await;
    let ids: Vec<Value<'static>> =
        changes(&blocks).iter().map(|event| full(&event.after)[0].clone()).collect();
    let expected = (1_000..10_000).chain(1..=2);
    assert_eq!(ids, expected.map(Value::Int).collect::<Vec<_>>());
}
