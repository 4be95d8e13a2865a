//! A look at the speed, printed and not judged: `cargo test -p crossdock-apply speed -- --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use crossdock_apply::{
    AnyTarget, CanonicalStore, ConnectOptions, PostgresStore, Progress, Target, TargetBatch,
};
use crossdock_model::canonical::*;
use crossdock_model::{LogOrder, TableName, Value};
use uuid::Uuid;

use crate::support::{mariadb, mariadb_database, postgres, postgres_database};

const BATCHES: u64 = 5;
const SIZE: u64 = 1_000;

fn outcome(batch: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for i in 0..SIZE {
        let record = RecordKey { entity: "shipment".into(), key: format!("shp:{i}").into() };
        let row = RowKey {
            source: "wms".into(),
            table: "wms.shipments".into(),
            pk: i.to_string().into(),
        };
        let fields: Fields = [
            (Arc::from("status"), Value::Text("packed".into())),
            (Arc::from("weight"), Value::Decimal("12.50".into())),
            (Arc::from("version"), Value::Int(i64::try_from(batch).unwrap())),
        ]
        .into();
        let at = LogOrder { file: 1, offset: batch, ordinal: u32::try_from(i).unwrap() };
        outcome.rows.push(Arc::new(SourceRow {
            key: row.clone(),
            image: fields.clone().into(),
            at,
            deleted: false,
            waiting_for: vec![],
            refers_to: vec![],
        }));
        outcome.contributions.push(Arc::new(Contribution {
            record: record.clone(),
            row,
            fields: fields.clone().into(),
            links: Arc::default(),
            at,
            gone: false,
        }));
        let order = RecordKey { entity: "sales_order".into(), key: format!("so:{i}").into() };
        outcome.records.push(Arc::new(Record {
            key: record.clone(),
            version: batch,
            deleted: false,
            fields,
            origins: [].into(),
            links: [(Arc::from("order"), order)].into(),
        }));
        outcome.history.push(HistoryEntry {
            record,
            version: batch,
            source: "wms".into(),
            transaction: "0-1-1".into(),
            position: "binlog.000001:4".into(),
            commit_micros: 1_795_414_530_500_000,
            changes: r#"{"status": ["open", "packed"]}"#.into(),
        });
    }
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn speed_of_commits() {
    let options = postgres_database("speed_store");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let outcomes: Vec<Outcome> = (1..=BATCHES).map(outcome).collect();
    let start = Instant::now();
    for (seq, outcome) in (1..).zip(&outcomes) {
        let progress = Progress {
            source: "wms".into(),
            seq,
            position: String::new(),
            commit_micros: 1_795_414_530_500_000,
        };
        store.commit(outcome, &[progress], "r").await.unwrap();
    }
    let commits = (BATCHES * SIZE) as f64 / start.elapsed().as_secs_f64();
    let records = outcomes[0].records.iter().map(|r| r.key.clone()).collect();
    let rows = outcomes[0].rows.iter().map(|r| r.key.clone()).collect();
    let needs = Needs { records, rows, ..Needs::default() };
    let start = Instant::now();
    for _ in 0..BATCHES {
        assert_eq!(store.load(&needs).await.unwrap().records.len(), 1_000);
    }
    let loads = (BATCHES * SIZE) as f64 / start.elapsed().as_secs_f64();
    println!("store: {commits:.0} records/s committed, {loads:.0} records/s loaded");
}

async fn apply(options: &ConnectOptions, schema: &str) -> f64 {
    let mut target = AnyTarget::connect(options, "plant").await.unwrap();
    let start = Instant::now();
    for upto in 1..=BATCHES {
        let write = |id: u64| {
            let note = Value::Text(format!("note {upto}").into());
            let write = RowWrite {
                table: TableName::new(schema, "t"),
                kind: WriteKind::Upsert,
                key: vec![("id".into(), Value::UInt(id))],
                columns: vec![("note".into(), note), ("qty".into(), Value::Decimal("1.5".into()))],
            };
            (Uuid::nil(), write)
        };
        let writes = (0..SIZE).map(write).collect();
        target
            .apply(&TargetBatch { stream: "s".into(), upto, writes, ..TargetBatch::default() })
            .await
            .unwrap();
    }
    (BATCHES * SIZE) as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn speed_of_targets() {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, note varchar(50), qty decimal(12,3))";
    let options = postgres_database("speed_target");
    postgres().sql("speed_target", table).unwrap();
    let postgres = apply(&options, "public").await;
    let options = mariadb_database("speed_target");
    mariadb().sql("speed_target", table).unwrap();
    let mariadb = apply(&options, "speed_target").await;
    println!("targets: PostgreSQL {postgres:.0} rows/s, MariaDB {mariadb:.0} rows/s");
}
