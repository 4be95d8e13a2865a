//! A store in memory: for `[[test]]` blocks, for comparing rules, and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{
    Contribution, Deadline, Delivery, Evidence, ExceptionItem, Fields, GuardState, HistoryEntry,
    Loaded, Name, Needs, Outcome, Record, RecordKey, RecordState, Release, RowKey, SourceRow,
    Tally,
};
use uuid::Uuid;

/// Everything that has been decided, as a canonical store would have it. Grows with what it is
/// given: not for a whole installation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scratch {
    /// Row images.
    pub rows: BTreeMap<RowKey, SourceRow>,
    /// Contributions by record and row.
    pub contributions: BTreeMap<(RecordKey, RowKey), Contribution>,
    /// Records.
    pub records: BTreeMap<RecordKey, Record>,
    /// Evidence.
    pub evidence: BTreeMap<Uuid, Evidence>,
    /// History in order.
    pub history: Vec<HistoryEntry>,
    /// Exceptions, open and closed.
    pub exceptions: BTreeMap<Uuid, ExceptionItem>,
    /// Releases by rule and business key.
    pub releases: BTreeMap<(Name, Name), Release>,
    /// Deadlines.
    pub deadlines: BTreeMap<Uuid, Deadline>,
    /// Rate guards.
    pub guards: BTreeMap<Name, GuardState>,
    /// Deliveries in order.
    pub deliveries: Vec<Delivery>,
    /// Counts.
    pub tallies: BTreeMap<Tally, u64>,
    owed: BTreeSet<Uuid>,
    index: Index,
}

/// What is found by something else than its key. It may name too much: what is found is looked at.
#[derive(Clone, Debug, Default)]
struct Index {
    referring: BTreeMap<RowKey, BTreeSet<RowKey>>,
    linking: BTreeMap<RecordKey, BTreeSet<RecordKey>>,
    evidence: BTreeMap<RecordKey, BTreeSet<Uuid>>,
    releases: BTreeMap<RecordKey, BTreeSet<(Name, Name)>>,
    depending: BTreeMap<RecordKey, BTreeSet<(Name, Name)>>,
    deadlines: BTreeMap<RecordKey, BTreeSet<Uuid>>,
    /// Records with which what rows say is kept.
    together: BTreeSet<RecordKey>,
}

