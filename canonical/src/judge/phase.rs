//! Judging one transaction in phases, each record by record or step by step: what
//! `Judge::transaction` does at once, for transactions that are too large for that. Between the
//! pages of a phase, what the transaction has done so far is in the store, and what it has to
//! remember of each record is in a [`RecordNote`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_model::canonical::{Evidence, Name, Needs, Outcome, Record, RecordKey};
use crossdock_model::{LogOrder, Sorted, Value};
use uuid::Uuid;

use super::settle::Touched;
use super::{Judge, RecordStore, Tx};
use crate::compute::Dirt;
use crate::difference::keep_said;
use crate::fold::Folded;
use crate::rules::Rules;
use crate::step::Step;

/// What is remembered of one record as long as its transaction is judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecordNote {
    /// The record before the transaction, once it was computed and has changed.
    pub base: Option<Option<Arc<Record>>>,
    /// Its evidence before the transaction, once that has changed.
    pub evidence: Option<Sorted<Uuid, Arc<Evidence>>>,
    /// Values that were taken from others than the owner.
    pub accepted: BTreeMap<Name, (Value<'static>, Name, LogOrder)>,
    /// Fields that their owners have written.
    pub owned: BTreeSet<Name>,
    /// Rules that failed in its last computation.
    pub errors: Option<Vec<(Name, String)>>,
    /// Fields that the transaction has changed in the end; once that is known.
    pub changed: Option<Vec<Name>>,
}

/// What is done with a page.
pub(crate) enum Work<'w> {
    /// Takes what rows say and state. The first page counts what is of no row.
    Apply(&'w [Step], bool),
    /// Computes records; what comes next is those above them.
    Compute(&'w [RecordKey]),
    /// Gives records their versions and histories.
    Close,
    /// Looks at what rows have changed without owning it.
    Look(&'w [Step]),
    /// Owes what subscriptions ask for; what comes next is records whose releases it may concern.
    Tell,
    /// Looks at the releases and deadlines of records.
    Release(&'w [RecordKey]),
}

/// A transaction and what is known of it.
pub(crate) struct Phase<'p> {
    pub rules: &'p Rules,
    pub installation: &'p str,
    /// The present, microseconds since the Unix epoch.
    pub now_micros: i64,
    /// The transaction; its nets are not looked at.
    pub folded: &'p Folded<'p>,
    /// What has been loaded.
    pub store: &'p RecordStore,
    /// What is remembered of records; one that is not there has not been asked for.
    pub notes: &'p BTreeMap<RecordKey, RecordNote>,
}

/// What a page comes to.
pub(crate) struct Done {
    /// What is to be written.
    pub outcome: Outcome,
    /// What is to be remembered from now on, where that has changed.
    pub notes: Vec<(RecordKey, RecordNote)>,
    /// Records for a phase that follows.
    pub next: BTreeSet<RecordKey>,
}

/// What must be loaded first.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Of the store.
    pub needs: Needs,
    /// Records whose notes are needed.
    pub notes: BTreeSet<RecordKey>,
}

impl Phase<'_> {
    /// Does a page of work.
    ///
    /// # Errors
    /// What must be loaded first.
    pub fn run(&self, work: &Work<'_>) -> Result<Done, Box<Missing>> {
        let mut judge = Judge::new(self.rules, self.installation, self.store, self.now_micros);
        let mut tx = self.remembered();
        let mut concerned: BTreeSet<RecordKey> = self.notes.keys().cloned().collect();
        match work {
            Work::Apply(steps, _) | Work::Look(steps) => {
                concerned.extend(steps.iter().flat_map(Step::records).cloned());
            }
            Work::Compute(keys) | Work::Release(keys) => concerned.extend(keys.iter().cloned()),
            Work::Close | Work::Tell => {}
        }
        concerned.iter().for_each(|key| _ = judge.load(key));
        let next = judge.work(&mut tx, work);
        let mut missing = Missing::default();
        concerned.extend(tx.base.keys().cloned());
        missing.notes.extend(concerned.into_iter().filter(|k| !self.notes.contains_key(k)));
        let judged = judge.finish();
        if let Err(needs) = judged {
            missing.needs = needs;
            return Err(Box::new(missing));
        }
        match judged {
            Ok(judged) if missing.notes.is_empty() => {
                let notes = self.changed(&tx);
                Ok(Done { outcome: judged.outcome, notes, next })
            }
            _ => Err(Box::new(missing)),
        }
    }

    /// The transaction as far as it is remembered.
    fn remembered(&self) -> Tx<'_> {
        let mut tx = Tx::new(self.folded);
        for (key, note) in self.notes {
            if let Some(base) = &note.base {
                tx.base.insert(key.clone(), base.clone());
            }
            if let Some(evidence) = &note.evidence {
                tx.evidence.insert(key.clone(), evidence.clone());
            }
            for (field, value) in &note.accepted {
                tx.fresh.accepted.insert((key.clone(), field.clone()), value.clone());
            }
            let owned = note.owned.iter().map(|field| (key.clone(), field.clone()));
            tx.fresh.owned.extend(owned);
            if let Some(errors) = &note.errors {
                tx.errors.insert(key.clone(), errors.clone());
            }
            if let Some(changed) = &note.changed {
                tx.changed.insert(key.clone(), changed.clone());
            }
        }
        tx
    }

    /// What is remembered now and was not before.
    fn changed(&self, tx: &Tx<'_>) -> Vec<(RecordKey, RecordNote)> {
        let mut now: BTreeMap<&RecordKey, RecordNote> = BTreeMap::new();
        for key in self.notes.keys() {
            let note = RecordNote {
                base: tx.base.get(key).cloned(),
                evidence: tx.evidence.get(key).cloned(),
                errors: tx.errors.get(key).cloned(),
                changed: tx.changed.get(key).cloned(),
                ..RecordNote::default()
            };
            now.insert(key, note);
        }
        for ((key, field), value) in &tx.fresh.accepted {
            if let Some(note) = now.get_mut(key) {
                note.accepted.insert(field.clone(), value.clone());
            }
        }
        for (key, field) in &tx.fresh.owned {
            if let Some(note) = now.get_mut(key) {
                note.owned.insert(field.clone());
            }
        }
        now.into_iter()
            .filter(|(key, note)| self.notes.get(*key) != Some(note))
            .map(|(key, note)| (key.clone(), note))
            .collect()
    }
}

