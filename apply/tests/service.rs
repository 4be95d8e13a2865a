//! A service that takes deliveries over HTTP, by hand: what it is asked, and what it answers.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossdock_apply::{
    AnyTarget, ApplyError, ConnectOptions, HttpOptions, PostgresStore, Target, TargetBatch,
    TargetOptions, Told,
};
use crossdock_model::canonical::{RecordKey, RowWrite, WriteKind};
use crossdock_model::{TableName, Value};
use ring::hmac;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::support::postgres_database;

/// A request that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Taken {
    /// The number in the event's identity.
    pub fn event(&self) -> u64 {
        let id: Uuid = self.headers["idempotency-key"].parse().unwrap();
        u64::try_from(id.as_u128()).unwrap()
    }
}

#[derive(Default)]
pub struct Log {
    /// What was taken, each event once.
    pub taken: Vec<Taken>,
    /// Every request, by event.
    asked: Vec<u64>,
    known: HashSet<u64>,
    /// What is answered to an event, first things first; the last answer stays.
    answers: BTreeMap<u64, Vec<Answer>>,
}

#[derive(Clone, Copy)]
enum Answer {
    Code(u16),
    /// Takes it, and hangs up without an answer.
    TakeAndDie,
    /// Says nothing.
    Silence,
}

/// The service, on a port of its own, until the test ends.
pub struct Service {
    port: u16,
    log: Arc<Mutex<Log>>,
}

impl Service {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = shared.clone();
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Self { port, log }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks?from=plant", self.port)
    }

    pub fn log(&self) -> Arc<Mutex<Log>> {
        self.log.clone()
    }

    pub fn answer(&self, event: u64, code: u16) {
        self.answers(event, &[Answer::Code(code)]);
    }

    fn answers(&self, event: u64, answers: &[Answer]) {
        self.log.lock().unwrap().answers.insert(event, answers.to_vec());
    }

    fn asked(&self) -> Vec<u64> {
        self.log.lock().unwrap().asked.clone()
    }
}

/// Answers requests of one connection; an odd one ends it.
fn serve(stream: TcpStream, log: &Mutex<Log>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        assert_eq!(first, "POST /hooks?from=plant HTTP/1.1\r\n");
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let taken = Taken { headers, body: String::from_utf8(body).ok()? };
        let event = taken.event();
        let answer = {
            let mut log = log.lock().ok()?;
            log.asked.push(event);
            let answer = match log.answers.get_mut(&event) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0],
                None => Answer::Code(200),
            };
            let takes = matches!(answer, Answer::Code(200..=299) | Answer::TakeAndDie);
            if takes && log.known.insert(event) {
                log.taken.push(taken);
            }
            answer
        };
        match answer {
            Answer::Code(code) => {
                let after = if code == 503 { "Retry-After: 3\r\n" } else { "" };
                write!(stream, "HTTP/1.1 {code} X\r\n{after}Content-Length: 2\r\n\r\nok").ok()?;
            }
            Answer::TakeAndDie => return None,
            Answer::Silence => std::thread::sleep(Duration::from_secs(3)),
        }
    }
}

async fn target(name: &str, service: &Service) -> AnyTarget {
    let store: ConnectOptions = postgres_database(name);
    PostgresStore::open(&store, "plant").await.unwrap();
    let options = TargetOptions::Http(HttpOptions {
        name: "portal".into(),
        url: service.url(),
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
    let service = Service::start();
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
    let service = Service::start();
    let mut target = target("h_lost", &service).await;
    service.answers(2, &[Answer::TakeAndDie, Answer::TakeAndDie, Answer::Code(409)]);
    let error = target.apply(&batch(1..=3)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(target.progress("deliver").await.unwrap().unwrap().seq, 1);
    assert_eq!(target.apply(&batch(1..=3)).await.unwrap(), Some(2));
    assert_eq!(service.asked(), [1, 2, 2, 2, 3], "1 is not asked again");
    assert_eq!(service.log().lock().unwrap().taken.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_believed_and_a_silent_one_is_given_up() {
    let service = Service::start();
    let mut target = target("h_busy", &service).await;
    service.answers(1, &[Answer::Code(503), Answer::Silence, Answer::Code(500), Answer::Code(401)]);
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
