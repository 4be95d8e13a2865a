//! A canonical store in memory: answers what judging needs from what has been committed, as the
//! real one does, and takes no part in what is measured.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{
    Contribution, Deadline, Evidence, Fields, Loaded, Name, Needs, Outcome, Record, RecordKey,
    RecordState, Release, RowKey, SourceRow,
};
use uuid::Uuid;

/// What has been committed, with the indexes that the needs ask for.
#[derive(Default)]
pub struct Store {
    rows: HashMap<RowKey, SourceRow>,
    referring: HashMap<RowKey, BTreeSet<RowKey>>,
    records: HashMap<RecordKey, Record>,
    contributions: HashMap<RecordKey, BTreeMap<RowKey, Contribution>>,
    /// Records that do not keep with them what is said of them.
    apart: HashSet<RecordKey>,
    evidence: HashMap<RecordKey, BTreeMap<Uuid, Evidence>>,
    releases: HashMap<RecordKey, BTreeMap<(Name, Name), Release>>,
    deadlines: HashMap<RecordKey, BTreeMap<Uuid, Deadline>>,
    linking: HashMap<RecordKey, BTreeSet<RecordKey>>,
    depending: HashMap<RecordKey, BTreeSet<RecordKey>>,
    /// Versions of records, for the end of a run.
    pub history: u64,
    /// Deliveries owed.
    pub deliveries: u64,
    /// Exceptions that are open.
    pub exceptions: BTreeMap<Uuid, String>,
}

impl Store {
    /// Records that are there.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Answers needs.
    pub fn load(&self, needs: &Needs) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.rows.extend(needs.rows.iter().filter_map(|key| self.rows.get(key).cloned()));
        let mut seen = BTreeSet::new();
        for other in needs.referring_to.iter().filter_map(|key| self.referring.get(key)).flatten() {
            if seen.insert(other) {
                loaded.referring.extend(self.rows.get(other).cloned());
            }
        }
        for key in &needs.records {
            let state = self.state(key);
            if state.record.is_some()
                || !state.contributions.is_empty()
                || !state.evidence.is_empty()
            {
                loaded.records.push((key.clone(), state));
            }
        }
        for to in &needs.linking_to {
            let from = self.linking.get(to).into_iter().flatten();
            loaded.linking.extend(from.map(|from| (to.clone(), from.clone())));
        }
        let mut seen = BTreeSet::new();
        for key in needs.releases_on.iter().filter_map(|key| self.depending.get(key)).flatten() {
            for release in self.releases.get(key).into_iter().flat_map(BTreeMap::values) {
                let asked = release.depends.iter().any(|on| needs.releases_on.contains(on));
                if asked && seen.insert((release.rule.clone(), release.business_key.clone())) {
                    loaded.releases.push(release.clone());
                }
            }
        }
        loaded
    }

    fn state(&self, key: &RecordKey) -> RecordState {
        let plain_record = |r: &Record| Record { fields: plain(&r.fields), ..r.clone() };
        let all = |of: Option<&BTreeMap<RowKey, Contribution>>| {
            of.into_iter().flat_map(BTreeMap::values).cloned().collect()
        };
        RecordState {
            record: self.records.get(key).map(plain_record),
            contributions: all(self.contributions.get(key)),
            apart: self.apart.contains(key),
            evidence: self
                .evidence
                .get(key)
                .into_iter()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
            releases: self
                .releases
                .get(key)
                .into_iter()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
            deadlines: self
                .deadlines
                .get(key)
                .into_iter()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
        }
    }

    /// Commits an outcome.
    pub fn commit(&mut self, outcome: Outcome) {
        let rows = outcome.rows.into_iter().chain(outcome.new_rows);
        for row in rows.map(Arc::unwrap_or_clone) {
            let before = self.rows.get(&row.key).map(|r| r.refers_to.clone()).unwrap_or_default();
            for on in before.iter().filter(|on| !row.refers_to.contains(on)) {
                self.referring.entry(on.clone()).or_default().remove(&row.key);
            }
            for on in &row.refers_to {
                self.referring.entry(on.clone()).or_default().insert(row.key.clone());
            }
            self.rows.insert(row.key.clone(), row);
        }
        for deadline in outcome.deadlines {
            let of = self.deadlines.entry(deadline.record.clone()).or_default();
            match deadline.gone {
                true => _ = of.remove(&deadline.id),
                false => _ = of.insert(deadline.id, deadline),
            }
        }
        let put = outcome.contributions.into_iter().chain(outcome.new_contributions);
        for contribution in put.map(Arc::unwrap_or_clone) {
            let of = self.contributions.entry(contribution.record.clone()).or_default();
            match contribution.gone {
                true => _ = of.remove(&contribution.row),
                false => _ = of.insert(contribution.row.clone(), contribution),
            }
        }
        let records = outcome.records.into_iter().chain(outcome.new_records);
        for record in records.map(Arc::unwrap_or_clone) {
            match outcome.said.contains_key(&record.key) {
                true => _ = self.apart.remove(&record.key),
                false => _ = self.apart.insert(record.key.clone()),
            }
            let before = self.records.get(&record.key).map(|r| r.links.clone()).unwrap_or_default();
            for to in before.values() {
                self.linking.entry(to.clone()).or_default().remove(&record.key);
            }
            for to in record.links.values() {
                self.linking.entry(to.clone()).or_default().insert(record.key.clone());
            }
            self.records.insert(record.key.clone(), record);
        }
        for item in outcome.evidence.into_iter().map(Arc::unwrap_or_clone) {
            self.evidence.entry(item.record.clone()).or_default().insert(item.id, item);
        }
        for release in outcome.releases.into_iter().map(Arc::unwrap_or_clone) {
            for on in &release.depends {
                self.depending.entry(on.clone()).or_default().insert(release.record.clone());
            }
            let place = (release.rule.clone(), release.business_key.clone());
            self.releases.entry(release.record.clone()).or_default().insert(place, release);
        }
        for item in outcome.exceptions {
            match item.open {
                true => _ = self.exceptions.insert(item.id, item.text),
                false => _ = self.exceptions.remove(&item.id),
            }
        }
        self.history += outcome.history.len() as u64;
        self.deliveries += outcome.deliveries.len() as u64;
    }
}

/// Values as a store that keeps JSON gives them back.
fn plain(fields: &Fields) -> Fields {
    let text = |value: &Value<'static>| match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Json(_) => {
            value.clone()
        }
        other => other.to_text().map_or(Value::Null, |text| Value::Text(text.into())),
    };
    fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
