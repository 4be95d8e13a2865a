//! Row events are decoded straight into a block.

use std::sync::Arc;

use crossdock_model::{BlockBuilder, ImageKind, Op, Value};

use super::catalog::Table;
use super::difference;
use super::event::{self, kind};
use super::kind::Kind;
use super::wire::{Input, Malformed, bit};

/// What a row event's type says.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsKind {
    /// Create, update or delete.
    pub(super) op: Op,
    /// Version 2: further data follows the flags.
    v2: bool,
    /// MariaDB: rows are compressed.
    compressed: bool,
    /// MySQL: JSON may be logged as differences.
    partial: bool,
}

/// What a JSON difference without the document before it is refused with.
pub(super) const JSON_DIFFERENCE: Malformed = Malformed("JSON difference");

impl RowsKind {
    /// `None` when the type is not one of row events.
    pub(super) fn of(code: u8) -> Option<Self> {
        let (op, v2, compressed) = match code {
            kind::WRITE_ROWS_V1 => (Op::Create, false, false),
            kind::UPDATE_ROWS_V1 => (Op::Update, false, false),
            kind::DELETE_ROWS_V1 => (Op::Delete, false, false),
            kind::WRITE_ROWS => (Op::Create, true, false),
            kind::UPDATE_ROWS => (Op::Update, true, false),
            kind::DELETE_ROWS => (Op::Delete, true, false),
            kind::PARTIAL_UPDATE_ROWS => (Op::Update, true, false),
            kind::MARIADB_WRITE_ROWS_COMPRESSED_V1 => (Op::Create, false, true),
            kind::MARIADB_UPDATE_ROWS_COMPRESSED_V1 => (Op::Update, false, true),
            kind::MARIADB_DELETE_ROWS_COMPRESSED_V1 => (Op::Delete, false, true),
            kind::MARIADB_WRITE_ROWS_COMPRESSED => (Op::Create, true, true),
            kind::MARIADB_UPDATE_ROWS_COMPRESSED => (Op::Update, true, true),
            kind::MARIADB_DELETE_ROWS_COMPRESSED => (Op::Delete, true, true),
            _ => return None,
        };
        let partial = code == kind::PARTIAL_UPDATE_ROWS;
        Some(Self { op, v2, compressed, partial })
    }
}

/// Why rows could not be decoded, and in which column.
#[derive(Debug)]
pub(super) struct RowError {
    /// Index of the column, when it was one cell.
    pub(super) column: Option<usize>,
    /// What is wrong.
    pub(super) what: Malformed,
}

impl From<Malformed> for RowError {
    fn from(what: Malformed) -> Self {
        Self { column: None, what }
    }
}

/// Where a cell of the before image lies, so that an after image can be completed from it.
#[derive(Clone, Copy, Debug)]
enum Place {
    Missing,
    Null,
    At(usize),
}

/// Which columns an image carries.
struct Present<'a> {
    map: &'a [u8],
    count: usize,
}

impl<'a> Present<'a> {
    fn read(input: &mut Input<'a>, columns: usize) -> Result<Self, Malformed> {
        let map = input.take(columns.div_ceil(8))?;
        Ok(Self { map, count: (0..columns).filter(|i| bit(map, *i)).count() })
    }

    fn has(&self, column: usize) -> bool {
        bit(self.map, column)
    }
}

