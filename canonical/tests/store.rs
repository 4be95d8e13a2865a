//! What tests ask a store in memory, and a source whose log can be written by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crossdock_canonical::{Known, Memory, Rules, Scratch, Workspace};
use crossdock_model::canonical::{
    Contribution, Delivery, Fields, GuardState, Name, Outcome, RecordKey, RowKey, SourceRow,
};
use crossdock_model::{
    ChangeEvent, Column, Op, Position, RowImage, SourceText, TableName, TableSchema, TxHeader,
    Value,
};
use crossdock_schema_registry::Entities;

/// Everything that has been committed.
pub type Store = Scratch;

/// What tests ask a store.
pub trait Look {
    fn field(&self, key: &str, field: &str) -> Option<String>;
    fn open(&self, kind: &str) -> usize;
    fn told(&self, rule: &str) -> Vec<&Delivery>;
    fn meaning(&self) -> BTreeMap<RecordKey, (bool, Fields)>;
}

impl Look for Store {
    fn field(&self, key: &str, field: &str) -> Option<String> {
        let record = self.records.values().find(|r| &*r.key.key == key)?;
        record.fields.get(field)?.to_text()
    }

    fn open(&self, kind: &str) -> usize {
        self.exceptions.values().filter(|e| e.open && &*e.kind == kind).count()
    }

    fn told(&self, rule: &str) -> Vec<&Delivery> {
        self.deliveries.iter().filter(|d| &*d.rule == rule).collect()
    }

    /// What must be the same however changes arrived.
    fn meaning(&self) -> BTreeMap<RecordKey, (bool, Fields)> {
        self.records.iter().map(|(k, r)| (k.clone(), (r.deleted, texts(&r.fields)))).collect()
    }
}

/// Values as text and JSON, whatever their types.
fn texts(fields: &Fields) -> Fields {
    let text = |v: &Value<'static>| Value::Text(v.to_json().to_string().into());
    fields.iter().map(|(k, v)| (k.clone(), text(v))).collect()
}

/// A transaction of a source.
#[derive(Clone, Debug)]
pub struct Tx {
    pub source: Name,
    pub header: TxHeader,
    pub events: Vec<ChangeEvent>,
}

/// Judges transactions as one batch and commits the result.
pub fn run(rules: &Rules, store: &mut Store, batch: &[Tx]) {
    run_at(rules, store, 1_800_000_000_000_000, batch, &[]);
}

/// The same at a moment, together with records whose time has come. Checks that nothing is asked
/// twice; gives how often something was asked.
pub fn run_at(
    rules: &Rules,
    store: &mut Store,
    now: i64,
    batch: &[Tx],
    due: &[RecordKey],
) -> usize {
    let guards = store.guards.values().cloned();
    let mut workspace = Workspace::new(rules, "test", now).with_guards(guards);
    for tx in batch {
        workspace.take_in(&tx.source, &tx.header, tx.events.clone());
    }
    workspace.take_in_due(due.iter().cloned());
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for round in 0..40 {
        let needs = workspace.needs();
        if needs.is_empty() {
            commit(store, workspace.finish());
            return round;
        }
        let all = [
            needs.rows.iter().map(|k| format!("row {k:?}")).collect::<Vec<_>>(),
            needs.referring_to.iter().map(|k| format!("parked {k:?}")).collect(),
            needs.records.iter().map(|k| format!("record {k:?}")).collect(),
            needs.linking_to.iter().map(|k| format!("linking {k:?}")).collect(),
            needs.releases_on.iter().map(|k| format!("releases {k:?}")).collect(),
        ];
        for one in all.into_iter().flatten() {
            assert!(asked.insert(one.clone()), "asked twice: {one}");
        }
        workspace.provide(store.load(&needs));
    }
    panic!("the needs never end");
}

