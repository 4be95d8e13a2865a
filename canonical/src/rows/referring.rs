//! Rows that refer to other rows: they wait for those that have not come yet, and are mapped again
//! when one of those changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, RowKey, SourceRow};
use crossdock_model::{Op, Value};

use super::{COMMITTED, Doing, Images, RowView, Speech, Step, Work, lookup_key, refs};

impl Work<'_> {
    /// The rows that refer to a row of which a used column changes, and what they say now.
    pub(super) fn referring_speech(
        &mut self,
        key: &RowKey,
        was: &Fields,
        image: &Fields,
    ) -> Vec<(RowKey, Speech)> {
        let table = (key.source.clone(), key.table.clone());
        if !self.rules.looked_up.get(&table).is_some_and(|used| used.differs(was, image)) {
            return Vec::new();
        }
        let mut speech = Vec::new();
        for other in self.referring_to(key) {
            let Some(row) = self.row(&other).filter(|r| !r.deleted && r.waiting_for.is_empty())
            else {
                continue;
            };
            let image = row.image.clone();
            speech.push((other.clone(), self.listen(&other, &image)));
        }
        speech
    }

    /// Maps a row again because one that it refers to has changed.
    pub(super) fn map_again(&mut self, key: &RowKey, last: Speech, committed: i64) {
        let Some(row) = self.row(key).cloned() else { return };
        let mut step = Step::new(key, row.at);
        step.committed = Some(committed);
        step.doing = Doing::Changed;
        let images = Images {
            row: key,
            op: Op::Update,
            now: &row.image,
            before: Some(&row.image),
            mapped: Some(&row.image),
            silent: false,
            committed,
        };
        self.now.insert(key.clone(), row.clone());
        self.speak_after(&images, last, &mut step);
        step.image = row.image.clone();
        self.push(step);
    }

    /// Rows known to refer to this one; asks for those in the store.
    pub(super) fn referring_to(&mut self, key: &RowKey) -> BTreeSet<RowKey> {
        let mut rows = self.referring.get(key).cloned().unwrap_or_default();
        match self.store.referring.get(key) {
            Some(stored) => rows.extend(stored.iter().cloned()),
            None => _ = self.referring_needs.insert(key.clone()),
        }
        rows
    }

    /// Notes which rows the mapping of a row refers to.
    pub(super) fn note_references(&mut self, key: &RowKey, image: &Fields) {
        let mappings = self.mappings_of(key);
        let refers = self.now.get(key).is_some_and(|row| !row.refers_to.is_empty());
        if !refers && mappings.iter().all(|m| m.lookups.is_empty()) {
            return;
        }
        let mut refers_to = Vec::new();
        for mapping in mappings {
            let mut found: Vec<Option<Arc<Fields>>> = Vec::with_capacity(mapping.lookups.len());
            for at in 0..mapping.lookups.len() {
                let view = RowView::new(image, refs(&found));
                let other = lookup_key(mapping, at, &view).filter(|other| other != key);
                found.push(other.as_ref().and_then(|o| self.row(o)).map(|r| r.image.clone()));
                refers_to.extend(other);
            }
        }
        refers_to.sort_unstable();
        refers_to.dedup();
        for other in &refers_to {
            self.referring.entry(other.clone()).or_default().insert(key.clone());
        }
        if let Some(row) = self.now.get_mut(key).filter(|row| row.refers_to != refers_to) {
            Arc::make_mut(row).refers_to = refers_to;
        }
    }

    /// Keeps a row aside until the rows that it refers to arrive.
    pub(super) fn park(&mut self, images: &Images<'_>, waiting_for: &[RowKey]) {
        let key = images.row;
        if let Some(row) = self.now.get_mut(key).map(Arc::make_mut) {
            let image = Arc::make_mut(&mut row.image);
            image.insert(COMMITTED.into(), Value::Int(images.committed));
            row.waiting_for = waiting_for.to_vec();
            row.waiting_for.sort();
            row.waiting_for.dedup();
        }
    }

    /// Maps the rows that waited for this one.
    pub(super) fn unpark(&mut self, key: &RowKey) {
        if !self.rules.looked_up.contains_key(&(key.source.clone(), key.table.clone())) {
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
        let committed = match Arc::make_mut(&mut row.image).remove(COMMITTED) {
            Some(Value::Int(micros)) => micros,
            Some(Value::Text(text)) => text.parse().unwrap_or_default(),
            _ => 0,
        };
        self.now.insert(key.clone(), Arc::new(row.clone()));
        let mut step = Step::new(key, row.at);
        step.committed = Some(committed);
        if row.deleted {
            // Its delete may have waited, too: what it spoke of last has lost it.
            self.note_references(key, &row.image);
            let said = self.listen(key, &row.image).said;
            step.left = said.into_iter().map(|s| s.record).collect();
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
            committed,
        };
        self.speak(&images, &mut step);
        step.image = row.image;
        self.push(step);
    }
}
