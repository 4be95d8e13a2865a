//! Closed files of lines as Parquet: one row for each row that a delivery writes, the columns of
//! all tables beside each other.
//!
//! A file of lines is read twice, once for its columns and once for their values, and never whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crossdock_model::time;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value as Json};

use crate::ColumnKind;

/// Rows that are kept in memory and written together.
const GROUP_ROWS_MAX: usize = 20_000;
/// Bytes of lines that are.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Columns of one file; more are a mistake in the rules.
const COLUMNS_MAX: usize = 2_000;

/// What every row says, before the columns of its table.
const HEAD: [(&str, ColumnKind); 9] = [
    ("_event_id", ColumnKind::Text),
    ("_installation", ColumnKind::Text),
    ("_delivery", ColumnKind::Integer),
    ("_rule", ColumnKind::Text),
    ("_entity", ColumnKind::Text),
    ("_key", ColumnKind::Text),
    ("_owed_at", ColumnKind::Instant),
    ("_table", ColumnKind::Text),
    ("_write", ColumnKind::Text),
];

/// Columns by name, in the order in which they are written.
type Columns = BTreeMap<String, ColumnKind>;

/// Writes the lines of a file as Parquet into another one, which is whole and durable on return.
/// `kinds` are the types of columns that are known; others are texts, and so is one that has a
/// value of another type in this file.
pub(super) fn convert(lines: &Path, into: &Path, kinds: &Columns) -> io::Result<()> {
    let columns = columns(lines, kinds)?;
    let schema = parse_message_type(&message(&columns)).map_err(failed)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("crossdock ", env!("CARGO_PKG_VERSION")).to_string());
    let file = File::create(into)?;
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()))
            .map_err(failed)?;
    let (mut group, mut bytes) = (Vec::new(), 0);
    for_each_line(lines, |line, length| {
        rows(line, |row| group.push(row));
        bytes += length;
        if group.len() >= GROUP_ROWS_MAX || bytes >= GROUP_BYTES_MAX {
            write_group(&mut writer, &columns, &group)?;
            (group, bytes) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    if !group.is_empty() {
        write_group(&mut writer, &columns, &group)?;
    }
    let file = writer.into_inner().map_err(failed)?;
    file.sync_all()
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn for_each_line(
    path: &Path,
    mut take: impl FnMut(&Json, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    loop {
        line.clear();
        let length = reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
        take(&serde_json::from_str(&line)?, length)?;
    }
}

/// The rows of a delivery; one without columns when it writes none.
fn rows(line: &Json, mut take: impl FnMut(Map<String, Json>)) {
    let head = |write: Option<&Json>| {
        let mut row = Map::new();
        for (name, _) in HEAD {
            let name_of_line = name.trim_start_matches('_');
            let from = match name_of_line {
                "table" | "write" => write,
                _ => Some(line),
            };
            let value = from.and_then(|from| from.get(name_of_line)).cloned();
            row.insert(name.to_string(), value.unwrap_or(Json::Null));
        }
        row
    };
    let writes = line.get("writes").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    if writes.is_empty() {
        take(head(None));
    }
    for write in writes {
        let mut row = head(Some(write));
        for cells in ["key", "columns"] {
            let cells = write.get(cells).and_then(Json::as_object).into_iter().flatten();
            row.extend(cells.map(|(name, value)| (name.clone(), value.clone())));
        }
        take(row);
    }
}

/// The columns of a file and their types, those of the head first.
fn columns(lines: &Path, kinds: &Columns) -> io::Result<Vec<(String, ColumnKind)>> {
    let mut found = Columns::new();
    for_each_line(lines, |line, _| {
        rows(line, |row| {
            for (name, value) in row {
                let known = kinds.get(&name).copied().unwrap_or(ColumnKind::Text);
                let kind = found.entry(name).or_insert(known);
                if !value.is_null() && cell(&value, *kind).is_none() {
                    *kind = ColumnKind::Text;
                }
            }
        });
        Ok(())
    })?;
    if found.len() > COLUMNS_MAX {
        let what = format!("{} columns in one file; {COLUMNS_MAX} are possible", found.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut all: Vec<(String, ColumnKind)> =
        HEAD.iter().map(|(name, kind)| ((*name).to_string(), *kind)).collect();
    all.extend(found.into_iter().filter(|(name, _)| !HEAD.iter().any(|(head, _)| head == name)));
    Ok(all)
}

/// The schema in Parquet's own language. A name that it cannot say is written with `_`.
fn message(columns: &[(String, ColumnKind)]) -> String {
    let mut text = "message delivery {\n".to_string();
    let mut taken = std::collections::BTreeSet::new();
    for (name, kind) in columns {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let mut said: String = name.chars().map(plain).collect();
        while !taken.insert(said.clone()) {
            said.push('_');
        }
        let kind = match kind {
            ColumnKind::Text => format!("BYTE_ARRAY {said} (UTF8)"),
            ColumnKind::Integer => format!("INT64 {said}"),
            ColumnKind::Boolean => format!("BOOLEAN {said}"),
            ColumnKind::Date => format!("INT32 {said} (DATE)"),
            ColumnKind::Instant => format!("INT64 {said} (TIMESTAMP(MICROS,true))"),
        };
        text.push_str(&format!("  OPTIONAL {kind};\n"));
    }
    text + "}\n"
}

/// A value as it is written.
enum Cell {
    Text(ByteArray),
    Long(i64),
    Day(i32),
    Bool(bool),
}

/// A value in a type; `None` when it is not of it.
fn cell(value: &Json, kind: ColumnKind) -> Option<Cell> {
    Some(match (kind, value) {
        (ColumnKind::Text, Json::String(text)) => Cell::Text(text.as_str().into()),
        (ColumnKind::Text, other) => Cell::Text(other.to_string().as_str().into()),
        (ColumnKind::Integer, value) => Cell::Long(value.as_i64()?),
        (ColumnKind::Boolean, value) => Cell::Bool(value.as_bool()?),
        (ColumnKind::Instant, value) => Cell::Long(time::parse_instant(value.as_str()?)?),
        (ColumnKind::Date, value) => {
            let micros = time::parse_instant(&format!("{}T00:00:00Z", value.as_str()?))?;
            Cell::Day(i32::try_from(micros.div_euclid(time::DAY_MICROS)).ok()?)
        }
    })
}

fn write_group(
    writer: &mut SerializedFileWriter<File>,
    columns: &[(String, ColumnKind)],
    rows: &[Map<String, Json>],
) -> io::Result<()> {
    let mut group = writer.next_row_group().map_err(failed)?;
    for (name, kind) in columns {
        let cells = rows.iter().map(|row| {
            let value = row.get(name).filter(|value| !value.is_null())?;
            cell(value, *kind)
        });
        match kind {
            ColumnKind::Text => {
                write_column::<ByteArrayType>(&mut group, cells, |cell| match cell {
                    Cell::Text(text) => Some(text),
                    _ => None,
                })
            }
            ColumnKind::Integer | ColumnKind::Instant => {
                write_column::<Int64Type>(&mut group, cells, |cell| match cell {
                    Cell::Long(long) => Some(long),
                    _ => None,
                })
            }
            ColumnKind::Date => write_column::<Int32Type>(&mut group, cells, |cell| match cell {
                Cell::Day(day) => Some(day),
                _ => None,
            }),
            ColumnKind::Boolean => write_column::<BoolType>(&mut group, cells, |cell| match cell {
                Cell::Bool(value) => Some(value),
                _ => None,
            }),
        }
        .map_err(failed)?;
    }
    group.close().map_err(failed)?;
    Ok(())
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: impl Iterator<Item = Option<Cell>>,
    of: impl Fn(Cell) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut values, mut present) = (Vec::new(), Vec::new());
    for cell in cells {
        let value = cell.and_then(&of);
        present.push(i16::from(value.is_some()));
        values.extend(value);
    }
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than the rows".into()));
    };
    column.typed::<T>().write_batch(&values, Some(&present), None)?;
    column.close()
}
