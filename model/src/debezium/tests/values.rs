//! Values by the type of their column. Expected ones are copied from what Debezium 3.6 wrote for
//! the same rows.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::Value;
use crate::debezium::kind::{self, Kind};
use crate::debezium::value::Encoding;
use crate::debezium::{
    BigintUnsignedMode, BinaryMode, Connector, DecimalMode, HstoreMode, IntervalMode, Options,
    TimeMode,
};

fn check(options: Options, connector: Connector, cases: &[(&str, Value<'_>, Json)]) {
    let encoding = Encoding { connector, options: &options };
    for (name, value, expected) in cases {
        let kind = Kind::of_type(name, connector);
        assert_eq!(&encoding.encode(value, &kind), expected, "{name} {value:?}");
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
        Options::new(Connector::Postgres),
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
fn values_of_postgres_extensions() {
    let little = "0101000020E6100000000000000000F83F0000000000000440";
    let big = "00000000013FF80000000000004004000000000000";
    let srid = json!({"wkb": "AQEAACDmEAAAAAAAAAAA+D8AAAAAAAAEQA==", "srid": 4326});
    check(
        Options::new(Connector::Postgres),
        Connector::Postgres,
        &[
            ("public.geometry(Point,4326)", text(little), srid.clone()),
            ("public.geography", text(little), srid),
            (
                "public.geometry",
                text(big),
                json!({"wkb": "AAAAAAE/+AAAAAAAAEAEAAAAAAAA", "srid": null}),
            ),
            // Not PostGIS's.
            ("other.geometry", text("(1,2)"), json!("(1,2)")),
            ("other.geometry", text("01"), json!("01")),
            ("public.vector(3)", text("[1,2.5,-3]"), json!([1.0, 2.5, -3.0])),
            ("public.halfvec(2)", text("[0.1,1e-05]"), json!([0.1, 0.00001])),
            (
                "public.sparsevec(5)",
                text("{1:1.5,3:2}/5"),
                json!({"dimensions": 5, "vector": [[1, 1.5], [3, 2.0]]}),
            ),
            ("public.sparsevec", text("{}/3"), json!({"dimensions": 3, "vector": []})),
            ("other.vector", text("north"), json!("north")),
            ("other.sparsevec", text("{1}/2"), json!("{1}/2")),
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
        Options::new(Connector::Mariadb),
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
fn other_modes() {
    let options = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::new(Connector::Postgres);
        change(&mut options);
        options
    };
    let bytes = || Value::Bytes(vec![0xfb, 0xff].into());
    check(
        options(&|o| {
            o.decimal = DecimalMode::String;
            o.time = TimeMode::Nanoseconds;
            o.binary = BinaryMode::Base64UrlSafe;
            o.interval = IntervalMode::String;
            o.hstore = HstoreMode::Map;
        }),
        Connector::Postgres,
        &[
            ("numeric(6,2)", dec("2.50"), json!("2.50")),
            ("numeric", dec("NaN"), json!("NAN")),
            ("time(0) without time zone", Value::Time(1_000_000), json!(1_000_000_000)),
            ("bytea", bytes(), json!("-_8=")),
            ("interval", Value::Interval(-1, -2, -1_500_000), json!("P0Y-1M-2DT0H0M-1.5S")),
            ("interval", Value::Interval(0, 0, -500_000), json!("P0Y0M0DT0H0M-0.5S")),
            ("public.hstore", text("\"k\"=>NULL"), json!({"k": null})),
        ],
    );
    check(
        options(&|o| {
            o.decimal = DecimalMode::Double;
            o.time = TimeMode::Isostring;
            o.binary = BinaryMode::Hex;
        }),
        Connector::Postgres,
        &[
            ("numeric(6,2)", dec("2.50"), json!(2.5)),
            ("numeric", dec("NaN"), json!("NaN")),
            ("bytea", bytes(), json!("fbff")),
            ("date", Value::Date(-735_160), json!("-0043-03-15Z")),
            ("date", Value::Date(i32::MAX), json!("infinity")),
            (
                "timestamp without time zone",
                Value::Timestamp(253_402_300_800_000_000),
                json!("+10000-01-01T00:00:00Z"),
            ),
        ],
    );
    check(
        options(&|o| o.time = TimeMode::Connect),
        Connector::Postgres,
        &[
            ("time without time zone", Value::Time(1_000_999), json!(1_000)),
            ("timestamp without time zone", Value::Timestamp(-1), json!(-1)),
        ],
    );
    check(
        options(&|o| o.bigint_unsigned = BigintUnsignedMode::Precise),
        Connector::Mysql,
        &[
            ("bigint unsigned", Value::UInt(u64::MAX), json!("AP//////////")),
            ("bigint unsigned", Value::Int(1), json!("AQ==")),
            ("date", text("0000-00-00"), Json::Null),
            ("timestamp", text("0000-00-00 00:00:00"), Json::Null),
        ],
    );
}

proptest! {
    /// A block may hold any value in any column.
    #[test]
    fn no_value_panics(
        number in any::<i64>(), small in any::<i32>(), text in "[-+0-9.:eNa\\\\\"=>,() A-Z]{0,12}",
        bytes in proptest::collection::vec(any::<u8>(), 0..24), at in 0..20usize, mode in 0..6usize,
    ) {
        const TYPES: [&str; 20] = [
            "boolean", "bigint unsigned", "real", "float(7,2)", "numeric(9,3)", "numeric", "money",
            "text", "binary(4)", "uuid", "jsonb", "public.hstore", "enum('a')", "date",
            "time(3) without time zone", "timestamp(6) with time zone", "interval", "bit(12)",
            "point", "integer[]",
        ];
        let times = [
            TimeMode::Adaptive, TimeMode::AdaptiveTimeMicroseconds, TimeMode::Connect,
            TimeMode::Isostring, TimeMode::Microseconds, TimeMode::Nanoseconds,
        ];
        let values = [
            Value::Int(number), Value::UInt(number as u64), Value::Float(f64::from_bits(number as u64)),
            Value::Decimal(text.as_str().into()), Value::Text(text.as_str().into()),
            Value::Bytes(bytes.as_slice().into()), Value::Date(small), Value::Time(number),
            Value::TimeTz(number, small), Value::Timestamp(number), Value::TimestampTz(number),
            Value::Interval(small, small, number), Value::Bits(small as u32, bytes.as_slice().into()),
            Value::Array(vec![Value::Array(vec![Value::Int(number)]), Value::Null]),
        ];
        for connector in [Connector::Postgres, Connector::Mysql] {
            let mut options = Options::new(connector);
            options.time = times[mode];
            if mode % 2 == 0 {
                options.decimal = DecimalMode::Double;
                options.interval = IntervalMode::String;
                options.bigint_unsigned = BigintUnsignedMode::Precise;
            }
            let encoding = Encoding { connector, options: &options };
            let kind = Kind::of_type(TYPES[at], connector);
            for value in &values {
                encoding.encode(value, &kind);
            }
            encoding.constant(&text, &kind);
            encoding.zero(&kind);
            encoding.unavailable(&kind);
        }
    }

    /// Names of types and defaults come from the database.
    #[test]
    fn no_declaration_panics(text in "[a-z'(),:\\[\\] 0-9é.-]{0,30}") {
        Kind::of_type(&text, Connector::Postgres);
        Kind::of_type(&text, Connector::Mariadb);
        kind::constant(&text);
    }
}
