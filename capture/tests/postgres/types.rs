//! Every type: the snapshot and the stream say the same, and what they say is right.

use super::*;

const TYPES: &str = "
    CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext;
    CREATE TYPE mood AS ENUM ('sad', 'ok, really', 'happy');
    CREATE TYPE addr AS (street text, no int);
    CREATE DOMAIN posint AS int CHECK (VALUE > 0);
    CREATE DOMAIN posints AS posint[];
    CREATE DOMAIN money2 AS numeric(12,2);";

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_string().into())
}

fn decimal(value: &str) -> Value<'static> {
    Value::Decimal(value.to_string().into())
}

fn json(value: &str) -> Value<'static> {
    Value::Json(value.to_string().into())
}

/// Type, SQL of a value, what it must become.
fn cases() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let mut cases = scalars();
    cases.extend(times());
    cases.extend(arrays());
    cases
}

fn scalars() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let mut uuid = [0u8; 16];
    uuid[0] = 0xa0;
    uuid[15] = 0x11;
    vec![
        ("boolean", "true", Value::Bool(true)),
        ("smallint", "-32768", Value::Int(-32_768)),
        ("integer", "2147483647", Value::Int(2_147_483_647)),
        ("bigint", "-9223372036854775808", Value::Int(i64::MIN)),
        ("oid", "4294967295", Value::Int(4_294_967_295)),
        ("real", "0.1", Value::Float32(0.1)),
        ("double precision", "0.1::float8 + 0.2", Value::Float(0.1 + 0.2)),
        ("double precision", "'-Infinity'", Value::Float(f64::NEG_INFINITY)),
        (
            "numeric",
            "12345678901234567890123456789012345.000100",
            decimal("12345678901234567890123456789012345.000100"),
        ),
        ("numeric", "'NaN'", decimal("NaN")),
        ("numeric(18,4)", "-1.5", decimal("-1.5000")),
        ("money", "12.5", text("$12.50")),
        ("character(5)", "'ab'", text("ab   ")),
        (
            "character varying(40)",
            "E'tab\\tnewline\\nback\\\\slash'",
            text("tab\tnewline\nback\\slash"),
        ),
        ("text", "'\\N'", text("\\N")),
        ("text", "'ü日本🚚'", text("ü日本🚚")),
        ("text", "''", text("")),
        ("public.citext", "'MiXed'", text("MiXed")),
        ("name", "'n'", text("n")),
        ("bytea", "'\\x00ff5c'", Value::Bytes(vec![0, 255, 0x5c].into())),
        ("uuid", "'a0000000-0000-0000-0000-000000000011'", Value::Uuid(uuid)),
        ("json", "'{\"a\":  1}'", json("{\"a\":  1}")),
        ("jsonb", "'{\"a\":  1, \"b\": \"\\\\\"}'", json("{\"a\": 1, \"b\": \"\\\\\"}")),
        ("xml", "'<a/>'", text("<a/>")),
        ("public.hstore", "'a=>1'", text("\"a\"=>\"1\"")),
        ("inet", "'10.0.0.1/8'", text("10.0.0.1/8")),
        ("bit(10)", "B'1010101011'", Value::Bits(10, vec![0xaa, 0xc0].into())),
        ("bit varying(20)", "B''", Value::Bits(0, vec![].into())),
        ("point", "'(1,2)'", text("(1,2)")),
        ("int4range", "'[1,5)'", text("[1,5)")),
        ("tsvector", "'a b'", text("'a' 'b'")),
        ("public.mood", "'ok, really'", text("ok, really")),
        ("public.addr", "ROW('x y', 3)", text("(\"x y\",3)")),
        ("public.posint", "7", Value::Int(7)),
        ("public.money2", "1", decimal("1.00")),
        ("pg_lsn", "'0/16B3748'", text("0/16B3748")),
        ("text", "NULL", Value::Null),
    ]
}

fn times() -> Vec<(&'static str, &'static str, Value<'static>)> {
    const DAY: i64 = 86_400_000_000;
    vec![
        ("date", "'2026-11-23'", Value::Date(20_780)),
        ("date", "'0044-03-15 BC'", Value::Date(-735_160)),
        ("date", "'infinity'", Value::Date(i32::MAX)),
        ("time without time zone", "'24:00'", Value::Time(DAY)),
        ("time(3) without time zone", "'08:15:30.1239'", Value::Time(29_730_124_000)),
        ("time with time zone", "'08:15:30-05:30'", Value::TimeTz(29_730_000_000, -19_800)),
        ("timestamp without time zone", "'1969-12-31 23:59:59.5'", Value::Timestamp(-500_000)),
        ("timestamp(0) without time zone", "'1970-01-02'", Value::Timestamp(DAY)),
        ("timestamp without time zone", "'-infinity'", Value::Timestamp(i64::MIN)),
        (
            "timestamp without time zone",
            "'12026-01-01'",
            Value::Timestamp(i64::from(20_454 + 3_652_425) * DAY),
        ),
        (
            "timestamp with time zone",
            "'2026-11-23 08:15:30.5+02'",
            Value::TimestampTz(1_795_414_530_500_000),
        ),
        (
            "timestamp with time zone",
            "'0044-03-15 00:00+00 BC'",
            Value::TimestampTz(-735_160 * DAY),
        ),
        ("timestamp with time zone", "'infinity'", Value::TimestampTz(i64::MAX)),
        (
            "interval",
            "'1 year 2 mons -3 days 04:05:06.789'",
            Value::Interval(14, -3, 14_706_789_000),
        ),
        ("interval", "'-01:00'", Value::Interval(0, 0, -3_600_000_000)),
    ]
}

