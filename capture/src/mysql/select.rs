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
use super::wire::{Input, Malformed};
use crate::CaptureError;

/// The statement that reads a table. A FLOAT is asked for as a double, because its text has only
/// six digits; FLOAT(M,D) and DOUBLE(M,D) have as many behind the point as they were declared with.
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
            // Not by adding zero, which makes -0 positive.
            Kind::Float => format!("({} * 1e0)", ident(&column.name)),
            Kind::Double if column.type_name.contains('(') => {
                format!("({} * 1e0)", ident(&column.name))
            }
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
    if let Some(why) = table.unordered {
        return Err(format!("{why}, so it can't be read in parts"));
    }
    for column in &key {
        let codec = table.codecs.get(*column);
        if codec.is_none_or(|codec| !has_literals(&codec.kind)) {
            let name = table.schema.columns.get(*column).map_or("", |column| &*column.name);
            let why = match codec.map(|codec| &codec.kind) {
                Some(Kind::Enum { .. } | Kind::Set { .. }) => {
                    "has an empty member, which can't be told from no member"
                }
                _ => "has no order that can be written down",
            };
            return Err(format!("its key column {name} {why}"));
        }
    }
    Ok(key)
}

/// Whether a comparison with a value written down agrees with the order of the column.
pub(super) fn has_literals(kind: &Kind) -> bool {
    match kind {
        Kind::Enum { members, .. } | Kind::Set { members, .. } => {
            members.iter().all(|member| !member.is_empty())
        }
        Kind::BinaryJson { .. } | Kind::Geometry { .. } | Kind::Unknown(_) => false,
        _ => true,
    }
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
    if let (Kind::Bit { .. }, Ok(number)) = (kind, Input::new(sent).uint_be(sent.len())) {
        return Some(number.to_string());
    }
    let text = std::str::from_utf8(sent).ok()?;
    match kind {
        // Both are ordered by their numbers.
        Kind::Enum { members, .. } => choice(members, text).map(|number| number.to_string()),
        Kind::Set { members, .. } => {
            let mut chosen = text.split(',').filter(|member| !member.is_empty());
            let map = chosen.try_fold(0, |map, member| {
                Some(map | 1_u64.checked_shl(choice(members, member)? - 1)?)
            });
            map.map(|map| map.to_string())
        }
        // With an exponent they are doubles, without one decimals.
        Kind::Float | Kind::Double => {
            let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
            Some(format!("{number:e}"))
        }
        Kind::Int { .. } | Kind::Year | Kind::Decimal { .. } => {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            (plain && !text.is_empty()).then(|| text.to_string())
        }
        _ => Some(literal(text)),
    }
}

/// The number of a member: from 1, and 0 for none.
fn choice(members: &[String], text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let at = members.iter().position(|member| member == text)?;
    u32::try_from(at + 1).ok()
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
        assert_eq!(written(&Kind::Bit { bits: 10 }, &[2, 1]), Some("513".into()));
        assert_eq!(written(&Kind::Double, b"-0.1"), Some("-1e-1".into()));
        assert_eq!(written(&Kind::Double, b"-0"), Some("-0e0".into()));
        assert_eq!(written(&Kind::Float, b"1 OR 1"), None);
        let members = || ["b", "a", "c"].map(String::from).into();
        let choice = Kind::Enum { width: 1, members: members() };
        assert_eq!(written(&choice, b"a"), Some("2".into()));
        assert_eq!(written(&choice, b""), Some("0".into()));
        assert_eq!(written(&choice, b"d"), None);
        let set = Kind::Set { width: 1, members: members() };
        assert_eq!(written(&set, b"b,c"), Some("5".into()));
        assert_eq!(written(&set, b""), Some("0".into()));
        assert_eq!(written(&set, b"b,d"), None);
    }
}
