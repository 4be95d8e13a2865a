//! Deliveries over HTTP: what a service gets to see, and what its answers mean.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossdock_apply::{
    AnyTarget, ApplyError, ConnectOptions, HttpOptions, PostgresStore, Target, TargetBatch,
    TargetOptions, Told,
};
use crossdock_harness::make_certificates;
use crossdock_harness::service::{Answer, Service};
use crossdock_model::canonical::{RecordKey, RowWrite, WriteKind};
use crossdock_model::{TableName, Value};
use ring::hmac;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::support::postgres_database;

/// The identity of an event as the service sees it.
pub fn key(event: u64) -> String {
    Uuid::from_u128(u128::from(event)).to_string()
}

async fn target(name: &str, service: &Service) -> AnyTarget {
    let store: ConnectOptions = postgres_database(name);
    PostgresStore::open(&store, "plant").await.unwrap();
    let options = TargetOptions::Http(HttpOptions {
        name: "portal".into(),
        url: format!("http://127.0.0.1:{}/hooks?from=plant", service.port()),
        secret: "s3cret".into(),
        timeout: Duration::from_millis(700),
        conflict_is_done: true,
        ca_file: None,
    });
    AnyTarget::open(&options, "plant", &store).await.unwrap()
}

fn batch(events: std::ops::RangeInclusive<u64>) -> TargetBatch {
    let mut batch =
        TargetBatch { stream: "deliver".into(), upto: *events.end(), ..TargetBatch::default() };
    for event in events {
        let id = Uuid::from_u128(u128::from(event));
        let write = RowWrite {
            table: TableName::new("hooks", "shipments"),
            kind: WriteKind::Upsert,
            key: vec![("no".into(), Value::Text("S-1".into()))],
            columns: vec![("weight".into(), Value::Decimal("12.50".into()))],
        };
        batch.writes.push((id, write));
        batch.told.push(Told {
            place: event,
            seq: event,
            event_id: id,
            rule: "shipment_status".into(),
            record: RecordKey { entity: "shipment".into(), key: "shp:EU:S-1".into() },
            owed_micros: 1_795_414_530_500_000,
            writes: 1,
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_signed_and_says_what_it_is() {
    let service = Service::start().unwrap();
    let mut target = target("h_signed", &service).await;
    target.apply(&batch(7..=7)).await.unwrap();
    let log = service.log();
    let [taken] = &log.lock().unwrap().taken[..] else { panic!() };
    let body: Json = serde_json::from_str(&taken.body).unwrap();
    assert_eq!(body["event_id"], taken.headers["idempotency-key"]);
    assert_eq!((&body["rule"], &body["key"]), (&"shipment_status".into(), &"shp:EU:S-1".into()));
    assert_eq!(body["writes"][0]["columns"]["weight"], "12.5");
    assert_eq!(taken.headers["content-type"], "application/json");
    let signed = format!("{}.{}", taken.headers["x-crossdock-timestamp"], taken.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let expected = hmac::sign(&key, signed.as_bytes());
    let expected: String = expected.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(taken.headers["x-crossdock-signature"], format!("v1={expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_does_not_tell_twice() {
    let service = Service::start().unwrap();
    let mut target = target("h_lost", &service).await;
    service.answers(&key(2), &[Answer::TakeAndDie, Answer::TakeAndDie, Answer::Code(409)]);
    let error = target.apply(&batch(1..=3)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(target.progress("deliver").await.unwrap().unwrap().seq, 1);
    assert_eq!(target.apply(&batch(1..=3)).await.unwrap(), Some(2));
    let asked: Vec<String> = [1, 2, 2, 2, 3].map(key).to_vec();
    assert_eq!(service.log().lock().unwrap().asked, asked, "1 is not asked again");
    assert_eq!(service.log().lock().unwrap().taken.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_believed_and_a_silent_one_is_given_up() {
    let service = Service::start().unwrap();
    let mut target = target("h_busy", &service).await;
    service.answers(
        &key(1),
        &[Answer::Code(503), Answer::Silence, Answer::Code(500), Answer::Code(401)],
    );
    let after = |error: ApplyError| match error {
        ApplyError::Busy { after, .. } => after,
        other => panic!("{other}"),
    };
    let error = target.apply(&batch(1..=1)).await.unwrap_err();
    assert_eq!(after(error), Some(Duration::from_secs(3)));
    assert_eq!(after(target.apply(&batch(1..=1)).await.unwrap_err()), None);
    assert_eq!(after(target.apply(&batch(1..=1)).await.unwrap_err()), None);
    let error = target.apply(&batch(1..=1)).await.unwrap_err();
    assert!(matches!(error, ApplyError::Definite { .. }), "{error}");
    assert!(!error.to_string().contains("s3cret"));
}

/// A service that knows no TLS: its port, and what it has heard.
fn in_clear() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            log.lock().unwrap().extend(&bytes[..read]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (port, heard)
}

async fn over_tls(url: String, ca: &std::path::Path, store: &ConnectOptions) -> AnyTarget {
    let options = TargetOptions::Http(HttpOptions {
        name: "portal".into(),
        url,
        secret: "s3cret".into(),
        timeout: Duration::from_secs(5),
        conflict_is_done: true,
        ca_file: Some(ca.to_path_buf()),
    });
    AnyTarget::open(&options, "plant", store).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_who_is_trusted_is_told_and_nothing_goes_in_clear() {
    let store: ConnectOptions = postgres_database("s_tls");
    PostgresStore::open(&store, "plant").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path(), "postgres").unwrap();
    let (ca, other) = (folder.path().join("ca.crt"), folder.path().join("other.crt"));
    let good = Service::start_tls(folder.path(), "server").unwrap();
    let expired = Service::start_tls(folder.path(), "expired").unwrap();
    let (plain, heard) = in_clear();
    let at = |host: &str, port: u16| format!("https://{host}:{port}/hooks");
    let url = |host: &str, service: &Service| at(host, service.port());

    let refusals = [
        ("unknown authority", url("localhost", &good), &other, "UnknownIssuer", "`ca_file`"),
        ("another name", url("127.0.0.1", &good), &ca, "not valid for name", "into `url`"),
        ("expired", url("localhost", &expired), &ca, "Expired", "renew"),
        ("no TLS at all", at("localhost", plain), &ca, "corrupt message", "speaks TLS"),
    ];
    for (case, url, ca, what_has, remedy_has) in refusals {
        let mut target = over_tls(url, ca, &store).await;
        match target.apply(&batch(1..=1)).await {
            Err(ApplyError::Definite { what, remedy }) => {
                assert!(what.starts_with("portal: the service cannot be trusted: "), "{what}");
                assert!(what.contains(what_has), "{case}: {what}");
                assert!(remedy.contains(remedy_has), "{case}: {remedy}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(target.progress("deliver").await.unwrap(), None, "{case}");
    }
    for service in [&good, &expired] {
        assert!(service.log().lock().unwrap().asked.is_empty(), "nobody was told");
    }

    let mut target = over_tls(url("localhost", &good), &ca, &store).await;
    assert_eq!(target.apply(&batch(1..=3)).await.unwrap(), Some(3));
    let wires = [&good, &expired].map(|service| service.log().lock().unwrap().wire.clone());
    for wire in wires.into_iter().chain([heard.lock().unwrap().clone()]) {
        assert!(!wire.is_empty());
        let wire = String::from_utf8_lossy(&wire);
        for clear in ["POST", "hooks", "idempotency", "shp:EU:S-1", "12.50", &key(1)] {
            assert!(!wire.contains(clear), "{clear} went over the wire in clear");
        }
    }
    let log = good.log();
    let log = log.lock().unwrap();
    assert_eq!(
        log.taken.iter().map(|t| t.key().to_string()).collect::<Vec<_>>(),
        [key(1), key(2), key(3)]
    );
    assert!(log.taken[0].body.contains("shp:EU:S-1"));
}
