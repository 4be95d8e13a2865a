//! A value written is the value that the log will show: its digest is the same.

use crossdock_apply::{AnyTarget, Target, TargetBatch};
use crossdock_model::canonical::{RowWrite, WriteKind};
use crossdock_model::mark::digest;
use crossdock_model::{TableName, Value};
use uuid::Uuid;

use crate::support::{mariadb, mariadb_database, postgres, postgres_database};

/// Column type, value written, and how a log reader would type the text that SELECT gives.
type Case = (&'static str, Value<'static>, fn(&str) -> Value<'static>);

fn text(t: &str) -> Value<'static> {
    Value::Text(t.to_string().into())
}

fn json(t: &str) -> Value<'static> {
    Value::Json(t.to_string().into())
}

fn boolean(t: &str) -> Value<'static> {
    Value::Bool(matches!(t, "t" | "true" | "1"))
}

fn bytes(t: &str) -> Value<'static> {
    let hex = t.trim_start_matches("\\x");
    let pairs = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap());
    Value::Bytes(pairs.collect::<Vec<_>>().into())
}

fn common() -> Vec<Case> {
    vec![
        ("bigint", Value::Int(i64::MIN), text),
        ("smallint", Value::Bool(true), text),
        ("decimal(38,10)", Value::Decimal("1234567890123456789012345678.5".into()), text),
        ("varchar(20)", text("Straße ✓ \\ ' \""), text),
        ("varchar(20)", text("0012.50"), text),
        ("char(5)", text("ab"), text),
        ("date", Value::Date(20_780), text),
        ("time", Value::Time(30_600_000_000), text),
        ("boolean", Value::Bool(true), boolean),
        ("boolean", Value::Int(0), boolean),
        ("int", Value::Null, text),
        ("text", Value::Json("{\"b\":[1,2.50],\"a\":null}".into()), text),
    ]
}

fn only_postgres() -> Vec<Case> {
    vec![
        ("timestamptz", Value::TimestampTz(1_795_414_530_500_000), text),
        ("timestamptz", Value::Timestamp(1_795_414_530_500_000), text),
        ("timestamp", Value::TimestampTz(-1_000_001), text),
        ("timestamptz", Value::TimestampTz(i64::MAX), text),
        ("jsonb", Value::Json("{\"b\": 1, \"a\": [true, \"x\"]}".into()), json),
        ("uuid", Value::Uuid([0xab; 16]), text),
        ("bytea", Value::Bytes(vec![0, 1, 254].into()), bytes),
        ("double precision", Value::Float(0.1), text),
        ("bit(5)", Value::Bits(5, vec![0b1010_1000].into()), text),
    ]
}

fn only_mariadb() -> Vec<Case> {
    vec![
        ("datetime(6)", Value::TimestampTz(1_795_414_530_500_000), text),
        ("timestamp(6)", Value::Timestamp(1_795_414_530_500_000), text),
        ("json", Value::Json("{\"b\": 1, \"a\": [true, \"x\"]}".into()), json),
        ("char(36)", Value::Uuid([0xab; 16]), text),
        ("double", Value::Float(0.1), text),
        ("bigint unsigned", Value::UInt(u64::MAX), text),
        ("time", Value::Time(-30_600_000_000), text),
    ]
}

fn write(schema: &str, cases: &[Case]) -> TargetBatch {
    let columns = cases.iter().enumerate();
    let write = RowWrite {
        table: TableName::new(schema, "t"),
        kind: WriteKind::Upsert,
        key: vec![("id".into(), Value::Int(1))],
        columns: columns.map(|(i, c)| (format!("c{i}").into(), c.1.clone())).collect(),
    };
    TargetBatch {
        stream: "s".into(),
        upto: 1,
        writes: vec![(Uuid::nil(), write)],
        ..TargetBatch::default()
    }
}

fn table(cases: &[Case]) -> String {
    let columns: Vec<_> =
        cases.iter().enumerate().map(|(i, c)| format!("c{i} {} NULL", c.0)).collect();
    format!("CREATE TABLE t (id int PRIMARY KEY, {})", columns.join(", "))
}

fn compare(cases: &[Case], stored: impl Fn(usize) -> Option<String>) {
    for (i, (kind, written, read)) in cases.iter().enumerate() {
        let back = stored(i).map_or(Value::Null, |t| read(&t));
        assert_eq!(digest([written]), digest([&back]), "{kind}: {written:?} came back as {back:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_agree_with_what_postgres_stores() {
    let options = postgres_database("types_pg");
    let cases: Vec<Case> = common().into_iter().chain(only_postgres()).collect();
    postgres().sql("types_pg", &table(&cases)).unwrap();
    let mut target = AnyTarget::connect(&options, "plant").await.unwrap();
    target.apply(&write("public", &cases)).await.unwrap();
    compare(&cases, |i| {
        let sql = format!("SET timezone = 'UTC'; SELECT coalesce(c{i}::text, '<null>') FROM t");
        let given = postgres().sql("types_pg", &sql).unwrap();
        (given != "<null>").then_some(given)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_agree_with_what_mariadb_stores() {
    let options = mariadb_database("types_maria");
    let cases: Vec<Case> = common().into_iter().chain(only_mariadb()).collect();
    mariadb().sql("types_maria", &table(&cases)).unwrap();
    let mut target = AnyTarget::connect(&options, "plant").await.unwrap();
    target.apply(&write("types_maria", &cases)).await.unwrap();
    compare(&cases, |i| {
        let sql = format!("SET time_zone = '+00:00'; SELECT coalesce(hex(c{i}), '<null>') FROM t");
        let sql = match cases[i].0 {
            "text" | "json" => sql,
            kind if kind.starts_with("varchar") || kind.starts_with("char") => sql,
            _ => sql.replace("hex(", "("),
        };
        let given = mariadb().sql("types_maria", &sql).unwrap().trim().to_string();
        let hexed = matches!(cases[i].0, "text" | "json") || cases[i].0.contains("char");
        match hexed && given != "<null>" {
            true => Some(String::from_utf8(bytes(&given).to_text().map(unhex).unwrap()).unwrap()),
            false => (given != "<null>").then_some(given),
        }
    });
}

fn unhex(hex: String) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap()).collect()
}
