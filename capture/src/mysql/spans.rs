//! What a snapshot reads, cut into ranges of the key.

use crossdock_model::TableName;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::catalog::Table;
use super::connect::{Server, ident, server_error, table_ident};
use super::kind::Kind;
use super::progress::Span;
use super::select;
use crate::{CaptureError, SourceOptions};

/// InnoDB's default; with another size, ranges are larger or smaller than they were meant to be.
const PAGE_BYTES: u64 = 16 * 1024;
/// Spans of one table: all of them are in its cursor.
const SPANS_MAX: u64 = 64;

/// How large a table is, as the server estimates.
pub(super) struct Size {
    pub(super) rows: u64,
    bytes: u64,
}

/// Asks for the size of a table.
pub(super) async fn size(
    options: &SourceOptions,
    conn: &mut Conn,
    name: &TableName,
) -> Result<Size, CaptureError> {
    const SIZE: &str = "SELECT table_rows, data_length FROM information_schema.tables \
        WHERE table_schema = ? AND table_name = ?";
    let of = (name.schema.to_string(), name.table.to_string());
    let found: Option<(Option<u64>, Option<u64>)> = conn
        .exec_first(SIZE, of)
        .await
        .map_err(|error| server_error(options, &format!("counting the rows of {name}"), error))?;
    let (rows, bytes) = found.unwrap_or_default();
    Ok(Size { rows: rows.unwrap_or(0), bytes: bytes.unwrap_or(0) })
}

/// Lets the server look at its tables' sizes, where it would tell what it knew yesterday.
pub(super) async fn refresh_sizes(server: &Server, conn: &mut Conn) {
    if !server.mariadb {
        // MySQL 5.7 knows no such variable, and keeps nothing either.
        conn.query_drop("SET SESSION information_schema_stats_expiry = 0").await.ok();
    }
}

/// Cuts a table into ranges, in the order of the key: equal parts of the first column's numbers.
/// Other keys, and small tables, are one range.
pub(super) async fn spans(
    options: &SourceOptions,
    conn: &mut Conn,
    table: &Table,
    key: &[usize],
    size: &Size,
) -> Result<Vec<Span>, CaptureError> {
    let whole = || Ok(vec![Span::default()]);
    let pages = u64::from(options.snapshot.chunk_pages.max(1));
    let count = size.bytes.div_ceil(PAGE_BYTES).div_ceil(pages).min(SPANS_MAX);
    let first =
        key.first().and_then(|at| Some((table.codecs.get(*at)?, table.schema.columns.get(*at)?)));
    let Some((codec, column)) = first else { return whole() };
    if count < 2 || !matches!(codec.kind, Kind::Int { .. }) {
        return whole();
    }
    let name = &table.schema.name;
    let column = ident(&column.name);
    // As texts: a BIGINT may have a sign or none.
    let sql = format!(
        "SELECT CAST(MIN({column}) AS CHAR), CAST(MAX({column}) AS CHAR) FROM {}",
        table_ident(name)
    );
    let ends: Option<(Option<String>, Option<String>)> = conn
        .query_first(sql)
        .await
        .map_err(|error| server_error(options, &format!("planning to read {name}"), error))?;
    let (least, greatest) = ends.unwrap_or_default();
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i128>().ok());
    match (number(least), number(greatest)) {
        (Some(least), Some(greatest)) => Ok(cut(least, greatest, count)),
        _ => whole(),
    }
}

/// The statement that reads a span.
pub(super) fn statement(table: &Table, key: &[usize], span: &Span) -> String {
    select::by_key(&table.schema.name, table, key, &select::within(table, key, span))
}

/// Ranges that touch; the first has no beginning and the last has no end.
fn cut(least: i128, greatest: i128, count: u64) -> Vec<Span> {
    let width = greatest.saturating_sub(least).max(0);
    let count = i128::from(count).min(width).max(1);
    let border = |n: i128| (least + width * n / count).to_string();
    let span = |n: i128| Span {
        after: (n > 0).then(|| vec![border(n)]),
        upto: (n + 1 < count).then(|| border(n + 1)),
    };
    (0..count).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_into_equal_parts() {
        let cut = |least, greatest, count| {
            let ends = cut(least, greatest, count).into_iter();
            let ends = ends.map(|span| (span.after.map(|key| key.concat()), span.upto));
            ends.collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(
            cut(-10, 20, 3),
            [(None, some("0")), (some("0"), some("10")), (some("10"), None)]
        );
        assert_eq!(cut(5, 5, 8), [(None, None)]);
        assert_eq!(cut(1, 3, 8), [(None, some("2")), (some("2"), None)]);
        let wide = cut(i128::from(i64::MIN), i128::from(u64::MAX), 64);
        assert_eq!((wide.len(), &wide[0].0, &wide[63].1), (64, &None, &None));
    }
}
