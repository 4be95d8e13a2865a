//! What can't be captured stops with a reason; it is never left out in silence.

use crossdock_capture::{CaptureError, DatabaseKind};
use crossdock_harness::MySql;
use crossdock_model::Value;

use super::proxy;
use super::rig::{Rig, Server, on_both, options};

on_both!(a_packet_that_is_no_event_is_an_error);

const DOCS: &str = "CREATE DATABASE wms; USE wms;
    CREATE TABLE docs(id INT PRIMARY KEY, doc JSON, n INT);
    CREATE TABLE other(id INT PRIMARY KEY, doc JSON);
    INSERT INTO docs VALUES (1, '{\"a\": 1, \"long\": \"0123456789012345678901234567890\"}', 1);
    INSERT INTO other SELECT id, doc FROM docs;";

fn definite(error: &CaptureError) -> String {
    assert!(matches!(error, CaptureError::Definite { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn json_differences_are_applied_to_the_document_before() {
    if !MySql::installed() {
        return;
    }
    let server = Server::start(DatabaseKind::Mysql);
    server.sql("", DOCS).unwrap();
    let mut rig = Rig::open(&options(&server, &["wms.docs"]), None).await;
    rig.snapshot().await;
    let changes = [
        "n = 2",
        "doc = JSON_SET(doc, '$.a', 2.5e-3)",
        "doc = JSON_SET(doc, '$.list', JSON_ARRAY(1, '2', JSON_OBJECT('k', CAST('2026-11-23' AS DATE))))",
        "doc = JSON_ARRAY_INSERT(doc, '$.list[1]', 'between')",
        "doc = JSON_REMOVE(JSON_SET(doc, '$.list[3].\"k l\"', 18446744073709551615), '$.a')",
        "doc = JSON_REPLACE(doc, '$.long', 'short \"q\"'), n = NULL",
        "doc = JSON_ARRAY_APPEND(doc, '$.list', CAST('null' AS JSON))",
        "doc = JSON_REMOVE(doc, '$.list[0]')",
        "doc = '[true]'",
    ];
    let mut script = "SET binlog_row_value_options = 'PARTIAL_JSON';
        UPDATE other SET doc = JSON_SET(doc, '$.a', 2);"
        .to_string();
    for change in changes {
        script.push_str(&format!("UPDATE docs SET {change}; SELECT doc FROM docs;"));
    }
    let printed = server.sql("wms", &script).unwrap();
    rig.until(|rig| rig.events("docs").len() == 1 + changes.len()).await;
    for (event, printed) in rig.events("docs")[1..].iter().zip(printed.lines()) {
        // The client doubles backslashes.
        let printed = printed.replace("\\\\", "\\");
        assert_eq!(event.after.as_ref().unwrap().get(1), Some(&Value::Json(printed.into())));
    }
    server
        .sql(
            "wms",
            "UPDATE docs SET doc = JSON_OBJECT('a', 1, 'long', REPEAT('x', 100));
             SET binlog_row_value_options = 'PARTIAL_JSON', binlog_row_image = 'MINIMAL';
             UPDATE docs SET doc = JSON_REPLACE(doc, '$.a', 2)",
        )
        .unwrap();
    let error = definite(&rig.error().await);
    assert!(error.contains("wms.docs.doc"), "{error}");
    assert!(error.contains("binlog_row_image"), "{error}");
}

#[tokio::test]
async fn a_broken_compressed_transaction_is_an_error() {
    if !MySql::installed() {
        return;
    }
    let compressed = [("binlog_transaction_compression", "ON")];
    let server = Server::start_with(DatabaseKind::Mysql, &compressed);
    server.sql("", DOCS).unwrap();
    let direct = options(&server, &["wms.docs"]);
    let mut rig = Rig::open(&direct, None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    drop(rig);
    server.sql("wms", "INSERT INTO docs VALUES (2, NULL, 2)").unwrap();
    // The last byte of the compressed data; all of it; the method.
    let changes: [proxy::Change; 3] = [
        |event| {
            if let Some(last) = event.last_mut() {
                *last ^= 0x55;
            }
        },
        |event| event[40..].fill(0),
        |event| event[21] = 9,
    ];
    for change in changes {
        let mut through = direct.clone();
        through.port = proxy::start(server.port(), 40, change).await;
        let mut rig = Rig::open(&through, Some(&from)).await;
        let error = rig.error().await;
        assert!(error.to_string().contains("wms: "), "{error}");
        assert!(rig.fragments.is_empty() && rig.durable == Some(from.clone()), "{error}");
    }
    let mut rig = Rig::open(&direct, Some(&from)).await;
    rig.until(|rig| rig.events("docs").len() == 1).await;
}

async fn a_packet_that_is_no_event_is_an_error(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", DOCS).unwrap();
    let direct = options(&server, &["wms.docs"]);
    let mut rig = Rig::open(&direct, None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    drop(rig);
    server.sql("wms", "INSERT INTO docs VALUES (2, NULL, 2)").unwrap();
    // 19 is the table map. An event shorter than its header, and one shorter than it says.
    let changes: [proxy::Change; 2] = [|event| event.truncate(3), |event| event.truncate(25)];
    for change in changes {
        let mut through = direct.clone();
        through.port = proxy::start(server.port(), 19, change).await;
        let mut rig = Rig::open(&through, Some(&from)).await;
        let error = rig.error().await;
        assert!(error.to_string().contains("wms: "), "{error}");
        assert_eq!(rig.durable, Some(from.clone()));
    }
}
