//! One contract for whoever is told: databases, a service over HTTP, files.

use crossdock_apply::{
    AnyTarget, ApplyError, ConnectOptions, FileFormat, FileOptions, HttpOptions, PostgresStore,
    Target, TargetBatch, TargetOptions, Told,
};
use crossdock_harness::service::{Answer, Service};
use crossdock_model::canonical::{RecordKey, RowWrite, WriteKind};
use crossdock_model::{TableName, Value};
use std::time::Duration;
use uuid::Uuid;

use crate::service::key;
use crate::support::{
    mariadb, mariadb_database, mysql, mysql_database, postgres, postgres_database,
};

/// The event that everybody refuses who can.
const BAD: u64 = 13;

/// A target, and how to see what it was told.
struct Place {
    options: TargetOptions,
    store: ConnectOptions,
    seen: Box<dyn Fn() -> Vec<u64>>,
}

impl Place {
    async fn open(&self) -> AnyTarget {
        AnyTarget::open(&self.options, "plant", &self.store).await.unwrap()
    }

    fn is_file(&self) -> bool {
        matches!(self.options, TargetOptions::File(_))
    }
}

const TABLE: &str = "CREATE TABLE inbox (event int PRIMARY KEY CHECK (event <> 13), n ";

fn database(
    options: ConnectOptions,
    store: &ConnectOptions,
    serial: &str,
    sql: fn(&str, &str) -> String,
) -> Place {
    let database = options.database.clone();
    sql(&database, &format!("{TABLE}{serial})"));
    let seen = move || {
        let rows = sql(&database, "SELECT event FROM inbox ORDER BY n");
        rows.lines().map(|line| line.trim().parse().unwrap()).collect()
    };
    Place { options: TargetOptions::Database(options), store: store.clone(), seen: Box::new(seen) }
}

/// Every kind of target, and a store beside them.
async fn places(name: &str, folder: &std::path::Path, service: &Service) -> Vec<Place> {
    let store = postgres_database(&format!("{name}_store"));
    PostgresStore::open(&store, "plant").await.unwrap();
    let mut all = vec![
        database(postgres_database(name), &store, "serial", |d, s| postgres().sql(d, s).unwrap()),
        database(mariadb_database(name), &store, "int AUTO_INCREMENT UNIQUE", |d, s| {
            mariadb().sql(d, s).unwrap()
        }),
    ];
    if mysql().is_some() {
        all.push(database(mysql_database(name), &store, "int AUTO_INCREMENT UNIQUE", |d, s| {
            mysql().unwrap().sql(d, s).unwrap()
        }));
    }
    let http = HttpOptions {
        name: "portal".into(),
        url: format!("http://127.0.0.1:{}/hooks", service.port()),
        secret: "s3cret".into(),
        timeout: Duration::from_secs(5),
        conflict_is_done: true,
        ca_file: None,
    };
    let log = service.log();
    let options = TargetOptions::Http(http);
    let seen = move || {
        let number = |key: &str| u64::try_from(key.parse::<Uuid>().unwrap().as_u128()).unwrap();
        log.lock().unwrap().taken.iter().map(|taken| number(taken.key())).collect()
    };
    all.push(Place { options, store: store.clone(), seen: Box::new(seen) });
    let file = FileOptions {
        name: "lines".into(),
        folder: folder.to_path_buf(),
        rotate_bytes: 1_000,
        rotate_every: Duration::from_secs(3_600),
        format: FileFormat::Lines,
    };
    let below = folder.join("parquet");
    let parquet = FileOptions {
        folder: below.clone(),
        format: FileFormat::Parquet(Default::default()),
        ..file.clone()
    };
    let options = TargetOptions::File(parquet);
    let seen = move || crate::files::all_events(&below);
    all.push(Place { options, store: store.clone(), seen: Box::new(seen) });
    let options = TargetOptions::File(file);
    let folder = folder.to_path_buf();
    let seen = move || crate::files::lines(&folder).iter().map(crate::files::event).collect();
    all.push(Place { options, store, seen: Box::new(seen) });
    all
}

