//! The window against a model: a table that is changed at random while it is read in chunks; the
//! stream and the chunks together must give the table.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::{Column, Position};
use proptest::prelude::*;

use super::*;

fn schema(columns: &[&str]) -> Arc<TableSchema> {
    let column = |(n, name): (usize, &&str)| Column {
        name: (*name).into(),
        type_name: "integer".into(),
        nullable: true,
        key: (n == 0).then_some(0),
        base_type: None,
        default: None,
    };
    let columns = columns.iter().enumerate().map(column).collect();
    Arc::new(TableSchema { name: TableName::new("s", "t"), columns })
}

fn header(number: u64) -> TxHeader {
    TxHeader {
        id: number.to_string(),
        commit: Position::Postgres { lsn: number },
        commit_micros: 0,
        origin: None,
        snapshot: false,
    }
}

fn event(op: Op, before: Option<i64>, after: Option<[Option<i64>; 3]>) -> ChangeEvent {
    let value = |v: &Option<i64>| v.map(Value::Int);
    let after = after.map(|cells| match cells.iter().all(Option::is_some) {
        true => RowImage::Full(cells.iter().flat_map(value).collect()),
        false => RowImage::Partial(cells.iter().map(value).collect()),
    });
    let before = before.map(|key| RowImage::Key(vec![Some(Value::Int(key)), None, None]));
    let table = Some(schema(&["id", "n", "big"]));
    ChangeEvent { op, table, before, after, message: None, ordinal: 0 }
}

fn fragment(number: u64, events: Vec<ChangeEvent>) -> Fragment {
    Fragment { header: header(number), events, first: true, last: true }
}

fn window() -> Window {
    Window::new(TableName::new("s", "t"), vec![0])
}

fn chunk(rows: &[[i64; 3]], seen: u64) -> Chunk {
    let row = |row: &[i64; 3]| row.iter().map(|v| Value::Int(*v)).collect();
    Chunk {
        schema: schema(&["id", "n", "big"]),
        rows: rows.iter().map(row).collect(),
        sees: Box::new(move |header| header.commit.order(0).offset <= seen),
    }
}

fn closed(window: &mut Window) -> Vec<Vec<i64>> {
    let int = |value: Value<'static>| match value {
        Value::Int(v) => v,
        other => panic!("{other:?}"),
    };
    let (_, rows) = window.close().expect("a chunk is here");
    rows.into_iter().map(|row| row.into_iter().map(int).collect()).collect()
}

#[test]
fn what_the_stream_gives_whole_is_dropped_and_the_rest_is_completed() {
    let mut window = window();
    assert_eq!(window.open(), Found::Fine);
    let update = event(Op::Update, None, Some([Some(1), Some(11), None]));
    let whole = event(Op::Update, None, Some([Some(2), Some(22), Some(222)]));
    let insert = event(Op::Create, None, Some([Some(9), Some(9), Some(9)]));
    window.observe(vec![fragment(5, vec![update, whole])]);
    assert_eq!(
        window.fill(chunk(&[[1, 1, 100], [2, 2, 200], [3, 3, 300], [4, 4, 400]], 4)),
        Found::Fine
    );
    let delete = event(Op::Delete, Some(3), None);
    window.observe(vec![fragment(6, vec![delete, insert])]);
    assert_eq!(closed(&mut window), [[4, 4, 400], [1, 11, 100]]);
    assert!(window.close().is_none());
}

#[test]
fn what_the_chunk_has_seen_is_not_done_again() {
    let mut window = window();
    window.open();
    let old = event(Op::Update, None, Some([Some(1), Some(10), None]));
    let delete = event(Op::Delete, Some(2), None);
    window.observe(vec![fragment(4, vec![old, delete])]);
    // Row 2 was inserted again in the meantime, in a transaction that the stream has yet to bring.
    window.fill(chunk(&[[1, 11, 100], [2, 2, 200]], 5));
    let newer = event(Op::Update, None, Some([Some(1), Some(11), None]));
    window.observe(vec![fragment(5, vec![newer])]);
    assert_eq!(closed(&mut window), [[1, 11, 100], [2, 2, 200]]);
}

#[test]
fn a_row_with_a_new_key_takes_its_columns_along_or_is_reported() {
    let moved = || event(Op::Update, Some(1), Some([Some(7), Some(70), None]));
    let mut window = window();
    assert_eq!(window.observe(vec![fragment(1, vec![moved()])]), Found::Moved);
    window.open();
    assert_eq!(window.observe(vec![fragment(5, vec![moved()])]), Found::Fine);
    assert_eq!(window.fill(chunk(&[[1, 1, 100], [2, 2, 200]], 4)), Found::Fine);
    assert_eq!(closed(&mut window), [[2, 2, 200], [7, 70, 100]]);
    window.open();
    window.observe(vec![fragment(5, vec![moved()])]);
    assert_eq!(window.fill(chunk(&[[2, 2, 200]], 4)), Found::Moved);
    // Also when the chunk is not used in the end.
    window.open();
    window.observe(vec![fragment(5, vec![moved()])]);
    assert_eq!(window.fill(chunk(&[[1, 1, 100]], 4)), Found::Fine);
    assert_eq!(window.open(), Found::Moved);
}

