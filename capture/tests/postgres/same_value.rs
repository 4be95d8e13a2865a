//! Snapshot, stream, reading beside the stream and polling give the same value for the same row: random
//! rows of every type, inserted before and after the snapshot.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crossdock_capture::Purpose;

use super::ledger::Ledger;
use super::*;

/// Types that come with modules, where the server has them: all of them, where
/// `CROSSDOCK_PG_EXTENSIONS` is set.
const EXTENSIONS: [&str; 5] = ["hstore", "citext", "ltree", "vector", "postgis"];

const TYPES: &str = "
    CREATE SCHEMA one; CREATE SCHEMA two;
    CREATE TYPE one.mood AS ENUM ('sad', 'o''k, \"really\"', 'ü');
    CREATE TYPE two.mood AS ENUM ('sad', 'other');
    CREATE TYPE one.pair AS (a text, b numeric);
    CREATE DOMAIN one.amount AS numeric(12, 3);
    CREATE DOMAIN one.amounts AS one.amount[];
    CREATE DOMAIN one.label AS varchar(60);";

type Texts = BoxedStrategy<String>;

fn pick(texts: &'static [&'static str]) -> Texts {
    proptest::sample::select(texts).prop_map(str::to_string).boxed()
}

fn digits(range: std::ops::Range<i64>) -> Texts {
    range.prop_map(|n| n.to_string()).boxed()
}

/// Anything that a text may hold, with what COPY and arrays escape.
fn odd_text() -> Texts {
    let odd = pick(&[
        "\\", "\\N", "\t", "\n", "\r", "\u{8}", "\u{b}", "\"", "'", "{", "}", ",", "NULL", "", " ",
        "ü", "日本", "🚚", "\\x00", "(", ")", "\u{1}", "a",
    ]);
    proptest::collection::vec(odd, 0..8).prop_map(|parts| parts.concat()).boxed()
}

/// A year, BC only where every type has it.
fn year() -> impl Strategy<Value = (u32, &'static str)> {
    prop_oneof![(1..9_999u32).prop_map(|year| (year, "")), (1..4_700u32).prop_map(|y| (y, " BC"))]
}

fn date() -> Texts {
    let day = (year(), 1..13u32, 1..29u32)
        .prop_map(|((year, bc), month, day)| format!("{year:04}-{month:02}-{day:02}{bc}"));
    prop_oneof![4 => day, 1 => pick(&["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"])]
        .boxed()
}

fn time() -> Texts {
    let time = (0..24u32, 0..60u32, 0..60u32, 0..1_000_000u32)
        .prop_map(|(h, m, s, micros)| format!("{h:02}:{m:02}:{s:02}.{micros:06}"));
    prop_oneof![5 => time, 1 => pick(&["24:00", "00:00"])].boxed()
}

fn timestamp() -> Texts {
    let stamp = (year(), 1..13u32, 1..29u32, time()).prop_map(|((year, bc), month, day, time)| {
        format!("{year:04}-{month:02}-{day:02} {time}{bc}")
    });
    prop_oneof![5 => stamp, 1 => pick(&["infinity", "-infinity", "294276-12-31 23:59:59.999999"])]
        .boxed()
}

fn hex(bytes: usize) -> Texts {
    proptest::collection::vec(any::<u8>(), bytes..=bytes)
        .prop_map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        .boxed()
}

fn bits(least: usize, most: usize) -> Texts {
    proptest::collection::vec(any::<bool>(), least..=most)
        .prop_map(|bits| bits.iter().map(|bit| if *bit { '1' } else { '0' }).collect())
        .boxed()
}

fn decimal() -> Texts {
    let number = ("-?[0-9]{1,40}", proptest::option::of("[0-9]{1,30}"))
        .prop_map(|(whole, part)| part.map_or(whole.clone(), |part| format!("{whole}.{part}")));
    prop_oneof![5 => number, 1 => pick(&["NaN", "0", "-0.000", "1e100", "1e-50"])].boxed()
}

fn small_decimal() -> Texts {
    (any::<i32>(), 0..1000u32).prop_map(|(n, part)| format!("{}.{part:03}", n / 10)).boxed()
}

fn float() -> Texts {
    let any = any::<f64>().prop_map(|f| if f.is_nan() { "NaN".into() } else { format!("{f:e}") });
    let any = any.prop_filter("a number as text", |text: &String| !text.contains("inf"));
    prop_oneof![4 => any, 1 => pick(&["NaN", "Infinity", "-Infinity", "-0", "1e-320"])].boxed()
}

