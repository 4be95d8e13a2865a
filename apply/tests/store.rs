//! The canonical store: what is committed is what is loaded, once, and by one writer only.

use std::sync::Arc;

use crossdock_apply::{ApplyError, CanonicalStore, PostgresStore, Progress};
use crossdock_model::canonical::*;
use crossdock_model::{LogOrder, TableName, Value};
use serde_json::json;
use uuid::Uuid;

use crate::support::{postgres, postgres_database};

fn key(entity: &str, key: &str) -> RecordKey {
    RecordKey { entity: entity.into(), key: key.into() }
}

fn row(table: &str, pk: &str) -> RowKey {
    RowKey { source: "wms_eu".into(), table: table.into(), pk: pk.into() }
}

fn at(offset: u64, ordinal: u32) -> LogOrder {
    LogOrder { file: 7, offset, ordinal }
}

fn fields(pairs: &[(&str, Value<'static>)]) -> Fields {
    pairs.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()
}

fn progress(seq: u64) -> Vec<Progress> {
    vec![Progress {
        source: "wms_eu".into(),
        seq,
        position: format!("binlog.000007:{seq}"),
        commit_micros: 1_795_414_530_500_000,
    }]
}

fn exception(number: u128, open: bool) -> ExceptionItem {
    ExceptionItem {
        id: Uuid::from_u128(number),
        kind: "unmapped_code".into(),
        record: Some(key("shipment", "shp:EU:1")),
        source: "wms_eu".into(),
        rule: "milestones.toml:12".into(),
        team: "".into(),
        text: "Code XYZ is not in the table x12".into(),
        context: json!({"code": "XYZ", "place": 12}),
        open,
    }
}

fn release(released: bool) -> Release {
    Release {
        rule: "freight_accrual".into(),
        business_key: "SHP-1|DHL".into(),
        record: key("freight_cost", "fc:1"),
        unmet: if released { vec![] } else { vec!["departed".into(), "cost, known".into()] },
        depends: vec![key("shipment", "shp:EU:1"), key("load", "ld:9")],
        released,
    }
}

fn delivery(number: u128) -> Delivery {
    Delivery {
        event_id: Uuid::from_u128(number),
        target: "erp".into(),
        rule: "status".into(),
        record: key("shipment", "shp:EU:1"),
        writes: vec![RowWrite {
            table: TableName::new("public", "inbox"),
            kind: WriteKind::Insert,
            key: vec![("event_id".into(), Value::Uuid(number.to_be_bytes()))],
            columns: vec![
                ("qty".into(), Value::Decimal("12.5000000000000000000000000000001".into())),
                ("raw".into(), Value::Bytes(vec![0, 1, 255].into())),
                ("at".into(), Value::TimestampTz(1_795_414_530_500_000)),
                ("note".into(), Value::Null),
                ("share".into(), Value::Float(0.1)),
            ],
        }],
        reverts: None,
        hops: 0,
    }
}

fn record() -> Record {
    Record {
        key: key("shipment", "shp:EU:1"),
        version: 3,
        deleted: false,
        fields: fields(&[
            ("status", Value::Text("packed".into())),
            ("lines", Value::Int(2)),
            ("hazardous", Value::Bool(false)),
            ("weight", Value::Text("12.5".into())),
            ("note", Value::Null),
        ]),
        origins: [(
            Arc::from("status"),
            Origin {
                source: "wms_eu".into(),
                at: at(4, 1).to_sortable().into(),
                rule: "ownership.toml:7".into(),
                inferred: vec!["picking".into()],
            },
        )]
        .into(),
        links: [(Arc::from("order"), key("sales_order", "so:9"))].into(),
    }
}

fn deadline(number: u128, due_micros: i64) -> Deadline {
    Deadline {
        id: Uuid::from_u128(number),
        record: key("shipment", "shp:EU:1"),
        rule: "stuck_packed".into(),
        due_micros,
        raised: false,
        gone: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_due_once_their_time_has_come() {
    let options = postgres_database("store_deadlines");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    assert_eq!(store.next_due_micros().await.unwrap(), None);
    let put = |deadlines: Vec<Deadline>| Outcome { deadlines, ..Outcome::default() };
    let (early, late) = (deadline(1, 1_000_000), deadline(2, 2_000_000));
    store.commit(&put(vec![early.clone(), late.clone()]), &[], "rules-1").await.unwrap();
    assert_eq!(store.next_due_micros().await.unwrap(), Some(1_000_000));
    assert_eq!(store.due_records(999_999, 10).await.unwrap(), []);
    assert_eq!(store.due_records(3_000_000, 10).await.unwrap(), [key("shipment", "shp:EU:1")]);
    // What has been raised is not due again; what has no reason any more is gone.
    let raised = Deadline { raised: true, ..early };
    let gone = Deadline { gone: true, ..late };
    store.commit(&put(vec![raised.clone(), gone]), &[], "rules-1").await.unwrap();
    assert_eq!(store.due_records(3_000_000, 10).await.unwrap(), []);
    assert_eq!(store.next_due_micros().await.unwrap(), None);
    let needs = Needs { records: vec![key("shipment", "shp:EU:1")], ..Needs::default() };
    let loaded = store.load(&needs).await.unwrap();
    assert_eq!(loaded.records[0].1.deadlines, [raised]);
}

/// An outcome with something in every part.
fn outcome() -> Outcome {
    let image = fields(&[
        ("id", Value::Int(812)),
        ("qty", Value::Decimal("1.500".into())),
        ("packed_at", Value::Timestamp(1_795_414_530_500_000)),
        ("blob", Value::Bytes(vec![0, 159].into())),
        ("big", Value::UInt(u64::MAX)),
        ("none", Value::Null),
    ]);
    let line = row("wms.lines", "5\u{1f}A");
    Outcome {
        rows: vec![
            Arc::new(SourceRow {
                key: row("wms.shipments", "812"),
                image: image.clone().into(),
                at: at(4, 1),
                deleted: false,
                waiting_for: vec![],
                refers_to: vec![],
            }),
            Arc::new(SourceRow {
                key: line.clone(),
                image: fields(&[("id", Value::Int(5))]).into(),
                at: at(4, 2),
                deleted: true,
                waiting_for: vec![row("wms.shipments", "900"), row("wms.items", "3")],
                refers_to: vec![row("wms.shipments", "900"), row("wms.items", "3")],
            }),
        ],
        contributions: vec![Arc::new(Contribution {
            record: key("shipment", "shp:EU:1"),
            row: row("wms.shipments", "812"),
            fields: image.into(),
            links: Arc::new([(Arc::from("order"), key("sales_order", "so:9"))].into()),
            at: at(4, 1),
            gone: false,
        })],
        records: vec![record().into()],
        evidence: vec![Arc::new(Evidence {
            id: Uuid::from_u128(77),
            record: key("shipment", "shp:EU:1"),
            kind: "shipment.packed".into(),
            event_micros: 1_795_414_530_500_001,
            recorded_micros: i64::MAX,
            row: row("wms.shipments", "812"),
            authority: 50,
            at: at(4, 1),
            withdrawn: false,
            data: json!({"code": "PACK\u{0}ED"}),
        })],
        history: vec![HistoryEntry {
            record: key("shipment", "shp:EU:1"),
            version: 3,
            source: "wms_eu".into(),
            transaction: "0-7-4711".into(),
            position: "binlog.000007:4".into(),
            commit_micros: 1_795_414_530_500_000,
            changes: r#"{"status": [null, "packed"]}"#.into(),
        }],
        exceptions: vec![exception(1, true), exception(2, true), exception(2, false)],
        releases: vec![release(false).into()],
        deadlines: vec![deadline(20, 1_795_414_530_500_000)],
        deliveries: vec![delivery(10), delivery(11)],
        ..Outcome::default()
    }
}

/// What was shared, each by itself.
fn plain<T: Clone>(items: &[Arc<T>]) -> Vec<T> {
    items.iter().map(|item| T::clone(item)).collect()
}

fn needs() -> Needs {
    Needs {
        rows: vec![row("wms.shipments", "812"), row("wms.lines", "5\u{1f}A"), row("no", "1")],
        referring_to: vec![row("wms.items", "3"), row("wms.shipments", "900")],
        records: vec![
            key("shipment", "shp:EU:1"),
            key("freight_cost", "fc:1"),
            key("shipment", "unknown"),
            key("shipment", "shp:EU:1"),
        ],
        linking_to: vec![key("sales_order", "so:9")],
        releases_on: vec![key("load", "ld:9"), key("shipment", "shp:EU:1")],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_loaded() {
    let options = postgres_database("store_round_trip");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let given = outcome();
    store.commit(&given, &progress(5), "rules-1").await.unwrap();
    let loaded = store.load(&needs()).await.unwrap();
    let mut rows = loaded.rows;
    rows.sort_by(|a, b| b.key.table.cmp(&a.key.table));
    assert_eq!(rows, plain(&given.rows));
    assert_eq!(loaded.referring, plain(&given.rows[1..]));
    let mut evidence = plain(&given.evidence);
    evidence[0].data = json!({"code": "PACK␀ED"});
    let shipment = RecordState {
        record: Some(Record::clone(&given.records[0])),
        contributions: plain(&given.contributions),
        apart: true,
        evidence,
        releases: vec![],
        deadlines: given.deadlines.clone(),
    };
    let cost = RecordState {
        record: None,
        contributions: vec![],
        apart: false,
        evidence: vec![],
        releases: plain(&given.releases),
        deadlines: vec![],
    };
    let expected =
        vec![(key("shipment", "shp:EU:1"), shipment), (key("freight_cost", "fc:1"), cost)];
    assert_eq!(loaded.records, expected);
    let link = (key("sales_order", "so:9"), key("shipment", "shp:EU:1"));
    assert_eq!(loaded.linking, vec![link]);
    assert_eq!(loaded.releases, plain(&given.releases));
    assert_eq!(store.progress().await.unwrap(), progress(5));
    let owed = store.deliveries("erp", 0, 10).await.unwrap();
    assert_eq!(owed, vec![(1, delivery(10)), (2, delivery(11))]);
    assert_eq!(store.load(&Needs::default()).await.unwrap(), Loaded::default());
    let history = "SELECT entity, key, version, source, transaction, position, committed_at,
                   ruleset, changes FROM crossdock.history";
    assert_eq!(
        postgres().sql("store_round_trip", &format!("SET timezone = 'UTC'; {history}")).unwrap(),
        "shipment|shp:EU:1|3|wms_eu|0-7-4711|binlog.000007:4|2026-11-23 06:15:30.5+00|rules-1|\
         {\"status\": [null, \"packed\"]}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_commit_replaces_what_it_names() {
    let options = postgres_database("store_replace");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    store.commit(&outcome(), &progress(5), "r").await.unwrap();
    let mut later = outcome();
    Arc::make_mut(&mut later.rows[1]).waiting_for = vec![];
    Arc::make_mut(&mut later.rows[1]).refers_to = vec![];
    Arc::make_mut(&mut later.contributions[0]).gone = true;
    Arc::make_mut(&mut later.records[0]).links = [(Arc::from("load"), key("load", "ld:9"))].into();
    Arc::make_mut(&mut later.evidence[0]).withdrawn = true;
    later.releases = vec![release(true).into()];
    later.deliveries = vec![delivery(11), delivery(12)];
    store.commit(&later, &progress(6), "r").await.unwrap();
    let loaded = store.load(&needs()).await.unwrap();
    assert_eq!((loaded.referring.len(), loaded.linking.len()), (0, 0));
    let state = &loaded.records[0].1;
    assert!(state.contributions.is_empty() && state.evidence[0].withdrawn);
    assert!(loaded.releases[0].released);
    let owed: Vec<u64> =
        store.deliveries("erp", 0, 10).await.unwrap().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(owed, [1, 2, 4]);
    assert_eq!(store.deliveries("erp", 2, 1).await.unwrap(), vec![(4, delivery(12))]);
    assert_eq!(store.deliveries_head("erp").await.unwrap(), 4);
    assert_eq!(store.deliveries_head("wms").await.unwrap(), 0);
    assert_eq!(store.delivery_seq_at(0).await.unwrap(), 0);
    assert_eq!(store.delivery_seq_at(i64::MAX).await.unwrap(), 4);
    // A release never becomes a hold again.
    let again = Outcome { releases: vec![release(false).into()], ..Outcome::default() };
    store.commit(&again, &progress(7), "r").await.unwrap();
    let released = &store.load(&needs()).await.unwrap().releases[0];
    assert!(released.released && released.unmet.is_empty());
}

/// What is said of a record stands with it, moves to a table of its own when there is too much of
/// it, and stays there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_stands_with_the_record_or_apart_from_it() {
    let options = postgres_database("store_said");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let sql = |sql| postgres().sql("store_said", sql).unwrap();
    let count = "SELECT count(*) FROM crossdock.contribution";
    let shipment = key("shipment", "shp:EU:1");
    let only = Needs { records: vec![shipment.clone()], ..Needs::default() };
    let said = outcome().contributions;
    let mut together = Outcome { records: outcome().records, ..Outcome::default() };
    together.new_contributions.clone_from(&said);
    together.said.insert(shipment.clone(), said.clone());
    store.commit(&together, &progress(5), "r").await.unwrap();
    let loaded = store.load(&only).await.unwrap().records.remove(0).1;
    assert_eq!((loaded.apart, loaded.contributions), (false, plain(&said)));
    assert_eq!(sql(count), "0");
    let written = "SELECT version, updated_at FROM crossdock.record";
    let before = sql(written);
    // Nobody says anything any more.
    let mut silent = Outcome { records: outcome().records, ..Outcome::default() };
    silent.said.insert(shipment.clone(), vec![]);
    store.commit(&silent, &progress(6), "r").await.unwrap();
    let loaded = store.load(&only).await.unwrap().records.remove(0).1;
    assert_eq!((loaded.apart, loaded.contributions), (false, vec![]));
    assert_eq!(sql(written), before, "the record is as old as it was");
    let mut apart = Outcome { records: outcome().records, ..Outcome::default() };
    apart.new_contributions.clone_from(&said);
    store.commit(&apart, &progress(7), "r").await.unwrap();
    let loaded = store.load(&only).await.unwrap().records.remove(0).1;
    assert_eq!((loaded.apart, loaded.contributions), (true, plain(&said)));
    assert_eq!(sql(count), "1");
    sql("UPDATE crossdock.record SET said = '\\x02'");
    let error = store.load(&only).await.unwrap_err().to_string();
    assert!(error.contains("what is said of a record"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn references_and_links_that_are_as_before_are_left_alone() {
    let options = postgres_database("store_same");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    store.commit(&outcome(), &progress(5), "r").await.unwrap();
    let sql = |sql| postgres().sql("store_same", sql).unwrap();
    let counts = "SELECT (SELECT count(*) FROM crossdock.row_reference),
                         (SELECT count(*) FROM crossdock.link)";
    assert_eq!(sql(counts), "2|1");
    // What is touched would be there again.
    sql("DELETE FROM crossdock.row_reference; DELETE FROM crossdock.link");
    let mut same = outcome();
    same.same_references = same.rows.iter().map(|row| row.key.clone()).collect();
    same.same_links = same.records.iter().map(|record| record.key.clone()).collect();
    store.commit(&same, &progress(6), "r").await.unwrap();
    assert_eq!(sql(counts), "0|0");
    store.commit(&outcome(), &progress(7), "r").await.unwrap();
    assert_eq!(sql(counts), "2|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_owes_and_counts_nothing_twice() {
    let options = postgres_database("store_replay");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let counts = || {
        let sql = "SELECT count, open FROM crossdock.exception ORDER BY id";
        postgres().sql("store_replay", sql).unwrap()
    };
    store.commit(&outcome(), &progress(5), "r").await.unwrap();
    assert_eq!(counts(), "1|t\n1|f");
    assert_eq!(store.rewind("wms_eu", 2).await.unwrap(), 5);
    assert_eq!(store.progress().await.unwrap()[0].seq, 2);
    store.commit(&outcome(), &progress(5), "r").await.unwrap();
    assert_eq!(counts(), "1|t\n1|f");
    assert_eq!(store.deliveries("erp", 0, 10).await.unwrap().len(), 2);
    // Beyond where it had come, a repetition is one; and it opens what was closed.
    let again = Outcome { exceptions: vec![exception(2, true)], ..Outcome::default() };
    store.commit(&again, &progress(6), "r").await.unwrap();
    assert_eq!(counts(), "1|t\n2|t");
    let closed = Outcome {
        exceptions: vec![exception(1, false), exception(3, false)],
        ..Outcome::default()
    };
    store.commit(&closed, &progress(7), "r").await.unwrap();
    assert_eq!(counts(), "1|f\n2|t");
    let attention = store.attention().await.unwrap();
    assert_eq!((attention.exceptions_open, attention.holds), (1, 1));
    assert_eq!(store.record_counts().await.unwrap(), [(Arc::from("shipment"), 1)].into());
    let views = "SELECT kind, count FROM crossdock.v_open_exceptions;
                 SELECT rule, waiting_for FROM crossdock.v_holds;
                 SELECT source, from_seq, to_seq FROM crossdock.rewind";
    assert_eq!(
        postgres().sql("store_replay", views).unwrap(),
        "unmapped_code|2\nfreight_accrual|departed, cost, known\nwms_eu|5|2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_writer_fences_the_first() {
    let options = postgres_database("store_fence");
    let early = PostgresStore::open_reader(&options).await.unwrap_err();
    assert!(early.is_transient(), "{early}");
    let mut first = PostgresStore::open(&options, "plant").await.unwrap();
    first.commit(&outcome(), &progress(1), "r").await.unwrap();
    let mut reader = PostgresStore::open_reader(&options).await.unwrap();
    first.commit(&Outcome::default(), &progress(2), "r").await.unwrap();
    let mut second = PostgresStore::open(&options, "plant").await.unwrap();
    let refused = first.commit(&outcome(), &progress(3), "r").await.unwrap_err();
    assert!(matches!(&refused, ApplyError::Fenced(name) if name == "store_fence"), "{refused}");
    assert_eq!(second.progress().await.unwrap()[0].seq, 2);
    second.commit(&Outcome::default(), &progress(3), "r").await.unwrap();
    assert_eq!(reader.progress().await.unwrap()[0].seq, 3);
    assert!(reader.commit(&Outcome::default(), &progress(4), "r").await.is_err());
    // A rewind from outside fences whoever runs.
    assert_eq!(reader.rewind("wms_eu", 1).await.unwrap(), 3);
    assert!(reader.rewind("wms_eu", 2).await.is_err());
    let refused = second.commit(&Outcome::default(), &progress(4), "r").await.unwrap_err();
    assert!(matches!(refused, ApplyError::Fenced(_)), "{refused}");
    let foreign = PostgresStore::open(&options, "other").await.unwrap_err();
    assert!(foreign.to_string().contains("belongs to installation `plant`"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_open_at_once_leave_one() {
    let options = postgres_database("store_race");
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { PostgresStore::open(&options, "plant").await })
        })
        .collect();
    let mut committed = 0;
    let mut stores = Vec::new();
    for opened in opening {
        stores.push(opened.await.unwrap().unwrap());
    }
    for store in &mut stores {
        committed += u32::from(store.commit(&outcome(), &progress(1), "r").await.is_ok());
    }
    assert_eq!(committed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_leaves_nothing_and_the_connection_usable() {
    let options = postgres_database("store_whole");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let block = "ALTER TABLE crossdock.delivery ADD CONSTRAINT no CHECK (target <> 'erp')";
    postgres().sql("store_whole", block).unwrap();
    let refused = store.commit(&outcome(), &progress(1), "r").await.unwrap_err();
    assert!(!refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("constraint no"), "{refused}");
    assert_eq!(store.load(&needs()).await.unwrap(), Loaded::default());
    assert_eq!(store.progress().await.unwrap(), vec![]);
    store.commit(&Outcome::default(), &progress(1), "r").await.unwrap();
    assert_eq!(store.progress().await.unwrap(), progress(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_rows_are_found_in_pieces() {
    let options = postgres_database("s_stale");
    let mut store = PostgresStore::open(&options, "plant").await.unwrap();
    let rows = (1..=6).map(|n| SourceRow {
        key: row("wms.picks", &format!("{n}")),
        image: fields(&[("id", Value::Int(n))]).into(),
        at: at(n as u64 * 10, 3),
        deleted: n == 2,
        waiting_for: vec![],
        refers_to: vec![],
    });
    let outcome = Outcome { rows: rows.map(Arc::new).collect(), ..Outcome::default() };
    store.commit(&outcome, &progress(1), "r").await.unwrap();
    let mut found = async |table: &str, after: &str, limit| {
        let table = ("wms_eu", table);
        let rows = store.stale_rows(table, at(50, 0), after, limit).await.unwrap();
        rows.iter().map(|row| row.key.pk.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("wms.picks", "", 2).await, ["1", "3"]);
    assert_eq!(found("wms.picks", "3", 2).await, ["4"]);
    assert!(found("wms.picks", "4", 2).await.is_empty());
    assert!(found("wms.lines", "", 2).await.is_empty());
}