#[test]
fn other_columns_spoil_a_chunk_and_so_does_a_change_without_key() {
    let mut window = window();
    window.open();
    window.fill(chunk(&[[1, 1, 100]], 4));
    let mut altered = event(Op::Update, None, Some([Some(1), Some(1), None]));
    altered.table = Some(schema(&["id", "n", "big", "more"]));
    window.observe(vec![fragment(4, vec![altered.clone()])]);
    assert_eq!(window.spoiled(), None, "what the chunk has seen was before it");
    window.observe(vec![fragment(5, vec![altered])]);
    assert_eq!(window.spoiled(), Some(Spoiled::Altered));
    assert!(window.close().is_none());
    window.open();
    window.fill(chunk(&[[1, 1, 100]], 4));
    window.observe(vec![fragment(5, vec![event(Op::Delete, None, None)])]);
    assert_eq!(window.spoiled(), Some(Spoiled::KeyMissing));
}

#[test]
fn changes_that_do_not_fit_spoil_a_chunk() {
    let mut window = window();
    window.open();
    let text = Value::Text("x".repeat(1 << 20).into());
    let mut update = event(Op::Update, None, None);
    update.after = Some(RowImage::Partial(vec![Some(Value::Int(1)), Some(text), None]));
    for n in 0..20 {
        window.observe(vec![fragment(n, vec![update.clone()])]);
    }
    assert_eq!(window.spoiled(), Some(Spoiled::TooManyChanges));
    window.fill(chunk(&[[1, 1, 1]], 0));
    assert_eq!(window.spoiled(), Some(Spoiled::TooManyChanges));
}

/// A database, its log, and who reads both. Column `big` is left out of the log when it did not
/// change.
#[derive(Default)]
struct World {
    table: BTreeMap<i64, [i64; 2]>,
    log: Vec<(Vec<ChangeEvent>, BTreeSet<i64>)>,
    /// How much of the log has been read.
    read: usize,
    /// What came out: `None` where a column is not known.
    copy: BTreeMap<i64, [Option<i64>; 2]>,
}

const KEYS: i64 = 12;
const CHUNK: i64 = 4;

impl World {
    fn change(&mut self, what: u8, key: i64, value: i64) -> Option<(ChangeEvent, Vec<i64>)> {
        let (n, big) = (value, value * 100);
        match what % 6 {
            0 | 1 => match self.table.get_mut(&key) {
                None => {
                    self.table.insert(key, [n, big]);
                    let after = [Some(key), Some(n), Some(big)];
                    Some((event(Op::Create, None, Some(after)), vec![key]))
                }
                Some(row) => {
                    row[0] = n;
                    Some((event(Op::Update, None, Some([Some(key), Some(n), None])), vec![key]))
                }
            },
            2 => {
                let row = self.table.get_mut(&key)?;
                *row = [n, big];
                let after = [Some(key), Some(n), Some(big)];
                Some((event(Op::Update, None, Some(after)), vec![key]))
            }
            3 => {
                self.table.remove(&key)?;
                Some((event(Op::Delete, Some(key), None), vec![key]))
            }
            4 => {
                let to = value % KEYS;
                if self.table.contains_key(&to) {
                    return None;
                }
                let [_, big] = self.table.remove(&key)?;
                self.table.insert(to, [n, big]);
                let after = [Some(to), Some(n), None];
                Some((event(Op::Update, Some(key), Some(after)), vec![key, to]))
            }
            _ if value % 16 == 0 => {
                self.table.clear();
                Some((event(Op::Truncate, None, None), (0..KEYS).collect()))
            }
            _ => None,
        }
    }

    /// One transaction of up to three changes.
    fn transaction(&mut self, bytes: &[u8; 6]) {
        let mut events = Vec::new();
        let mut keys = BTreeSet::new();
        for pair in bytes.chunks_exact(2) {
            let (key, value) = (i64::from(pair[0]) % KEYS, i64::from(pair[1]));
            if let Some((event, touched)) = self.change(pair[0] / 12, key, value) {
                events.push(event);
                keys.extend(touched);
            }
        }
        self.log.push((events, keys));
    }

