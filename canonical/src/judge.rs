//! The second half of judging: what the steps of each transaction do to records.

mod around;
mod moves;
pub(crate) mod phase;
mod settle;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_model::Sorted;
use crossdock_model::canonical::{
    Contribution, Evidence, HistoryEntry, Name, Needs, Outcome, Record, RecordKey, Release, RowKey,
    Tally,
};
use foldhash::{HashMap, HashMapExt};
use uuid::Uuid;

use crate::compute::{Change, Dirt, Fresh, Rec, changed_field, changed_fields};
use crate::difference::{changes, differences, differs, evidence, merge_evidence};
use crate::fold::Folded;
use crate::ownership::Merge;
use crate::rules::Rules;
use crate::step::Step;
use crate::trouble::Troubles;

use settle::Touched;

/// Changes of children are followed upwards this far.
pub(crate) const LEVELS_MAX: u8 = 8;

/// What has been loaded about records; an entry that is present has been asked for.
#[derive(Debug, Default)]
pub(crate) struct RecordStore {
    /// Records.
    pub records: HashMap<RecordKey, Arc<Rec>>,
    /// Records that link to a record.
    pub linking: HashMap<RecordKey, BTreeSet<RecordKey>>,
    /// Releases that depend on a record.
    pub releases_on: HashMap<RecordKey, Vec<Release>>,
}

/// The records of a batch.
pub(crate) struct Judge<'j> {
    pub(crate) rules: &'j Rules,
    pub(crate) installation: &'j str,
    store: &'j RecordStore,
    pub(crate) recs: HashMap<RecordKey, Arc<Rec>>,
    /// Links made in this batch, by the record that is linked to.
    linked_from: HashMap<RecordKey, BTreeSet<RecordKey>>,
    /// Records with a release that depends on a record, by that record.
    depending: HashMap<RecordKey, BTreeSet<RecordKey>>,
    pub(crate) needs: NeedSets,
    pub(crate) troubles: Troubles,
    pub(crate) out: Outcome,
    /// The present, microseconds since the Unix epoch.
    pub(crate) now_micros: i64,
}

/// What is missing, each once.
#[derive(Debug, Default)]
pub(crate) struct NeedSets {
    pub(crate) records: BTreeSet<RecordKey>,
    pub(crate) linking: BTreeSet<RecordKey>,
    pub(crate) releases: BTreeSet<RecordKey>,
}

/// One source transaction while it is judged.
pub(crate) struct Tx<'t> {
    pub(crate) folded: &'t Folded<'t>,
    pub(crate) place: Name,
    /// Records as they were before it.
    pub(crate) base: BTreeMap<RecordKey, Option<Arc<Record>>>,
    /// Of records of which only fields have changed, so far: which.
    only: HashMap<RecordKey, Vec<Name>>,
    /// Evidence as it was before it.
    pub(crate) evidence: BTreeMap<RecordKey, Sorted<Uuid, Arc<Evidence>>>,
    pub(crate) fresh: Fresh,
    /// It is no transaction: time has passed.
    pub(crate) is_clock: bool,
    /// Rules that failed in the last computation of a record.
    errors: BTreeMap<RecordKey, Vec<(Name, String)>>,
    /// Records and the fields of them that this transaction has changed.
    pub(crate) changed: BTreeMap<RecordKey, Vec<Name>>,
}

impl<'t> Tx<'t> {
    fn new(folded: &'t Folded<'t>) -> Self {
        Self {
            folded,
            place: folded.header.commit.to_string().into(),
            base: BTreeMap::new(),
            only: HashMap::default(),
            evidence: BTreeMap::new(),
            fresh: Fresh::default(),
            is_clock: false,
            errors: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }

    /// Notes that a record has changed: how it was before the first time, and which fields, as long
    /// as nothing else has.
    fn note_change(&mut self, key: &RecordKey, was: Option<&Arc<Record>>, fields: Option<&[Name]>) {
        let first = !self.base.contains_key(key);
        if first {
            self.base.insert(key.clone(), was.cloned());
        }
        match (fields, self.only.get_mut(key)) {
            (Some(fields), Some(known)) => known.extend_from_slice(fields),
            (Some(fields), None) if first => _ = self.only.insert(key.clone(), fields.to_vec()),
            (Some(_), None) => {}
            (None, _) => _ = self.only.remove(key),
        }
    }
}

/// What is judged at once.
pub(crate) struct Batch<'b> {
    /// Transactions.
    pub transactions: &'b [Folded<'b>],
    /// What each means for records.
    pub steps: &'b [Vec<Step>],
    /// Records whose time has come.
    pub due: &'b BTreeSet<RecordKey>,
    /// The present, microseconds since the Unix epoch.
    pub now_micros: i64,
}

