//! Statements that read rows in the order of a table's key, and what their results hold.

use std::sync::Arc;

use crossdock_model::{BlockBuilder, ImageKind, Op, TableName, Value};
use mysql_async::{Row, Value as Cell};

use super::catalog::Table;
use super::charset::Charset;
use super::connect::{ident, literal, table_ident};
use super::kind::Kind;
use super::progress::Span;
use super::session::cell;
use super::wire::Malformed;
use crate::CaptureError;

/// The statement that reads a table. A FLOAT is asked for as a double, because its text has only
/// six digits.
pub(super) fn select(name: &TableName, table: &Table, conditions: &[String]) -> String {
    from(&table_ident(name), table, conditions)
}

/// The statement that reads a table in the order of its primary key, where `key` has columns.
pub(super) fn by_key(
    name: &TableName,
    table: &Table,
    key: &[usize],
    conditions: &[String],
) -> String {
    let mut place = table_ident(name);
    if !key.is_empty() {
        // Whatever the server's statistics say: sorting a table would take its whole size.
        place.push_str(" FORCE INDEX (PRIMARY)");
    }
    format!("{}{}", from(&place, table, conditions), order_by(table, key))
}

fn from(place: &str, table: &Table, conditions: &[String]) -> String {
    let columns = table.schema.columns.iter().zip(&table.codecs);
    let expressions: Vec<_> = columns
        .map(|(column, codec)| match codec.kind {
            Kind::Float => format!("({} + 0e0)", ident(&column.name)),
            _ => ident(&column.name),
        })
        .collect();
    let mut sql = format!("SELECT {} FROM {place}", expressions.join(", "));
    if !conditions.is_empty() {
        sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    sql
}

/// By these columns; nothing without any.
pub(super) fn order_by(table: &Table, columns: &[usize]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column_ident(table, *column)).collect();
    if names.is_empty() { String::new() } else { format!(" ORDER BY {}", names.join(", ")) }
}

/// The conditions that choose the rows of a span.
pub(super) fn within(table: &Table, key: &[usize], span: &Span) -> Vec<String> {
    let mut conditions = Vec::new();
    conditions.extend(span.after.as_ref().map(|after| beyond(table, key, after)));
    if let (Some(upto), Some(column)) = (&span.upto, key.first()) {
        conditions.push(format!("{} <= {upto}", column_ident(table, *column)));
    }
    conditions
}

/// The rows with greater keys, so that the server can use the index.
pub(super) fn beyond(table: &Table, key: &[usize], after: &[String]) -> String {
    let mut sql = String::new();
    let mut equal = String::new();
    for (i, (column, value)) in key.iter().zip(after).enumerate() {
        let column = column_ident(table, *column);
        if i == 0 {
            sql.push_str(&format!("{column} >= {value} AND ("));
        } else {
            sql.push_str(" OR ");
        }
        sql.push_str(&format!("({equal}{column} > {value})"));
        equal.push_str(&format!("{column} = {value} AND "));
    }
    sql.push_str(if sql.is_empty() { "TRUE" } else { ")" });
    sql
}

/// The names of columns.
pub(super) fn names(table: &Table, columns: &[usize]) -> Vec<String> {
    let columns = columns.iter().filter_map(|column| table.schema.columns.get(*column));
    columns.map(|column| column.name.to_string()).collect()
}

/// A column's name, quoted.
pub(super) fn column_ident(table: &Table, column: usize) -> String {
    ident(table.schema.columns.get(column).map_or("", |column| &*column.name))
}

/// The key by whose order the table can be read in parts.
pub(super) fn ordered_key(table: &Table) -> Result<Vec<usize>, String> {
    let key = table.schema.key_columns();
    if key.is_empty() {
        return Err("it has no primary key, so it can't be read in parts".into());
    }
    for column in &key {
        let codec = table.codecs.get(*column);
        if codec.is_none_or(|codec| !has_literals(&codec.kind)) {
            let name = table.schema.columns.get(*column).map_or("", |column| &*column.name);
            return Err(format!("its key column {name} has no order that can be written down"));
        }
    }
    Ok(key)
}

/// Whether a comparison with a value written down agrees with the order of the column.
pub(super) fn has_literals(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Float
            | Kind::Double
            | Kind::Bit { .. }
            | Kind::Enum { .. }
            | Kind::Set { .. }
            | Kind::BinaryJson { .. }
            | Kind::Geometry { .. }
            | Kind::Unknown(_)
    )
}

