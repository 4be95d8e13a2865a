//! Rows that are read beside the stream, put in their place in it.
//!
//! A *chunk* is a part of a table as one short transaction of the source saw it. While it is read,
//! and until the stream has come to where that transaction stood, all changes of the table pass
//! through its window: changes that the chunk has not seen are made to its rows. What is left is,
//! row for row, as the table is at that place of the stream, and goes there.
//!
//! ```text
//! open ─ note changes ─▶ fill(chunk) ─ change the chunk's rows ─▶ close: the rows that the stream
//!                                                                has not given whole
//! ```
//!
//! The idea is that of DBLog (Andreakis, Papapanagiotou, 2020), without its table of watermarks:
//! what a chunk has seen is asked of the database instead.

use std::collections::HashMap;
use std::sync::Arc;

use crossdock_model::block::encode_value;
use crossdock_model::{
    ChangeEvent, Fragment, Op, RowImage, TableName, TableSchema, TxHeader, Value,
};

/// Changes noted while a chunk is read may take this much memory.
const NOTED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The window of one table; stays for as long as its rows are being read, chunk after chunk.
pub(crate) struct Window {
    table: TableName,
    /// Columns of the key, by their place in the row.
    key: Vec<usize>,
    state: State,
}

enum State {
    /// No chunk is being read.
    Shut,
    /// A chunk is being read: changes that it may not have seen.
    Noting { notes: Vec<Note>, bytes: usize },
    /// It is here: changes are made to it.
    Filled(Box<Filled>),
    /// It can't be used.
    Spoiled(Spoiled),
}

/// Why a chunk can't be used, and has to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// The table's columns were changed between the chunk and its place in the stream.
    Altered,
    /// More changes than fit into memory while it was read.
    TooManyChanges,
    /// The log gave a change without the columns of the key.
    KeyMissing,
}

/// What a look at the stream found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing that asks for more.
    Fine,
    /// A row got another key, while the log left out some of its columns and no chunk has them:
    /// wherever it was, it may never be read. The table has to be read from the beginning.
    Moved,
}

/// A chunk, as it was read.
pub(crate) struct Chunk {
    /// The table's columns when it was read.
    pub schema: Arc<TableSchema>,
    /// All columns of each row.
    pub rows: Vec<Vec<Value<'static>>>,
    /// Whether the chunk has seen what a transaction did.
    pub sees: Sees,
}

/// Says whether a chunk has seen a transaction.
pub(crate) type Sees = Box<dyn Fn(&TxHeader) -> bool + Send>;

type Key = Vec<u8>;

struct Filled {
    schema: Arc<TableSchema>,
    sees: Sees,
    /// Rows in the order in which they were read; `None` when not needed any more.
    rows: Vec<Option<Vec<Value<'static>>>>,
    places: HashMap<Key, usize>,
    /// A row of it has another key by now.
    moved: bool,
}

struct Note {
    transaction: Arc<TxHeader>,
    schema: Option<Arc<TableSchema>>,
    change: Change,
}

enum Change {
    /// The stream has the whole row of this key, or it exists no more.
    Settled(Key),
    /// Columns that changed; the others are as they were.
    Patch { from: Key, to: Key, cells: Vec<Option<Value<'static>>> },
    /// The table was emptied.
    Cleared,
    /// A change without its key.
    Unclear,
}

impl Window {
    /// For a table whose rows are told apart by the columns `key`.
    pub(crate) fn new(table: TableName, key: Vec<usize>) -> Self {
        Self { table, key, state: State::Shut }
    }

    /// The table.
    pub(crate) fn table(&self) -> &TableName {
        &self.table
    }

    /// Whether rows are told apart by these columns.
    pub(crate) fn has_key(&self, key: &[usize]) -> bool {
        self.key == key
    }

    /// A chunk will be read from now on: the changes of every transaction that is handed over
    /// from here may be unknown to it. A chunk that was being read before is forgotten.
    pub(crate) fn open(&mut self) -> Found {
        let found = match &self.state {
            State::Noting { notes, .. } => moves(notes),
            State::Filled(filled) if filled.moved => Found::Moved,
            _ => Found::Fine,
        };
        self.state = State::Noting { notes: Vec::new(), bytes: 0 };
        found
    }