/// Decodes the rows of one event into `out`; `ordinal` is the place of the next change within its
/// transaction. An after image that lacks columns (`binlog_row_image=MINIMAL`) is completed from
/// the before image: what an update did not log it did not change.
pub(super) fn decode(
    out: &mut BlockBuilder,
    table: &Table,
    rows: RowsKind,
    data: &[u8],
    ordinal: &mut u32,
) -> Result<(), RowError> {
    let mut input = Input::new(data);
    input.take(8)?;
    if rows.v2 {
        let extra = usize::from(input.u16()?);
        input.take(extra.saturating_sub(2))?;
    }
    let columns = input.lenenc()?;
    if columns != table.codecs.len() {
        return Err(Malformed("row of another number of columns than its table map").into());
    }
    let first = Present::read(&mut input, columns)?;
    let second = match rows.op {
        Op::Update => Some(Present::read(&mut input, columns)?),
        _ => None,
    };
    let inflated;
    if rows.compressed {
        inflated = event::inflate(input.rest())?;
        input = Input::new(&inflated);
    }
    let mut places = Vec::new();
    // A row without any logged column has no bytes, but it is one row.
    let bare = first.count + second.as_ref().map_or(0, |present| present.count) == 0;
    if bare && !input.is_empty() {
        return Err(Malformed("rows without columns, but with content").into());
    }
    while bare || !input.is_empty() {
        out.event(rows.op, &table.schema, *ordinal);
        *ordinal = ordinal.wrapping_add(1);
        match (rows.op, &second) {
            (Op::Create, _) => {
                out.no_image();
                match first.count == columns {
                    true => image(out, table, &mut input, &first, ImageKind::Full)?,
                    false => created(out, table, &mut input, &first)?,
                }
            }
            (Op::Update, Some(second)) => {
                update(out, table, &mut input, rows, (&first, second), &mut places)?;
            }
            _ => {
                image(out, table, &mut input, &first, before_kind(table, &first))?;
                out.no_image();
            }
        }
        if bare {
            break;
        }
    }
    Ok(())
}

fn before_kind(table: &Table, present: &Present<'_>) -> ImageKind {
    if present.count == table.codecs.len() {
        return ImageKind::Full;
    }
    match table.in_key.iter().enumerate().all(|(i, key)| *key == present.has(i)) {
        true => ImageKind::Key,
        false => ImageKind::Partial,
    }
}

#[inline]
fn cell(
    out: &mut BlockBuilder,
    table: &Table,
    column: usize,
    input: &mut Input<'_>,
) -> Result<(), RowError> {
    let Some(codec) = table.codecs.get(column) else { return Ok(()) };
    match codec.read(input) {
        Ok(value) => out.value(&value),
        Err(what) => return Err(RowError { column: Some(column), what }),
    }
    Ok(())
}

fn image(
    out: &mut BlockBuilder,
    table: &Table,
    input: &mut Input<'_>,
    present: &Present<'_>,
    kind: ImageKind,
) -> Result<(), RowError> {
    let columns = table.codecs.len();
    let nulls = input.take(present.count.div_ceil(8))?;
    out.image(kind, columns);
    let mut logged = 0;
    for column in 0..columns {
        if kind != ImageKind::Full && !present.has(column) {
            out.missing();
            continue;
        }
        match bit(nulls, logged) {
            true => out.value(&Value::Null),
            false => cell(out, table, column, input)?,
        }
        logged += 1;
    }
    Ok(())
}

/// An inserted row of which only the named columns were logged: the others have their defaults.
fn created(
    out: &mut BlockBuilder,
    table: &Table,
    input: &mut Input<'_>,
    present: &Present<'_>,
) -> Result<(), RowError> {
    let nulls = input.take(present.count.div_ceil(8))?;
    let mut columns = table.defaults.iter().enumerate();
    let whole = columns.all(|(column, default)| present.has(column) || default.is_some());
    out.image(if whole { ImageKind::Full } else { ImageKind::Partial }, table.codecs.len());
    let mut logged = 0;
    for (column, default) in table.defaults.iter().enumerate() {
        match (present.has(column), default) {
            (true, _) if bit(nulls, logged) => out.value(&Value::Null),
            (true, _) => cell(out, table, column, input)?,
            (false, Some(default)) => out.value(default),
            (false, None) => out.missing(),
        }
        logged += usize::from(present.has(column));
    }
    Ok(())
}

