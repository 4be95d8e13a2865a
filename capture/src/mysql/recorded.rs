//! Files that real servers wrote, of versions that are not at hand: `tests/mysql/recorded` says
//! where they are from. What is expected was written down from what `mariadb-binlog` and
//! `mysqlbinlog` print of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crossdock_model::block::decode;
use crossdock_model::{Fragment, Op, Position, RowImage, TableName};

use super::catalog::Table;
use super::charset::Charset;
use super::checksum::Checksum;
use super::decoder::{Decoder, Next};
use super::event::{Header, kind};
use super::fuzzing;
use super::kind::Kind;
use super::payload::Payload;
use super::table_map::{self, TableMap};
use super::wire::Input;
use crate::CaptureError;

/// What was read of a file.
struct Read {
    fragments: Vec<Fragment>,
    /// Where reading would go on.
    end: Position,
    /// How many events there were of each type.
    kinds: BTreeMap<u8, usize>,
}

/// A file's events, each with its data and without its checksum, which is right.
fn events(name: &str) -> Vec<(Header, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mysql/recorded");
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let mut rest = bytes.strip_prefix(b"\xfebin").unwrap();
    let mut checksum = Checksum::None;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let header = Header::parse(rest).unwrap();
        let (event, behind) = rest.split_at(header.size as usize);
        rest = behind;
        let body = &event[Header::BYTES as usize..];
        let data = match header.kind {
            kind::FORMAT_DESCRIPTION => {
                let (announced, data) = Checksum::announced(&header, body).unwrap();
                checksum = announced;
                data
            }
            _ => checksum.verified(&header, body).unwrap(),
        };
        events.push((header, data.to_vec()));
    }
    events
}

/// Events and those within compressed transactions.
fn unpacked(events: &[(Header, Vec<u8>)]) -> Vec<(Header, Vec<u8>)> {
    let mut all = Vec::new();
    for (header, data) in events {
        if header.kind == kind::TRANSACTION_PAYLOAD {
            let mut payload = Payload::default();
            payload.push(data);
            while let Some(event) = payload.next().unwrap() {
                all.push(event);
            }
        } else {
            all.push((*header, data.clone()));
        }
    }
    all
}

/// What a catalog would add: names, signs, character sets and members, as they are taken to be.
fn completed(mut map: TableMap, unsigned: bool) -> Arc<Table> {
    for (at, column) in map.columns.iter_mut().enumerate() {
        column.name.get_or_insert_with(|| format!("@{}", at + 1));
        if let (Some(charset), false) = (column.kind.charset_mut(), column.charset_known) {
            *charset = Charset::Utf8;
        }
        column.charset_known = true;
        if let (Kind::Int { unsigned: is, .. }, false) = (&mut column.kind, column.signed_known) {
            *is = unsigned;
        }
        column.signed_known = true;
        if let (Kind::Enum { members, .. } | Kind::Set { members, .. }, false) =
            (&mut column.kind, column.members_known)
        {
            *members = (1..=64).map(|n| format!("m{n}")).collect();
        }
        column.members_known = true;
    }
    Arc::new(Table::from_log(map, None, Default::default()).unwrap())
}

fn act(decoder: &mut Decoder, next: Next, unsigned: bool) {
    match next {
        Next::Resolve { id, map, raw } => decoder.mapped(id, raw, completed(*map, unsigned)),
        Next::Truncate(name) => decoder.truncated(&Table::bare(&name)),
        Next::Go | Next::Unpack => {}
        Next::Replay(_) | Next::Search(_) => panic!("no file has XA transactions"),
    }
}

