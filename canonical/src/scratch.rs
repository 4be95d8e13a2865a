//! A store in memory: for `[[test]]` blocks, for comparing rules, and for tests.

use std::collections::BTreeMap;

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
}

impl Scratch {
    /// Answers what a workspace needs.
    pub fn load(&self, needs: &Needs) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.rows.extend(needs.rows.iter().filter_map(|k| self.rows.get(k).cloned()));
        let parked = self
            .rows
            .values()
            .filter(|r| r.refers_to.iter().any(|w| needs.referring_to.contains(w)));
        loaded.referring.extend(parked.cloned());
        for key in &needs.records {
            let state = self.state(key);
            if state != RecordState::default() {
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

    /// Takes an outcome.
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
        for deadline in outcome.deadlines {
            match deadline.gone {
                true => _ = self.deadlines.remove(&deadline.id),
                false => _ = self.deadlines.insert(deadline.id, deadline),
            }
        }
        self.guards.extend(outcome.guards.into_iter().map(|g| (g.rule.clone(), g)));
        for delivery in outcome.deliveries {
            if self.deliveries.iter().all(|d| d.event_id != delivery.event_id) {
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

    fn state(&self, key: &RecordKey) -> RecordState {
        let of = |r: &RecordKey| r == key;
        let contribution =
            |c: &Contribution| Contribution { fields: plain(&c.fields).into(), ..c.clone() };
        let contributions = self.contributions.values().filter(|c| of(&c.record));
        let record = self.records.get(key);
        RecordState {
            record: record.map(|r| Record { fields: plain(&r.fields), ..r.clone() }),
            contributions: contributions.map(contribution).collect(),
            evidence: self.evidence.values().filter(|e| of(&e.record)).cloned().collect(),
            releases: self.releases.values().filter(|r| of(&r.record)).cloned().collect(),
            deadlines: self.deadlines.values().filter(|d| of(&d.record)).cloned().collect(),
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