fn update(
    out: &mut BlockBuilder,
    table: &Table,
    input: &mut Input<'_>,
    rows: RowsKind,
    (before, after): (&Present<'_>, &Present<'_>),
    places: &mut Vec<Place>,
) -> Result<(), RowError> {
    let columns = table.codecs.len();
    let start = input.at();
    image(out, table, input, before, before_kind(table, before))?;
    let differing = if rows.partial { differences(table, input)? } else { Vec::new() };
    if after.count == columns && differing.is_empty() {
        return image(out, table, input, after, ImageKind::Full);
    }
    note_places(table, &mut input.rewound(start), before, places)?;
    let whole = (0..columns).all(|column| before.has(column) || after.has(column));
    let nulls = input.take(after.count.div_ceil(8))?;
    out.image(if whole { ImageKind::Full } else { ImageKind::Partial }, columns);
    let mut logged = 0;
    for (column, place) in places.iter().enumerate() {
        if after.has(column) {
            match bit(nulls, logged) {
                true => out.value(&Value::Null),
                false if differing.contains(&column) => {
                    changed_document(out, table, column, input, *place)?;
                }
                false => cell(out, table, column, input)?,
            }
            logged += 1;
            continue;
        }
        match place {
            Place::Missing => out.missing(),
            Place::Null => out.value(&Value::Null),
            Place::At(at) => cell(out, table, column, &mut input.rewound(*at))?,
        }
    }
    Ok(())
}

/// Which columns of the after image are JSON differences: usually none.
fn differences(table: &Table, input: &mut Input<'_>) -> Result<Vec<usize>, Malformed> {
    const PARTIAL_JSON: usize = 1;
    if input.lenenc()? & PARTIAL_JSON == 0 {
        return Ok(Vec::new());
    }
    let columns = table.codecs.iter().enumerate();
    let documents: Vec<usize> = columns
        .filter(|(_, codec)| matches!(codec.kind, Kind::BinaryJson { .. }))
        .map(|(column, _)| column)
        .collect();
    let flags = input.take(documents.len().div_ceil(8))?;
    let flagged = documents.into_iter().enumerate().filter(|(i, _)| bit(flags, *i));
    Ok(flagged.map(|(_, column)| column).collect())
}

/// A document of which only the difference to the before image was logged.
fn changed_document(
    out: &mut BlockBuilder,
    table: &Table,
    column: usize,
    input: &mut Input<'_>,
    place: Place,
) -> Result<(), RowError> {
    let bad = |what| RowError { column: Some(column), what };
    let difference = input.prefixed(4).map_err(bad)?;
    let (Some(codec), Place::At(at)) = (table.codecs.get(column), place) else {
        return Err(bad(JSON_DIFFERENCE));
    };
    match codec.read(&mut input.rewound(at)).map_err(bad)? {
        Value::Json(before) => {
            let after = difference::apply(&before, difference).map_err(bad)?;
            out.value(&Value::Json(after.into()));
            Ok(())
        }
        _ => Err(bad(JSON_DIFFERENCE)),
    }
}

fn note_places(
    table: &Table,
    input: &mut Input<'_>,
    present: &Present<'_>,
    places: &mut Vec<Place>,
) -> Result<(), RowError> {
    places.clear();
    let nulls = input.take(present.count.div_ceil(8))?;
    let mut logged = 0;
    for (column, codec) in table.codecs.iter().enumerate() {
        if !present.has(column) {
            places.push(Place::Missing);
            continue;
        }
        let place = if bit(nulls, logged) { Place::Null } else { Place::At(input.at()) };
        if matches!(place, Place::At(_)) {
            codec.read(input).map_err(|what| RowError { column: Some(column), what })?;
        }
        places.push(place);
        logged += 1;
    }
    Ok(())
}

/// The table that a truncation empties.
pub(super) fn truncate(out: &mut BlockBuilder, table: &Arc<Table>, ordinal: u32) {
    out.event(Op::Truncate, &table.schema, ordinal);
    out.no_image();
    out.no_image();
}
