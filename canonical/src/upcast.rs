//! What was written under other names: columns of source tables and fields of records that have
//! been renamed since. Old changes, wherever they come from, are brought into today's shape when
//! they are read, so that nothing behind here knows the old names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, Record, SourceRow};
use crossdock_model::{Column, TableSchema};
use crossdock_schema_registry::EntityDef;

use crate::document::Section;

/// Earlier names by the present one, the latest first.
pub(crate) type Was = BTreeMap<Name, Vec<Name>>;
/// Renamed columns by source and table.
pub(crate) type Renamed = BTreeMap<(Name, Name), Was>;

/// Reads `was.COLUMN = ["OLD", ...]` of a `[[table]]` block.
pub(crate) fn read(block: &Section<'_>) -> Was {
    let section = block.get("was").and_then(|item| item.table());
    let entries = section.iter().flat_map(|section| section.entries());
    let was: Was = entries
        .map(|(column, item)| {
            let texts = item.texts();
            if texts.contains(&column) {
                item.problem(format!("`{column}` is its own earlier name"), "leave it out");
            }
            (column.into(), texts.into_iter().map(Name::from).collect())
        })
        .collect();
    was
}

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

/// Gives the columns of a stored row their present names.
pub(crate) fn row(mut row: SourceRow, renamed: &Renamed) -> SourceRow {
    if !renamed.is_empty()
        && let Some(was) = renamed.get(&(row.key.source.clone(), row.key.table.clone()))
    {
        fields(Arc::make_mut(&mut row.image), was);
    }
    row
}

/// Gives the fields of a record, and where they come from, their present names.
pub(crate) fn record(record: &mut Record, entity: &EntityDef) {
    fields(&mut record.fields, &entity.was);
    let origins = &record.origins;
    let renamed: Vec<(Name, Name)> = present(&entity.was, |name| origins.contains_key(name))
        .into_iter()
        .map(|(old, now)| (old.clone(), now.clone()))
        .collect();
    for (old, now) in renamed {
        if let Some(origin) = record.origins.remove(&old) {
            record.origins.insert(now, origin);
        }
    }
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
