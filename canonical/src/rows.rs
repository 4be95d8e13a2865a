//! The first half of judging: source rows. Which images are new, what they say about which
//! records, and which rows must wait for others.

mod referring;

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::Op;
use crossdock_model::canonical::{Fields, Name, Needs, RowKey, SourceRow, Tally};
use foldhash::{HashMap, HashMapExt};

use crate::echo;
use crate::evidence::Normalise;
use crate::fold::{Folded, Net, laid_on};
use crate::ids::evidence_id;
use crate::mapping::Mapping;
use crate::rowmap::{RowTrouble, RowView, Said, lookup_key, map_row};
use crate::rules::Rules;
use crate::step::{Doing, Mapped, Stated, Step};

/// Kept with the image of a parked row: when the source committed it, so that its evidence has
/// the right time once it is mapped.
pub(crate) const COMMITTED: &str = "crossdock.committed_micros";

/// What has been loaded about source rows.
#[derive(Debug, Default)]
pub(crate) struct RowStore {
    /// Rows by key; `None` when the store does not have it.
    pub rows: HashMap<RowKey, Option<Arc<SourceRow>>>,
    /// Rows by a row that they refer to; present once asked.
    pub referring: HashMap<RowKey, BTreeSet<RowKey>>,
}

/// Works through the rows of all transactions; what they are now must have been loaded.
///
/// # Errors
/// What must be loaded besides.
pub(crate) fn map_all(
    rules: &Rules,
    store: &RowStore,
    transactions: &[Folded],
) -> Result<Mapped, Needs> {
    let mut work = Work {
        rules,
        store,
        now: HashMap::with_capacity(transactions.iter().map(|t| t.nets.len()).sum()),
        referring: HashMap::default(),
        stale: HashMap::default(),
        needs: BTreeSet::new(),
        referring_needs: BTreeSet::new(),
        out: Mapped::default(),
    };
    transactions.iter().for_each(|t| work.transaction(t));
    work.finish()
}

struct Work<'w> {
    rules: &'w Rules,
    store: &'w RowStore,
    /// Rows as they are now in this batch.
    now: HashMap<RowKey, Arc<SourceRow>>,
    /// Rows of this batch that refer to another.
    referring: HashMap<RowKey, BTreeSet<RowKey>>,
    /// Last image of rows that are being replayed.
    stale: HashMap<RowKey, Arc<Fields>>,
    needs: BTreeSet<RowKey>,
    referring_needs: BTreeSet<RowKey>,
    out: Mapped,
}

/// The images of a row that take part in judging one change of it.
struct Images<'i> {
    row: &'i RowKey,
    op: Op,
    /// The row now; after a delete, its last image.
    now: &'i Arc<Fields>,
    /// What the source has seen before its change.
    before: Option<&'i Arc<Fields>>,
    /// What was mapped last.
    mapped: Option<&'i Arc<Fields>>,
    /// Nothing but an echo of what Crossdock wrote.
    silent: bool,
    /// When the source committed it.
    committed: i64,
}

/// Looked-up rows of one mapping.
enum Found {
    All(Vec<Option<Arc<Fields>>>),
    Waiting(RowKey),
    NotLoaded,
}

/// What an image says, by all mappings of its table.
#[derive(Default)]
struct Speech {
    said: Vec<Said>,
    troubles: Vec<RowTrouble>,
    failed: Vec<Name>,
    waiting_for: Vec<RowKey>,
}

impl<'w> Work<'w> {
    fn row(&self, key: &RowKey) -> Option<&Arc<SourceRow>> {
        self.now.get(key).or_else(|| self.store.rows.get(key)?.as_ref())
    }

    fn count(&mut self, tally: Tally, n: u64) {
        *self.out.tallies.entry(tally).or_default() += n;
    }