fn real() -> Texts {
    let any = (-1e30f32..1e30).prop_map(|f| format!("{f:e}"));
    prop_oneof![4 => any, 1 => pick(&["NaN", "Infinity", "-Infinity", "-0"])].boxed()
}

fn json() -> Texts {
    let text = odd_text().prop_map(|text| {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        serde_json::Value::from(text).to_string()
    });
    let leaf =
        prop_oneof![text, pick(&["null", "true", "1.50", "-0", "1e10", "12345678901234567890123"])];
    (leaf.clone(), leaf).prop_map(|(a, b)| format!("{{\"b\": {a},\n \"a\": [{b}, {{}}]}}")).boxed()
}

/// An array of one or two dimensions, with NULLs.
fn array(of: Texts) -> Texts {
    let quoted =
        of.prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    let element = prop_oneof![4 => quoted, 1 => Just("NULL".to_string())];
    let row = |n: usize| proptest::collection::vec(element.clone(), n..=n);
    let flat = proptest::collection::vec(element.clone(), 0..4);
    let flat = flat.prop_map(|row| format!("{{{}}}", row.join(",")));
    let deep =
        (row(2), row(2)).prop_map(|(a, b)| format!("{{{{{}}},{{{}}}}}", a.join(","), b.join(",")));
    prop_oneof![3 => flat, 1 => deep].boxed()
}

fn interval() -> Texts {
    (-5000..5000i32, -400..400i32, -100_000_000..100_000_000i64)
        .prop_map(|(months, days, millis)| format!("{months} months {days} days {millis} ms"))
        .boxed()
}

fn numbers() -> Vec<(&'static str, Texts)> {
    vec![
        ("smallint", digits(-32_768..32_768)),
        ("integer", digits(i64::from(i32::MIN)..i64::from(i32::MAX))),
        ("bigint", any::<i64>().prop_map(|n| n.to_string()).boxed()),
        ("oid", digits(0..4_294_967_296)),
        ("numeric", decimal()),
        ("numeric(20,4)", small_decimal()),
        ("money", small_decimal()),
        ("real", real()),
        ("double precision", float()),
        ("boolean", pick(&["true", "false"])),
        ("one.amount", small_decimal()),
        ("bit(11)", bits(11, 11)),
        ("bit varying(40)", bits(0, 40)),
    ]
}

fn texts() -> Vec<(&'static str, Texts)> {
    vec![
        ("text", odd_text()),
        ("character varying(80)", odd_text()),
        ("character(70)", odd_text()),
        ("one.label", odd_text()),
        ("name", odd_text()),
        ("\"char\"", pick(&["a", "\\", "", "\u{1}"])),
        ("bytea", (0..9usize).prop_flat_map(hex).prop_map(|hex| format!("\\x{hex}")).boxed()),
        ("uuid", hex(16)),
        ("json", json()),
        ("jsonb", json()),
        ("xml", pick(&["<a b='1'>ü &amp; \\ \t</a>", "text", "<x/>"])),
        ("one.mood", pick(&["sad", "o'k, \"really\"", "ü"])),
        ("two.mood", pick(&["sad", "other"])),
        ("one.pair", pick(&["(\"a \"\"q\"\" \\\\ ,\",1.50)", "(,)", "(\"\",NaN)"])),
        ("tsvector", pick(&["'a':1A 'b c':2", ""])),
        ("tsquery", pick(&["a & !b", "'x y' | z"])),
    ]
}

fn times() -> Vec<(&'static str, Texts)> {
    vec![
        ("date", date()),
        ("time", time()),
        ("time(2)", time()),
        (
            "time with time zone",
            (time(), -15..16i32).prop_map(|(t, z)| format!("{t}{z:+03}:30")).boxed(),
        ),
        ("timestamp", timestamp()),
        ("timestamp(3)", timestamp()),
        ("timestamp with time zone", timestamp()),
        ("interval", interval()),
    ]
}