/// Stores with the same content are equal, whatever their indexes remember.
impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Scratch {
    /// Answers what a workspace needs.
    pub fn load(&self, needs: &Needs) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.rows.extend(needs.rows.iter().filter_map(|k| self.rows.get(k).cloned()));
        let asked: BTreeSet<&RowKey> = needs.referring_to.iter().collect();
        let referring: BTreeSet<&RowKey> =
            asked.iter().flat_map(|on| self.index.referring.get(*on)).flatten().collect();
        let rows = referring.into_iter().filter_map(|key| self.rows.get(key));
        let refers = |r: &&SourceRow| r.refers_to.iter().any(|on| asked.contains(on));
        loaded.referring.extend(rows.filter(refers).cloned());
        for key in &needs.records {
            let state = self.state(key);
            if state != RecordState::default() {
                loaded.records.push((key.clone(), state));
            }
        }
        for to in &needs.linking_to {
            for from in self.index.linking.get(to).into_iter().flatten() {
                let record = self.records.get(from);
                if record.is_some_and(|r| r.links.values().any(|l| l == to)) {
                    loaded.linking.push((to.clone(), from.clone()));
                }
            }
        }
        let depending: BTreeSet<&(Name, Name)> = needs
            .releases_on
            .iter()
            .flat_map(|on| self.index.depending.get(on))
            .flatten()
            .collect();
        let releases = depending.into_iter().filter_map(|key| self.releases.get(key));
        let depends = |r: &&Release| r.depends.iter().any(|d| needs.releases_on.contains(d));
        loaded.releases.extend(releases.filter(depends).cloned());
        loaded
    }

    /// Keeps a row as it is, unless it is known.
    pub(crate) fn keep_row(&mut self, row: &SourceRow) {
        if !self.rows.contains_key(&row.key) {
            self.put_row(row.clone());
        }
    }

    /// Keeps evidence as it is, unless it is known.
    pub(crate) fn keep_evidence(&mut self, evidence: &[Evidence]) {
        for item in evidence.iter().filter(|e| !self.evidence.contains_key(&e.id)) {
            self.index.evidence.entry(item.record.clone()).or_default().insert(item.id);
        }
        for item in evidence {
            self.evidence.entry(item.id).or_insert_with(|| item.clone());
        }
    }

    fn put_row(&mut self, row: SourceRow) {
        for on in &row.refers_to {
            self.index.referring.entry(on.clone()).or_default().insert(row.key.clone());
        }
        self.rows.insert(row.key.clone(), row);
    }

    /// Takes an outcome.
    pub fn apply(&mut self, outcome: Outcome) {
        let rows = outcome.rows.into_iter().chain(outcome.new_rows);
        rows.for_each(|row| self.put_row(Arc::unwrap_or_clone(row)));
        let put = outcome.contributions.into_iter().chain(outcome.new_contributions);
        for c in put.map(Arc::unwrap_or_clone) {
            let key = (c.record.clone(), c.row.clone());
            match c.gone {
                true => _ = self.contributions.remove(&key),
                false => _ = self.contributions.insert(key, c),
            }
        }
        let records = outcome.records.into_iter().chain(outcome.new_records);
        for record in records.map(Arc::unwrap_or_clone) {
            match outcome.said.contains_key(&record.key) {
                true => _ = self.index.together.insert(record.key.clone()),
                false => _ = self.index.together.remove(&record.key),
            }
            for to in record.links.values() {
                self.index.linking.entry(to.clone()).or_default().insert(record.key.clone());
            }
            self.records.insert(record.key.clone(), record);
        }
        for evidence in outcome.evidence.into_iter().map(Arc::unwrap_or_clone) {
            self.index.evidence.entry(evidence.record.clone()).or_default().insert(evidence.id);
            self.evidence.insert(evidence.id, evidence);
        }
        self.history.extend(outcome.history);
        for item in outcome.exceptions {
            if item.open || self.exceptions.contains_key(&item.id) {
                self.exceptions.insert(item.id, item);
            }
        }
        for release in outcome.releases.into_iter().map(Arc::unwrap_or_clone) {
            let key = (release.rule.clone(), release.business_key.clone());
            self.index.releases.entry(release.record.clone()).or_default().insert(key.clone());
            for on in &release.depends {
                self.index.depending.entry(on.clone()).or_default().insert(key.clone());
            }
            self.releases.insert(key, release);
        }
        for deadline in outcome.deadlines {
            self.index.deadlines.entry(deadline.record.clone()).or_default().insert(deadline.id);
            match deadline.gone {
                true => _ = self.deadlines.remove(&deadline.id),
                false => _ = self.deadlines.insert(deadline.id, deadline),
            }
        }
        self.guards.extend(outcome.guards.into_iter().map(|g| (g.rule.clone(), g)));
        for delivery in outcome.deliveries {
            if self.owed.insert(delivery.event_id) {
                self.deliveries.push(delivery);
            }
        }
        for (tally, n) in outcome.tallies {
            *self.tallies.entry(tally).or_default() += n;
        }
    }

    /// Records with a deadline that has passed and has not been looked at.
    pub fn due(&self, now_micros: i64) -> Vec<RecordKey> {
        let due = |d: &&Deadline| !d.raised && d.due_micros <= now_micros;
        let mut records: Vec<_> =
            self.deadlines.values().filter(due).map(|d| d.record.clone()).collect();
        records.sort();
        records.dedup();
        records
    }

    /// Whether what rows say of a record is kept apart from it.
    pub fn keeps_apart(&self, key: &RecordKey) -> bool {
        match self.records.contains_key(key) {
            true => !self.index.together.contains(key),
            false => self.said_of(key).next().is_some(),
        }
    }

    fn said_of(&self, key: &RecordKey) -> impl Iterator<Item = &Contribution> {
        let first = RowKey { source: "".into(), table: "".into(), pk: "".into() };
        let contributions = self.contributions.range((key.clone(), first)..);
        contributions.take_while(move |((k, _), _)| k == key).map(|(_, c)| c)
    }

    fn state(&self, key: &RecordKey) -> RecordState {
        let of = |r: &RecordKey| r == key;
        let contribution =
            |c: &Contribution| Contribution { fields: plain(&c.fields).into(), ..c.clone() };
        let ids = |index: &BTreeMap<RecordKey, BTreeSet<Uuid>>| -> Vec<Uuid> {
            index.get(key).into_iter().flatten().copied().collect()
        };
        let evidence = ids(&self.index.evidence);
        let evidence = evidence.iter().filter_map(|id| self.evidence.get(id));
        let releases = self.index.releases.get(key).into_iter().flatten();
        let releases = releases.filter_map(|place| self.releases.get(place));
        let deadlines = ids(&self.index.deadlines);
        let deadlines = deadlines.iter().filter_map(|id| self.deadlines.get(id));
        let record = self.records.get(key);
        RecordState {
            record: record.map(|r| Record { fields: plain(&r.fields), ..r.clone() }),
            apart: self.keeps_apart(key),
            contributions: self.said_of(key).map(contribution).collect(),
            evidence: evidence.filter(|e| of(&e.record)).cloned().collect(),
            releases: releases.filter(|r| of(&r.record)).cloned().collect(),
            deadlines: deadlines.filter(|d| of(&d.record)).cloned().collect(),
        }
    }
}

/// Values as JSON gives them back: a store that keeps records as JSON must make no difference.
pub(crate) fn plain(fields: &Fields) -> Fields {
    let text = |v: &Value<'static>| match v.to_json() {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(n) => Value::Int(n),
            None => Value::Decimal(n.to_string().into()),
        },
        serde_json::Value::String(s) => Value::Text(s.into()),
        other => Value::Json(other.to_string().into()),
    };
    fields.iter().map(|(k, v)| (k.clone(), text(v))).collect()
}