/// Commits, and checks that what is said to be as in the store is so.
fn commit(store: &mut Store, outcome: Outcome) {
    for row in outcome.rows.iter().filter(|r| outcome.same_references.contains(&r.key)) {
        assert_eq!(store.rows[&row.key].refers_to, row.refers_to, "{:?}", row.key);
    }
    for record in outcome.records.iter().filter(|r| outcome.same_links.contains(&r.key)) {
        assert_eq!(store.records[&record.key].links, record.links, "{:?}", record.key);
    }
    let changed = outcome.contributions.iter().chain(&outcome.new_contributions);
    let put = outcome.records.iter().chain(&outcome.new_records).map(|record| &record.key);
    let touched: BTreeSet<RecordKey> = changed.map(|c| &c.record).chain(put).cloned().collect();
    let before = touched.into_iter().map(|key| {
        let were = (store.keeps_apart(&key), store.records.contains_key(&key));
        (key, were)
    });
    let before: Vec<(RecordKey, (bool, bool))> = before.collect();
    store.apply(outcome.clone());
    for (key, (apart, there)) in before {
        kept_where_it_is_read(store, &outcome, &key, apart, there);
    }
}

/// What is said of a record is kept with it or apart from it, whole, and only where it is looked
/// for. The store as it is after the outcome.
fn kept_where_it_is_read(
    store: &Store,
    outcome: &Outcome,
    key: &RecordKey,
    was_apart: bool,
    was_there: bool,
) {
    let all = store.contributions.iter().filter(|((record, _), _)| record == key);
    let all: BTreeMap<&RowKey, &Contribution> = all.map(|((_, row), c)| (row, c)).collect();
    let put = outcome.records.iter().chain(&outcome.new_records).any(|r| r.key == *key);
    if let Some(said) = outcome.said.get(key) {
        assert!(put && !was_apart && said.len() <= 4, "{key:?}");
        assert_eq!(said.iter().map(|c| (&c.row, &**c)).collect::<BTreeMap<_, _>>(), all);
    } else if !was_apart {
        let new = outcome.new_contributions.iter().filter(|c| c.record == *key);
        assert_eq!(new.map(|c| (&c.row, &**c)).collect::<BTreeMap<_, _>>(), all, "moves, whole");
        assert!(put || !was_there, "{key:?} says that it has all of it");
    }
}

/// Takes what a rate guard has stopped, as an operator's release does: `at_once` rows a batch.
pub fn release(rules: &Rules, store: &mut Store, guard: &str, at_once: usize) {
    let state = store.guards.get(guard).unwrap().clone();
    let on = crossdock_canonical::guard_row(guard, &state.source);
    store.apply(Outcome {
        guards: vec![GuardState { releasing: true, ..state.clone() }],
        ..Outcome::default()
    });
    loop {
        let waiting = store.rows.values().filter(|r| r.waiting_for.contains(&on));
        let rows: Vec<SourceRow> = waiting.take(at_once).cloned().collect();
        if rows.is_empty() {
            let guards = vec![GuardState::new(&state.rule, &state.source)];
            return store.apply(Outcome { guards, ..Outcome::default() });
        }
        let mut workspace = Workspace::new(rules, "test", 1_800_000_000_000_000)
            .with_guards(store.guards.values().cloned());
        workspace.take_in_woken(&state.source, &tx(&state.source, 1, Vec::new()).header, rows);
        loop {
            let needs = workspace.needs();
            if needs.is_empty() {
                break;
            }
            workspace.provide(store.load(&needs));
        }
        commit(store, workspace.finish());
    }
}

/// Judges batch after batch as a process does: with what those before have learned, and with the
/// last two not committed yet unless they have to be.
pub fn run_remembering<'t>(
    rules: &Rules,
    store: &mut Store,
    mut memory: Memory,
    batches: impl IntoIterator<Item = &'t [Tx]>,
) {
    let mut guards = store.guards.clone();
    let mut uncommitted: VecDeque<Outcome> = VecDeque::new();
    for batch in batches {
        let mut workspace = Workspace::with(rules, "test", 1_800_000_000_000_000, memory)
            .with_guards(guards.values().cloned());
        for tx in batch {
            workspace.take_in(&tx.source, &tx.header, tx.events.clone());
        }
        loop {
            let needs = workspace.needs();
            if needs.is_empty() {
                break;
            }
            if workspace.must_be_committed(&needs) {
                uncommitted.drain(..).for_each(|outcome| commit(store, outcome));
            }
            workspace.provide(store.load(&needs));
        }
        let outcome: Outcome;
        (outcome, memory) = workspace.end();
        guards.extend(outcome.guards.iter().map(|g| (g.rule.clone(), g.clone())));
        uncommitted.push_back(outcome);
        if uncommitted.len() > 2 {
            uncommitted.pop_front().into_iter().for_each(|outcome| commit(store, outcome));
        }
    }
    uncommitted.into_iter().for_each(|outcome| commit(store, outcome));
}