/// What all transactions come to.
#[derive(Debug)]
pub(crate) struct Judged {
    /// What is to be committed.
    pub outcome: Outcome,
    /// Every record that was looked at, as it is after that.
    pub recs: HashMap<RecordKey, Arc<Rec>>,
}

/// Judges all transactions.
///
/// # Errors
/// What must be loaded first.
pub(crate) fn judge_all(
    rules: &Rules,
    installation: &str,
    store: &RecordStore,
    batch: &Batch<'_>,
) -> Result<Judged, Needs> {
    let mut judge = Judge::new(rules, installation, store, batch.now_micros);
    for (folded, steps) in batch.transactions.iter().zip(batch.steps) {
        judge.transaction(folded, steps);
    }
    judge.clock(batch.due);
    judge.finish()
}

impl<'j> Judge<'j> {
    fn new(
        rules: &'j Rules,
        installation: &'j str,
        store: &'j RecordStore,
        now_micros: i64,
    ) -> Self {
        Self {
            rules,
            installation,
            store,
            recs: HashMap::with_capacity(store.records.len()),
            linked_from: HashMap::default(),
            depending: HashMap::default(),
            needs: NeedSets::default(),
            troubles: Troubles::new(installation),
            out: Outcome::default(),
            now_micros,
        }
    }

