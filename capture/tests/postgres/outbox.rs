//! Clean-up of an outbox table.

use crossdock_capture::postgres::OutboxCleaner;

use super::*;

#[tokio::test]
async fn only_the_rows_that_are_named_are_deleted() {
    let script = "CREATE TABLE \"Out box\"(\"Id\" uuid PRIMARY KEY, payload text);
        INSERT INTO \"Out box\"
        SELECT format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0'))::uuid, 'p'
        FROM generate_series(1, 10) i;
        CREATE ROLE cleans LOGIN PASSWORD 'x'; GRANT SELECT ON \"Out box\" TO cleans;";
    let (mut options, client) = database("cleaned", script, &["public.Out box"]).await;
    options.user = "cleans".into();
    options.password = "x".into();
    let table = TableName::new("public", "Out box");
    let error = OutboxCleaner::open(&options, &table, "id").await.err().unwrap().to_string();
    assert!(error.contains("public.Out box.id"), "{error}");
    let mut cleaner = OutboxCleaner::open(&options, &table, "Id").await.unwrap();
    let id = |n: u32| format!("00000000-0000-0000-0000-{n:012}");
    let ids = [id(1), id(3), id(11)];
    let error = cleaner.delete(&ids).await.err().unwrap();
    let CaptureError::Definite { remedy, .. } = &error else { panic!("{error}") };
    client.batch_execute(remedy).await.unwrap();
    assert_eq!(cleaner.delete(&ids).await.unwrap(), 2);
    // A second time, as after a crash.
    assert_eq!(cleaner.delete(&ids).await.unwrap(), 0);
    let left = client.query_one("SELECT count(*) FROM \"Out box\"", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 8);
}
