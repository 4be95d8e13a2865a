//! What was written in another shape: columns of source tables and fields of records that have
//! been renamed since, or that are computed from others that were there before. Old changes,
//! wherever they come from, are brought into today's shape when they are read, so that nothing
//! behind here knows the old one.

mod columns;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, SourceRow};
use crossdock_model::{Column, TableSchema};

pub(crate) use columns::{Older, Olders, read};
pub(crate) use records::{Casts, contribution, record, records};

/// Earlier names by the present one, the latest first.
pub(crate) type Was = BTreeMap<Name, Vec<Name>>;

/// The present name of what has an earlier one, unless there is something of the present name.
fn present(was: &Was, has: impl Fn(&str) -> bool) -> Vec<(&Name, &Name)> {
    let renamed = was.iter().filter(|(now, _)| !has(now)).filter_map(|(now, before)| {
        let old = before.iter().find(|old| has(old))?;
        Some((old, now))
    });
    renamed.collect()
}

/// Gives fields their present names.
pub(crate) fn fields(fields: &mut Fields, was: &Was) {
    let renamed: Vec<(Name, Name)> = present(was, |name| fields.contains_key(name))
        .into_iter()
        .map(|(old, now)| (old.clone(), now.clone()))
        .collect();
    for (old, now) in renamed {
        if let Some(value) = fields.remove(&old) {
            fields.insert(now, value);
        }
    }
}

/// Brings a stored row into today's shape.
pub(crate) fn row(mut row: SourceRow, olders: &Olders) -> SourceRow {
    if let Some(older) = olders.of(&row.key.source, &row.key.table) {
        if !older.names.is_empty() {
            fields(Arc::make_mut(&mut row.image), &older.names);
        }
        older.complete(&mut row.image);
    }
    row
}

/// A table as it would be called now.
pub(crate) fn schema(schema: &Arc<TableSchema>, was: &Was) -> Arc<TableSchema> {
    let renamed = present(was, |name| schema.column(name).is_some());
    if renamed.is_empty() {
        return schema.clone();
    }
    let column = |column: &Column| {
        let now = renamed.iter().find(|(old, _)| **old == column.name).map(|(_, now)| *now);
        Column { name: now.unwrap_or(&column.name).clone(), ..column.clone() }
    };
    let columns = schema.columns.iter().map(column).collect();
    Arc::new(TableSchema { name: schema.name.clone(), columns })
}
