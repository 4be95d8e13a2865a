//! What a row says, and the rows that its mappings refer to.

use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, RecordKey, RowKey};

use super::aliases::aliases_of;
use super::{Images, Work};
use crate::compute::total;
use crate::evidence::Normalise;
use crate::mapping::{Lookup, Mapping};
use crate::ownership::Merge;
use crate::rowmap::{RowTrouble, RowView, Said, lookup_key, map_again, map_row};
use crate::rules::TableRules;

/// Looked-up rows of one mapping.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// All of them; `None` where the key is NULL.
    All(Vec<Option<Looked>>),
    /// The first that has not come yet.
    Waiting(RowKey),
    /// What is there is not known yet.
    NotLoaded,
    /// A row in an earlier shape that cannot be brought into today's.
    Broken(RowTrouble),
}

/// A row that has been looked up.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    /// Its key.
    pub key: RowKey,
    /// Its columns.
    pub image: Arc<Fields>,
}

/// What an image says, by all mappings of its table. It says the same as long as the rows that it
/// refers to are the same.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    /// What it says.
    pub said: Vec<Said>,
    pub(super) troubles: Vec<RowTrouble>,
    pub(super) failed: Vec<Name>,
    pub(super) waiting_for: Vec<RowKey>,
    /// What each mapping has found.
    pub found: Vec<Found>,
}

impl Speech {
    /// What is said, as it was noted.
    pub fn of(said: Vec<Said>) -> Self {
        Self { said, ..Self::default() }
    }
}

impl<'w> Work<'w> {
    /// The record that evidence of the image mapped last is about; those that it may be about when
    /// the row was parked since.
    pub(super) fn last_subjects(
        &self,
        rules: TableRules<'w>,
        rule: &Normalise,
        images: &Images<'_>,
    ) -> impl Iterator<Item = RecordKey> + use<> {
        let last = images.mapped.as_ref().and_then(|(image, last)| {
            let known = known_subject(rules, rule, last);
            known.or_else(|| self.subject(rules, rule, image, &last.found))
        });
        let parked = match rule.about {
            None => images.spoken_of.clone(),
            Some(_) => Vec::new(),
        };
        last.into_iter().chain(parked)
    }

    /// The record that evidence of an image is about.
    pub(super) fn subject(
        &self,
        rules: TableRules<'w>,
        rule: &Normalise,
        image: &Arc<Fields>,
        found: &[Found],
    ) -> Option<RecordKey> {
        let mapping = rules.mappings.get(rule.mapping)?;
        let Some(Found::All(lookups)) = found.get(rule.mapping) else { return None };
        let view = RowView::new(image, refs(lookups));
        rule.record(mapping, &self.rules.entities, &view).ok().flatten()
    }

    /// What an image says that was mapped last: as it is known, if the rows that it refers to are
    /// still the same.
    pub(super) fn said_last(
        &mut self,
        rules: TableRules<'w>,
        row: &RowKey,
        image: &Arc<Fields>,
        known: Option<&Arc<Speech>>,
    ) -> Arc<Speech> {
        match known.filter(|known| known.found.iter().all(|found| self.is_same(found))) {
            Some(known) => known.clone(),
            None => self.listen(rules, row, image),
        }
    }

    /// What an image says.
    pub(super) fn listen(
        &mut self,
        rules: TableRules<'w>,
        row: &RowKey,
        image: &Arc<Fields>,
    ) -> Arc<Speech> {
        let found = self.find(rules, row, image).0;
        Arc::new(self.hear(rules.mappings, image, found))
    }

    /// Whether looked-up rows are as they were.
    fn is_same(&self, found: &Found) -> bool {
        let Found::All(lookups) = found else { return false };
        let same = |looked: &Looked| {
            self.row(&looked.key).is_some_and(|row| Arc::ptr_eq(&row.image, &looked.image))
        };
        lookups.iter().flatten().all(same)
    }

    /// The rows that an image refers to: those of the image mapped last, if it refers to the same.
    pub(super) fn found_again(
        &mut self,
        rules: TableRules<'w>,
        images: &Images<'_>,
    ) -> (Vec<Found>, Option<Vec<RowKey>>) {
        if let Some((was, last)) = &images.mapped
            && !images.anew
            && rules.mappings.iter().all(|m| m.finds_the_same(was, images.now))
            && last.found.iter().all(|found| self.is_same(found))
            && self.is_known_by(rules, images.row, (was, images.now))
        {
            return (last.found.clone(), None);
        }
        let (found, refers_to) = self.find(rules, images.row, images.now);
        (found, Some(refers_to))
    }