/// Reads a file with all tables in it, up to an error; numbers of unknown sign are taken to be
/// `unsigned`.
fn read_as(name: &str, unsigned: bool) -> (Read, Option<CaptureError>) {
    let events = events(name);
    let mut kinds = BTreeMap::new();
    let mut tables = Vec::new();
    for (header, data) in unpacked(&events) {
        *kinds.entry(header.kind).or_default() += 1;
        if header.kind == kind::TABLE_MAP {
            let (database, table) = table_map::names(&mut Input::new(&data[8..])).unwrap();
            tables.push(TableName::new(&database, &table));
        }
    }
    let mut decoder = fuzzing::decoder_of(name.starts_with("mariadb"), tables);
    let mut read = Read { fragments: Vec::new(), end: decoder.position(), kinds };
    for (header, data) in &events {
        if let Err(error) = feed(&mut decoder, (header, data), unsigned) {
            return (read, Some(error));
        }
        if decoder.at_boundary() {
            let block = decoder.take_block();
            read.fragments.extend(decode(&block.bytes).unwrap());
            read.end = block.end;
        }
    }
    (read, None)
}

fn feed(
    decoder: &mut Decoder,
    (header, data): (&Header, &[u8]),
    unsigned: bool,
) -> Result<(), CaptureError> {
    match decoder.event(header, data)? {
        Next::Unpack => {
            let mut payload = Payload::default();
            payload.push(data);
            while let Some((header, data)) = payload.next().unwrap() {
                let next = decoder.unpacked(&header, &data)?;
                act(decoder, next, unsigned);
            }
        }
        next => act(decoder, next, unsigned),
    }
    Ok(())
}

fn read(name: &str) -> Read {
    let (read, error) = read_as(name, false);
    assert!(error.is_none(), "{error:?}");
    read
}

fn cells(image: &RowImage<'_>, columns: usize) -> String {
    let cell = |at| match image.get(at) {
        Some(value) => value.to_text().unwrap_or_else(|| "NULL".into()),
        None => "-".into(),
    };
    (0..columns).map(cell).collect::<Vec<_>>().join("|")
}

impl Read {
    /// Each change in one line.
    fn changes(&self) -> Vec<String> {
        let events = self.fragments.iter().flat_map(|fragment| &fragment.events);
        let line = |event: &crossdock_model::ChangeEvent| {
            let table = event.table.as_ref().unwrap();
            let image = |image: &Option<RowImage<'_>>| {
                image.as_ref().map(|image| cells(image, table.columns.len())).unwrap_or_default()
            };
            let op = match event.op {
                Op::Create => "insert",
                Op::Update => "update",
                Op::Delete => "delete",
                other => panic!("{other:?}"),
            };
            let (before, after) = (image(&event.before), image(&event.after));
            let arrow = if event.op == Op::Update { " -> " } else { "" };
            format!("{op} {} {before}{arrow}{after}", table.name)
        };
        events.map(line).collect()
    }

    /// How many changes of each kind each table has.
    fn counts(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for change in self.changes() {
            let kind = change.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            *counts.entry(kind).or_default() += 1;
        }
        counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect()
    }
}

#[test]
fn rows_of_version_1_by_mysql_5_1() {
    let read = read("mysql-5.1.34-rows-v1");
    assert_eq!(
        read.counts(),
        [
            "2 delete erosa.testpk",
            "2 insert erosa.testAranda_linux",
            "1 insert erosa.testFile",
            "2 insert erosa.testFile_linux",
            "4 insert erosa.testpk",
            "1 insert retl.xdual",
            "25 update erosa.testAranda_linux",
            "1 update erosa.testFile_linux",
            "20 update erosa.testpk",
            "37 update retl.xdual",
        ]
    );
    let changes = read.changes();
    assert!(changes.contains(
        &"update erosa.testAranda_linux 2||/tmp/images/1.jpg -> 2||/tmp/images/2.jpg".into()
    ));
    // DATETIME as it was stored before 5.6.
    assert!(
        changes.contains(&"delete erosa.testpk 2|ljhtest2|2011-12-15T12:55:00|other2".into()),
        "{changes:?}"
    );
    // One transaction for each XID, named by its place.
    assert_eq!(read.fragments.len(), 89);
    assert_eq!(read.kinds[&kind::XID], 89);
    assert!(read.fragments.iter().all(|fragment| fragment.header.id.starts_with("binlog.000001:")));
}

