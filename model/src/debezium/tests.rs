//! Expected values are copied from what Debezium 3.6 wrote for the same rows.

mod outbox;
mod values;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    ChangeEvent, Column, Fragment, Op, Position, RowImage, TableName, TableSchema, TxHeader, Value,
};

fn table(schema: &str, name: &str, columns: &[(&str, &str)]) -> Arc<TableSchema> {
    let columns = columns.iter().enumerate().map(|(i, (name, kind))| Column {
        name: (*name).into(),
        type_name: (*kind).into(),
        nullable: i > 0,
        key: (i == 0).then_some(0),
        base_type: None,
        default: None,
    });
    Arc::new(TableSchema { name: TableName::new(schema, name), columns: columns.collect() })
}

fn info(connector: Connector) -> SourceInfo {
    let (version, name, db) = ("0.1.0".into(), "o".into(), "oracle".into());
    SourceInfo { version, connector, name, db, server_id: 1 }
}

fn header(id: &str, commit: &str) -> TxHeader {
    TxHeader {
        id: id.into(),
        commit: commit.parse().unwrap(),
        commit_micros: 1_795_408_023_321_637,
        origin: None,
        snapshot: false,
    }
}

fn event(op: Op, table: &Arc<TableSchema>, before: Image, after: Image) -> ChangeEvent {
    let table = Some(table.clone());
    ChangeEvent { op, table, before, after, message: None, ordinal: 0 }
}

type Image = Option<RowImage<'static>>;

fn full(values: &[i64]) -> Image {
    Some(RowImage::Full(values.iter().map(|v| Value::Int(*v)).collect()))
}

/// Records of one whole transaction, without the headers of the run.
fn records(connector: Connector, options: Options, fragment: Fragment) -> Vec<Record> {
    let mut encoder = Encoder::new(info(connector), options, "run");
    let mut records = encoder.fragment(&fragment, &|_| true, 1_795_408_026_056_517);
    for record in &mut records {
        record.headers.retain(|name, _| !name.contains(".context."));
    }
    records
}

fn whole(header: TxHeader, events: Vec<ChangeEvent>) -> Fragment {
    Fragment { header, events, first: true, last: true }
}

#[test]
fn a_postgres_update_with_an_unchanged_column() {
    let columns =
        [("id", "integer"), ("n", "integer"), ("big", "text"), ("amount", "numeric(6,2)")];
    let after = vec![Some(Value::Int(1)), Some(Value::Int(2)), None, None];
    let after = Some(RowImage::Partial(after));
    let event = event(Op::Update, &table("public", "toasty", &columns), None, after);
    let header =
        TxHeader { commit: Position::Postgres { lsn: 1_016_007_576 }, ..header("10915", "0/0") };
    let options = Options::new(Connector::Postgres);
    let records = records(Connector::Postgres, options, whole(header, vec![event]));
    let [record] = &records[..] else { panic!("{records:?}") };
    // Order matters to consumers that take the fields in turn, so the texts are compared.
    assert_eq!(
        record.value.to_string(),
        json!({
            "before": null,
            "after": {"id": 1, "n": 2, "big": "__debezium_unavailable_value"},
            "source": {
                "version": "0.1.0", "connector": "postgresql", "name": "o",
                "ts_ms": 1_795_408_023_321_i64, "snapshot": "false", "db": "oracle",
                "sequence": "[\"1016007576\",\"1016007576\"]",
                "ts_us": 1_795_408_023_321_637_i64, "ts_ns": 1_795_408_023_321_637_000_i64,
                "schema": "public", "table": "toasty", "txId": 10_915, "lsn": 1_016_007_576,
                "xmin": null, "origin": null, "origin_lsn": null
            },
            "transaction": null, "op": "u", "ts_ms": 1_795_408_026_056_i64,
            "ts_us": 1_795_408_026_056_517_i64, "ts_ns": 1_795_408_026_056_517_000_i64
        })
        .to_string()
    );
    assert_eq!((&*record.destination, &record.key), ("o.public.toasty", &json!({"id": 1})));

    let read = Envelope::read(&json!({"schema": {}, "payload": record.value})).unwrap();
    assert_eq!(read.op(), Some(Op::Update));
}