    /// Makes a record available; one that has not been loaded is needed, and empty until then.
    fn available(&mut self, key: &RecordKey) -> &mut Arc<Rec> {
        match self.recs.entry(key.clone()) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let Some(rec) = self.store.records.get(key) else {
                    self.needs.records.insert(key.clone());
                    return place.insert(Arc::default());
                };
                for release in rec.releases.values() {
                    around::note_depends(&mut self.depending, release);
                }
                place.insert(rec.clone())
            }
        }
    }

    /// A record with what it is made of.
    pub(crate) fn load(&mut self, key: &RecordKey) -> &Arc<Rec> {
        self.available(key)
    }

    /// The same, to be changed.
    pub(crate) fn load_mut(&mut self, key: &RecordKey) -> &mut Rec {
        Arc::make_mut(self.available(key))
    }

    pub(crate) fn count(&mut self, tally: Tally) {
        *self.out.tallies.entry(tally).or_default() += 1;
    }

    /// Looks at records whose time has come.
    fn clock(&mut self, due: &BTreeSet<RecordKey>) {
        if due.is_empty() {
            return;
        }
        let folded = crate::fold::clock(self.now_micros);
        let mut tx = Tx { is_clock: true, ..Tx::new(&folded) };
        let mut touched = Touched::default();
        due.iter().for_each(|key| touched.add(key, Dirt::whole()));
        let touched = self.settle(&mut tx, touched);
        self.close_versions(&mut tx);
        self.evidence_troubles(&tx);
        self.rule_troubles(&mut tx);
        self.tell(&tx);
        self.release(&tx, &touched);
    }

    fn transaction(&mut self, folded: &Folded<'_>, steps: &[Step]) {
        let mut tx = Tx::new(folded);
        let told = self.out.deliveries.len();
        self.truncated(&tx);
        let mut touched = Touched::default();
        for step in steps {
            step.records().for_each(|key| touched.add(key, Dirt::default()));
            self.apply(&mut tx, step, &mut touched);
        }
        let touched = self.settle(&mut tx, touched);
        self.close_versions(&mut tx);
        for step in steps {
            self.violations(&tx, step);
            self.quarantines(&tx, step);
        }
        self.evidence_troubles(&tx);
        self.rule_troubles(&mut tx);
        self.tell(&tx);
        self.release(&tx, &touched);
        self.stop_loops(&tx, told);
        self.unchanged(&tx, steps);
    }

    fn truncated(&mut self, tx: &Tx<'_>) {
        for (table, at) in &tx.folded.truncated {
            let source = &tx.folded.source;
            let row = RowKey { source: source.clone(), table: table.clone(), pk: "".into() };
            let trouble = crate::rowmap::RowTrouble::Mapping {
                field: format!("truncate@{}", at.to_sortable()).into(),
                rule: "truncate".into(),
                what: "the table was truncated, and its rows are kept here".into(),
            };
            self.troubles.of_row(&row, &trouble, &tx.place, true);
        }
    }

    fn apply(&mut self, tx: &mut Tx<'_>, step: &Step, touched: &mut Touched) {
        for trouble in &step.troubles {
            self.troubles.of_row(&step.row, trouble, &tx.place, true);
            if let crate::rowmap::RowTrouble::UnknownCode { table, .. } = trouble {
                let source = step.row.source.clone();
                self.count(Tally::UnknownCode { table: table.clone(), source });
            }
        }
        for trouble in &step.mended {
            self.troubles.of_row(&step.row, trouble, &tx.place, false);
        }
        for key in &step.left {
            self.load_mut(key).contributions.remove(&step.row);
            touched.add(key, Dirt::whole());
        }
        for said in step.said() {
            self.note_fresh(tx, step, said);
            self.note_duplicate(step, &said.record);
            let contribution = Contribution {
                record: said.record.clone(),
                row: step.row.clone(),
                fields: said.fields.clone(),
                links: said.links.clone(),
                at: step.at,
                gone: false,
            };
            let known = &mut self.load_mut(&said.record).contributions;
            let other = |row: &RowKey| row.source == step.row.source && *row != step.row;
            let dirt = match known.get(&step.row) {
                Some(old) => Dirt::between(old, &contribution, known.keys().any(other)),
                // The first row of all says where the key comes from.
                None if known.keys().next().is_some_and(|first| *first < step.row) => {
                    Dirt::first(&contribution)
                }
                None => Dirt::whole(),
            };
            touched.add(&said.record, dirt);
            known.insert(step.row.clone(), Arc::new(contribution));
        }
        self.apply_evidence(tx, step, touched);
    }

    fn apply_evidence(&mut self, tx: &mut Tx<'_>, step: &Step, touched: &mut Touched) {
        let dirt = || Dirt { evidence: true, ..Dirt::default() };
        for (id, record) in &step.withdrawn {
            touched.add(record, dirt());
            let moved = step.stated.iter().any(|s| s.id == *id);
            let evidence = self.evidence_mut(tx, record);
            if moved {
                evidence.remove(id);
            } else if let Some(item) = evidence.get_mut(id).map(Arc::make_mut) {
                item.withdrawn = true;
                item.at = item.at.max(step.at);
            }
        }
        for stated in &step.stated {
            let new = evidence(stated, step, tx.folded.header.commit_micros);
            let known = self.evidence_mut(tx, &stated.fact.record);
            let timed = stated.fact.event_micros.is_some();
            let old = known.remove(&stated.id);
            let merged = merge_evidence(old.clone(), new, timed);
            if !old.is_some_and(|old| Arc::ptr_eq(&old, &merged)) {
                touched.add(&stated.fact.record, dirt());
            }
            known.insert(stated.id, merged);
        }
    }

    fn evidence_mut(
        &mut self,
        tx: &mut Tx<'_>,
        key: &RecordKey,
    ) -> &mut Sorted<Uuid, Arc<Evidence>> {
        let rec = self.load_mut(key);
        if !tx.evidence.contains_key(key) {
            tx.evidence.insert(key.clone(), rec.evidence.clone());
        }
        &mut rec.evidence
    }

    /// A second row of the same table for a record that a row speaks of already.
    fn note_duplicate(&mut self, step: &Step, key: &RecordKey) {
        let rules = self.rules;
        let known = &self.load(key).contributions;
        let same = |row: &&RowKey| row.source == step.row.source && row.table == step.row.table;
        let second =
            !known.contains_key(&step.row) && known.keys().filter(same).any(|r| *r != step.row);
        let merged = |field: &Name| {
            let rule = rules.ownership.of(&key.entity).and_then(|o| o.of(field));
            rule.is_some_and(|r| r.iter().all(|c| c.merge != Merge::Latest))
        };
        let of_key = rules.entities.of(&key.entity);
        let summed = || {
            step.said().iter().filter(|s| s.record == *key).all(|said| {
                let own = said.fields.keys().filter(|f| !of_key.is_some_and(|e| e.is_key(f)));
                let mut own = own.peekable();
                own.peek().is_some() && own.all(merged)
            })
        };
        if second && !summed() {
            let (entity, source) = (key.entity.clone(), step.row.source.clone());
            self.count(Tally::Duplicate { entity, source });
        }
    }

    /// Gives every record that has really changed its new version and its history.
    fn close_versions(&mut self, tx: &mut Tx<'_>) {
        for (key, base) in &tx.base {
            let rec = self.recs.get_mut(key).map(Arc::make_mut);
            let Some(shared) = rec.and_then(|r| r.record.as_mut()) else {
                continue;
            };
            let was = base.as_deref();
            Arc::make_mut(shared).version = was.map_or(0, |b| b.version) + 1;
            let record = &**shared;
            let only = tx.only.get_mut(key);
            let plain = only.is_some();
            let fields: Vec<Change<'_>> = match (was, only) {
                (Some(was), Some(names)) => {
                    names.sort_unstable();
                    names.dedup();
                    names.iter().filter_map(|name| changed_field(was, record, name)).collect()
                }
                _ => changed_fields(was, record).collect(),
            };
            let same = |b: &Record| match plain {
                true => fields.is_empty(),
                false => !differs(b, record, &fields),
            };
            if let Some(base) = base.as_ref().filter(|b| same(b)) {
                // Changed and changed back.
                drop(fields);
                shared.clone_from(base);
                continue;
            }
            let header = &tx.folded.header;
            self.out.history.push(HistoryEntry {
                record: key.clone(),
                version: record.version,
                source: tx.folded.source.clone(),
                transaction: header.id.as_str().into(),
                position: tx.place.clone(),
                commit_micros: header.commit_micros,
                changes: changes(was, record, &fields, plain),
            });
            let names = fields.iter().map(|(name, ..)| Name::clone(name)).collect();
            tx.changed.insert(key.clone(), names);
        }
    }

    fn rule_troubles(&mut self, tx: &mut Tx<'_>) {
        for (key, errors) in std::mem::take(&mut tx.errors) {
            for (rule, what) in errors {
                self.troubles.of_rule(&key, &rule, &what, &"".into());
            }
        }
    }

    fn unchanged(&mut self, tx: &Tx<'_>, steps: &[Step]) {
        for step in steps {
            if !step.records().any(|key| tx.changed.contains_key(key)) {
                self.count(Tally::Unchanged { source: step.row.source.clone() });
            }
        }
    }

    fn finish(mut self) -> Result<Judged, Needs> {
        let needs = Needs {
            records: self.needs.records.into_iter().collect(),
            linking_to: self.needs.linking.into_iter().collect(),
            releases_on: self.needs.releases.into_iter().collect(),
            ..Needs::default()
        };
        if !needs.is_empty() {
            return Err(needs);
        }
        // Evidence that is now about another record has not been withdrawn.
        let (nothing, mut moved) = (Arc::<Rec>::default(), BTreeSet::<Uuid>::new());
        let store = self.store;
        let before = |key: &RecordKey| store.records.get(key).unwrap_or(&nothing);
        for rec in self.recs.values_mut().filter(|rec| !rec.apart && rec.must_be_apart()) {
            Arc::make_mut(rec).apart = true;
        }
        let mut recs: Vec<(&RecordKey, &Rec, &Rec)> = Vec::with_capacity(self.recs.len());
        for (key, rec) in &self.recs {
            let old = before(key);
            if !Arc::ptr_eq(old, rec) {
                let ids = rec.evidence.keys().copied();
                moved.extend(ids.filter(|id| !old.evidence.contains_key(id)));
                recs.push((key, old, rec));
            }
        }
        recs.sort_unstable_by_key(|(key, ..)| *key);
        for (_, old, rec) in recs {
            differences(old, rec, |id| !moved.contains(id), &mut self.out);
        }
        self.out.exceptions = self.troubles.into_items();
        Ok(Judged { outcome: self.out, recs: self.recs })
    }
}