    /// Whether a row refers to all its aliases, and to no other.
    fn is_known_by(
        &self,
        rules: TableRules<'w>,
        row: &RowKey,
        (was, now): (&Arc<Fields>, &Arc<Fields>),
    ) -> bool {
        if rules.used.is_none_or(|used| used.aliases.is_empty()) {
            return true;
        }
        let aliases = aliases_of(rules.used, row, now);
        let noted = self.row(row).map_or(&[][..], |row| &row.refers_to);
        aliases == aliases_of(rules.used, row, was) && aliases.iter().all(|a| noted.contains(a))
    }

    /// What an image says, given the rows that it refers to.
    pub(super) fn hear(
        &self,
        mappings: &[Mapping],
        image: &Arc<Fields>,
        found: Vec<Found>,
    ) -> Speech {
        let mut speech = Speech::default();
        let shaped = mappings.first().map(|m| (&m.source, &m.table));
        let olders = &self.rules.olders;
        let trouble = shaped.and_then(|(source, table)| olders.trouble(source, table, image));
        if let Some(trouble) = trouble {
            speech.troubles.push(trouble);
            speech.failed.extend(mappings.iter().map(|m| m.entity.clone()));
            speech.found = found;
            return speech;
        }
        for (mapping, found) in mappings.iter().zip(&found) {
            let lookups = match found {
                Found::All(lookups) => lookups,
                Found::Waiting(key) => {
                    speech.waiting_for.push(key.clone());
                    continue;
                }
                Found::NotLoaded => continue,
                Found::Broken(trouble) => {
                    speech.troubles.push(trouble.clone());
                    speech.failed.push(mapping.entity.clone());
                    continue;
                }
            };
            let view = RowView::new(image, refs(lookups));
            let answer = map_row(mapping, &self.rules.entities, &view);
            speech.troubles.extend(answer.troubles);
            if answer.failed {
                speech.failed.push(mapping.entity.clone());
            }
            let Some(said) = answer.said else { continue };
            match speech.said.iter_mut().find(|s| s.record == said.record) {
                Some(earlier) => {
                    let mut fields = Arc::unwrap_or_clone(said.fields);
                    self.add_up(&said.record.entity, &earlier.fields, &mut fields);
                    Arc::make_mut(&mut earlier.fields).extend(fields);
                    let links = Arc::unwrap_or_clone(said.links);
                    Arc::make_mut(&mut earlier.links).extend(links);
                }
                None => speech.said.push(said),
            }
        }
        speech.found = found;
        speech
    }

    /// What an image says that refers to the same rows as the one before it: only what reads a
    /// column that has changed is worked out anew.
    pub(super) fn hear_again(
        &self,
        mappings: &[Mapping],
        (was, now): (&Arc<Fields>, &Arc<Fields>),
        last: &Speech,
        found: Vec<Found>,
    ) -> Speech {
        match self.said_again(mappings, (was, now), last) {
            Some(said) => {
                debug_assert_eq!(said, self.hear(mappings, now, found.clone()).said);
                Speech { said, found, ..Speech::default() }
            }
            None => self.hear(mappings, now, found),
        }
    }

    /// `None` when all must be worked out.
    fn said_again(
        &self,
        mappings: &[Mapping],
        (was, now): (&Fields, &Fields),
        last: &Speech,
    ) -> Option<Vec<Said>> {
        let first = mappings.first()?;
        let whole = last.said.len() == mappings.len()
            && last.found.len() == mappings.len()
            && last.troubles.is_empty()
            && last.failed.is_empty();
        if !whole || self.rules.olders.trouble(&first.source, &first.table, now).is_some() {
            return None;
        }
        let changed: Vec<&Name> =
            was.beside(now).filter(|(_, a, b)| a != b).map(|(name, ..)| name).collect();
        let each = mappings.iter().zip(&last.found).zip(&last.said);
        each.map(|((mapping, found), said)| {
            let Found::All(lookups) = found else { return None };
            let view = RowView::new(now, refs(lookups));
            map_again(mapping, &self.rules.entities, &view, said, &changed)
        })
        .collect()
    }