impl Judge<'_> {
    /// Gives the records for a phase that follows.
    fn work(&mut self, tx: &mut Tx<'_>, work: &Work<'_>) -> BTreeSet<RecordKey> {
        let mut next = BTreeSet::new();
        match work {
            Work::Apply(steps, first) => {
                if *first {
                    self.truncated(tx);
                }
                for step in *steps {
                    next.extend(step.records().cloned());
                    self.apply(tx, step, &mut Touched::default());
                }
            }
            Work::Compute(keys) => {
                for key in *keys {
                    let mut above = Touched::default();
                    self.compute(tx, key, &Dirt::whole(), &mut above);
                    next.extend(above.into_keys());
                }
                self.number(tx);
            }
            Work::Close => {
                self.close_versions(tx);
                self.evidence_troubles(tx);
                self.rule_troubles(tx);
            }
            Work::Look(steps) => {
                for step in *steps {
                    self.violations(tx, step);
                    self.quarantines(tx, step);
                }
                self.stop_loops(tx, 0);
                self.unchanged(tx, steps);
            }
            Work::Tell => {
                self.tell(tx);
                self.stop_loops(tx, 0);
                next = self.release_keys(tx, &[]);
            }
            Work::Release(keys) => {
                keys.iter().for_each(|key| self.release_one(tx, key));
                self.stop_loops(tx, 0);
            }
        }
        next
    }

    /// Records that were computed in this page get the number of their next version at once, so
    /// that the store takes them.
    fn number(&mut self, tx: &Tx<'_>) {
        for (key, base) in &tx.base {
            let stored = self.store.records.get(key).and_then(|rec| rec.record.as_ref());
            let Some(rec) = self.recs.get_mut(key).map(Arc::make_mut) else { continue };
            let Some(record) = &mut rec.record else { continue };
            if stored.is_some_and(|stored| Arc::ptr_eq(stored, record)) {
                continue;
            }
            let version = base.as_ref().map_or(0, |b| b.version) + 1;
            if record.version != version {
                Arc::make_mut(record).version = version;
            }
            if stored.is_some_and(|stored| stored.version == version) {
                self.out.records.push(record.clone());
                keep_said(rec, &mut self.out);
            }
        }
    }
}
