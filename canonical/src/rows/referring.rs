//! Rows that refer to other rows: they wait for those that have not come yet, and are mapped again
//! when one of those changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::Op;
use crossdock_model::canonical::{RecordKey, RowKey, SourceRow};

use super::aliases::Shift;
use super::{Doing, Images, Kept, Parked, Speech, Step, Work};
use crate::rules::TableRules;

impl<'w> Work<'w> {
    /// The rows that refer to a row of which a used column changes, or to an alias that it gets or
    /// loses, and what they say now.
    pub(super) fn referring_speech(
        &mut self,
        rules: TableRules<'w>,
        stored: Option<&Arc<SourceRow>>,
        row: &SourceRow,
        shifts: &[Shift<'w>],
    ) -> Vec<(RowKey, Arc<Speech>)> {
        let Some(used) = rules.used else { return Vec::new() };
        let matters = match stored {
            // A lookup that goes on without a row may have done so.
            None => used.optional && !row.deleted,
            Some(was) if used.optional && was.deleted != row.deleted => true,
            Some(was) => !row.deleted && used.differs(&was.image, &row.image),
        };
        let mut others = BTreeSet::new();
        if matters {
            others.extend(self.referring_to(&row.key));
        }
        for shift in shifts {
            others.extend(self.referring_to(&shift.sought()));
        }
        others.remove(&row.key);
        let mut speech = Vec::new();
        for other in others {
            let speaks = |k: &&Kept| !k.row.deleted && k.row.waiting_for.is_empty();
            let Some(Kept { row, speech: known }) = self.kept(&other).filter(speaks).cloned()
            else {
                continue;
            };
            let rules = self.rules_of(&other);
            let last = self.said_last(rules, &other, &row.image, known.as_ref());
            speech.push((other, last));
        }
        speech
    }

    /// Maps a row again because one that it refers to has changed.
    pub(super) fn map_again(&mut self, key: &RowKey, last: Arc<Speech>, committed: i64) {
        let Some(row) = self.row(key).cloned() else { return };
        let mut step = Step::new(key, row.at);
        step.committed = Some(committed);
        step.doing = Doing::Changed;
        let images = Images {
            row: key,
            op: Op::Update,
            now: &row.image,
            before: Some(&row.image),
            mapped: Some((&row.image, last)),
            silent: false,
            anew: true,
            spoken_of: Vec::new(),
            committed,
        };
        self.now.insert(key.clone(), Kept::unheard(row.clone()));
        self.speak(self.rules_of(key), &images, &mut step);
        step.image = row.image.clone();
        self.push(step);
    }

    /// Rows known to refer to this one; asks for those in the store, and for each of them that was
    /// forgotten since.
    pub(super) fn referring_to(&mut self, key: &RowKey) -> BTreeSet<RowKey> {
        let mut rows = self.referring.get(key).cloned().unwrap_or_default();
        match self.store.referring.get(key) {
            Some(stored) => rows.extend(stored.iter().cloned()),
            None => _ = self.referring_needs.insert(key.clone()),
        }
        for row in &rows {
            if !self.now.contains_key(row) && !self.store.rows.contains_key(row) {
                self.needs.insert(row.clone());
            }
        }
        // Some may have referred to it, and do so no more.
        rows.retain(|row| self.row(row).is_some_and(|row| row.refers_to.contains(key)));
        rows
    }

    /// Notes which rows the mappings of a row refer to.
    pub(super) fn note_references(&mut self, key: &RowKey, refers_to: Vec<RowKey>) {
        for other in &refers_to {
            self.referring.entry(other.clone()).or_default().insert(key.clone());
        }
        if let Some(kept) = self.now.get_mut(key).filter(|k| k.row.refers_to != refers_to) {
            Arc::make_mut(&mut kept.row).refers_to = refers_to;
        }
    }

    /// Keeps a row aside until the rows that it refers to arrive.
    pub(super) fn park(&mut self, images: &Images<'_>, waiting_for: &[RowKey]) {
        let key = images.row;
        if let Some(kept) = self.now.get_mut(key) {
            let row = Arc::make_mut(&mut kept.row);
            let last = images.mapped.iter().flat_map(|(_, last)| &last.said);
            let mut spoken_of: Vec<RecordKey> = last.map(|said| said.record.clone()).collect();
            spoken_of.extend(images.spoken_of.iter().cloned());
            let parked = Parked { committed: images.committed, spoken_of };
            parked.put(Arc::make_mut(&mut row.image));
            row.waiting_for = waiting_for.to_vec();
            row.waiting_for.sort();
            row.waiting_for.dedup();
        }
    }

    /// Maps the rows that waited for this one.
    pub(super) fn unpark(&mut self, rules: TableRules<'w>, key: &RowKey) {
        if rules.used.is_none() {
            return;
        }
        for other in self.referring_to(key) {
            if self.row(&other).is_some_and(|r| r.waiting_for.contains(key)) {
                self.wake(&other, false);
            }
        }
    }

    /// Maps a row that does not wait any more; `silent` when its evidence is known.
    pub(super) fn wake(&mut self, key: &RowKey, silent: bool) {
        let Some(row) = self.row(key) else { return };
        let mut row = SourceRow::clone(row);
        row.waiting_for.clear();
        let Parked { committed, spoken_of } = Parked::take(&mut row.image);
        self.now.insert(key.clone(), Kept::unheard(Arc::new(row.clone())));
        let rules = self.rules_of(key);
        let mut step = Step::new(key, row.at);
        step.committed = Some(committed);
        if row.deleted {
            // Its delete may have waited, too: what it spoke of last has lost it.
            let (found, refers_to) = self.find(rules, key, &row.image);
            self.note_references(key, refers_to);
            let said = self.hear(rules.mappings, &row.image, found).said;
            step.left = said.into_iter().map(|s| s.record).chain(spoken_of).collect();
            step.doing = Doing::Changed;
            return self.push(step);
        }
        let found = row.at.ordinal == 0;
        let images = Images {
            row: key,
            op: if found { Op::Read } else { Op::Create },
            now: &row.image,
            before: None,
            mapped: None,
            silent,
            anew: false,
            spoken_of,
            committed,
        };
        self.speak(rules, &images, &mut step);
        step.image = row.image;
        self.push(step);
    }
}
