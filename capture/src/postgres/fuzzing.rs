//! Random bytes in place of a server.

use std::sync::Arc;

use crossdock_model::{
    Block, BlockBuilder, Column, ImageKind, Op, Position, SnapshotPart, TableName, TableSchema,
    TxHeader,
};

use super::connection::{data_row, server_error};
use super::copy::RowWriter;
use super::decoder::Decoder;
use super::image::Table;
use super::in_progress::{InProgress, Taken};
use super::pgoutput::RelationMessage;
use super::value::{Kind, Scalar};
use super::{identity, tls};
use crate::CaptureError;

/// The table that is captured; every other one is not.
const TABLE_OID: u32 = 7;
const SCALARS: [Scalar; 16] = [
    Scalar::Int,
    Scalar::Text,
    Scalar::Decimal,
    Scalar::Bool,
    Scalar::Float32,
    Scalar::Float,
    Scalar::Bytes,
    Scalar::Json,
    Scalar::Uuid,
    Scalar::Date,
    Scalar::Time,
    Scalar::TimeTz,
    Scalar::Timestamp,
    Scalar::TimestampTz,
    Scalar::Interval,
    Scalar::Bits,
];

fn table(kinds: Vec<Kind>) -> Table {
    let column = |number: usize| Column {
        name: format!("c{number}").into(),
        type_name: "any".into(),
        nullable: true,
        key: (number == 0).then_some(0),
        base_type: None,
        default: None,
    };
    Table {
        schema: Arc::new(TableSchema {
            name: TableName::new("public", "t"),
            columns: (0..kinds.len()).map(column).collect(),
        }),
        identity: (0..kinds.len()).map(|number| number == 0).collect(),
        kinds,
    }
}

fn of(relation: &RelationMessage<'_>) -> Option<Table> {
    let kind = |at: usize| Kind {
        scalar: SCALARS.get(at % SCALARS.len()).copied().unwrap_or(Scalar::Text),
        delimiter: (at >= SCALARS.len()).then_some(b','),
    };
    let kinds = relation.columns.iter().map(|column| kind(column.type_oid as usize % 32));
    (relation.oid == TABLE_OID).then(|| table(kinds.collect()))
}

fn header() -> TxHeader {
    TxHeader {
        id: "1".to_string(),
        commit: Position::Postgres { lsn: 1 },
        commit_micros: 0,
        origin: None,
        snapshot: false,
    }
}

/// Messages of logical decoding, each after its length (two bytes). Returns the blocks they made.
pub fn pgoutput(mut data: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut decoder = Decoder::new(0);
    let mut in_progress = InProgress::new(std::env::temp_dir());
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        data = rest;
        if one(&mut decoder, &mut in_progress, message).is_err() {
            // As the stream does: what is whole has been handed over, the rest is forgotten.
            return blocks;
        }
        if decoder.at_boundary() || decoder.len() > 4096 {
            blocks.extend(decoder.take_block());
        }
    }
    blocks
}

fn one(
    decoder: &mut Decoder,
    in_progress: &mut InProgress,
    message: &[u8],
) -> Result<(), CaptureError> {
    let mut resolve = |relation: &RelationMessage<'_>| Ok(of(relation));
    match in_progress.take(message)? {
        Taken::Not => decoder.message(message, 0, &mut resolve),
        Taken::Kept => Ok(()),
        Taken::Committed(commit, mut changes) => {
            decoder.begin_committed(&commit)?;
            while let Some(message) = changes.next()? {
                decoder.committed_message(message, &mut resolve)?;
            }
            decoder.commit(commit.end_lsn)
        }
    }
}

/// The text of one value, after a byte that says of which type. Returns the value as it is shown
/// for debugging, and a block that holds it.
pub fn postgres_value(data: &[u8]) -> Option<(String, Block)> {
    let (&kind, text) = data.split_first()?;
    let scalar = *SCALARS.get(usize::from(kind) % SCALARS.len())?;
    let delimiter = match kind >> 4 & 3 {
        0 | 1 => None,
        2 => Some(b','),
        _ => Some(b';'),
    };
    let table = table(vec![Kind { scalar, delimiter }]);
    let value = table.decode(0, text).ok()?;
    let shown = format!("{value:?}");
    let mut builder = BlockBuilder::new();
    builder.begin(&header(), true);
    builder.event(Op::Create, &table.schema, 0);
    builder.no_image();
    builder.image(ImageKind::Full, 1);
    builder.value(&value);
    builder.end();
    Some((shown, builder.finish(Position::Postgres { lsn: 1 }, SnapshotPart::Stream)))
}

/// A line of COPY for a table of many types. Returns the block that holds it.
pub fn postgres_copy(line: &[u8]) -> Option<Block> {
    let kinds = |delimiter| SCALARS.iter().map(move |scalar| Kind { scalar: *scalar, delimiter });
    let table = table(kinds(None).chain(kinds(Some(b','))).collect());
    let mut builder = BlockBuilder::new();
    builder.begin(&header(), true);
    RowWriter::new(&table).row(&mut builder, line).ok()?;
    builder.end();
    Some(builder.finish(Position::Postgres { lsn: 1 }, SnapshotPart::Middle))
}

/// What else a server says: the fields of an error, rows of a query, its certificate, the history
/// of its timeline.
pub fn postgres_reply(data: &[u8]) {
    let _ = server_error(data);
    let _ = data_row(data);
    let _ = tls::server_end_point(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = identity::left_at(text, 1);
        let _ = text.parse::<Position>();
    }
}