    /// Reads one transaction of the log; returns whether there was one.
    fn stream(&mut self, window: &mut Window, moved: &mut bool) -> bool {
        let Some((events, _)) = self.log.get(self.read).cloned() else { return false };
        self.read += 1;
        for event in &events {
            self.copy_event(event);
        }
        let number = self.read as u64;
        *moved |= window.observe(vec![fragment(number, events)]) == Found::Moved;
        true
    }

    fn copy_event(&mut self, event: &ChangeEvent) {
        let int = |image: &RowImage<'static>, column| match image.get(column) {
            Some(Value::Int(v)) => Some(*v),
            _ => None,
        };
        if event.op == Op::Truncate {
            return self.copy.clear();
        }
        let before = event.before.as_ref().and_then(|image| int(image, 0));
        let Some(after) = &event.after else {
            self.copy.remove(&before.unwrap());
            return;
        };
        let key = int(after, 0).unwrap();
        let old = self.copy.remove(&before.unwrap_or(key)).unwrap_or_default();
        let cell = |n| int(after, n).or(old[n - 1]);
        self.copy.insert(key, [cell(1), cell(2)]);
    }

    /// A chunk as the source gives it: rows as of its last transaction, but for one that has
    /// committed and is not visible yet, where `lag` picks such a one.
    fn chunk(&self, from: i64, opened_at: usize, lag: u8) -> Chunk {
        let mut world = World::default();
        let last = self.log.len();
        let hidden = (opened_at..last)
            .rev()
            .find(|n| *n + usize::from(lag % 4) < last && self.is_apart(*n))
            .filter(|_| lag.is_multiple_of(3));
        let mut table: BTreeMap<i64, [Option<i64>; 2]> = BTreeMap::new();
        for (n, (events, _)) in self.log.iter().enumerate() {
            if Some(n) != hidden {
                std::mem::swap(&mut world.copy, &mut table);
                events.iter().for_each(|event| world.copy_event(event));
                std::mem::swap(&mut world.copy, &mut table);
            }
        }
        let rows: Vec<[i64; 3]> = table
            .range(from..from + CHUNK)
            .map(|(key, [n, big])| [*key, n.unwrap(), big.unwrap()])
            .collect();
        let sees = move |header: &TxHeader| {
            let n = header.commit.order(0).offset as usize - 1;
            n < last && Some(n) != hidden
        };
        Chunk { sees: Box::new(sees), ..chunk(&rows, 0) }
    }

    /// No later transaction has seen what this one wrote.
    fn is_apart(&self, n: usize) -> bool {
        self.log[n + 1..].iter().all(|(_, keys)| keys.is_disjoint(&self.log[n].1))
    }
}

/// Reads the table in chunks while `steps` happen; then the rest.
fn run(before: &[[u8; 6]], steps: &[(u8, [u8; 6])]) {
    let mut world = World::default();
    before.iter().for_each(|bytes| world.transaction(bytes));
    let mut window = window();
    let (mut from, mut moved) = (0, false);
    // What was before the first reader is not in the stream.
    world.read = world.log.len();
    let mut world_steps = steps.iter();
    while from < KEYS {
        moved |= window.open() == Found::Moved;
        let opened_at = world.read;
        // The source and the stream go on while the chunk is read, and until it is closed.
        let mut go = |world: &mut World, window: &mut Window, moved: &mut bool| {
            for (what, bytes) in world_steps.by_ref().take(4) {
                match what % 3 {
                    0 => drop(world.stream(window, moved)),
                    _ => world.transaction(bytes),
                }
            }
        };
        go(&mut world, &mut window, &mut moved);
        let lag = world.log.len() as u8;
        let chunk = world.chunk(from, opened_at, lag);
        let high = world.log.len();
        go(&mut world, &mut window, &mut moved);
        moved |= window.fill(chunk) == Found::Moved;
        go(&mut world, &mut window, &mut moved);
        while world.read < high {
            world.stream(&mut window, &mut moved);
        }
        for row in closed(&mut window) {
            let [key, n, big] = row[..] else { panic!("three columns") };
            world.copy.insert(key, [Some(n), Some(big)]);
        }
        from += CHUNK;
        if std::mem::take(&mut moved) {
            from = 0;
        }
    }
    while world.stream(&mut window, &mut moved) {}
    let table: BTreeMap<_, _> =
        world.table.iter().map(|(key, row)| (*key, row.map(Some))).collect();
    // A row that got another key after the last chunk has its columns from where it was.
    assert_eq!(world.copy, table);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn stream_and_chunks_give_the_table(
        before in proptest::collection::vec(any::<[u8; 6]>(), 0..12),
        steps in proptest::collection::vec((any::<u8>(), any::<[u8; 6]>()), 0..60),
    ) {
        run(&before, &steps);
    }
}
