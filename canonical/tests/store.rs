//! A store in memory that applies outcomes and answers needs, and a source whose log can be
//! written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_canonical::{Known, Rules, Workspace};
use crossdock_model::canonical::{
    Contribution, Delivery, Evidence, ExceptionItem, Fields, HistoryEntry, Loaded, Name, Needs,
    Outcome, Record, RecordKey, RecordState, Release, RowKey, SourceRow, Tally,
};
use crossdock_model::{
    ChangeEvent, Column, Op, Position, RowImage, SourceText, TableName, TableSchema, TxHeader,
    Value,
};
use crossdock_schema_registry::Entities;
use uuid::Uuid;

/// Everything that has been committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    pub rows: BTreeMap<RowKey, SourceRow>,
    pub contributions: BTreeMap<(RecordKey, RowKey), Contribution>,
    pub records: BTreeMap<RecordKey, Record>,
    pub evidence: BTreeMap<Uuid, Evidence>,
    pub history: Vec<HistoryEntry>,
    pub exceptions: BTreeMap<Uuid, ExceptionItem>,
    pub releases: BTreeMap<(Name, Name), Release>,
    pub deliveries: Vec<Delivery>,
    pub tallies: BTreeMap<Tally, u64>,
}

/// Values as jsonb gives them back.
fn plain(fields: &Fields) -> Fields {
    let text = |v: &Value<'static>| match v.to_json() {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => Value::Int(n.as_i64().unwrap()),
        serde_json::Value::String(s) => Value::Text(s.into()),
        other => Value::Json(other.to_string().into()),
    };
    fields.iter().map(|(k, v)| (k.clone(), text(v))).collect()
}

impl Store {
    pub fn load(&self, needs: &Needs) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.rows.extend(needs.rows.iter().filter_map(|k| self.rows.get(k).cloned()));
        let parked = self
            .rows
            .values()
            .filter(|r| r.refers_to.iter().any(|w| needs.referring_to.contains(w)));
        loaded.referring.extend(parked.cloned());
        for key in &needs.records {
            let of = |r: &RecordKey| r == key;
            let plain_contribution =
                |c: &Contribution| Contribution { fields: plain(&c.fields).into(), ..c.clone() };
            let state = RecordState {
                record: self
                    .records
                    .get(key)
                    .map(|r| Record { fields: plain(&r.fields), ..r.clone() }),
                contributions: self
                    .contributions
                    .values()
                    .filter(|c| of(&c.record))
                    .map(plain_contribution)
                    .collect(),
                evidence: self.evidence.values().filter(|e| of(&e.record)).cloned().collect(),
                releases: self.releases.values().filter(|r| of(&r.record)).cloned().collect(),
            };
            if state.record.is_some()
                || !state.contributions.is_empty()
                || !state.evidence.is_empty()
            {
                loaded.records.push((key.clone(), state));
            }
        }
        for to in &needs.linking_to {
            for (from, record) in &self.records {
                if record.links.values().any(|l| l == to) {
                    loaded.linking.push((to.clone(), from.clone()));
                }
            }
        }
        let depends = |r: &&Release| r.depends.iter().any(|d| needs.releases_on.contains(d));
        loaded.releases.extend(self.releases.values().filter(depends).cloned());
        loaded
    }

    pub fn apply(&mut self, outcome: Outcome) {
        self.rows.extend(outcome.rows.into_iter().map(|r| (r.key.clone(), r)));
        for c in outcome.contributions {
            let key = (c.record.clone(), c.row.clone());
            match c.gone {
                true => _ = self.contributions.remove(&key),
                false => _ = self.contributions.insert(key, c),
            }
        }
        self.records.extend(outcome.records.into_iter().map(|r| (r.key.clone(), r)));
        self.evidence.extend(outcome.evidence.into_iter().map(|e| (e.id, e)));
        self.history.extend(outcome.history);
        for item in outcome.exceptions {
            if item.open || self.exceptions.contains_key(&item.id) {
                self.exceptions.insert(item.id, item);
            }
        }
        for release in outcome.releases {
            let key = (release.rule.clone(), release.business_key.clone());
            self.releases.insert(key, release);
        }
        for delivery in outcome.deliveries {
            if self.deliveries.iter().all(|d| d.event_id != delivery.event_id) {
                self.deliveries.push(delivery);
            }
        }
        for (tally, n) in outcome.tallies {
            *self.tallies.entry(tally).or_default() += n;
        }
    }

    pub fn field(&self, key: &str, field: &str) -> Option<String> {
        let record = self.records.values().find(|r| &*r.key.key == key)?;
        record.fields.get(field)?.to_text()
    }

    pub fn open(&self, kind: &str) -> usize {
        self.exceptions.values().filter(|e| e.open && &*e.kind == kind).count()
    }

    pub fn told(&self, rule: &str) -> Vec<&Delivery> {
        self.deliveries.iter().filter(|d| &*d.rule == rule).collect()
    }

    /// What must be the same however changes arrived.
    pub fn meaning(&self) -> BTreeMap<RecordKey, (bool, Fields)> {
        self.records.iter().map(|(k, r)| (k.clone(), (r.deleted, plain(&r.fields)))).collect()
    }
}

/// A transaction of a source.
#[derive(Clone, Debug)]
pub struct Tx {
    pub source: Name,
    pub header: TxHeader,
    pub events: Vec<ChangeEvent>,
}

/// Judges transactions as one batch and commits the result. Checks that nothing is asked twice.
pub fn run(rules: &Rules, store: &mut Store, batch: &[Tx]) {
    let mut workspace = Workspace::new(rules, "test", 1_800_000_000_000_000);
    for tx in batch {
        workspace.take_in(&tx.source, &tx.header, tx.events.clone());
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for _ in 0..40 {
        let needs = workspace.needs();
        if needs.is_empty() {
            store.apply(workspace.finish());
            return;
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

/// Judges rows that are not in their source any more, as found at `lsn`, and commits the result.
pub fn run_gone(rules: &Rules, store: &mut Store, source: &str, lsn: u64, rows: Vec<SourceRow>) {
    let mut workspace = Workspace::new(rules, "test", 1_800_000_000_000_000);
    let header = TxHeader { id: "resync".into(), ..tx(source, lsn, Vec::new()).header };
    workspace.take_in_gone(&source.into(), &header, rows);
    loop {
        let needs = workspace.needs();
        if needs.is_empty() {
            return store.apply(workspace.finish());
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