fn arrays() -> Vec<(&'static str, &'static str, Value<'static>)> {
    let array = |values: &[Value<'static>]| Value::Array(values.to_vec());
    let ints = |values: &[i64]| Value::Array(values.iter().map(|v| Value::Int(*v)).collect());
    vec![
        ("integer[]", "'{}'", array(&[])),
        ("integer[]", "'{{1,2},{3,4}}'", array(&[ints(&[1, 2]), ints(&[3, 4])])),
        ("integer[]", "'[0:1]={5,NULL}'", array(&[Value::Int(5), Value::Null])),
        (
            "text[]",
            "ARRAY['a,b', '\"q\" \\ {', 'NULL', NULL, '']",
            array(&[text("a,b"), text("\"q\" \\ {"), text("NULL"), Value::Null, text("")]),
        ),
        ("numeric(10,2)[]", "'{1,2.5}'", array(&[decimal("1.00"), decimal("2.50")])),
        ("boolean[]", "'{t,f}'", array(&[Value::Bool(true), Value::Bool(false)])),
        (
            "timestamp with time zone[]",
            "'{2026-11-23 08:15:30.5+02}'",
            array(&[Value::TimestampTz(1_795_414_530_500_000)]),
        ),
        ("jsonb[]", "ARRAY['{\"a\": [1]}'::jsonb]", array(&[json("{\"a\": [1]}")])),
        ("public.mood[]", "'{sad,\"ok, really\"}'", array(&[text("sad"), text("ok, really")])),
        ("bytea[]", "ARRAY['\\x01'::bytea]", array(&[Value::Bytes(vec![1].into())])),
        (
            "box[]",
            "'{(1,1),(0,0);(2,2),(1,1)}'",
            array(&[text("(1,1),(0,0)"), text("(2,2),(1,1)")]),
        ),
        ("public.posints", "'{1,2}'", ints(&[1, 2])),
        ("int2vector", "'1 2'", text("1 2")),
    ]
}

#[tokio::test]
async fn snapshot_and_stream_give_the_same_value() {
    let cases = cases();
    let columns: Vec<String> =
        cases.iter().enumerate().map(|(i, (name, ..))| format!("c{i} {name}")).collect();
    let values: Vec<&str> = cases.iter().map(|(_, value, _)| *value).collect();
    let values = values.join(", ");
    let script = format!(
        "{TYPES} CREATE TABLE tm(id int PRIMARY KEY, {}); INSERT INTO tm VALUES (1, {values});",
        columns.join(", ")
    );
    let (options, client) = database("types", &script, &["public.tm"]).await;
    // Settings of the database must not change what is read.
    let odd = "ALTER DATABASE types SET DateStyle = 'SQL, DMY';
               ALTER DATABASE types SET IntervalStyle = 'iso_8601';
               ALTER DATABASE types SET TimeZone = 'America/St_Johns';
               ALTER DATABASE types SET extra_float_digits = -3;
               ALTER DATABASE types SET bytea_output = 'escape';";
    client.batch_execute(odd).await.unwrap();
    let mut reader = open(&options, None).await;
    let read = changes(&snapshot(&mut reader).await);
    client.batch_execute(&format!("INSERT INTO tm VALUES (2, {values})")).await.unwrap();
    say_done(&client).await;
    let streamed = changes(&until_done(&mut reader).await);
    let (read_row, streamed_row) = (full(&read[0].after), full(&streamed[0].after));
    for (i, (type_name, sql, expected)) in cases.iter().enumerate() {
        assert_eq!(read_row[i + 1], *expected, "snapshot of {type_name}: {sql}");
        assert_eq!(streamed_row[i + 1], *expected, "stream of {type_name}: {sql}");
    }
    let described = postgres::describe(&options).await.unwrap();
    assert_eq!(Some(&described[0]), read[0].table.as_deref());
    assert_eq!(Some(&described[0]), streamed[0].table.as_deref());
    for (column, (type_name, ..)) in described[0].columns[1..].iter().zip(&cases) {
        assert_eq!(&*column.type_name, *type_name);
    }
}