#[test]
fn polled_rows_name_no_place_in_a_log() {
    let place = "poll:2026-11-23T10:00:00Z+3";
    for (connector, expected) in [
        (
            Connector::Postgres,
            json!({"snapshot": "false", "db": "oracle", "schema": "s", "table": "t", "lsn": null,
                   "txId": null, "sequence": null}),
        ),
        (
            Connector::Mariadb,
            json!({"snapshot": "false", "db": "s", "table": "t", "file": "", "pos": 0,
                   "gtid": null, "row": 0}),
        ),
    ] {
        let update = event(Op::Update, &table("s", "t", &[("id", "integer")]), None, full(&[1]));
        let fragment = whole(header(TxHeader::POLL, place), vec![update]);
        let records = records(connector, Options::new(connector), fragment);
        let [record] = &records[..] else { panic!("{records:?}") };
        let source = record.value["source"].as_object().unwrap();
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(source.get(field), Some(value), "{field}");
        }
        assert_eq!((&record.value["op"], &record.value["before"]), (&json!("u"), &json!(null)));
    }
}

#[test]
fn rows_read_beside_the_stream_are_incremental() {
    let read = event(Op::Read, &table("public", "t", &[("id", "integer")]), None, full(&[1]));
    let header = TxHeader { snapshot: true, ..header(TxHeader::BACKFILL, "0/10") };
    let options = Options::new(Connector::Postgres);
    let records = records(Connector::Postgres, options, whole(header, vec![read]));
    let [record] = &records[..] else { panic!("{records:?}") };
    let source = &record.value["source"];
    assert_eq!((&record.value["op"], &source["snapshot"]), (&json!("r"), &json!("incremental")));
    assert_eq!((&source["txId"], &source["lsn"]), (&json!(null), &json!(null)));
}

#[test]
fn a_changed_key_is_a_delete_and_a_create() {
    let t = table("oracle", "we ird", &[("id", "int(11)"), ("n", "int(11)")]);
    let update = event(Op::Update, &t, full(&[1, 2]), full(&[3, 2]));
    let fragment = || {
        let header = header("0-7-20138", "binlog.000005:24226 (0-7-20138)");
        whole(header, vec![update.clone()])
    };
    let moved = records(Connector::Mariadb, Options::new(Connector::Mariadb), fragment());
    let ops: Vec<_> = moved.iter().map(|r| (&r.key["id"], r.value["op"].as_str())).collect();
    assert_eq!(ops, [(&json!(1), Some("d")), (&json!(1), None), (&json!(3), Some("c"))]);
    assert_eq!(moved[0].destination, "o.oracle.we_ird");
    let link = |at: usize, name: &str| moved[at].headers.get(name).cloned();
    assert_eq!(link(0, "__debezium.newkey"), Some(json!({"id": 3})));
    assert_eq!(link(1, "__debezium.newkey"), Some(json!({"id": 3})));
    assert_eq!(link(2, "__debezium.oldkey"), Some(json!({"id": 1})));
    assert_eq!(
        moved[0].value["source"].to_string(),
        json!({
            "version": "0.1.0", "connector": "mariadb", "name": "o",
            "ts_ms": 1_795_408_023_321_i64, "snapshot": "false", "db": "oracle",
            "sequence": null, "ts_us": 1_795_408_023_321_637_i64,
            "ts_ns": 1_795_408_023_321_637_000_i64, "table": "we ird", "server_id": 7,
            "gtid": "0-7-20138", "file": "binlog.000005", "pos": 24_226, "row": 0,
            "thread": null, "query": null
        })
        .to_string()
    );
    let mut options = Options::new(Connector::Mariadb);
    options.tombstones = false;
    assert_eq!(records(Connector::Mariadb, options, fragment()).len(), 2);
}

#[test]
fn a_key_image_is_filled_as_its_columns_demand() {
    let mut columns = vec![];
    for (name, kind, default) in [
        ("id", "bigint", Some("nextval('s'::regclass)")),
        ("word", "text", None),
        ("state", "text", Some("'new'::text")),
        ("price", "s.amount", None),
    ] {
        columns.push(Column {
            name: name.into(),
            type_name: kind.into(),
            nullable: name == "state",
            key: (name == "id").then_some(0),
            base_type: (name == "price").then(|| "numeric(12,2)".into()),
            default: default.map(Into::into),
        });
    }
    let table = Arc::new(TableSchema { name: TableName::new("s", "t"), columns });
    let before = Some(RowImage::Key(vec![Some(Value::Int(1)), None, None, None]));
    let delete = event(Op::Delete, &table, before, None);
    let mut options = Options::new(Connector::Postgres);
    options.schemas = true;
    let records = records(Connector::Postgres, options, whole(header("1", "0/5"), vec![delete]));
    let before = json!({"id": 1, "word": "", "state": "new", "price": "AA=="});
    assert_eq!(records[0].value["payload"]["before"], before);
    assert_eq!(records[1].value, Json::Null);
    let fields = &records[0].value["schema"]["fields"][0]["fields"];
    assert_eq!(fields[0], json!({"type": "int64", "optional": false, "default": 0, "field": "id"}));
    let state = json!({"type": "string", "optional": true, "default": "new", "field": "state"});
    assert_eq!(fields[2], state);
    let parameters = json!({"scale": "2", "connect.decimal.precision": "12"});
    assert_eq!(fields[3]["parameters"], parameters);
}

