//! How far a table has been read.

use serde::{Deserialize, Serialize};

use crate::TableCopy;
use crate::snapshot::{self, Part};

/// A block, and what becomes known with it.
pub(super) type Parcel = snapshot::Parcel<Advance>;
/// What becomes known with a block.
pub(super) type News = snapshot::News<Advance>;

/// What [`TableCopy::cursor`] holds for MySQL and MariaDB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The columns of the key by which it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Vec<String>>,
    /// What is left to be read, in the order of the key; the whole table when absent.
    #[serde(default)]
    pub(super) left: Option<Vec<Span>>,
}

/// A part of a table: keys from one to another. Whole when both are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Span {
    /// Only keys greater than this: an SQL literal for each column of the key, or for the first.
    pub(super) after: Option<Vec<String>>,
    /// Only keys whose first column is not greater than this: an SQL literal.
    pub(super) upto: Option<String>,
}

/// How far a span has been read; no two spans of a table have the same end.
pub(super) struct Advance {
    /// The end of the span.
    pub(super) upto: Option<String>,
    /// The last key that was read of it; `None` when all of it was read.
    pub(super) after: Option<Vec<String>>,
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

    /// What is read next.
    pub(super) fn first(&self) -> Span {
        let first = self.left.as_ref().and_then(|left| left.first());
        first.cloned().unwrap_or_default()
    }

    /// Once the first span has been read: up to this key, or to its end. `None` when nothing is
    /// left.
    pub(super) fn after(&self, read: Option<Vec<String>>) -> Option<Self> {
        let upto = self.first().upto;
        self.advanced(&Advance { upto, after: read })
    }

    fn advanced(&self, advance: &Advance) -> Option<Self> {
        let mut left = self.left.clone().unwrap_or_else(|| vec![Span::default()]);
        match &advance.after {
            None => left.retain(|span| span.upto != advance.upto),
            Some(after) => {
                for span in left.iter_mut().filter(|span| span.upto == advance.upto) {
                    span.after = Some(after.clone());
                }
            }
        }
        (!left.is_empty()).then(|| Self { key: self.key.clone(), left: Some(left) })
    }
}

impl Part for Advance {
    fn note(&self, copy: &mut TableCopy) {
        match Cursor::of(copy).advanced(self) {
            Some(cursor) => copy.cursor = cursor.to_json(),
            None => copy.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CopyState, Memory};
    use crossdock_model::{Position, TableName};

    fn span(after: Option<&str>, upto: Option<&str>) -> Span {
        Span { after: after.map(|key| vec![key.into()]), upto: upto.map(Into::into) }
    }

    fn rows(rows: u64, upto: Option<&str>, after: Option<&str>) -> News {
        let Span { after, upto } = span(after, upto);
        News::Rows { table: TableName::new("s", "t"), rows, part: Some(Advance { upto, after }) }
    }

    #[test]
    fn spans_are_read_in_any_order() {
        let since = Position::Postgres { lsn: 1 };
        let mut copy = TableCopy::begun(TableName::new("s", "t"), 9, since);
        let left =
            vec![span(None, Some("10")), span(Some("10"), Some("20")), span(Some("20"), None)];
        copy.cursor = Cursor { key: None, left: Some(left) }.to_json();
        let mut memory = Memory::default();
        News::Begun(vec![copy]).remember(&mut memory);
        rows(3, Some("20"), Some("15")).remember(&mut memory);
        rows(2, None, None).remember(&mut memory);
        let cursor = Cursor::of(&memory.tables[0]);
        let left = vec![span(None, Some("10")), span(Some("15"), Some("20"))];
        assert_eq!(cursor, Cursor { key: None, left: Some(left) });
        // As the reading beside the stream goes on.
        let next = cursor.after(Some(vec!["7".into()])).unwrap();
        assert_eq!(next.first(), span(Some("7"), Some("10")));
        let next = next.after(None).unwrap();
        assert_eq!(next.first(), span(Some("15"), Some("20")));
        assert_eq!(next.after(None), None);
        rows(1, Some("20"), None).remember(&mut memory);
        assert_eq!(memory.tables[0].state, CopyState::Pending);
        rows(4, Some("10"), None).remember(&mut memory);
        assert_eq!((memory.tables[0].rows, &memory.tables[0].state), (10, &CopyState::Done));
    }

    #[test]
    fn a_table_in_one_piece() {
        let cursor = Cursor::default();
        assert_eq!(cursor.first(), Span::default());
        let next = cursor.after(Some(vec!["1".into(), "'a'".into()])).unwrap();
        assert_eq!(next.first().after, Some(vec!["1".into(), "'a'".into()]));
        assert_eq!((next.after(None), cursor.after(None)), (None, None));
    }
}
