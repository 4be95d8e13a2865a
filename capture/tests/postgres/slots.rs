//! What befalls a slot: dropped or lost in mid-stream, made with the right options, measured.

use super::*;

const SCRIPT: &str = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);";

/// Reads until there is an error, and then goes on as the service does, until it is a gap.
async fn until_gap(
    options: &SourceOptions,
    mut reader: PostgresReader,
    mut position: Position,
) -> CaptureError {
    loop {
        let error = match next(&mut reader).await {
            Ok(block) => {
                if block.boundary {
                    position = block.end;
                }
                continue;
            }
            Err(error) => error,
        };
        if matches!(error, CaptureError::Gap { .. }) {
            return error;
        }
        assert!(error.is_transient(), "{error}");
        let memory = reader.memory().clone();
        reader = loop {
            let start = Start::After(position.clone());
            match postgres::open(options, start, memory.clone()).await {
                Ok(reader) => break reader,
                Err(error) if error.is_transient() => tokio::task::yield_now().await,
                Err(error) => {
                    assert!(matches!(error, CaptureError::Gap { .. }), "{error}");
                    return error;
                }
            }
        };
    }
}

#[tokio::test]
async fn a_slot_that_is_dropped_in_mid_stream_is_a_gap() {
    let (options, client) = database("dropslot", SCRIPT, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    client.batch_execute("INSERT INTO item VALUES (2)").await.unwrap();
    say_done(&client).await;
    until_done(&mut reader).await;
    let slot = &options.slot;
    // Ending the walsender and dropping the slot before anybody comes back.
    let drop = format!(
        "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots
          WHERE slot_name = '{slot}';
         SELECT pg_drop_replication_slot('{slot}');"
    );
    if server().version().unwrap() >= 140_000 {
        client.batch_execute(&drop).await.unwrap();
        let error = until_gap(&options, reader, position).await.to_string();
        assert!(error.contains("does not exist") && error.contains(slot), "{error}");
    }
}

#[tokio::test]
async fn a_slot_that_falls_behind_its_limit_is_forecast_and_then_a_gap() {
    let settings =
        [("max_slot_wal_keep_size", "32MB"), ("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
    let settings = settings.map(|(name, value)| (name.to_string(), value.to_string()));
    let options = PostgresOptions { settings: settings.to_vec(), ..Default::default() };
    let server = Postgres::start_with(&options).unwrap();
    let (options, client) = database_on(server.port(), "behind", SCRIPT, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    let mut probe = postgres::probe(&options).await.unwrap();
    let limit = |head: crossdock_capture::Head| {
        let limit = head.keep_limit_bytes.expect("there is a limit");
        assert!(limit > head.retained_bytes, "{head:?}");
        limit
    };
    let at_first = limit(probe.head(Some(&position)).await.unwrap());
    // The setting, rounded to segments of 16 MB.
    assert!((24 << 20..=64 << 20).contains(&at_first), "{at_first}");
    // Nothing is acknowledged: the slot stays where it is, until the server gives up.
    for _ in 0..10 {
        client.batch_execute("SELECT pg_switch_wal(); INSERT INTO item SELECT max(id) + 1 FROM item; CHECKPOINT;").await.unwrap();
    }
    let error = until_gap(&options, reader, position).await.to_string();
    assert!(error.contains("slot_behind is lost"), "{error}");
    assert!(error.contains("max_slot_wal_keep_size"), "{error}");
    let findings = postgres::check(&options).await.unwrap();
    let lost = findings.iter().find(|finding| finding.what.contains("is lost")).expect("found");
    assert!(lost.remedy.contains("crossdock resync --source"), "{lost:?}");
}

#[tokio::test]
async fn a_server_without_logical_decoding_is_not_taken_for_a_gap() {
    let mut server = Postgres::start().unwrap();
    let (options, client) = database_on(server.port(), "level", SCRIPT, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    drop(reader);
    wait_for_free(&client, &options).await;
    let slot = format!("SELECT pg_drop_replication_slot('{}')", options.slot);
    client.batch_execute(&slot).await.unwrap();
    drop(client);
    server.stop();
    server.configure(&[("wal_level", "replica")]).unwrap();
    server.start_again().unwrap();
    let start = Start::After(position);
    let error = postgres::open(&options, start, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
    assert!(error.to_string().contains("wal_level"), "{error}");
}

#[tokio::test]
async fn slots_are_kept_on_standbys_where_the_server_can() {
    if server().version().unwrap() < 170_000 {
        return;
    }
    let (mut options, client) = database("kept", SCRIPT, &["public.item"]).await;
    let sql =
        format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", options.slot);
    options.slot_failover = false;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    assert!(!client.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0));
    drop(reader);
    wait_for_free(&client, &options).await;
    // An older slot is marked when it is read on.
    options.slot_failover = true;
    let reader = open(&options, Some(&position)).await;
    wait_for(&client, &sql).await;
    drop(reader);
    wait_for_free(&client, &options).await;
    // And a new one is made so.
    snapshot(&mut open(&options, None).await).await;
    wait_for(&client, &sql).await;
}