#[test]
fn a_transaction_in_two_blocks_is_counted_once() {
    let t = table("public", "t", &[("id", "integer")]);
    let create = |id| event(Op::Create, &t, None, full(&[id]));
    let mut options = Options::new(Connector::Postgres);
    options.transaction_metadata = true;
    let mut encoder = Encoder::new(info(Connector::Postgres), options, "run");
    let header = header("9", "0/20");
    let part = |events, first, last| Fragment { header: header.clone(), events, first, last };
    let first = encoder.fragment(&part(vec![create(1), create(2)], true, false), &|_| true, 0);
    let second = encoder.fragment(&part(vec![create(3)], false, true), &|_| true, 0);
    let statuses = [&first[0], &second[1]].map(|record| record.value["status"].clone());
    assert_eq!(statuses, [json!("BEGIN"), json!("END")]);
    assert_eq!(second[0].value["transaction"]["total_order"], 3);
    assert_eq!(second[1].value["event_count"], 3);
    let counts = json!([{"data_collection": "public.t", "event_count": 3}]);
    assert_eq!(second[1].value["data_collections"], counts);
}

#[test]
fn messages_and_truncates() {
    let message = ChangeEvent {
        op: Op::Message,
        table: None,
        before: None,
        after: None,
        message: Some(("pfx".into(), b"hello msg".to_vec())),
        ordinal: 0,
    };
    let truncate = event(Op::Truncate, &table("public", "t", &[("id", "integer")]), None, None);
    let fragment = whole(header("10938", "0/5"), vec![message, truncate]);
    let options = Options::new(Connector::Postgres);
    let records = records(Connector::Postgres, options, fragment);
    let [record] = &records[..] else { panic!("truncates are skipped by default: {records:?}") };
    assert_eq!((&*record.destination, &record.key), ("o.message", &json!({"prefix": "pfx"})));
    assert_eq!(record.value["message"], json!({"prefix": "pfx", "content": "aGVsbG8gbXNn"}));
    assert_eq!(Envelope::read(&record.value).unwrap().op(), Some(Op::Message));
    for other in [json!({}), json!(null), json!({"payload": null}), json!({"op": "c"})] {
        assert!(Envelope::read(&other).is_err(), "{other}");
    }
}

#[test]
fn unwrapped_deletes() {
    let t = table("public", "t", &[("id", "integer"), ("n", "integer")]);
    let changes = vec![
        event(Op::Create, &t, None, full(&[1, 2])),
        event(Op::Delete, &t, full(&[1, 2]), None),
    ];
    let fragment = whole(header("9", "0/20"), changes);
    let records = records(Connector::Postgres, Options::new(Connector::Postgres), fragment);
    let add_fields = vec!["op".to_string(), "source.txId".to_string()];
    let after = |deletes| -> Vec<Json> {
        let unwrap = Unwrap { deletes, add_fields: add_fields.clone() };
        records.iter().cloned().filter_map(|r| unwrap.apply(r)).map(|r| r.value).collect()
    };
    let plain = json!({"id": 1, "n": 2, "__op": "c", "__source_txId": 9});
    assert_eq!(after(DeleteHandling::Drop), std::slice::from_ref(&plain));
    assert_eq!(after(DeleteHandling::Tombstone), [plain.clone(), Json::Null]);
    assert_eq!(after(DeleteHandling::DeleteToTombstone), [plain, Json::Null]);
    let row = |deleted: &str, op: &str| json!({"id": 1, "n": 2, "__deleted": deleted, "__op": op, "__source_txId": 9});
    let both = [row("false", "c"), row("true", "d")];
    assert_eq!(after(DeleteHandling::Rewrite), both);
    let three = [row("false", "c"), row("true", "d"), Json::Null];
    assert_eq!(after(DeleteHandling::RewriteWithTombstone), three);
}