/// The key of a row as SQL; `None` where a value of it can't be written down.
pub(super) fn literals<'r>(
    table: &Table,
    key: &[usize],
    row: impl Fn(usize) -> Option<&'r [u8]>,
) -> Option<Vec<String>> {
    key.iter().map(|column| written(&table.codecs.get(*column)?.kind, row(*column)?)).collect()
}

fn written(kind: &Kind, sent: &[u8]) -> Option<String> {
    let binary = match kind {
        Kind::Char { charset, .. } | Kind::Varchar { charset, .. } | Kind::Blob { charset, .. } => {
            *charset == Charset::Binary
        }
        _ => false,
    };
    if binary {
        let digits: String = sent.iter().map(|byte| format!("{byte:02x}")).collect();
        return Some(format!("x'{digits}'"));
    }
    let text = std::str::from_utf8(sent).ok()?;
    match kind {
        Kind::Int { .. } | Kind::Year | Kind::Decimal { .. } => {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            (plain && !text.is_empty()).then(|| text.to_string())
        }
        _ => Some(literal(text)),
    }
}

/// A cell of a row of the library; `None` is NULL.
pub(super) fn sent(row: &Row, at: usize) -> Option<&[u8]> {
    match row.as_ref(at) {
        Some(Cell::Bytes(sent)) => Some(sent),
        _ => None,
    }
}

/// All columns of a row of the library.
pub(super) fn values(table: &Table, row: &Row) -> Result<Vec<Value<'static>>, CaptureError> {
    let columns = 0..table.codecs.len();
    columns.map(|at| Ok(value(table, at, sent(row, at))?.into_owned())).collect()
}

/// Bytes of a row of the library as it was sent.
pub(super) fn size(row: &Row) -> usize {
    (0..row.len()).filter_map(|at| sent(row, at)).map(<[u8]>::len).sum()
}

/// The value of a cell.
fn value<'r>(table: &Table, at: usize, sent: Option<&'r [u8]>) -> Result<Value<'r>, CaptureError> {
    match (sent, table.codecs.get(at)) {
        (Some(sent), Some(codec)) => codec.parse(sent).map_err(|what| broken(table, at, what)),
        _ => Ok(Value::Null),
    }
}

fn broken(table: &Table, at: usize, what: Malformed) -> CaptureError {
    let column = table.schema.columns.get(at).map_or("", |column| &*column.name);
    CaptureError::definite(
        format!("{}.{column}: {what}", table.schema.name),
        "leave the table out, or report it with the column's definition",
    )
}

/// Writes a row of the text protocol with all columns of the table.
#[inline]
pub(super) fn write(
    builder: &mut BlockBuilder,
    table: &Arc<Table>,
    row: &[u8],
) -> Result<(), CaptureError> {
    // Rows of a snapshot precede the stream whatever their order: all have ordinal 0.
    builder.event(Op::Read, &table.schema, 0);
    builder.no_image();
    builder.image(ImageKind::Full, table.codecs.len());
    let mut rest = row;
    for at in 0..table.codecs.len() {
        let sent = cell(&mut rest).map_err(|what| broken(table, at, what))?;
        builder.value(&value(table, at, sent)?);
    }
    match rest {
        [] => Ok(()),
        _ => Err(CaptureError::definite(
            format!("a row of {} came with more columns than it has", table.schema.name),
            "report this with the server's version",
        )),
    }
}

/// The n-th cell of a row of the text protocol; `None` also where it is NULL.
pub(super) fn nth(row: &[u8], n: usize) -> Option<&[u8]> {
    let mut rest = row;
    for _ in 0..n {
        cell(&mut rest).ok()?;
    }
    cell(&mut rest).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_picked() {
        let row = b"\x011\xfb\x02ab";
        assert_eq!(
            (nth(row, 0), nth(row, 1), nth(row, 2)),
            (Some(&b"1"[..]), None, Some(&b"ab"[..]))
        );
        assert_eq!(nth(row, 3), None);
    }

    #[test]
    fn what_can_be_written_down() {
        let int = Kind::Int { width: 4, unsigned: false };
        assert_eq!(written(&int, b"-12"), Some("-12".into()));
        assert_eq!(written(&int, b"1; DROP"), None);
        let text = Kind::Varchar { bytes: 9, charset: Charset::Utf8 };
        assert_eq!(written(&text, br"a'\"), Some(r"'a''\\'".into()));
        let binary = Kind::Varchar { bytes: 9, charset: Charset::Binary };
        assert_eq!(written(&binary, &[0, 255]), Some("x'00ff'".into()));
    }
}
