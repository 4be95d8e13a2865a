//! Where reading a source begins: what the journal has, what its reader remembers and what was
//! ordered become one plan.

use crossdock_capture::{CopyState, Memory, Purpose, Start, TableCopy};
use crossdock_config::SnapshotMode;
use crossdock_model::{Position, TableName};
use serde::{Deserialize, Serialize};

/// How the next start is to begin, when a gap or an operator has said so; kept until its first
/// block is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordered {
    /// With what is committed from now on; all tables are read again, and rows that are not found
    /// any more were deleted.
    Resync,
    /// With what follows this place, and no snapshot; for a source that has nothing yet.
    After(Position),
}

/// What is known when a source is opened.
pub struct Known<'k> {
    /// Which rows are read that were there before.
    pub mode: SnapshotMode,
    /// Tables to capture.
    pub tables: &'k [TableName],
    /// What the last reader has left.
    pub memory: Option<Memory>,
    /// Where the last visible block ends.
    pub last: Option<Position>,
    /// Where the last durable block of an unfinished snapshot ends.
    pub unfinished: Option<Position>,
    /// What was ordered.
    pub ordered: Option<Ordered>,
}

/// How to begin.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Where; `None` when there is nothing left to read.
    pub start: Option<Start>,
    /// What the reader is to know.
    pub memory: Memory,
    /// The journal's unfinished snapshot is of no use.
    pub cut_snapshot: bool,
}

/// Decides how to begin.
pub fn plan(known: Known<'_>) -> Plan {
    let Known { mode, tables, memory, last, unfinished, ordered } = known;
    let mut memory = memory.unwrap_or_default();
    memory.tables.retain(|copy| tables.contains(&copy.table));
    let all = |purpose, state: CopyState| -> Vec<TableCopy> {
        let copy = |t: &TableName| TableCopy {
            state: state.clone(),
            ..TableCopy::new(t.clone(), purpose)
        };
        tables.iter().map(copy).collect()
    };
    // A snapshot whose stream is lost can't be continued.
    let resync = ordered == Some(Ordered::Resync);
    let anew = |start, tables| Plan {
        start: Some(start),
        memory: Memory { server: None, tables },
        cut_snapshot: true,
    };
    match (ordered, last, unfinished) {
        (Some(Ordered::Resync), Some(_), _) => {
            anew(Start::Now, all(Purpose::Resync, CopyState::Pending))
        }
        (Some(Ordered::After(position)), None, _) => {
            anew(Start::After(position), all(Purpose::Initial, CopyState::Done))
        }
        (_, None, Some(at)) if !resync && mode != SnapshotMode::Only && begun(&memory) => {
            add_new(&mut memory, tables, CopyState::Pending);
            Plan { start: Some(Start::Resume(at)), memory, cut_snapshot: false }
        }
        (_, None, _) => match mode {
            SnapshotMode::Initial | SnapshotMode::WhenNeeded => anew(Start::Snapshot, Vec::new()),
            SnapshotMode::Only => anew(Start::SnapshotOnly, Vec::new()),
            SnapshotMode::Never => anew(Start::Now, all(Purpose::Initial, CopyState::Done)),
        },
        (_, Some(_), _) if mode == SnapshotMode::Only => {
            Plan { start: None, memory, cut_snapshot: true }
        }
        (_, Some(position), _) => {
            for copy in &mut memory.tables {
                // The journal has the end of the first snapshot: it may know more than the memory.
                if copy.purpose == Purpose::Initial && copy.state == CopyState::Pending {
                    copy.state = CopyState::Done;
                }
            }
            // Nothing is remembered: what the journal has is all that can be known.
            let lost = memory.tables.is_empty();
            let state = match lost || mode == SnapshotMode::Never {
                true => CopyState::Done,
                false => CopyState::Pending,
            };
            add_new(&mut memory, tables, state);
            Plan { start: Some(Start::After(position)), memory, cut_snapshot: true }
        }
    }
}

/// Whether the memory is that of a first snapshot which has begun.
fn begun(memory: &Memory) -> bool {
    memory.tables.iter().any(|copy| copy.purpose == Purpose::Initial)
}