#[test]
fn many_rows_in_one_event_by_mysql_5_5() {
    let read = read("mysql-5.5.27-sakila");
    assert_eq!(
        read.counts(),
        [
            "200 insert sakila.actor",
            "603 insert sakila.address",
            "16 insert sakila.category",
            "600 insert sakila.city",
            "109 insert sakila.country",
        ]
    );
    let changes = read.changes();
    assert_eq!(changes[0], "insert sakila.actor 1|PENELOPE|GUINESS|2006-02-15T03:34:33Z");
    assert_eq!(changes[167], "insert sakila.actor 168|WILL|WILSON|2006-02-15T03:34:33Z");
    assert_eq!(read.fragments.len(), 5);
}

#[test]
fn a_table_that_gets_and_loses_columns_in_mysql_5_7() {
    let read = read("mysql-5.7.19-rows");
    let changes = read.changes();
    let of = |table: &str| changes.iter().filter(|change| change.contains(table)).count();
    assert_eq!((of("wanshao_test"), of("meta_history"), of("meta_snapshot")), (18, 2, 1));
    let rows: Vec<_> = changes.iter().filter(|change| change.contains("wanshao_test")).collect();
    assert_eq!(
        rows[..4],
        [
            "insert wanshao.wanshao_test 35|helol|123|123",
            "insert wanshao.wanshao_test 36|hel33ol|123|124|NULL",
            "insert wanshao.wanshao_test 37|more2|123|123|555|666",
            "insert wanshao.wanshao_test 38|more2|123|123|555|666",
        ]
    );
    assert_eq!(rows[5], "insert wanshao.wanshao_test 40|more2|111|222|555");
    assert_eq!(read.kinds[&kind::ANONYMOUS_GTID], 33);
}

#[test]
fn statements_alone_by_mysql_5_7() {
    let read = read("mysql-5.7.19-ddl");
    assert_eq!((read.kinds[&kind::QUERY], read.kinds[&kind::STOP]), (16, 1));
    assert_eq!(read.changes().len(), 1);
}

/// Amazon Aurora fills its log up with events of its own type, marked as ignorable.
#[test]
fn padding_of_aurora_is_left_out() {
    let read = read("aurora-5.7.12-padding");
    assert_eq!(read.kinds[&100], 1);
    assert!(read.fragments.is_empty());
    // The transaction that begins at the file's end is not over.
    assert_eq!(read.end.to_string().split(' ').next(), Some("binlog.000001:4"));
}

/// The difference is to a document that was not logged: nobody can tell what came of it.
#[test]
fn json_differences_by_mysql_8_0() {
    let (read, error) = read_as("mysql-8.0.22-json-differences", false);
    assert_eq!(read.kinds[&kind::PARTIAL_UPDATE_ROWS], 1);
    let changes = read.changes();
    let document = |age: u8, letter: &str, name: &str| {
        let data = letter.repeat(10);
        format!("{{\"age\": {age}, \"data\": \"{data}\", \"name\": \"{name}\"}}|{name}|{age}")
    };
    assert_eq!(changes[0], format!("insert mysql.t 1|{}", document(24, "x", "Joe")));
    let (before, after) = (document(40, "z", "Pete"), document(41, "z", "Pete"));
    assert_eq!(changes[11], format!("update mysql.t 6|{before} -> 6|{after}"));
    assert_eq!(read.counts()[..2], ["6 insert mysql.t", "6 update mysql.t"]);
    let error = error.unwrap().to_string();
    assert!(error.contains("mysql.t.@2 was logged as a JSON difference"), "{error}");
}