    /// Why the chunk can't be used, if so.
    pub(crate) fn spoiled(&self) -> Option<Spoiled> {
        match self.state {
            State::Spoiled(why) => Some(why),
            _ => None,
        }
    }

    /// Looks at transactions of the stream, in their order, as they are handed over.
    pub(crate) fn observe(&mut self, fragments: Vec<Fragment>) -> Found {
        let mut found = Found::Fine;
        for fragment in fragments {
            let transaction = Arc::new(fragment.header);
            if transaction.snapshot {
                continue;
            }
            for event in fragment.events {
                let ours = event.table.as_ref().is_some_and(|table| table.name == self.table);
                if ours && self.take(&transaction, event) == Found::Moved {
                    found = Found::Moved;
                }
            }
        }
        found
    }

    fn take(&mut self, transaction: &Arc<TxHeader>, event: ChangeEvent) -> Found {
        let schema = event.table.clone();
        let mut found = Found::Fine;
        for change in changes(event, &self.key).into_iter().flatten() {
            let note = Note { transaction: transaction.clone(), schema: schema.clone(), change };
            if self.note(note) == Found::Moved {
                found = Found::Moved;
            }
        }
        found
    }

    fn note(&mut self, note: Note) -> Found {
        match &mut self.state {
            State::Shut | State::Spoiled(_) => return note.moves(),
            State::Noting { notes, bytes } => {
                *bytes += note.bytes();
                notes.push(note);
                if *bytes <= NOTED_BYTES_MAX {
                    return Found::Fine;
                }
                let found = notes.iter().map(Note::moves).find(|found| *found == Found::Moved);
                self.state = State::Spoiled(Spoiled::TooManyChanges);
                return found.unwrap_or(Found::Fine);
            }
            State::Filled(_) => {}
        }
        self.apply(note)
    }

    fn apply(&mut self, note: Note) -> Found {
        let State::Filled(filled) = &mut self.state else { return note.moves() };
        let moved = if filled.moved { Found::Moved } else { Found::Fine };
        if (filled.sees)(&note.transaction) {
            // A row that moved is here under its new key, or in a later chunk, or in none.
            return match &note.change {
                Change::Patch { from, to, .. } if from != to && !filled.places.contains_key(to) => {
                    Found::Moved
                }
                _ => Found::Fine,
            };
        }
        if note.schema.as_ref().is_some_and(|schema| *schema != filled.schema) {
            self.state = State::Spoiled(Spoiled::Altered);
            return if moved == Found::Moved { moved } else { note.moves() };
        }
        match note.change {
            Change::Settled(key) => drop(filled.remove(&key)),
            Change::Cleared => filled.clear(),
            Change::Unclear => {
                self.state = State::Spoiled(Spoiled::KeyMissing);
                return moved;
            }
            Change::Patch { from, to, cells } => {
                let moves = from != to;
                let row = filled.remove(&from);
                if moves {
                    filled.remove(&to);
                }
                match row {
                    Some(row) => {
                        filled.moved |= moves;
                        filled.put(to, patched(row, cells));
                    }
                    None if moves => return Found::Moved,
                    None => {}
                }
            }
        }
        Found::Fine
    }

    /// The chunk has been read.
    pub(crate) fn fill(&mut self, chunk: Chunk) -> Found {
        let State::Noting { notes, .. } = std::mem::replace(&mut self.state, State::Shut) else {
            // Spoiled before it came.
            self.state = State::Spoiled(self.spoiled().unwrap_or(Spoiled::TooManyChanges));
            return Found::Fine;
        };
        let mut filled = Filled {
            schema: chunk.schema,
            sees: chunk.sees,
            rows: Vec::with_capacity(chunk.rows.len()),
            places: HashMap::with_capacity(chunk.rows.len()),
            moved: false,
        };
        for row in chunk.rows {
            let key = self.key.iter().map(|column| row.get(*column));
            match key_of(key) {
                Some(key) => filled.put(key, row),
                None => {
                    self.state = State::Spoiled(Spoiled::KeyMissing);
                    return moves(&notes);
                }
            }
        }
        self.state = State::Filled(Box::new(filled));
        let mut found = Found::Fine;
        for note in notes {
            if self.apply(note) == Found::Moved {
                found = Found::Moved;
            }
        }
        found
    }

