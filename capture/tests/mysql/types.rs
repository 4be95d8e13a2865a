//! One row has one set of values, whether the snapshot, the stream or polling brought it.

use crossdock_capture::DatabaseKind;
use crossdock_model::database::ZeroDates;
use crossdock_model::{Op, RowImage, Value};

use super::rig::{Rig, Server, on_both, options};

on_both!(
    values_agree_with_full_metadata,
    values_agree_without_metadata,
    dates_that_no_calendar_has_by_policy,
);

const TYPES: &str = "CREATE DATABASE wms; USE wms; CREATE TABLE tm(
 id bigint unsigned AUTO_INCREMENT PRIMARY KEY,
 c_bool bool, c_tiny tinyint, c_utiny tinyint unsigned, c_small smallint,
 c_usmall smallint unsigned, c_med mediumint, c_umed mediumint unsigned, c_int int,
 c_uint int unsigned, c_zint int(8) unsigned zerofill, c_big bigint, c_ubig bigint unsigned,
 c_dec decimal(20,6), c_dec0 decimal(10,0), c_udec decimal(10,2) unsigned,
 c_zdec decimal(12,3) zerofill, c_dec65 decimal(65,30), c_decf decimal(10,10),
 c_float float, c_float_m float(10,3), c_double double,
 c_bit1 bit(1), c_bit10 bit(10), c_bit64 bit(64),
 c_char char(5), c_longchar char(200), c_varchar varchar(20), c_longvar varchar(300),
 c_latin varchar(20) CHARACTER SET latin1, c_utf16 varchar(20) CHARACTER SET utf16,
 c_ascii char(3) CHARACTER SET ascii, c_ttext tinytext, c_text text, c_mtext mediumtext,
 c_ltext longtext, c_binary binary(4), c_varbin varbinary(8), c_tblob tinyblob, c_blob blob,
 c_lblob longblob, c_enum enum('small','medium','it''s, large','grö'),
 c_set set('a','b','c','d','e','f','g','h','i'),
 c_date date, c_time time, c_time3 time(3), c_time6 time(6), c_dt datetime, c_dt1 datetime(1),
 c_dt3 datetime(3), c_dt6 datetime(6), c_ts timestamp NULL, c_ts3 timestamp(3) NULL,
 c_ts6 timestamp(6) NULL, c_year year, c_json json, c_uuid uuid, c_inet6 inet6, c_inet4 inet4,
 c_point point, c_gen int AS (c_int DIV 2) STORED, c_virt int AS (c_small + 1) VIRTUAL,
 c_def varchar(10) DEFAULT 'dflt') DEFAULT CHARSET=utf8mb4;";

const COLUMNS: &str = "c_bool, c_tiny, c_utiny, c_small, c_usmall, c_med, c_umed, c_int, c_uint,
 c_zint, c_big, c_ubig, c_dec, c_dec0, c_udec, c_zdec, c_dec65, c_decf, c_float, c_float_m,
 c_double, c_bit1, c_bit10, c_bit64, c_char, c_longchar, c_varchar, c_longvar, c_latin, c_utf16,
 c_ascii, c_ttext, c_text, c_mtext, c_ltext, c_binary, c_varbin, c_tblob, c_blob, c_lblob, c_enum,
 c_set, c_date, c_time, c_time3, c_time6, c_dt, c_dt1, c_dt3, c_dt6, c_ts, c_ts3, c_ts6, c_year,
 c_json, c_uuid, c_inet6, c_inet4, c_point";