    fn mappings_of(&self, row: &RowKey) -> &'w [Mapping] {
        let key = (row.source.clone(), row.table.clone());
        self.rules.mappings.get(&key).map_or(&[], Vec::as_slice)
    }

    fn evidence_of(&self, row: &RowKey) -> &'w [Normalise] {
        let key = (row.source.clone(), row.table.clone());
        self.rules.evidence.get(&key).map_or(&[], Vec::as_slice)
    }

    fn transaction(&mut self, tx: &Folded) {
        self.out.steps.push(Vec::new());
        for (table, rows) in &tx.unmapped {
            let tally = Tally::Unmapped { source: tx.source.clone(), table: table.clone() };
            self.count(tally, *rows);
        }
        tx.woken.iter().for_each(|key| self.wake(key, tx.silent));
        for net in &tx.nets {
            match self.row(&net.row) {
                Some(stored) if stored.at > net.at => {
                    let stored = stored.image.clone();
                    self.replayed(tx, net, &stored);
                }
                _ => self.change(tx, net),
            }
        }
    }

    /// A change that is older than what is known: only its evidence counts.
    fn replayed(&mut self, tx: &Folded, net: &Net, stored: &Arc<Fields>) {
        let image = match net.full {
            true => net.image.clone(),
            false => laid_on(stored.clone(), net.image.clone()),
        };
        let before = net.before.clone().or_else(|| self.stale.get(&net.row).cloned());
        self.stale.insert(net.row.clone(), image.clone());
        let mut step = Step::new(&net.row, net.at);
        for rule in self.evidence_of(&net.row) {
            // Without the image before, such a rule might see a change where there was none.
            let blind = before.is_none()
                && net.op != Op::Create
                && rule.when.as_ref().is_some_and(|w| w.uses("before"));
            if !blind && self.still_about(rule, net, &image, stored) {
                let images = Images {
                    row: &net.row,
                    op: net.op,
                    now: &image,
                    before: before.as_ref(),
                    mapped: None,
                    silent: false,
                    committed: tx.header.commit_micros,
                };
                self.state(rule, &images, &mut step);
            }
        }
        step.troubles.clear();
        self.push(step);
    }

    /// Whether evidence of an older image is about the record that the row is about by now. What
    /// it once said about another record has been taken back.
    fn still_about(
        &mut self,
        rule: &Normalise,
        net: &Net,
        image: &Arc<Fields>,
        now: &Arc<Fields>,
    ) -> bool {
        let Some(mapping) = self.mappings_of(&net.row).get(rule.mapping) else { return false };
        self.subject(rule, mapping, image) == self.subject(rule, mapping, now)
    }

    /// A change that is at least as late as what is known.
    fn change(&mut self, tx: &Folded, net: &Net) {
        let mut stored = self.row(&net.row).cloned();
        if let Some(stored) = stored.as_mut().filter(|s| s.image.contains_key(COMMITTED)) {
            Arc::make_mut(&mut Arc::make_mut(stored).image).remove(COMMITTED);
        }
        let again = stored.as_ref().is_some_and(|s| s.at == net.at);
        let alive = stored.as_ref().filter(|s| !s.deleted);
        let spoken = alive.filter(|s| s.waiting_for.is_empty()).map(|s| s.image.clone());
        let deleted = net.op == Op::Delete;
        let image = self.merged(net, stored.as_deref());
        let mut before = match (again, &spoken) {
            (true, _) => spoken.clone(),
            (false, Some(image)) => Some(image.clone()),
            (false, None) => net.before.clone(),
        };
        let mut silent = false;
        if let Some(digests) = &tx.mark {
            match echo::written(digests, &net.table.name, &image, deleted) {
                Some(columns) => {
                    self.count(Tally::Echo { source: tx.source.clone() }, 1);
                    let laid = lay_over(before.as_ref().unwrap_or(&image), &image, columns);
                    silent = deleted || laid == *image;
                    before = Some(Arc::new(laid));
                }
                None => self.count(Tally::GenuineInOurs { source: tx.source.clone() }, 1),
            }
        }
        let row = SourceRow {
            key: net.row.clone(),
            image: image.clone(),
            at: net.at,
            deleted,
            waiting_for: Vec::new(),
            refers_to: stored.as_ref().map_or_else(Vec::new, |s| s.refers_to.clone()),
        };
        // What referring rows say as long as this one is as it was.
        let said_before = match &spoken {
            Some(was) if !deleted => self.referring_speech(&net.row, was, &image),
            _ => Vec::new(),
        };
        let mut step = Step::new(&net.row, net.at);
        step.doing = match (&before, net.op) {
            (Some(_), _) => Doing::Changed,
            (None, Op::Create) => Doing::Created,
            (None, _) => Doing::Found,
        };
        let key = |name: &Name| Some((name.clone(), image.get(name)?.clone()));
        step.key = net.table.key_names().filter_map(key).collect();
        self.now.insert(net.row.clone(), Arc::new(row));
        let images = Images {
            row: &net.row,
            op: net.op,
            now: &image,
            before: before.as_ref(),
            mapped: spoken.as_ref(),
            silent,
            committed: tx.header.commit_micros,
        };
        self.speak(&images, &mut step);
        if again {
            step.troubles.clear();
        }
        step.image = image;
        self.push(step);
        if stored.is_none() {
            self.unpark(&net.row);
        }
        for (other, last) in said_before {
            self.map_again(&other, last, tx.header.commit_micros);
        }
    }

    /// The row after a change; columns that the log did not carry come from what is known.
    fn merged(&self, net: &Net, stored: Option<&SourceRow>) -> Arc<Fields> {
        if net.full {
            return net.image.clone();
        }
        let inherited = net.inherits.as_ref().and_then(|key| self.row(key));
        match inherited.map(|row| &**row).or(stored) {
            Some(row) => laid_on(row.image.clone(), net.image.clone()),
            None => net.image.clone(),
        }
    }

    /// Works out what a row says now and what it said before.
    fn speak(&mut self, images: &Images<'_>, step: &mut Step) {
        let last = images.mapped.map(|image| self.listen(images.row, image));
        self.speak_after(images, last.unwrap_or_default(), step);
    }

    /// Works out what a row says now, after it has said `last`.
    fn speak_after(&mut self, images: &Images<'_>, last: Speech, step: &mut Step) {
        if images.op != Op::Delete {
            self.note_references(images.row, images.now);
        }
        let mut speech = Speech::default();
        if images.op != Op::Delete {
            speech = self.listen(images.row, images.now);
            if !speech.waiting_for.is_empty() {
                self.park(images, &speech.waiting_for);
                return;
            }
        }
        let still = |said: &&Said| {
            !speech.said.iter().any(|s| s.record == said.record)
                && !speech.failed.contains(&said.record.entity)
        };
        step.left = last.said.iter().filter(still).map(|s| s.record.clone()).collect();
        step.before = match images.before {
            Some(before) if images.mapped == Some(before) => last.said,
            Some(before) => self.listen(images.row, before).said,
            None => Vec::new(),
        };
        let new = |t: &&RowTrouble| !last.troubles.contains(t);
        step.troubles.extend(speech.troubles.iter().filter(new).cloned());
        let gone = |t: &&RowTrouble| !speech.troubles.contains(t);
        step.mended = last.troubles.iter().filter(gone).cloned().collect();
        step.said = speech.said;
        if !images.silent {
            for rule in self.evidence_of(images.row) {
                self.state(rule, images, step);
            }
        }
    }

    /// Evidence of a row by one rule.
    fn state(&mut self, rule: &Normalise, images: &Images<'_>, step: &mut Step) {
        let Some(mapping) = self.mappings_of(images.row).get(rule.mapping) else { return };
        let id = || evidence_id(images.row, &rule.name);
        let deleted = images.op == Op::Delete;
        if deleted && rule.about.is_none() {
            let earlier = images.mapped.and_then(|image| self.subject(rule, mapping, image));
            step.withdrawn.extend(earlier.map(|record| (id(), record)));
        }
        if deleted && !rule.when.as_ref().is_some_and(|w| w.uses("op")) {
            return;
        }
        let Found::All(lookups) = self.find(mapping, images.row, images.now) else { return };
        let view = RowView::new(images.now, refs(&lookups));
        let entities = &self.rules.entities;
        match rule.fact(mapping, entities, &view, images.before.map(|b| &**b), images.op.letter()) {
            Ok(Some(fact)) => {
                let id = id();
                let earlier = images.mapped.and_then(|image| self.subject(rule, mapping, image));
                if let Some(record) = earlier.filter(|r| *r != fact.record) {
                    step.withdrawn.push((id, record));
                }
                step.troubles.extend(fact.trouble.clone());
                step.stated.push(Stated { id, authority: rule.authority, fact });
            }
            Ok(None) => {}
            Err(trouble) => step.troubles.push(trouble),
        }
    }

    /// The record that evidence of an image is about.
    fn subject(
        &mut self,
        rule: &Normalise,
        mapping: &Mapping,
        image: &Arc<Fields>,
    ) -> Option<crossdock_model::canonical::RecordKey> {
        let row = RowKey { source: mapping.source.clone(), table: "".into(), pk: "".into() };
        let Found::All(lookups) = self.find(mapping, &row, image) else { return None };
        let view = RowView::new(image, refs(&lookups));
        rule.record(mapping, &self.rules.entities, &view).ok().flatten()
    }

    /// What an image says.
    fn listen(&mut self, row: &RowKey, image: &Arc<Fields>) -> Speech {
        let mut speech = Speech::default();
        for mapping in self.mappings_of(row) {
            let lookups = match self.find(mapping, row, image) {
                Found::All(lookups) => lookups,
                Found::Waiting(key) => {
                    speech.waiting_for.push(key);
                    continue;
                }
                Found::NotLoaded => continue,
            };
            let view = RowView::new(image, refs(&lookups));
            let answer = map_row(mapping, &self.rules.entities, &view);
            speech.troubles.extend(answer.troubles);
            if answer.failed {
                speech.failed.push(mapping.entity.clone());
            }
            let Some(said) = answer.said else { continue };
            match speech.said.iter_mut().find(|s| s.record == said.record) {
                Some(earlier) => {
                    let fields = Arc::unwrap_or_clone(said.fields);
                    Arc::make_mut(&mut earlier.fields).extend(fields);
                    earlier.links.extend(said.links);
                }
                None => speech.said.push(said),
            }
        }
        speech
    }

    /// Finds the rows that a mapping refers to, one after another.
    fn find(&mut self, mapping: &Mapping, row: &RowKey, image: &Arc<Fields>) -> Found {
        let mut found: Vec<Option<Arc<Fields>>> = Vec::with_capacity(mapping.lookups.len());
        for at in 0..mapping.lookups.len() {
            let key = lookup_key(mapping, at, &RowView::new(image, refs(&found)));
            let Some(key) = key else {
                found.push(None);
                continue;
            };
            if key == *row {
                found.push(Some(image.clone()));
            } else if let Some(other) = self.row(&key) {
                found.push(Some(other.image.clone()));
            } else if self.store.rows.contains_key(&key) {
                return Found::Waiting(key);
            } else {
                self.needs.insert(key);
                return Found::NotLoaded;
            }
        }
        Found::All(found)
    }

    fn push(&mut self, step: Step) {
        if let Some(steps) = self.out.steps.last_mut() {
            steps.push(step);
        }
    }

    fn finish(mut self) -> Result<Mapped, Needs> {
        if !self.needs.is_empty() || !self.referring_needs.is_empty() {
            return Err(Needs {
                rows: self.needs.into_iter().collect(),
                referring_to: self.referring_needs.into_iter().collect(),
                ..Needs::default()
            });
        }
        let store = self.store;
        let changed =
            |row: &Arc<SourceRow>| store.rows.get(&row.key).and_then(Option::as_ref) != Some(row);
        self.out.rows = self.now.into_values().filter(changed).collect();
        self.out.rows.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(self.out)
    }
}

fn refs(lookups: &[Option<Arc<Fields>>]) -> Vec<Option<&Fields>> {
    lookups.iter().map(Option::as_deref).collect()
}

/// An image with some columns taken from a later one.
fn lay_over(before: &Fields, now: &Fields, columns: &[String]) -> Fields {
    let mut laid = before.clone();
    for column in columns {
        if let Some((name, value)) = now.get_key_value(column.as_str()) {
            laid.insert(name.clone(), value.clone());
        }
    }
    laid
}