    /// Adds what a row says of a record by an earlier block of its mapping, where all that is said
    /// of a field is summed.
    fn add_up(&self, entity: &Name, earlier: &Fields, fields: &mut Fields) {
        let Some(owners) = self.rules.ownership.of(entity) else { return };
        for (field, value) in fields.iter_mut() {
            let summed = owners.of(field).into_iter().flatten().any(|c| c.merge == Merge::Sum);
            let other = earlier.get(field).filter(|_| summed);
            let sum = other.and_then(|other| total([other, &*value].into_iter()).ok());
            if let Some(sum) = sum.filter(|_| !value.is_null()) {
                *value = sum;
            } else if let Some(other) = other.filter(|_| value.is_null()) {
                *value = other.clone();
            }
        }
    }

    /// Finds the rows that the mappings of a row refer to, one after another; gives besides, in
    /// order, the keys of all that are another row, and what it is found by itself.
    pub(super) fn find(
        &mut self,
        rules: TableRules<'w>,
        row: &RowKey,
        image: &Arc<Fields>,
    ) -> (Vec<Found>, Vec<RowKey>) {
        let mut refers_to = aliases_of(rules.used, row, image);
        let mut all = Vec::with_capacity(rules.mappings.len());
        for mapping in rules.mappings {
            let mut found: Vec<Option<Looked>> = Vec::with_capacity(mapping.lookups.len());
            let mut stops = None;
            for (at, lookup) in mapping.lookups.iter().enumerate() {
                let Some(key) = lookup_key(mapping, at, &RowView::new(image, refs(&found))) else {
                    found.push(None);
                    continue;
                };
                let looked = match &lookup.by {
                    Some(by) => {
                        refers_to.push(by.sought(&key));
                        self.look_up_alias((lookup, by), &key, (row, image))
                    }
                    None => self.look_up(lookup, key, (row, image), &mut refers_to),
                };
                let looked = looked.unwrap_or_else(|stop| {
                    stops.get_or_insert(stop);
                    None
                });
                if let Some(Looked { key, image }) = looked.as_ref().filter(|l| l.key != *row) {
                    if lookup.by.is_some() {
                        refers_to.push(key.clone());
                    }
                    if stops.is_none() {
                        let broken = self.rules.olders.trouble(&key.source, &key.table, image);
                        stops = broken.map(Found::Broken);
                    }
                }
                found.push(looked);
            }
            all.push(stops.unwrap_or(Found::All(found)));
        }
        refers_to.sort_unstable();
        refers_to.dedup();
        (all, refers_to)
    }

    /// The row that a lookup finds by its key. `me` is the row that is mapped: it may find itself.
    fn look_up(
        &mut self,
        lookup: &Lookup,
        key: RowKey,
        me: (&RowKey, &Arc<Fields>),
        refers_to: &mut Vec<RowKey>,
    ) -> Result<Option<Looked>, Found> {
        if key == *me.0 {
            return Ok(Some(Looked { key, image: me.1.clone() }));
        }
        refers_to.push(key.clone());
        match self.row(&key) {
            Some(row) if row.deleted && lookup.optional => Ok(None),
            Some(row) => Ok(Some(Looked { image: row.image.clone(), key })),
            None if !self.store.rows.contains_key(&key) => {
                self.needs.insert(key);
                Err(Found::NotLoaded)
            }
            None if lookup.optional => Ok(None),
            None => Err(Found::Waiting(key)),
        }
    }
}

/// The record that evidence of a row is about, as far as what the row says names it.
pub(super) fn known_subject(
    rules: TableRules<'_>,
    rule: &Normalise,
    speech: &Speech,
) -> Option<RecordKey> {
    let ([_], [said]) = (rules.mappings, &speech.said[..]) else { return None };
    match &rule.about {
        None => Some(said.record.clone()),
        Some(link) => said.links.get(link).cloned(),
    }
}

pub(super) fn refs(lookups: &[Option<Looked>]) -> Vec<Option<&Fields>> {
    lookups.iter().map(|looked| looked.as_ref().map(|l| &*l.image)).collect()
}