const ROWS: &str = "
(1, -128, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, 42,
 -9223372036854775808, 18446744073709551615, -12345678901234.567891, 9999999999, 99999999.99,
 0.500, 12345678901234567890123456789012345.123456789012345678901234567890, -0.0000000001,
 1.1, 1234567.891, -1.7976931348623157e308, b'1', b'1010000001', ~0, 'ab', 'langer Text ü', 'Über',
 REPEAT('🚚', 250), 'Müll€', 'üñ🚚', 'abc', 'tiny', 'text\\n\\ttab', 'medium', 'long', 'ab',
 x'00ff00', x'00', x'deadbeef00', REPEAT(x'ff', 70000), 'it''s, large', 'a,c,i', '2026-11-23',
 '-838:59:59', '-00:00:00.001', '838:59:59.000000', '2026-11-23 08:15:30', '1000-01-01 00:00:00.9',
 '2026-11-23 08:15:30.123', '9999-12-31 23:59:59.999999', '2026-11-23 08:15:30',
 '1970-01-01 00:00:01.500', '2038-01-19 03:14:07.999999', 2026, '{\"a\": [1, 2.50, \"x\"]}',
 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6', '2001:db8::ff00:42:8329', '192.0.2.1', POINT(1, 2)),
(0, 127, 0, 32767, 0, 8388607, 0, 2147483647, 0, 0, 9223372036854775807, 0, 0, -1, 0, 123456789.125,
 0, 0.9999999999, 16777217, -0.5, 0.1, b'0', b'0', 0, '', '', '', '', '', '', '', '', '', '', '',
 x'01', '', '', '', '', 'small', '', '0000-00-00', '00:00:00', '-12:34:56.789', '-00:00:00.000001',
 '0000-00-00 00:00:00', '0000-00-00', '2026-00-00 00:00:00', '2026-11-23', '0000-00-00 00:00:00',
 '0000-00-00', '1970-01-01 00:00:00.000001', 0, '[]', '00000000-0000-0000-0000-000000000000',
 '::ffff:192.0.2.1', '0.0.0.0', NULL),
(NULL, 1, 1, 1, 1, 1, 1, 1, 1, 12345678, 1, 9223372036854775808, 1.5, 0, 0.01, 0.001, -1.5, 0, -1e-7, 0, 1e22, NULL, NULL, 1,
 'ä', 'x ', 'trailing ', 'x', 'x', 'x', 'x', NULL, NULL, NULL, NULL, x'61620000', 'a', NULL, NULL, NULL,
 'grö', 'b,h', '1969-12-31', '23:59:59', '10:11:12.5', '800:00:00.25', '1969-12-31 23:59:59',
 '1969-12-31 23:59:59.9', '0001-01-01', '2024-02-29 12:00:00.5', '2001-09-09 01:46:40', NULL, NULL, 1901,
 'null', '0190a5c8-1f2e-7abc-8def-0123456789ab', '::', '255.255.255.255', NULL)";

fn values(rig: &Rig, op: Op) -> Vec<Vec<Value<'static>>> {
    let events = rig.events("tm").into_iter().filter(|event| event.op == op);
    let full = |event: &crossdock_model::ChangeEvent| match &event.after {
        Some(RowImage::Full(values)) => values.clone(),
        other => panic!("{other:?}"),
    };
    events.map(full).collect()
}

/// The matrix as a kind of server has it: what only MariaDB has is text on MySQL.
fn types(server: &Server) -> String {
    match server.is_mysql() {
        false => TYPES.to_string(),
        true => TYPES.replace(
            "c_uuid uuid, c_inet6 inet6, c_inet4 inet4",
            "c_uuid char(36), c_inet6 varchar(45), c_inet4 varchar(15)",
        ),
    }
}

async fn snapshot_and_stream_agree(kind: DatabaseKind, settings: &str) {
    let server = Server::start(kind);
    server.sql("", &format!("{settings}; {}", types(&server))).unwrap();
    let options = options(&server, &["wms.tm"]);
    let mut streaming = Rig::open(&options, None).await;
    streaming.snapshot().await;
    let insert = format!(
        "SET sql_mode = 'ALLOW_INVALID_DATES'; SET time_zone = '+00:00';
        INSERT INTO tm({COLUMNS}) VALUES {ROWS}; INSERT INTO tm(c_bool) VALUES (NULL);"
    );
    server.sql("wms", &insert).unwrap();
    streaming.until(|rig| rig.events("tm").len() == 4).await;
    let mut other = options.clone();
    other.server_id += 1;
    let mut copying = Rig::open(&other, None).await;
    copying.snapshot().await;
    let (streamed, copied) = (values(&streaming, Op::Create), values(&copying, Op::Read));
    let schema = streaming.events("tm")[0].table.clone().unwrap();
    assert_eq!(*schema, **copying.events("tm")[0].table.as_ref().unwrap());
    let polled = crate::poll::all_rows(&options, "id").await;
    assert_eq!((streamed.len(), copied.len(), polled.len()), (4, 4, 4));
    for (row, (streamed, copied)) in streamed.iter().zip(&copied).enumerate() {
        for (i, column) in schema.columns.iter().enumerate() {
            assert_eq!(streamed[i], copied[i], "{} of row {row}", column.name);
            assert_eq!(streamed[i], polled[row][i], "{} of row {row}, polled", column.name);
        }
    }
    by_hand(&server, &schema, &streamed);
}