/// Adds tables that the memory does not know.
fn add_new(memory: &mut Memory, tables: &[TableName], state: CopyState) {
    let new: Vec<_> = tables.iter().filter(|table| memory.table(table).is_none()).collect();
    for table in new {
        let copy = TableCopy::new(table.clone(), Purpose::Added);
        memory.tables.push(TableCopy { state: state.clone(), ..copy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("public", name)
    }

    fn at(lsn: u64) -> Position {
        Position::Postgres { lsn }
    }

    fn copy(name: &str, purpose: Purpose, state: CopyState) -> TableCopy {
        TableCopy { state, ..TableCopy::new(table(name), purpose) }
    }

    fn known(tables: &[TableName]) -> Known<'_> {
        let mode = SnapshotMode::Initial;
        let (memory, last, unfinished, ordered) = (None, None, None, None);
        Known { mode, tables, memory, last, unfinished, ordered }
    }

    fn states(plan: &Plan) -> Vec<(String, Purpose, CopyState)> {
        let line = |c: &TableCopy| (c.table.table.to_string(), c.purpose, c.state.clone());
        plan.memory.tables.iter().map(line).collect()
    }

    #[test]
    fn a_new_source_begins_by_its_mode() {
        let tables = [table("a")];
        let start = |mode| plan(Known { mode, ..known(&tables) });
        assert_eq!(start(SnapshotMode::Initial).start, Some(Start::Snapshot));
        assert_eq!(start(SnapshotMode::WhenNeeded).start, Some(Start::Snapshot));
        assert_eq!(start(SnapshotMode::Only).start, Some(Start::SnapshotOnly));
        let never = start(SnapshotMode::Never);
        assert_eq!(never.start, Some(Start::Now));
        assert_eq!(states(&never), [("a".into(), Purpose::Initial, CopyState::Done)]);
    }

    #[test]
    fn an_unfinished_snapshot_goes_on_when_it_is_remembered() {
        let tables = [table("a"), table("b")];
        let memory = Memory {
            server: None,
            tables: vec![
                copy("gone", Purpose::Initial, CopyState::Done),
                copy("a", Purpose::Initial, CopyState::Pending),
            ],
        };
        let unfinished = Some(at(7));
        let resumed = plan(Known { memory: Some(memory.clone()), unfinished, ..known(&tables) });
        assert_eq!(
            (resumed.start.clone(), resumed.cut_snapshot),
            (Some(Start::Resume(at(7))), false)
        );
        let expected = [
            ("a".to_string(), Purpose::Initial, CopyState::Pending),
            ("b".to_string(), Purpose::Added, CopyState::Pending),
        ];
        assert_eq!(states(&resumed), expected);

        let forgotten = plan(Known { unfinished: Some(at(7)), ..known(&tables) });
        assert_eq!((forgotten.start, forgotten.cut_snapshot), (Some(Start::Snapshot), true));
        // It leaves nothing on the server to go on from.
        let mode = SnapshotMode::Only;
        let only = Known { mode, memory: Some(memory), unfinished: Some(at(7)), ..known(&tables) };
        assert_eq!(plan(only).start, Some(Start::SnapshotOnly));
    }

    #[test]
    fn a_table_that_is_new_is_read_beside_the_stream() {
        let tables = [table("a"), table("b")];
        let memory =
            Memory { server: None, tables: vec![copy("a", Purpose::Initial, CopyState::Pending)] };
        let with = |memory: Option<Memory>, mode| {
            plan(Known { mode, memory, last: Some(at(9)), ..known(&tables) })
        };
        let added = with(Some(memory.clone()), SnapshotMode::Initial);
        assert_eq!(added.start, Some(Start::After(at(9))));
        let a = ("a".to_string(), Purpose::Initial, CopyState::Done);
        let b = |state| ("b".to_string(), Purpose::Added, state);
        assert_eq!(states(&added), [a.clone(), b(CopyState::Pending)]);
        let never = with(Some(memory), SnapshotMode::Never);
        assert_eq!(states(&never), [a, b(CopyState::Done)]);
        let lost = with(None, SnapshotMode::Initial);
        assert!(lost.memory.tables.iter().all(|copy| copy.state == CopyState::Done));
        assert_eq!(lost.memory.tables.len(), 2);
        assert_eq!(with(None, SnapshotMode::Only).start, None);
    }

    #[test]
    fn what_was_ordered_comes_first() {
        let tables = [table("a")];
        let ordered = Some(Ordered::Resync);
        let memory = Some(Memory {
            server: None,
            tables: vec![copy("a", Purpose::Initial, CopyState::Done)],
        });
        let resync = plan(Known { memory, last: Some(at(9)), ordered, ..known(&tables) });
        assert_eq!(resync.start, Some(Start::Now));
        assert_eq!(states(&resync), [("a".into(), Purpose::Resync, CopyState::Pending)]);
        // Nothing was read yet: there is nothing to compare with.
        let ordered = Some(Ordered::Resync);
        assert_eq!(plan(Known { ordered, ..known(&tables) }).start, Some(Start::Snapshot));

        // Nor is there when the log was lost in the middle of the first snapshot.
        let memory =
            Memory { server: None, tables: vec![copy("a", Purpose::Initial, CopyState::Pending)] };
        let (memory, unfinished) = (Some(memory), Some(at(7)));
        let ordered = Some(Ordered::Resync);
        let lost = plan(Known { memory, unfinished, ordered, ..known(&tables) });
        assert_eq!((lost.start, lost.cut_snapshot), (Some(Start::Snapshot), true));

        let ordered = Some(Ordered::After(at(5)));
        let taken_over = plan(Known { ordered: ordered.clone(), ..known(&tables) });
        assert_eq!(taken_over.start, Some(Start::After(at(5))));
        assert_eq!(states(&taken_over), [("a".into(), Purpose::Initial, CopyState::Done)]);
        // It has been done already.
        let later = plan(Known { ordered, last: Some(at(9)), ..known(&tables) });
        assert_eq!(later.start, Some(Start::After(at(9))));
    }
}
