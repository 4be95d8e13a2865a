//! Whatever a row holds, snapshot and stream give the same values: random rows of many types.

use crossdock_capture::DatabaseKind;
use crossdock_model::{Op, RowImage, Value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rig::{Rig, Server, on_both, options};

on_both!(random_rows_agree);

const ROWS: usize = 300;

/// Type of a column, and SQL for a random value of it.
type Column = (&'static str, fn(&mut StdRng) -> String);

fn int(random: &mut StdRng, bits: u32) -> String {
    let wide: i64 = random.random();
    let bits = random.random_range(1..=bits);
    (wide >> (64 - bits)).to_string()
}

fn unsigned(random: &mut StdRng, bits: u32) -> String {
    let wide: u64 = random.random();
    (wide >> (64 - random.random_range(1..=bits))).to_string()
}

fn text(random: &mut StdRng, alphabet: &str, length: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let length = random.random_range(0..=length);
    let text: String =
        (0..length).map(|_| letters[random.random_range(0..letters.len())]).collect();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn bytes(random: &mut StdRng, length: usize) -> String {
    let length = random.random_range(0..=length);
    let digits: String = (0..length).map(|_| format!("{:02x}", random.random::<u8>())).collect();
    format!("x'{digits}'")
}

fn decimal(random: &mut StdRng, whole: u32, scale: u32) -> String {
    let mut digits = |n: u32| -> String {
        let n = random.random_range(0..=n);
        (0..n).map(|_| char::from(b'0' + random.random_range(0..10_u8))).collect()
    };
    let (whole, part) = (digits(whole), digits(scale));
    format!("{}0{whole}.{part}0", if random.random() { "-" } else { "" })
}

fn double(random: &mut StdRng) -> String {
    let power: i32 = random.random_range(-30..30);
    let short = f64::from(random.random_range(-999_i32..999)) * 10_f64.powi(power);
    match random.random_range(0..4) {
        0 => format!("{short:e}"),
        3 => "-0e0".into(),
        1 => format!("{:e}", random.random::<f64>() * 10_f64.powi(power)),
        _ => random.random_range(-99_999_i32..99_999).to_string(),
    }
}

fn date(random: &mut StdRng) -> String {
    let zero = random.random_range(0..8);
    let year = if zero == 0 { 0 } else { random.random_range(1..=9999) };
    let month = if zero < 2 { 0 } else { random.random_range(1..=12) };
    let day = if zero < 3 { 0 } else { random.random_range(1..=28) };
    format!("{year:04}-{month:02}-{day:02}")
}

fn moment(random: &mut StdRng) -> String {
    let clock = [24, 60, 60].map(|below| random.random_range(0..below));
    let micros = random.random_range(0..1_000_000);
    format!("'{} {:02}:{:02}:{:02}.{micros:06}'", date(random), clock[0], clock[1], clock[2])
}

fn instant(random: &mut StdRng) -> String {
    let seconds = f64::from(random.random_range(1..i32::MAX));
    format!("FROM_UNIXTIME({seconds}.{:06})", random.random_range(0..1_000_000))
}

fn time(random: &mut StdRng) -> String {
    let sign = if random.random() { "-" } else { "" };
    let (minute, second) = (random.random_range(0..60), random.random_range(0..60));
    let micros = random.random_range(0..1_000_000);
    format!("'{sign}{}:{minute:02}:{second:02}.{micros:06}'", random.random_range(0..838))
}

fn json(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..if depth > 3 { 7 } else { 10 }) {
        0 => "NULL".into(),
        1 => "TRUE".into(),
        2 => int(random, 64),
        3 => unsigned(random, 64),
        4 => double(random),
        5 => text(random, "aä🚚\"\\/\u{7}\n\t'", 300),
        6 => decimal(random, 20, 8),
        7 => {
            let count = random.random_range(0..6);
            let elements: Vec<_> = (0..count).map(|_| json(random, depth + 1)).collect();
            format!("JSON_ARRAY({})", elements.join(","))
        }
        _ => {
            let count = random.random_range(0..6);
            let members: Vec<_> = (0..count)
                .map(|n| format!("'{}{n}', {}", "k".repeat(n), json(random, depth + 1)))
                .collect();
            format!("JSON_OBJECT({})", members.join(","))
        }
    }
}

const COLUMNS: &[Column] = &[
    ("tinyint", |r| int(r, 8)),
    ("smallint unsigned", |r| unsigned(r, 16)),
    ("mediumint", |r| int(r, 24)),
    ("mediumint unsigned", |r| unsigned(r, 24)),
    ("int", |r| int(r, 32)),
    ("bigint", |r| int(r, 64)),
    ("bigint unsigned", |r| unsigned(r, 64)),
    ("decimal(65,30)", |r| decimal(r, 34, 30)),
    ("decimal(9,9)", |r| decimal(r, 0, 9)),
    ("decimal(20,0)", |r| decimal(r, 19, 0)),
    ("float", |r| match r.random_range(0..5) {
        0 => "-0e0".into(),
        _ => r.random_range(-99_999_i32..99_999).to_string(),
    }),
    ("double(12,4)", |r| format!("{:e}", f64::from(r.random::<i32>()) / 7.0)),
    ("double", double),
    ("bit(13)", |r| unsigned(r, 13)),
    ("bit(64)", |r| unsigned(r, 64)),
    ("char(20)", |r| text(r, "aß🚚 '\\", 20)),
    ("varchar(300)", |r| text(r, "aß🚚 '\\", 300)),
    ("varchar(20) CHARACTER SET latin1", |r| text(r, "aü€ßž", 20)),
    ("varchar(20) CHARACTER SET sjis", |r| text(r, "aｱ日本語表", 20)),
    ("text CHARACTER SET cp932", |r| text(r, "aｱ日本語表①", 50)),
    ("varchar(20) CHARACTER SET gbk", |r| text(r, "a中文", 20)),
    ("varchar(20) CHARACTER SET koi8r", |r| text(r, "aЖя", 20)),
    ("varchar(20) CHARACTER SET big5", |r| text(r, "a中文", 20)),
    ("varchar(20) CHARACTER SET utf16", |r| text(r, "a中🚚", 20)),
    ("binary(7)", |r| bytes(r, 7)),
    ("varbinary(300)", |r| bytes(r, 300)),
    ("mediumblob", |r| bytes(r, 1000)),
    ("enum('a','ö','''')", |r| r.random_range(1..=3).to_string()),
    ("enum('x','ü') CHARACTER SET latin1", |r| r.random_range(1..=2).to_string()),
    ("enum('a','ü') CHARACTER SET utf16", |r| r.random_range(1..=2).to_string()),
    ("enum('a','ä') CHARACTER SET swe7", |r| r.random_range(1..=2).to_string()),
    // In latin1, the bytes of these are UTF-8 of something else.
    ("set('Ã¼','b') CHARACTER SET latin1", |r| r.random_range(0..4).to_string()),
    ("set('a','ö','c')", |r| r.random_range(0..8).to_string()),
    ("date", |r| format!("'{}'", date(r))),
    ("datetime", moment),
    ("datetime(4)", moment),
    ("datetime(6)", moment),
    ("timestamp(5) NULL", instant),
    ("time", time),
    ("time(1)", time),
    ("time(6)", time),
    ("year", |r| r.random_range(1901..=2155).to_string()),
    ("json", |r| format!("JSON_ARRAY({})", json(r, 0))),
    ("point", |r| format!("POINT({}, {})", double(r), double(r))),
];

const OF_MYSQL: &[Column] = &[("vector(3)", |r| {
    format!("STRING_TO_VECTOR('[{}, 1.5, -0.25]')", r.random_range(-1000..1000))
})];

const OF_MARIADB: &[Column] = &[
    ("uuid", |_| "UUID()".into()),
    ("inet6", |r| {
        format!("'{}'", std::net::Ipv6Addr::from(r.random::<u128>() >> r.random_range(0..128)))
    }),
    ("inet4", |r| format!("'{}'", std::net::Ipv4Addr::from(r.random::<u32>()))),
    ("varchar(200) COMPRESSED", |r| text(r, "aß🚚 '\\", 200)),
    ("varchar(400) COMPRESSED CHARACTER SET latin1", |r| text(r, "aü€", 400)),
    ("varbinary(50) COMPRESSED", |r| bytes(r, 50)),
    ("text COMPRESSED CHARACTER SET sjis", |r| text(r, "aｱ日本語表", 300)),
    ("mediumblob COMPRESSED", |r| format!("REPEAT({}, 30)", bytes(r, 40))),
];

fn images(rig: &Rig, op: Op) -> Vec<Vec<Value<'static>>> {
    let events = rig.events("r").into_iter().filter(|event| event.op == op);
    events
        .map(|event| match &event.after {
            Some(RowImage::Full(values)) => values.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

async fn random_rows_agree(kind: DatabaseKind) {
    let server = Server::start(kind);
    let of_kind = if server.is_mysql() { OF_MYSQL } else { OF_MARIADB };
    // First, so that all that the log counts is counted behind them.
    let columns: Vec<&Column> = of_kind.iter().chain(COLUMNS).collect();
    let types: Vec<_> =
        columns.iter().enumerate().map(|(i, (name, _))| format!("c{i} {name}")).collect();
    let create = format!(
        "CREATE DATABASE wms; USE wms;
         CREATE TABLE r(id INT PRIMARY KEY AUTO_INCREMENT, {}) DEFAULT CHARSET = utf8mb4;",
        types.join(", ")
    );
    server.sql("", &create).unwrap();
    let options = options(&server, &["wms.r"]);
    let mut streaming = Rig::open(&options, None).await;
    streaming.snapshot().await;
    let seed: u64 = rand::rng().random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut script = "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00';\n".to_string();
    for id in 1..=ROWS {
        if id == ROWS / 2 && !server.is_mysql() {
            script.push_str("SET column_compression_zlib_wrap = ON;\n");
        }
        let values: Vec<_> = columns
            .iter()
            .map(|(_, value)| match random.random_range(0..10) {
                0 => "NULL".to_string(),
                _ => value(&mut random),
            })
            .collect();
        script.push_str(&format!("INSERT INTO r VALUES ({id}, {});\n", values.join(", ")));
    }
    server.sql("wms", &script).unwrap();
    streaming.until(|rig| rig.events("r").len() == ROWS).await;
    let mut other = options.clone();
    other.server_id += 1;
    let mut copying = Rig::open(&other, None).await;
    copying.snapshot().await;
    let (streamed, copied) = (images(&streaming, Op::Create), images(&copying, Op::Read));
    assert_eq!((streamed.len(), copied.len()), (ROWS, ROWS));
    for (streamed, copied) in streamed.iter().zip(&copied) {
        for (i, (ours, theirs)) in streamed.iter().zip(copied).enumerate().skip(1) {
            let (name, id) = (columns[i - 1].0, &streamed[0]);
            // As texts: minus zero equals zero.
            let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
            assert_eq!(ours, theirs, "{name} of row {id:?}, seed {seed}");
        }
    }
}