fn others() -> Vec<(&'static str, Texts)> {
    vec![
        ("inet", pick(&["10.0.0.1", "10.0.0.1/8", "2001:db8::1/64", "::"])),
        ("cidr", pick(&["10.0.0.0/8", "2001:db8::/32"])),
        ("macaddr", pick(&["08:00:2b:01:02:03"])),
        ("macaddr8", pick(&["08:00:2b:01:02:03:04:05"])),
        ("point", (real(), real()).prop_map(|(x, y)| format!("({x},{y})")).boxed()),
        ("box", pick(&["(1,2),(3,4)", "(0.1,0),(-1,-2)"])),
        ("path", pick(&["[(1,2),(3,4)]", "((1,2),(3,4))"])),
        ("circle", pick(&["<(1,2),3.5>"])),
        ("int4range", pick(&["[1,5)", "empty", "(,7]", "(,)"])),
        ("numrange", numeric_range()),
        ("tstzrange", pick(&["[2026-01-01 10:00+02,infinity)", "(,2026-01-01 BC)"])),
        ("pg_lsn", pick(&["0/16B3748", "FFFFFFFF/FFFFFFFF"])),
        ("xid", digits(0..4_294_967_296)),
        ("integer[]", array(digits(-9..9))),
        ("text[]", array(odd_text())),
        ("numeric[]", array(decimal())),
        ("timestamp with time zone[]", array(timestamp())),
        ("bytea[]", array(hex(3).prop_map(|hex| format!("\\x{hex}")).boxed())),
        ("jsonb[]", array(json())),
        ("box[]", pick(&["{(1,2),(3,4);(5,6),(7,8)}", "{}"])),
        ("one.mood[]", array(pick(&["sad", "o'k, \"really\"", "ü"]))),
        ("one.pair[]", array(pick(&["(\"a,b\",1)", "(,)"]))),
        ("one.amounts", array(small_decimal())),
        ("boolean[]", array(pick(&["t", "f"]))),
        ("uuid[]", array(hex(16))),
    ]
}

/// Numbers have infinities from 14 on.
fn numeric_range() -> Texts {
    let finite = pick(&["[1.50,2.0]", "(-1e20,NaN]", "empty"]);
    if is_talkative() { prop_oneof![finite, pick(&["(-Infinity,NaN]"])].boxed() } else { finite }
}

fn vector() -> Texts {
    proptest::collection::vec(real(), 1..5)
        .prop_filter("finite", |parts| {
            parts.iter().all(|part| part.parse::<f32>().is_ok_and(f32::is_finite))
        })
        .prop_map(|parts| format!("[{}]", parts.join(",")))
        .boxed()
}

fn geometry() -> Texts {
    let point = (-180..180i32, 0..1000u32).prop_map(|(x, y)| format!("POINT({x}.25 {y}.5)"));
    let others = pick(&[
        "SRID=3857;POINT Z (1 2 3)",
        "LINESTRING M (0 0 1,1 1 2)",
        "POLYGON((0 0,4 0,4 4,0 0))",
        "MULTIPOINT((1 2),(3 4))",
        "GEOMETRYCOLLECTION EMPTY",
        "POINT EMPTY",
    ]);
    prop_oneof![point, others].boxed()
}

/// Of the modules that this server has.
fn modules(present: &[String]) -> Vec<(&'static str, Texts)> {
    let all: Vec<(&str, &'static str, Texts)> = vec![
        ("hstore", "public.hstore", pick(&["a=>1, \"b \\\\\"=>NULL", "", "\"\"=>\"ü\""])),
        ("citext", "public.citext", odd_text()),
        ("citext", "public.citext[]", array(odd_text())),
        ("ltree", "public.ltree", pick(&["Top.Science", ""])),
        ("vector", "public.vector", vector()),
        ("vector", "public.vector(3)", pick(&["[1,2.5,-3]"])),
        ("vector", "public.halfvec", pick(&["[1,2.5,-3]", "[65504,6e-8]"])),
        ("vector", "public.sparsevec", pick(&["{1:1.5,3:-2}/5", "{}/3"])),
        ("vector", "public.vector[]", array(pick(&["[1,2.5,-3]"]))),
        ("postgis", "public.geometry", geometry()),
        ("postgis", "public.geometry(Point,4326)", pick(&["SRID=4326;POINT(9.99 53.55)"])),
        ("postgis", "public.geography", pick(&["POINT(9.99 53.55)", "LINESTRING(0 0,1 1.5)"])),
        ("postgis", "public.geometry[]", pick(&["{}"])),
        ("postgis", "public.box2d", pick(&["BOX(1 2,3 4.5)"])),
    ];
    let here = |module: &str| present.iter().any(|name| name == module);
    all.into_iter().filter(|(module, ..)| here(module)).map(|(_, name, of)| (name, of)).collect()
}

