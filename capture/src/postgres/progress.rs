//! What has been read of each table, carried beside the blocks: so that the reader's memory says
//! exactly what has been handed over.

use serde::{Deserialize, Serialize};

use crate::TableCopy;
use crate::snapshot::{self, Part};

/// End of a range that has none: pages that the table got later belong to its last range.
pub(super) const OPEN_END: u32 = u32::MAX;

/// A block, and what becomes known with it.
pub(super) type Parcel = snapshot::Parcel<Range>;
/// What becomes known with a block.
pub(super) type News = snapshot::News<Range>;

/// Pages of one part of a table, `from` to before `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The part: the table itself, or one of its partitions.
    pub oid: u32,
    pub from: u32,
    pub to: u32,
}

/// What [`TableCopy::cursor`] holds for PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Read under a snapshot that all connections shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotCursor>,
    /// Read beside the stream: the columns of the key by which it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<String>>,
    /// All rows up to this key, as texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
}

/// How far an exported snapshot has been read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SnapshotCursor {
    /// Transactions before this one have ended in it; those from it on may have been missed.
    pub xmin: u64,
    pub parts: Vec<Pages>,
}

/// A table, or a partition of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pages {
    pub oid: u32,
    /// The file that the pages are of: another one after `VACUUM FULL`.
    pub filenode: u32,
    /// Ranges of pages that were read, in order, without neighbours that touch.
    pub done: Vec<(u32, u32)>,
}

impl Cursor {
    /// Reads a stored cursor; one that can't be read means that nothing was read.
    pub(super) fn of(copy: &TableCopy) -> Self {
        serde_json::from_value(copy.cursor.clone()).unwrap_or_default()
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl SnapshotCursor {
    fn add(&mut self, range: &Range) {
        let Some(part) = self.parts.iter_mut().find(|part| part.oid == range.oid) else { return };
        part.done.push((range.from, range.to));
        part.done.sort_unstable();
        part.done.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
    }

    fn is_complete(&self) -> bool {
        self.parts.iter().all(|part| part.done == [(0, OPEN_END)])
    }
}

impl Part for Range {
    fn note(&self, copy: &mut TableCopy) {
        let mut cursor = Cursor::of(copy);
        let Some(snapshot) = &mut cursor.snapshot else { return };
        snapshot.add(self);
        if snapshot.is_complete() {
            copy.finish();
        } else {
            copy.cursor = cursor.to_json();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CopyState, Memory};
    use crossdock_model::{Position, TableName};

    fn rows(rows: u64, from: u32, to: u32) -> News {
        let table = TableName::new("s", "t");
        News::Rows { table, rows, part: Some(Range { oid: 7, from, to }) }
    }

    #[test]
    fn a_table_is_done_when_all_its_ranges_are() {
        let part = Pages { oid: 7, filenode: 8, done: vec![] };
        let cursor = Cursor {
            snapshot: Some(SnapshotCursor { xmin: 5, parts: vec![part] }),
            ..Cursor::default()
        };
        let since = Position::Postgres { lsn: 1 };
        let mut copy = TableCopy::begun(TableName::new("s", "t"), 9, since);
        copy.cursor = cursor.to_json();
        let mut memory = Memory::default();
        News::Begun(vec![copy]).remember(&mut memory);
        rows(4, 20, OPEN_END).remember(&mut memory);
        rows(3, 0, 10).remember(&mut memory);
        let done = |memory: &Memory| Cursor::of(&memory.tables[0]).snapshot.unwrap().parts;
        assert_eq!(done(&memory)[0].done, [(0, 10), (20, OPEN_END)]);
        assert_eq!(memory.tables[0].state, CopyState::Pending);
        rows(5, 10, 20).remember(&mut memory);
        assert_eq!((memory.tables[0].rows, &memory.tables[0].state), (12, &CopyState::Done));
        assert_eq!(memory.tables[0].rows_estimated, 12);
    }
}
