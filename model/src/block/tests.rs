//! Blocks round-trip, and any bytes are refused without panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::schema::Column;

fn value() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        (-1e6f32..1e6).prop_map(Value::Float32),
        (-1e12f64..1e12).prop_map(Value::Float),
        ".{0,9}".prop_map(|t| Value::Text(t.into())),
        "-?[0-9]{1,40}(\\.[0-9]{1,9})?".prop_map(|t| Value::Decimal(t.into())),
        vec(any::<u8>(), 0..9).prop_map(|b| Value::Bytes(b.into())),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        any::<i32>().prop_map(Value::Date),
        (any::<i64>(), any::<i32>()).prop_map(|(t, o)| Value::TimeTz(t, o)),
        any::<i64>().prop_map(Value::TimestampTz),
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(m, d, u)| Value::Interval(m, d, u)),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
}

fn table(name: &str) -> Arc<TableSchema> {
    let column = |n: &str, key| Column {
        name: n.into(),
        type_name: "text".into(),
        nullable: true,
        key,
        base_type: None,
        default: None,
    };
    let columns = vec![column("id", Some(0)), column("a", None)];
    Arc::new(TableSchema { name: TableName::new("s", name), columns })
}

fn image() -> impl Strategy<Value = Option<RowImage<'static>>> {
    prop_oneof![
        Just(None),
        vec(value(), 2).prop_map(|v| Some(RowImage::Full(v))),
        vec(proptest::option::of(value()), 2).prop_map(|v| Some(RowImage::Key(v))),
        vec(proptest::option::of(value()), 2).prop_map(|v| Some(RowImage::Partial(v))),
    ]
}

fn header(n: u64) -> TxHeader {
    TxHeader {
        id: n.to_string(),
        commit: match n {
            2 => Position::Poll { round: u64::MAX, step: n },
            _ => Position::Postgres { lsn: n },
        },
        commit_micros: -5,
        origin: (n.is_multiple_of(2)).then(|| "o".into()),
        snapshot: n.is_multiple_of(3),
    }
}

proptest! {
    #[test]
    fn blocks_round_trip(
        transactions in vec(vec((0usize..2, 0usize..4, image(), image()), 0..6), 0..4)
    ) {
        let tables = [table("a"), table("b")];
        let mut builder = BlockBuilder::new();
        let mut expected = Vec::new();
        for (n, rows) in transactions.into_iter().enumerate() {
            let header = header(n as u64);
            builder.begin(&header, true);
            let mut events = Vec::new();
            for (ordinal, (t, op, before, after)) in rows.into_iter().enumerate() {
                let table = Some(tables[t].clone());
                let ordinal = ordinal as u32;
                let event =
                    ChangeEvent { op: OPS[op], table, before, after, message: None, ordinal };
                builder.push(&event);
                events.push(event);
            }
            builder.message(99, "p", b"\x00c");
            events.push(ChangeEvent {
                op: Op::Message, table: None, before: None, after: None,
                message: Some(("p".into(), b"\x00c".to_vec())), ordinal: 99,
            });
            builder.end();
            expected.push(Fragment { header, events, first: true, last: true });
        }
        let block = builder.finish(Position::Postgres { lsn: 9 }, SnapshotPart::Stream);
        prop_assert!(block.boundary);
        prop_assert_eq!(decode(&block.bytes).unwrap(), expected);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() { *first = VERSION; }
        let _ = decode(&bytes);
    }
}

#[test]
fn a_large_transaction_spans_blocks() {
    let mut builder = BlockBuilder::new();
    builder.begin(&header(1), true);
    builder.event(Op::Create, &table("a"), 0);
    builder.no_image();
    builder.image(ImageKind::Full, 2);
    builder.value(&Value::Int(1));
    builder.value(&Value::Null);
    let first = builder.finish(Position::Postgres { lsn: 1 }, SnapshotPart::Stream);
    assert!(!first.boundary);
    builder.begin(&header(1), false);
    builder.end();
    let second = builder.finish(Position::Postgres { lsn: 2 }, SnapshotPart::Stream);
    assert!(second.boundary);
    let (a, b) = (decode(&first.bytes).unwrap(), decode(&second.bytes).unwrap());
    assert!(a[0].first && !a[0].last && !b[0].first && b[0].last);
    assert_eq!(first.counts, vec![(TableName::new("s", "a"), Op::Create, 1)]);
}