#[tokio::test]
async fn a_row_is_the_same_however_it_was_read() {
    let (options, client) = database("same_value", TYPES, &["public.wide_row"]).await;
    let modules = modules(&extensions(&client).await);
    let columns: Vec<_> =
        [numbers(), texts(), times(), others(), modules].into_iter().flatten().collect();
    let list = columns.iter().enumerate().map(|(n, (name, _))| format!("c{n} {name}"));
    let list = list.collect::<Vec<_>>().join(", ");
    let create = format!("CREATE TABLE wide_row(id serial PRIMARY KEY, row int, {list})");
    client.batch_execute(&create).await.unwrap();
    let mut runner = TestRunner::new(Config::default());
    let rows: Vec<String> = (0..80).map(|n| insert(n, &columns, &mut runner)).collect();
    for row in &rows {
        client.batch_execute(row).await.unwrap_or_else(|error| panic!("{error:?}: {row}"));
    }
    let mut ledger = Ledger::default();
    let mut reader = ledger.open(&options, Start::Snapshot).await;
    while ledger.parts.last() != Some(&SnapshotPart::Last) {
        let block = next(&mut reader).await.unwrap();
        ledger.keep(&mut reader, &block);
    }
    client.batch_execute(&rows.join(";")).await.unwrap();
    say_done(&client).await;
    ledger.until_done(&mut reader).await;
    drop(reader);
    let read = std::mem::take(&mut ledger.rows);
    // And beside the stream, all of them.
    ledger.memory = Ledger::with(&["public.wide_row"], Purpose::Requested).memory;
    let position = ledger.position.clone().unwrap();
    let mut reader = ledger.open(&options, Start::After(position)).await;
    ledger.until_copied(&mut reader).await;
    assert_eq!((read.len(), ledger.rows.len()), (2 * rows.len(), 2 * rows.len()));
    // And without the log.
    let schema = crossdock_capture::describe(&options).await.unwrap().remove(0);
    let polled = crate::poll::all_rows(&options, "id").await.into_iter();
    let named = |(column, value): (&crossdock_model::Column, Value<'static>)| {
        (column.name.to_string(), Some(value))
    };
    let polled = polled.map(|row| schema.columns.iter().zip(row).map(named).collect());
    let mut by_row: BTreeMap<String, Vec<BTreeMap<String, Option<Value<'static>>>>> =
        BTreeMap::new();
    for mut row in read.into_values().chain(ledger.rows.into_values()).chain(polled) {
        row.remove("id");
        by_row.entry(format!("{:?}", row["row"])).or_default().push(row);
    }
    for (row, mut images) in by_row {
        let first = images.pop().unwrap();
        assert_eq!(images.len(), 5, "row {row}");
        for other in images {
            // By text, so that NaN is itself.
            for (column, value) in &first {
                let name = column.strip_prefix('c').and_then(|n| n.parse::<usize>().ok());
                let kind = name.and_then(|n| columns.get(n)).map_or("", |(kind, _)| *kind);
                assert_eq!(format!("{value:?}"), format!("{:?}", other[column]), "{kind}");
            }
        }
    }
}

/// Makes what modules the server has; returns their names.
async fn extensions(client: &Client) -> Vec<String> {
    let mut present = Vec::new();
    for name in EXTENSIONS {
        let sql = format!("CREATE EXTENSION {name} SCHEMA public");
        if client.batch_execute(&sql).await.is_ok() {
            present.push(name.to_string());
        }
    }
    let all = std::env::var_os("CROSSDOCK_PG_EXTENSIONS").is_some();
    assert!(!all || present == EXTENSIONS, "the server has only {present:?}");
    present
}

/// One random row, a tenth of it NULL.
fn insert(n: usize, columns: &[(&str, Texts)], runner: &mut TestRunner) -> String {
    let value = |(kind, texts): &(&str, Texts)| {
        let text = proptest::option::weighted(0.9, texts.clone());
        let text = text.new_tree(runner).expect("a value").current();
        text.map_or("NULL".to_string(), |text| format!("{}::{kind}", literal(&text)))
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    format!("INSERT INTO wide_row(row, {}) VALUES ({n}, {})", names.join(", "), values.join(", "))
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