fn batch(place: &Place, stream: &str, events: &[u64]) -> TargetBatch {
    let schema = match &place.options {
        TargetOptions::Database(options) if options.port != postgres().port() => &options.database,
        _ => "public",
    };
    let mut batch = TargetBatch {
        stream: stream.into(),
        upto: events.iter().copied().max().unwrap_or(0),
        ..TargetBatch::default()
    };
    for event in events {
        let id = Uuid::from_u128(u128::from(*event));
        let write = RowWrite {
            table: TableName::new(schema, "inbox"),
            kind: WriteKind::Insert,
            key: vec![("event".into(), Value::Int(i64::try_from(*event).unwrap()))],
            columns: Vec::new(),
        };
        batch.writes.push((id, write));
        batch.told.push(Told {
            place: *event,
            seq: *event,
            event_id: id,
            rule: "rule".into(),
            record: RecordKey { entity: "shipment".into(), key: "shp:1".into() },
            owed_micros: 1_795_414_530_500_000,
            writes: 1,
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_once_and_in_order() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::start().unwrap());
    for place in places("c_once", folder.path(), &service).await {
        let name = place.options.name().to_string();
        let mut target = place.open().await;
        assert_eq!(target.progress("deliver").await.unwrap(), None, "{name}");
        let first = batch(&place, "deliver", &[1, 2, 3]);
        assert_eq!(target.apply(&first).await.unwrap(), Some(3), "{name}");
        assert_eq!(target.apply(&first).await.unwrap(), None, "{name}");
        // A part of it was told before.
        assert!(target.apply(&batch(&place, "deliver", &[4, 5])).await.unwrap().is_some());
        assert_eq!((place.seen)(), [1, 2, 3, 4, 5], "{name}");
        // Nothing to tell, and yet it goes on.
        let nothing = TargetBatch { upto: 9, ..batch(&place, "deliver", &[]) };
        assert_eq!(target.apply(&nothing).await.unwrap(), Some(0), "{name}");
        drop(target);
        let mut target = place.open().await;
        assert_eq!(target.progress("deliver").await.unwrap().unwrap().seq, 9, "{name}");
        assert_eq!(target.apply(&batch(&place, "deliver", &[8])).await.unwrap(), None, "{name}");
        assert_eq!(target.progress("other").await.unwrap(), None, "{name}");
        assert_eq!(target.apply(&batch(&place, "other", &[6])).await.unwrap(), Some(1), "{name}");
        assert_eq!(target.rewind("deliver", 4).await.unwrap(), Some(9), "{name}");
        assert_eq!(target.rewind("nobody", 4).await.unwrap(), None, "{name}");
        assert!(target.apply(&batch(&place, "deliver", &[4, 5])).await.unwrap().is_some());
        let expected: &[u64] =
            if place.is_file() { &[1, 2, 3, 4, 5, 6, 5] } else { &[1, 2, 3, 4, 5, 6] };
        assert_eq!((place.seen)(), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_keeps_nothing_else() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::start().unwrap());
    service.answers(&key(BAD), &[Answer::Code(422)]);
    for place in places("c_refused", folder.path(), &service).await {
        if place.is_file() {
            continue;
        }
        let name = place.options.name().to_string();
        let mut target = place.open().await;
        let error = target.apply(&batch(&place, "deliver", &[11, 12, BAD, 14])).await.unwrap_err();
        assert!(matches!(error, ApplyError::Refused { .. }), "{name}: {error}");
        let error = target.apply(&batch(&place, "deliver", &[BAD])).await.unwrap_err();
        assert!(matches!(error, ApplyError::Refused { .. }), "{name}: {error}");
        let done = target.progress("deliver").await.unwrap().map_or(0, |p| p.seq);
        assert!(done < BAD, "{name}: {done}");
        target.apply(&batch(&place, "deliver", &[11, 12])).await.unwrap();
        let passed = TargetBatch { upto: BAD, ..batch(&place, "deliver", &[]) };
        assert!(target.apply(&passed).await.unwrap().is_some(), "{name}");
        target.apply(&batch(&place, "deliver", &[14])).await.unwrap();
        assert_eq!((place.seen)(), [11, 12, 14], "{name}");
    }
}

/// A transaction that is too large to be held at once is applied in pieces by whoever has
/// transactions; nothing is there before the last one.
#[tokio::test(flavor = "multi_thread")]
async fn pieces_are_one_transaction() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::start().unwrap());
    for place in places("c_pieces", folder.path(), &service).await {
        let TargetOptions::Database(options) = &place.options else { continue };
        let name = options.name.clone();
        let more = |events: &[u64]| TargetBatch { more: true, ..batch(&place, "mirror", events) };
        let mut target = place.open().await;
        assert_eq!(target.apply(&more(&[1, 2])).await.unwrap(), Some(2), "{name}");
        assert_eq!(target.apply(&more(&[3])).await.unwrap(), Some(1), "{name}");
        assert_eq!((place.seen)(), [0; 0], "{name}: nothing is visible in the middle");
        // The process ends: nothing is left, and all comes again.
        drop(target);
        let mut target = place.open().await;
        assert_eq!(target.progress("mirror").await.unwrap(), None, "{name}");
        target.apply(&more(&[1, 2])).await.unwrap();
        let refused = target.apply(&more(&[BAD])).await.unwrap_err();
        assert!(matches!(refused, ApplyError::Refused { .. }), "{name}: {refused:?}");
        assert_eq!(target.progress("mirror").await.unwrap(), None, "{name}: undone");
        target.apply(&more(&[1, 2])).await.unwrap();
        let last = batch(&place, "mirror", &[3, 4]);
        assert_eq!(target.apply(&last).await.unwrap(), Some(2), "{name}");
        assert_eq!((place.seen)(), [1, 2, 3, 4], "{name}");
        assert_eq!(target.progress("mirror").await.unwrap().unwrap().seq, 4, "{name}");
        // Pieces that were applied before are passed over.
        assert_eq!(target.apply(&more(&[2])).await.unwrap(), None, "{name}");
        assert_eq!(target.apply(&last).await.unwrap(), None, "{name}");
        let next = batch(&place, "mirror", &[5]);
        assert_eq!(target.apply(&next).await.unwrap(), Some(1), "{name}");
    }
}
