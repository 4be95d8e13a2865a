//! Rows of the log become row images in a block.

use std::sync::Arc;

use crossdock_model::{BlockBuilder, ImageKind, TableSchema, Value};

use super::decoder::defect;
use super::pgoutput::{Cell, Tuple};
use super::value::Kind;
use crate::CaptureError;

/// What is known of a captured table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// As it goes into blocks.
    pub schema: Arc<TableSchema>,
    /// How each column's text is read.
    pub kinds: Vec<Kind>,
    /// Which columns a key image carries.
    pub identity: Vec<bool>,
}

/// Writes a row. A value that the log left out because it did not change is taken from the old
/// row where the log has all of that (`REPLICA IDENTITY FULL`).
pub(super) fn image(
    builder: &mut BlockBuilder,
    table: &Table,
    tuple: &Tuple<'_>,
    before: Option<&Tuple<'_>>,
) -> Result<(), CaptureError> {
    check_count(table, tuple)?;
    if !tuple.has_unchanged() {
        builder.image(ImageKind::Full, tuple.count);
        for (column, cell) in tuple.cells().enumerate() {
            put(builder, table, column, cell)?;
        }
        return Ok(());
    }
    let mut old = before.map(Tuple::cells);
    let cells: Vec<Cell<'_>> = tuple
        .cells()
        .map(|cell| match (cell, old.as_mut().and_then(Iterator::next)) {
            (Cell::Unchanged, Some(old)) => old,
            (cell, _) => cell,
        })
        .collect();
    let whole = cells.iter().all(|cell| *cell != Cell::Unchanged);
    let kind = if whole { ImageKind::Full } else { ImageKind::Partial };
    builder.image(kind, cells.len());
    cells.into_iter().enumerate().try_for_each(|(column, cell)| put(builder, table, column, cell))
}

/// Writes the columns of the replica identity.
pub(super) fn key_image(
    builder: &mut BlockBuilder,
    table: &Table,
    tuple: &Tuple<'_>,
) -> Result<(), CaptureError> {
    check_count(table, tuple)?;
    builder.image(ImageKind::Key, tuple.count);
    for (column, cell) in tuple.cells().enumerate() {
        match table.identity.get(column) {
            Some(true) => put(builder, table, column, cell)?,
            _ => builder.missing(),
        }
    }
    Ok(())
}

fn put(
    builder: &mut BlockBuilder,
    table: &Table,
    column: usize,
    cell: Cell<'_>,
) -> Result<(), CaptureError> {
    match cell {
        Cell::Null => builder.value(&Value::Null),
        Cell::Unchanged => builder.missing(),
        Cell::Text(text) => builder.value(&table.decode(column, text)?),
    }
    Ok(())
}

fn check_count(table: &Table, tuple: &Tuple<'_>) -> Result<(), CaptureError> {
    if tuple.count == table.kinds.len() {
        return Ok(());
    }
    Err(defect(&format!(
        "a row of {} with {} columns where its description has {}",
        table.schema.name,
        tuple.count,
        table.kinds.len()
    )))
}

impl Table {
    /// Reads a column's text; the error names the column, never the text.
    #[inline]
    pub(super) fn decode<'a>(
        &self,
        column: usize,
        text: &'a [u8],
    ) -> Result<Value<'a>, CaptureError> {
        let value = self.kinds.get(column).and_then(|kind| kind.decode(text));
        value.ok_or_else(|| {
            let (name, type_name) = match self.schema.columns.get(column) {
                Some(column) => (&*column.name, &*column.type_name),
                None => ("?", "?"),
            };
            CaptureError::definite(
                format!(
                    "a value of {}.{name} is not the text of a {type_name} as PostgreSQL prints it",
                    self.schema.name
                ),
                "leave the column out of the publication, and report this with the column's type",
            )
        })
    }
}
