//! What a snapshot reads, cut into ranges of pages: planned under the snapshot itself.

use std::collections::VecDeque;

use crossdock_model::TableName;

use super::catalog::Found;
use super::connection::Connection;
use super::image::Table;
use super::progress::{OPEN_END, Pages, Range};
use super::sql;
use crate::CaptureError;

/// A table as it is read.
pub(super) struct Plan {
    pub parts: Vec<Pages>,
    pub rows_estimated: u64,
}

/// A statement to run, and what it reads.
pub(super) struct Work {
    /// Index of the table.
    pub table: usize,
    pub range: Range,
    pub sql: String,
}

/// The table itself, or one of its partitions, as the catalog has it.
pub(super) struct Heap {
    pub oid: u32,
    name: TableName,
    pub filenode: u32,
    pub pages: u32,
    pub rows: u64,
    /// Its pages can be asked for by number, and the login may read it by its own name.
    by_pages: bool,
}

/// Plans the reading of one table. Locks it against being rewritten for as long as the
/// transaction of `connection` lasts.
pub(super) fn plan(
    connection: &mut Connection,
    version: i32,
    chunk_pages: u32,
    index: usize,
    (found, table): (&Found, &Table),
    work: &mut VecDeque<Work>,
) -> Result<Plan, CaptureError> {
    let only = if found.partitioned { "" } else { "ONLY " };
    let whole = format!("{only}{}", sql::qualified(&found.name));
    let doing = format!("planning to read {}", found.name);
    connection.query(&doing, &format!("SELECT FROM {whole} LIMIT 0"))?;
    let heaps = heaps(connection, &doing, found)?;
    let columns = column_list(table);
    let rows_estimated = heaps.iter().map(|heap| heap.rows).sum();
    if !heaps.iter().all(|heap| heap.by_pages) {
        // Through the root, whose grants count for its partitions too.
        let range = Range { oid: found.oid, from: 0, to: OPEN_END };
        let sql = format!("COPY (SELECT {columns} FROM {whole}) TO STDOUT");
        work.push_back(Work { table: index, range, sql });
        let part = Pages { oid: found.oid, ..Pages::default() };
        return Ok(Plan { parts: vec![part], rows_estimated });
    }
    for heap in &heaps {
        let name = sql::qualified(&heap.name);
        // 14 brought scans of a range of pages; before, every range would scan the whole table.
        let chunk = if version >= 140_000 { chunk_pages.max(1) } else { OPEN_END };
        for (from, to) in cut(heap.pages, chunk) {
            let sql = match (from, to) {
                (0, OPEN_END) if !columns.is_empty() => {
                    format!("COPY {name} ({columns}) TO STDOUT")
                }
                (from, OPEN_END) => {
                    format!(
                        "COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({from},0)') \
                         TO STDOUT"
                    )
                }
                (from, to) => format!(
                    "COPY (SELECT {columns} FROM ONLY {name} \
                     WHERE ctid >= '({from},0)' AND ctid < '({to},0)') TO STDOUT"
                ),
            };
            let range = Range { oid: heap.oid, from, to };
            work.push_back(Work { table: index, range, sql });
        }
    }
    let part = |heap: &Heap| Pages { oid: heap.oid, filenode: heap.filenode, done: Vec::new() };
    Ok(Plan { parts: heaps.iter().map(part).collect(), rows_estimated })
}

/// The columns of a table as a list in SQL.
pub(super) fn column_list(table: &Table) -> String {
    let names = table.schema.columns.iter().map(|column| sql::identifier(&column.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Ranges of pages; the last one has no end.
fn cut(pages: u32, chunk: u32) -> impl Iterator<Item = (u32, u32)> {
    let count = pages.div_ceil(chunk).max(1);
    (0..count).map(move |n| {
        let to = if n + 1 == count { OPEN_END } else { (n + 1) * chunk };
        (n * chunk, to)
    })
}

/// Where the rows are. Two looks at the file of each: as the snapshot sees it, and now; a table
/// that was rewritten in between would look empty under the snapshot.
pub(super) fn heaps(
    connection: &mut Connection,
    doing: &str,
    found: &Found,
) -> Result<Vec<Heap>, CaptureError> {
    let members = if found.partitioned {
        format!("SELECT relid FROM pg_partition_tree({}) WHERE isleaf", found.oid)
    } else {
        found.oid.to_string()
    };
    let rows = connection.query(
        doing,
        &format!(
            "SELECT c.oid, n.nspname, c.relname, c.relfilenode, pg_relation_filenode(c.oid),
                    CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid)
                         / current_setting('block_size')::int8 ELSE 0 END,
                    greatest(c.reltuples, 0)::int8,
                    c.relkind = 'r' AND a.amname = 'heap' AND c.relfilenode <> 0
                        AND has_schema_privilege(n.oid, 'USAGE')
                        AND has_table_privilege(c.oid, 'SELECT')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_am a ON a.oid = c.relam
             WHERE c.oid IN ({members}) ORDER BY c.oid"
        ),
    )?;
    let mut heaps = Vec::with_capacity(rows.len());
    for row in rows {
        let mut fields = row.into_iter();
        let mut text = || fields.next().flatten().unwrap_or_default();
        let oid = text().parse().unwrap_or(0);
        let name = TableName::new(&text(), &text());
        let (then, now) = (text().parse().unwrap_or(0), text().parse().unwrap_or(0));
        let (pages, rows) = (text().parse().unwrap_or(0), text().parse().unwrap_or(0));
        let by_pages = text() == "t";
        if by_pages && then != now {
            return Err(CaptureError::Transient {
                what: format!(
                    "source {}: {name} was rewritten just as reading began",
                    connection.options.name
                ),
                source: None,
            });
        }
        heaps.push(Heap { oid, name, filenode: now, pages, rows, by_pages });
    }
    Ok(heaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_cut() {
        let cut = |pages, chunk| cut(pages, chunk).collect::<Vec<_>>();
        assert_eq!(cut(0, 10), [(0, OPEN_END)]);
        assert_eq!(cut(10, 10), [(0, OPEN_END)]);
        assert_eq!(cut(21, 10), [(0, 10), (10, 20), (20, OPEN_END)]);
        assert_eq!(cut(u32::MAX, OPEN_END), [(0, OPEN_END)]);
    }
}
