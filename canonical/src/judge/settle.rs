//! Computing records and, as long as something changes, the records above them.

use std::sync::Arc;

use crossdock_model::Named;
use crossdock_model::canonical::{Name, Record, RecordKey};

use super::{Judge, LEVELS_MAX, Tx};
use crate::compute::{Around, Computed, Dirt, Part, Patched, Rec, changed_fields, compute};
use crate::difference::infers_the_same;

/// Records, and what has changed about each.
#[derive(Debug, Default)]
pub(crate) struct Touched(Vec<(RecordKey, Dirt)>);

/// A record after it was computed.
struct Settled {
    record: Option<Record>,
    /// Fields that have changed; `None` when more than fields has, or when that is not known.
    fields: Option<Arc<[Name]>>,
    /// Nothing but a change can make it another.
    settled: bool,
    errors: Vec<(Name, String)>,
}

impl Touched {
    /// Adds what has changed about a record; it may be there already.
    pub fn add(&mut self, key: &RecordKey, dirt: Dirt) {
        match self.0.last_mut().filter(|(last, _)| last == key) {
            Some((_, known)) => known.add(dirt),
            None => self.0.push((key.clone(), dirt)),
        }
    }

    /// The records.
    pub fn into_keys(self) -> impl Iterator<Item = RecordKey> {
        self.0.into_iter().map(|(key, _)| key)
    }

    /// In the order of keys, each once.
    fn in_order(mut self) -> Vec<(RecordKey, Dirt)> {
        if self.0.len() > 1 {
            self.0.sort_by(|a, b| a.0.cmp(&b.0));
            self.0.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    kept.1.add(std::mem::take(&mut later.1));
                }
                same
            });
        }
        self.0
    }
}

impl Judge<'_> {
    /// Computes records and, as long as something changes, the records above them. Gives the
    /// records that it began with, in order.
    pub(super) fn settle(&mut self, tx: &mut Tx<'_>, touched: Touched) -> Vec<RecordKey> {
        let mut level = touched.in_order();
        let first = level.iter().map(|(key, _)| key.clone()).collect();
        for _ in 0..LEVELS_MAX {
            let mut above = Touched::default();
            for (key, dirt) in &level {
                self.compute(tx, key, dirt, &mut above);
            }
            level = above.in_order();
            if level.is_empty() {
                return first;
            }
        }
        tracing::warn!(records = level.len(), "computed fields are nested too deeply");
        for (key, _) in level {
            self.load_mut(&key).settled = false;
        }
        first
    }

    /// Computes a record; if it has changed, adds those above it.
    pub(super) fn compute(
        &mut self,
        tx: &mut Tx<'_>,
        key: &RecordKey,
        dirt: &Dirt,
        above: &mut Touched,
    ) {
        let rec = self.load(key).clone();
        let plain = self.rules.plans.of(&key.entity).is_some_and(|plan| plan.plain);
        if plain && rec.settled && dirt.is_clean() {
            self.agrees(tx, key, &rec, None);
            return;
        }
        let patched = self.patch(key, &rec, dirt);
        if let Some(patched) = &patched {
            self.agrees(tx, key, &rec, patched.record.as_ref());
        }
        let Some(Settled { record, fields, settled, errors }) =
            patched.or_else(|| self.whole(tx, key, &rec))
        else {
            return;
        };
        // Those of the last computation count.
        match errors.is_empty() {
            true => _ = tx.errors.remove(key),
            false => _ = tx.errors.insert(key.clone(), errors),
        }
        let old = rec.record.clone();
        let was_settled = rec.settled;
        drop(rec);
        let Some(new) = record else {
            if was_settled != settled {
                self.load_mut(key).settled = settled;
            }
            return;
        };
        tx.note_change(key, old.as_ref(), fields.as_deref());
        let same_links = fields.is_some();
        self.tell_parents(key, old.as_deref(), &new, fields, above);
        if !same_links {
            self.note_links(key, &new.links);
        }
        let rec = self.load_mut(key);
        rec.record = Some(Arc::new(new));
        rec.settled = settled;
        for follower in self.followers(key) {
            above.add(&follower, Dirt::whole());
        }
    }

    /// Follows the changes of a record field by field; `None` when it must be computed as a whole.
    fn patch(&mut self, key: &RecordKey, rec: &Arc<Rec>, dirt: &Dirt) -> Option<Settled> {
        let mut part = Part::begin(self.rules, key, rec, dirt, self.now_micros)?;
        let mut lists = Named::new();
        if part.due().any(|projection| !projection.children.is_empty()) {
            lists = self.child_keys(key, part.due());
        }
        part.projections(&self.children(&lists))?;
        let Patched { record, fields, settled } = part.end();
        Some(Settled { record, fields, settled, errors: Vec::new() })
    }

    /// In programs for tests: computing the whole of it gives the same. Without all that is needed,
    /// nothing can be said.
    fn agrees(&mut self, tx: &Tx<'_>, key: &RecordKey, rec: &Arc<Rec>, ours: Option<&Record>) {
        if cfg!(debug_assertions) {
            let whole = self.whole(tx, key, rec).and_then(|whole| whole.record);
            let missing = !self.needs.records.is_empty() || !self.needs.linking.is_empty();
            assert!(missing || whole.as_ref() == ours, "{key}: {ours:?} should be {whole:?}");
        }
    }

    /// Computes the whole of a record; `None` while nobody has contributed to it.
    fn whole(&mut self, tx: &Tx<'_>, key: &RecordKey, rec: &Arc<Rec>) -> Option<Settled> {
        let projections = self.rules.telling.projections.of(&key.entity);
        let lists = self.child_keys(key, projections.into_iter().flatten());
        let linked = self.owner_linked(key);
        let children = self.children(&lists);
        let now_micros = self.now_micros;
        let around = Around { children: &children, linked: &linked, fresh: &tx.fresh, now_micros };
        let Computed { record, errors, settled } = compute(self.rules, key, rec, around)?;
        let settled = settled && errors.is_empty();
        let fields = match (&rec.record, &record) {
            (Some(old), Some(new))
                if self.rules.parents.contains_key(&key.entity)
                    && old.deleted == new.deleted
                    && old.links == new.links
                    && infers_the_same(old, new) =>
            {
                Some(changed_fields(Some(old), new).map(|(name, ..)| name.clone()).collect())
            }
            _ => None,
        };
        Some(Settled { record, fields, settled, errors })
    }

    /// Adds the records whose computed fields read a record that has changed.
    fn tell_parents(
        &self,
        key: &RecordKey,
        old: Option<&Record>,
        new: &Record,
        fields: Option<Arc<[Name]>>,
        above: &mut Touched,
    ) {
        let rules = self.rules;
        let Some(parents) = rules.parents.of(&key.entity) else { return };
        // With other links, lists have other members.
        let same_links = old.is_some_and(|old| old.links == new.links);
        let before = old.filter(|_| !same_links).into_iter().flat_map(|old| old.links.values());
        for to in before.chain(new.links.values()).filter(|to| parents.contains(&to.entity)) {
            let plan = rules.plans.of(&to.entity).filter(|plan| plan.plain);
            let read = plan.is_none_or(|plan| {
                plan.projected.iter().any(|p| p.reads_child(&key.entity, fields.as_deref()))
            });
            if read {
                let children = vec![(key.entity.clone(), fields.clone())];
                above.add(to, Dirt { children, ..Dirt::default() });
            }
        }
    }
}