    /// The stream has come to where the chunk was read, or further. Returns the rows that are to
    /// go there, all columns of each; `None` when no chunk is here.
    pub(crate) fn close(&mut self) -> Option<(Arc<TableSchema>, Vec<Vec<Value<'static>>>)> {
        match std::mem::replace(&mut self.state, State::Shut) {
            State::Filled(filled) => {
                Some((filled.schema, filled.rows.into_iter().flatten().collect()))
            }
            _ => None,
        }
    }
}

impl Filled {
    fn put(&mut self, key: Key, row: Vec<Value<'static>>) {
        self.places.insert(key, self.rows.len());
        self.rows.push(Some(row));
    }

    fn remove(&mut self, key: &Key) -> Option<Vec<Value<'static>>> {
        let place = self.places.remove(key)?;
        self.rows.get_mut(place)?.take()
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.places.clear();
    }
}

impl Note {
    fn bytes(&self) -> usize {
        let change = match &self.change {
            Change::Settled(key) => key.len(),
            Change::Patch { from, to, cells } => {
                let cells = cells.iter().map(|cell| 32 + cell.as_ref().map_or(0, value_bytes));
                from.len() + to.len() + cells.sum::<usize>()
            }
            Change::Cleared | Change::Unclear => 0,
        };
        size_of::<Self>() + change
    }

    /// With no chunk to complete it.
    fn moves(&self) -> Found {
        match &self.change {
            Change::Patch { from, to, .. } if from != to => Found::Moved,
            _ => Found::Fine,
        }
    }
}

fn moves(notes: &[Note]) -> Found {
    notes.iter().map(Note::moves).find(|found| *found == Found::Moved).unwrap_or(Found::Fine)
}

fn value_bytes(value: &Value<'_>) -> usize {
    match value {
        Value::Decimal(text) | Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) | Value::Bits(_, bytes) => bytes.len(),
        Value::Array(values) => values.iter().map(|value| 32 + value_bytes(value)).sum(),
        _ => 0,
    }
}

fn patched(
    mut row: Vec<Value<'static>>,
    cells: Vec<Option<Value<'static>>>,
) -> Vec<Value<'static>> {
    for (value, cell) in row.iter_mut().zip(cells) {
        if let Some(cell) = cell {
            *value = cell;
        }
    }
    row
}

/// What an event does to the rows of its table, in order.
fn changes(event: ChangeEvent, key: &[usize]) -> [Option<Change>; 2] {
    let key_in = |image: &Option<RowImage<'static>>| {
        let image = image.as_ref()?;
        key_of(key.iter().map(|column| image.get(*column)))
    };
    let settled = |key: Option<Key>| Some(key.map_or(Change::Unclear, Change::Settled));
    match event.op {
        Op::Truncate => [Some(Change::Cleared), None],
        Op::Delete => [settled(key_in(&event.before)), None],
        Op::Read | Op::Create | Op::Update => {
            let to = key_in(&event.after);
            // Without an image of the row before, the key has not changed.
            let from = if event.before.is_some() { key_in(&event.before) } else { to.clone() };
            match (event.after, from, to) {
                (Some(RowImage::Full(_)), from, to) if from == to => [settled(to), None],
                (Some(RowImage::Full(_)), from, to) => [settled(from), settled(to)],
                (Some(RowImage::Partial(cells) | RowImage::Key(cells)), Some(from), Some(to)) => {
                    [Some(Change::Patch { from, to, cells }), None]
                }
                _ => [Some(Change::Unclear), None],
            }
        }
        Op::Message => [None, None],
    }
}

/// The key as bytes; `None` when a column of it is not known.
fn key_of<'v>(values: impl Iterator<Item = Option<&'v Value<'static>>>) -> Option<Key> {
    let mut key = Vec::new();
    for value in values {
        encode_value(&mut key, value?);
    }
    Some(key)
}

#[cfg(test)]
mod tests;
