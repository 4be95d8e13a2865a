//! Expected values are copied from what Debezium 3.6 wrote for the same rows.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{Column, TableName, Value};

fn table(schema: &str, name: &str, columns: &[(&str, &str)]) -> Arc<TableSchema> {
    let columns = columns.iter().enumerate().map(|(i, (name, kind))| Column {
        name: (*name).into(),
        type_name: (*kind).into(),
        nullable: i > 0,
        key: (i == 0).then_some(0),
    });
    Arc::new(TableSchema { name: TableName::new(schema, name), columns: columns.collect() })
}

fn info(connector: Connector) -> SourceInfo {
    let (version, name, db) = ("0.1.0".into(), "o".into(), "oracle".into());
    SourceInfo { version, connector, name, db, server_id: 1 }
}

fn check(connector: Connector, cases: &[(&str, Value<'_>, Json)]) {
    for (kind, value, expected) in cases {
        assert_eq!(&value::encode(value, kind, connector), expected, "{kind} {value:?}");
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

fn dec(text: &str) -> Value<'_> {
    Value::Decimal(text.into())
}

#[test]
fn postgres_values() {
    let stamp = 1_777_641_255_123_456;
    let minus_one_month = Value::Interval(-1, -2, -1_000_000);
    let array = Value::Array(vec![dec("1.10"), dec("2.25"), Value::Null]);
    check(
        Connector::Postgres,
        &[
            ("boolean", Value::Bool(true), json!(true)),
            ("bigint", Value::Int(i64::MIN), json!(i64::MIN)),
            ("real", Value::Float32(0.1), json!(0.1)),
            ("real", Value::Float32(f32::NAN), json!("NaN")),
            ("double precision", Value::Float(f64::NEG_INFINITY), json!("-Infinity")),
            (
                "numeric",
                dec("12345678901234567890.123456789"),
                json!({"scale": 9, "value": "J+QbMka+ybFuOYEV"}),
            ),
            (
                "numeric",
                dec("-1000000000000000000000000000000"),
                json!({"scale": 0, "value": "82DTYy+5ixIVwAAAAA=="}),
            ),
            ("numeric", dec("0.00000000000000000001"), json!({"scale": 20, "value": "AQ=="})),
            ("numeric", dec("NaN"), Json::Null),
            ("numeric(18,4)", dec("12345.6789"), json!("B1vNFQ==")),
            ("numeric(18,4)", dec("-1.0000"), json!("2PA=")),
            ("numeric(18,4)", dec("-0.0001"), json!("/w==")),
            ("numeric(5,0)", dec("99999"), json!("AYaf")),
            ("numeric(6,2)", dec("2.50"), json!("APo=")),
            ("numeric(10,2)[]", array, json!(["bg==", "AOE=", null])),
            ("money", text("$1,234.56"), json!("AeJA")),
            ("money", text("-$0.01"), json!("/w==")),
            ("character(5)", text("ab   "), json!("ab   ")),
            ("bytea", Value::Bytes(vec![0, 255, 16, 171].into()), json!("AP8Qqw==")),
            ("date", Value::Date(20_574), json!(20_574)),
            ("time without time zone", Value::Time(47_655_123_456), json!(47_655_123_456_i64)),
            ("time(3) without time zone", Value::Time(47_655_123_000), json!(47_655_123)),
            ("time with time zone", Value::TimeTz(0, -43_200), json!("12:00:00Z")),
            (
                "time with time zone",
                Value::TimeTz(47_655_123_456, 7_200),
                json!("11:14:15.123456Z"),
            ),
            ("timestamp without time zone", Value::Timestamp(stamp), json!(stamp)),
            ("timestamp without time zone", Value::Timestamp(-1), json!(-1)),
            (
                "timestamp without time zone",
                Value::Timestamp(i64::MAX),
                json!(9_223_372_036_825_200_000_i64),
            ),
            (
                "timestamp(3) without time zone",
                Value::Timestamp(stamp - 456),
                json!(1_777_641_255_123_i64),
            ),
            (
                "timestamp with time zone",
                Value::TimestampTz(stamp - 7_200_000_000),
                json!("2026-05-01T11:14:15.123456Z"),
            ),
            (
                "timestamp with time zone",
                Value::TimestampTz(-63_517_780_800_000_000),
                json!("-0043-03-15T12:00:00.000000Z"),
            ),
            ("timestamp with time zone", Value::TimestampTz(i64::MIN), json!("-infinity")),
            ("interval", Value::Interval(14, 3, 14_706_789_000), json!(37_091_106_789_000_i64)),
            ("interval", minus_one_month, json!(-2_802_601_000_000_i64)),
            ("interval", Value::Interval(2_136_000_000, 0, 0), json!(i64::MAX)),
            ("jsonb", Value::Json("{\"a\": 1.50}".into()), json!("{\"a\": 1.50}")),
            ("bit(1)", Value::Bits(1, vec![0x80].into()), json!(true)),
            ("bit(8)", Value::Bits(8, vec![0xa5].into()), json!("pQ==")),
            ("bit(8)", Value::Bits(8, vec![0].into()), json!("")),
            ("bit varying(20)", Value::Bits(3, vec![0xa0].into()), json!("BQ==")),
            (
                "point",
                text("(1.5,2.5)"),
                json!({"x": 1.5, "y": 2.5, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAARA", "srid": null}),
            ),
        ],
    );
}

#[test]
fn mariadb_values() {
    let stamp = 1_777_641_255_000_000;
    let mut point = vec![0; 4];
    point.extend_from_slice(&[1, 1, 0, 0, 0]);
    point.extend_from_slice(&1.5f64.to_le_bytes());
    point.extend_from_slice(&2.5f64.to_le_bytes());
    check(
        Connector::Mariadb,
        &[
            ("tinyint(1)", Value::Int(5), json!(5)),
            ("int(10) unsigned", Value::Int(4_294_967_295), json!(4_294_967_295_i64)),
            ("bigint(20) unsigned", Value::UInt(u64::MAX), json!(u64::MAX)),
            ("decimal(10,2) unsigned", dec("12345678.90"), json!("SZYC0g==")),
            ("decimal(20,6)", dec("-0.000001"), json!("/w==")),
            ("float", Value::Float32(0.1), json!(0.1)),
            ("bit(1)", Value::Bits(1, vec![0x80].into()), json!(true)),
            ("bit(8)", Value::Bits(8, vec![0].into()), json!("AA==")),
            ("binary(4)", Value::Bytes(vec![0, 255].into()), json!("AP8AAA==")),
            ("varbinary(8)", Value::Bytes(vec![1, 2, 3, 0].into()), json!("AQIDAA==")),
            ("enum('small','large')", text("large"), json!("large")),
            ("time(3)", Value::Time(-3_020_399_000_000), json!(-3_020_399_000_000_i64)),
            ("datetime", Value::Timestamp(stamp), json!(1_777_641_255_000_i64)),
            ("datetime(6)", Value::Timestamp(stamp + 7), json!(1_777_641_255_000_007_i64)),
            ("timestamp", Value::TimestampTz(stamp), json!("2026-05-01T13:14:15Z")),
            ("timestamp(3)", Value::TimestampTz(stamp), json!("2026-05-01T13:14:15.000Z")),
            ("timestamp(6)", Value::TimestampTz(1_000_000), json!("1970-01-01T00:00:01.000000Z")),
            ("year(4)", Value::Int(2026), json!(2026)),
            (
                "point",
                Value::Bytes(point.into()),
                json!({"x": 1.5, "y": 2.5, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAARA", "srid": null}),
            ),
        ],
    );
}

#[test]
fn a_postgres_update_with_an_unchanged_column() {
    let columns =
        [("id", "integer"), ("n", "integer"), ("big", "text"), ("amount", "numeric(6,2)")];
    let after = vec![Some(Value::Int(1)), Some(Value::Int(2)), None, None];
    let event = ChangeEvent {
        op: Op::Update,
        table: Some(table("public", "toasty", &columns)),
        before: None,
        after: Some(RowImage::Partial(after)),
        message: None,
        ordinal: 0,
    };
    let header = TxHeader {
        id: "10915".into(),
        commit: Position::Postgres { lsn: 1_016_007_576 },
        commit_micros: 1_795_408_023_321_637,
        origin: None,
        snapshot: false,
    };
    let json = encode(&event, &header, &info(Connector::Postgres), 1_795_408_026_056_517);
    // Order matters to consumers that take the fields in turn, so the texts are compared.
    assert_eq!(
        json.to_string(),
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
    assert_eq!(encode_key(&event, &info(Connector::Postgres)), Some(json!({"id": 1})));

    let read = Envelope::read(&json!({"schema": {}, "payload": json})).unwrap();
    assert_eq!((read.op(), read.to_json()), (Some(Op::Update), json));
}

#[test]
fn a_delete_has_its_key_and_nulls() {
    let columns = [("id", "integer"), ("n", "integer")];
    let event = ChangeEvent {
        op: Op::Delete,
        table: Some(table("oracle", "tm", &columns)),
        before: Some(RowImage::Key(vec![Some(Value::Int(1)), None])),
        after: None,
        message: None,
        ordinal: 3,
    };
    let header = TxHeader {
        id: "0-1-20138".into(),
        commit: "binlog.000005:24226 (0-1-20138)".parse().unwrap(),
        commit_micros: 1_795_408_187_000_000,
        origin: Some("7".into()),
        snapshot: false,
    };
    let json = encode(&event, &header, &info(Connector::Mariadb), 1_795_408_199_390_742);
    assert_eq!((&json["before"], &json["after"]), (&json!({"id": 1, "n": null}), &Json::Null));
    assert_eq!(
        json["source"].to_string(),
        json!({
            "version": "0.1.0", "connector": "mariadb", "name": "o",
            "ts_ms": 1_795_408_187_000_i64, "snapshot": "false", "db": "oracle",
            "sequence": null, "ts_us": 1_795_408_187_000_000_i64,
            "ts_ns": 1_795_408_187_000_000_000_i64, "table": "tm", "server_id": 7,
            "gtid": "0-1-20138", "file": "binlog.000005", "pos": 24_226, "row": 3,
            "thread": null, "query": null
        })
        .to_string()
    );
}

#[test]
fn messages_and_what_is_not_an_event() {
    let event = ChangeEvent {
        op: Op::Message,
        table: None,
        before: None,
        after: None,
        message: Some(("pfx".into(), b"hello msg".to_vec())),
        ordinal: 0,
    };
    let header = TxHeader {
        id: "10938".into(),
        commit: Position::Postgres { lsn: 5 },
        commit_micros: 0,
        origin: None,
        snapshot: false,
    };
    let json = encode(&event, &header, &info(Connector::Postgres), 0);
    assert_eq!(json["message"], json!({"prefix": "pfx", "content": "aGVsbG8gbXNn"}));
    assert!(json.get("after").is_none());
    assert_eq!(Envelope::read(&json).unwrap().op(), Some(Op::Message));
    for other in [json!({}), json!(null), json!({"payload": null}), json!({"op": "c"})] {
        assert!(Envelope::read(&other).is_err(), "{other}");
    }
}