/// Judges rows that are not in their source any more, as found at `lsn`, and commits the result.
pub fn run_gone(rules: &Rules, store: &mut Store, source: &str, lsn: u64, rows: Vec<SourceRow>) {
    let mut workspace = Workspace::new(rules, "test", 1_800_000_000_000_000);
    let header = TxHeader { id: "resync".into(), ..tx(source, lsn, Vec::new()).header };
    workspace.take_in_gone(&source.into(), &header, rows);
    loop {
        let needs = workspace.needs();
        if needs.is_empty() {
            return commit(store, workspace.finish());
        }
        assert!(needs.rows.is_empty(), "they are known already");
        workspace.provide(store.load(&needs));
    }
}

pub fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|n| Name::from(*n)).collect()
}

pub fn text(file: &str, text: &str) -> SourceText {
    SourceText { file: file.into(), text: text.into() }
}

pub fn load(mapping: &[(&str, &str)], rules: &str) -> Result<Rules, Vec<crossdock_model::Problem>> {
    let sources = names(&["erp", "wms_eu", "wms_us", "tms"]);
    let targets = names(&["erp", "wms_eu"]);
    let mappings: Vec<_> = mapping.iter().map(|(f, t)| text(f, t)).collect();
    let known = Known { sources: &sources, targets: &targets };
    Rules::load(Entities::shipped(), &mappings, &[text("rules.toml", rules)], &known)
}

/// A table: `name` and columns; a column that ends in `*` is part of the key.
pub fn table(name: &str, columns: &[&str]) -> Arc<TableSchema> {
    let mut keys = 0;
    let columns = columns
        .iter()
        .map(|c| {
            let key = c.ends_with('*').then(|| {
                keys += 1;
                keys - 1
            });
            Column {
                name: c.trim_end_matches('*').into(),
                type_name: "text".into(),
                nullable: key.is_none(),
                key,
                base_type: None,
                default: None,
            }
        })
        .collect();
    Arc::new(TableSchema { name: TableName::parse(name).unwrap(), columns })
}

pub fn s(text: &str) -> Value<'static> {
    Value::Text(text.to_string().into())
}

pub fn i(n: i64) -> Value<'static> {
    Value::Int(n)
}

pub fn event(
    op: Op,
    table: &Arc<TableSchema>,
    before: Option<Vec<Value<'static>>>,
    after: Option<Vec<Value<'static>>>,
) -> ChangeEvent {
    ChangeEvent {
        op,
        table: Some(table.clone()),
        before: before.map(RowImage::Full),
        after: after.map(RowImage::Full),
        message: None,
        ordinal: 0,
    }
}

pub fn put(op: Op, table: &Arc<TableSchema>, after: Vec<Value<'static>>) -> ChangeEvent {
    event(op, table, None, Some(after))
}

pub fn delete(table: &Arc<TableSchema>, key: Vec<Value<'static>>) -> ChangeEvent {
    let mut values: Vec<Option<Value<'static>>> = key.into_iter().map(Some).collect();
    values.resize(table.columns.len(), None);
    ChangeEvent { before: Some(RowImage::Key(values)), ..event(Op::Delete, table, None, None) }
}

/// A transaction that commits at `lsn`.
pub fn tx(source: &str, lsn: u64, mut events: Vec<ChangeEvent>) -> Tx {
    for (n, event) in events.iter_mut().enumerate() {
        event.ordinal = u32::try_from(n).unwrap();
    }
    let header = TxHeader {
        id: format!("tx{lsn}"),
        commit: Position::Postgres { lsn },
        commit_micros: 1_700_000_000_000_000 + i64::try_from(lsn).unwrap() * 1_000_000,
        origin: None,
        snapshot: false,
    };
    Tx { source: source.into(), header, events }
}

pub fn snapshot(source: &str, lsn: u64, events: Vec<ChangeEvent>) -> Tx {
    let mut tx = tx(source, lsn, events);
    tx.header.snapshot = true;
    tx.header.id = "snapshot".into();
    tx
}
