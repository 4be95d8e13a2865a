//! Blocks on their way to the caller, each with what is to be remembered once it is handed over:
//! so that the reader's memory says exactly what has been handed over.

use crossdock_model::{Block, TableName};

use crate::{Memory, TableCopy};

/// A block, and what becomes known with it.
pub(crate) struct Parcel<P> {
    pub(crate) block: Block,
    pub(crate) news: News<P>,
}

/// What becomes known with a block. Those who read a snapshot together hand over in any order:
/// each says only what it did.
pub(crate) enum News<P> {
    Nothing,
    /// A snapshot begins: the tables it reads, in place of whatever was known of them.
    Begun(Vec<TableCopy>),
    /// Rows of a snapshot; with the part of the table that has been read with them, if any.
    Rows {
        table: TableName,
        rows: u64,
        part: Option<P>,
    },
    /// Tables that are read beside the stream stand like this now.
    Copies(Vec<TableCopy>),
}

/// A part of a table, in the words of the kind of database.
pub(crate) trait Part: Send {
    /// Notes in the table's cursor that it has been read; ends the copy when nothing is left.
    fn note(&self, copy: &mut TableCopy);
}

impl<P> From<Block> for Parcel<P> {
    fn from(block: Block) -> Self {
        Self { block, news: News::Nothing }
    }
}

impl<P: Part> News<P> {
    /// Takes what a block brought into the memory.
    pub(crate) fn remember(self, memory: &mut Memory) {
        match self {
            Self::Nothing => {}
            Self::Begun(copies) => {
                memory.tables.retain(|known| !copies.iter().any(|copy| copy.table == known.table));
                memory.tables.extend(copies);
            }
            Self::Rows { table, rows, part } => {
                let Some(copy) = memory.tables.iter_mut().find(|copy| copy.table == table) else {
                    return;
                };
                copy.rows += rows;
                copy.rows_estimated = copy.rows_estimated.max(copy.rows);
                if let Some(part) = part {
                    part.note(copy);
                }
            }
            Self::Copies(copies) => memory.remember(copies),
        }
    }
}