#[test]
fn types_by_mysql_8_0() {
    assert_eq!(read("mysql-8.0.26-bit").changes(), ["insert mysql.foo 100|foo|00100000"]);
    assert_eq!(read("mysql-8.0.40-time").changes(), ["insert noria.t -507:48:27"]);
    // The third column is signed, the others of this table are not; what was not given is NULL.
    let changes = read("mysql-8.0.26-invisible-columns").changes();
    assert_eq!(
        changes,
        [
            "insert mysql.t1 1|2|-3|4|05|6000000000",
            "insert mysql.t1 NULL|NULL|-33|44|55|NULL",
            "update mysql.t1 NULL|NULL|-33|44|55|NULL -> 111|222|-333|444|55|NULL",
        ]
    );
    let changes = read("mysql-8.0.28-enum-set").changes();
    let kinds: Vec<_> = changes.iter().map(|change| &change[..6]).collect();
    assert_eq!(kinds, ["insert", "update", "delete"]);
    let digits = "0123456789";
    assert!(
        changes[2].starts_with("delete mysql.t field1|field_2|variant2|two,four|"),
        "{}",
        changes[2]
    );
    assert!(changes[0].ends_with(&format!("|var1|one,three|{digits}")), "{}", changes[0]);
    assert!(changes[0].starts_with(&format!("insert mysql.t {}|", digits.repeat(10))));
}

#[test]
fn columns_that_were_not_logged_are_missing() {
    let (read, error) = read_as("mysql-8.0.40-minimal", true);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(read.changes(), ["insert noria.t1 1|-|a|-|3230202323"]);
}

#[test]
fn compressed_transactions_by_mysql_8_0() {
    let small = read("mysql-8.0.32-compressed");
    assert_eq!(small.changes(), ["insert test.tb1 1"]);
    let movie = read("mysql-8.0.28-compressed").changes();
    assert_eq!(movie.len(), 1);
    let (before, after) = movie[0].split_once(" -> ").unwrap();
    assert!(
        before.starts_with("update demo.movies 1|Once Upon a Time in the West|1968|Italy|Western|")
    );
    assert_eq!(after.replace("Western|Action", "Western"), before["update demo.movies ".len()..]);
}

#[test]
fn documents_and_vectors_by_mysql_9_0() {
    assert_eq!(
        read("mysql-9.0.1-json").changes(),
        [
            r#"{"a": "base64:type15:VQ=="}"#,
            r#"{"b": "2012-03-18"}"#,
            r#"{"c": "2012-03-18 11:30:45.000000"}"#,
            r#"{"c": "87:31:46.654321"}"#,
            r#"{"d": 123.456}"#,
            r#"{"e": 9.00}"#,
            r#"{"e": [0, 1, true, false]}"#,
            r#"{"e": null}"#,
        ]
        .map(|document| format!("insert foo.test {document}"))
    );
    let vectors = read("mysql-9.0.1-vector");
    let floats = |floats: &[f32]| -> String {
        let bytes = floats.iter().flat_map(|float| float.to_le_bytes());
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    let changes = vectors.changes();
    assert_eq!(changes.len(), 10);
    let text = format!("insert dtb.foo 2|{}", floats(&[1.0, -1.0, 0.0]));
    assert_eq!(changes[1], text);
    let (two, four) = (floats(&[1.01, -1.01]), floats(&[42.0, 43.0, 44.0, 45.0]));
    assert!(changes.contains(&format!("delete dtb.bar 2|{two}|bar|{four}")), "{changes:#?}");
}

#[test]
fn a_tagged_gtid_by_mysql_9_6() {
    let read = read("mysql-9.6.0-tagged-gtid");
    assert_eq!(read.changes(), ["insert test.orders 3|100|250"]);
    let id = "55778904-0299-11f1-b1b8-4ef0c4956feb:mytag:3";
    assert_eq!(read.fragments[0].header.id, id);
}

#[test]
fn mariadb_10_5() {
    let read = read("mariadb-10.5.15");
    assert_eq!(
        read.changes(),
        [
            // The document is in a BLOB: {"foo":1}.
            "insert toddy_test.outbox 62|foo|JSON|7b22666f6f223a317d|2022-04-20T22:18:04Z",
            "insert toddy_test.outbox 63|foo|JSON|7b22666f6f223a317d|2022-04-20T22:19:55Z",
        ]
    );
    let ids: Vec<_> = read.fragments.iter().map(|fragment| &*fragment.header.id).collect();
    assert_eq!(ids, ["0-1-1", "0-1-2"]);
    assert_eq!(read.end.to_string(), "binlog.000001:1074 (0-1-2)");
}