fn by_hand(server: &Server, schema: &crossdock_model::TableSchema, rows: &[Vec<Value<'static>>]) {
    let cell = |row: usize, name: &str| rows[row][schema.column(name).unwrap()].clone();
    assert_eq!(cell(0, "c_ubig"), Value::UInt(u64::MAX));
    assert_eq!(cell(0, "c_float"), Value::Float32(1.1));
    assert_eq!(cell(0, "c_latin"), Value::Text("Müll€".into()));
    assert_eq!(cell(0, "c_binary"), Value::Bytes(b"ab\0\0"[..].into()));
    assert_eq!(cell(0, "c_zdec"), Value::Decimal("0.500".into()));
    assert_eq!(cell(0, "c_bit10").to_text().unwrap(), "1010000001");
    assert_eq!(cell(0, "c_enum"), Value::Text("it's, large".into()));
    assert_eq!(cell(0, "c_set"), Value::Text("a,c,i".into()));
    assert_eq!(cell(0, "c_time"), Value::Time(-3_020_399_000_000));
    assert_eq!(cell(0, "c_dt6").to_text().unwrap(), "9999-12-31T23:59:59.999999");
    assert_eq!(cell(0, "c_ts3"), Value::TimestampTz(1_500_000));
    let number = if server.is_mysql() { "2.5" } else { "2.50" };
    let json = format!("{{\"a\": [1, {number}, \"x\"]}}");
    assert_eq!(cell(0, "c_json"), Value::Json(json.into()));
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    assert_eq!(cell(0, "c_uuid").to_text().unwrap(), uuid);
    assert_eq!(cell(0, "c_virt"), Value::Int(-32_767));
    assert_eq!(cell(1, "c_date"), Value::Text("0000-00-00".into()));
    assert_eq!(cell(1, "c_dt3"), Value::Text("2026-00-00 00:00:00.000".into()));
    assert_eq!(cell(1, "c_time6"), Value::Time(-1));
    assert_eq!(cell(1, "c_inet6"), Value::Text("::ffff:192.0.2.1".into()));
    let uuid = "0190a5c8-1f2e-7abc-8def-0123456789ab";
    assert_eq!(cell(2, "c_uuid").to_text().unwrap(), uuid);
    assert_eq!(cell(3, "c_def"), Value::Text("dflt".into()));
}

async fn values_agree_with_full_metadata(kind: DatabaseKind) {
    snapshot_and_stream_agree(kind, "SET GLOBAL binlog_row_metadata = FULL").await;
}

async fn values_agree_without_metadata(kind: DatabaseKind) {
    let least = if kind == DatabaseKind::Mysql { "MINIMAL" } else { "NO_LOG" };
    snapshot_and_stream_agree(kind, &format!("SET GLOBAL binlog_row_metadata = {least}")).await;
}

const DATES: &str = "CREATE DATABASE wms; USE wms; SET sql_mode = 'ALLOW_INVALID_DATES';
    CREATE TABLE tm(id INT PRIMARY KEY, d DATE, dn DATE NOT NULL, t DATETIME(1),
        tn DATETIME(1) NOT NULL, s TIMESTAMP NULL, sn TIMESTAMP NOT NULL DEFAULT 0, ok DATE);";
const ZEROS: &str = "SET sql_mode = 'ALLOW_INVALID_DATES';
    INSERT INTO tm VALUES (1, '0000-00-00', '2026-02-30', '2026-00-00', '0000-00-00', 0, 0,
        '2026-11-23')";

async fn dates_that_no_calendar_has_by_policy(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", DATES).unwrap();
    let options = options(&server, &["wms.tm"]);
    let mut rig = Rig::open(&options, None).await;
    rig.snapshot().await;
    let from = rig.durable.clone().unwrap();
    drop(rig);
    server.sql("wms", ZEROS).unwrap();
    let text = |text: &str| Value::Text(text.to_string().into());
    let null = || Value::Null;
    let texts = ["0000-00-00", "2026-02-30", "2026-00-00 00:00:00.0", "0000-00-00 00:00:00.0"];
    let mut printed: Vec<_> = texts.map(text).into();
    printed.extend([text("0000-00-00 00:00:00"), text("0000-00-00 00:00:00")]);
    let epochs = [Value::Date(0), Value::Timestamp(0), Value::TimestampTz(0)];
    let [date, wall, instant] = epochs;
    let policies = [
        (ZeroDates::Text, printed),
        (ZeroDates::Null, vec![Value::Null; 6]),
        (ZeroDates::Epoch, vec![null(), date, null(), wall, null(), instant]),
    ];
    let mut other = options.clone();
    other.server_id += 1;
    for (policy, mut expected) in policies {
        expected.push(Value::Date(20_780));
        (other.zero_dates, other.server_id) = (policy, other.server_id + 2);
        let mut streaming = Rig::open(&other, Some(&from)).await;
        streaming.until(|rig| rig.events("tm").len() == 1).await;
        other.server_id += 1;
        let mut copying = Rig::open(&other, None).await;
        copying.snapshot().await;
        assert_eq!(values(&streaming, Op::Create)[0][1..], expected, "{policy:?}");
        assert_eq!(values(&copying, Op::Read)[0][1..], expected, "{policy:?}");
    }
    (other.zero_dates, other.server_id) = (ZeroDates::Error, other.server_id + 1);
    for from in [Some(&from), None] {
        let error = Rig::open(&other, from).await.error().await;
        assert!(error.to_string().contains("wms.tm.d"), "{error}");
        assert!(error.to_string().contains("zero_dates"), "{error}");
    }
}
