//! The first half of judging: source rows. Which images are new, what they say about which
//! records, and which rows must wait for others.

mod aliases;
mod parked;
mod referring;
mod speech;

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::Op;
use crossdock_model::canonical::{Fields, Name, Needs, RecordKey, RowKey, SourceRow, Tally};
use foldhash::{HashMap, HashMapExt};

use crate::echo;
use crate::evidence::Normalise;
use crate::fold::{Folded, Net, laid_on};
use crate::ids::evidence_id;
use crate::rowmap::{RowTrouble, RowView};
use crate::rules::{Rules, TableRules};
use crate::step::{Doing, Mapped, Stated, Step};

pub(crate) use parked::Parked;
pub(crate) use speech::{Found, Speech};
use speech::{known_subject, refs};

/// A row, and what it says as long as that is known.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The row.
    pub row: Arc<SourceRow>,
    /// What its image says.
    pub speech: Option<Arc<Speech>>,
}

impl Kept {
    /// A row that has not been mapped here.
    pub fn unheard(row: Arc<SourceRow>) -> Self {
        Self { row, speech: None }
    }
}

/// What has been loaded about source rows.
#[derive(Debug, Default)]
pub(crate) struct RowStore {
    /// Rows by key; `None` when the store does not have it.
    pub rows: HashMap<RowKey, Option<Kept>>,
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
    transactions: &[Folded<'_>],
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
    now: HashMap<RowKey, Kept>,
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
    /// What was mapped last, and what it said then.
    mapped: Option<(&'i Arc<Fields>, Arc<Speech>)>,
    /// Nothing but an echo of what Crossdock wrote.
    silent: bool,
    /// The rows that it refers to may be others, although its columns are as they were.
    anew: bool,
    /// Records of which it may have spoken before it was parked.
    spoken_of: Vec<RecordKey>,
    /// When the source committed it.
    committed: i64,
}

impl<'w> Work<'w> {
    fn kept(&self, key: &RowKey) -> Option<&Kept> {
        self.now.get(key).or_else(|| self.store.rows.get(key)?.as_ref())
    }

    fn row(&self, key: &RowKey) -> Option<&Arc<SourceRow>> {
        self.kept(key).map(|kept| &kept.row)
    }

    fn count(&mut self, tally: Tally, n: u64) {
        *self.out.tallies.entry(tally).or_default() += n;
    }

    fn rules_of(&self, row: &RowKey) -> TableRules<'w> {
        self.rules.of_table(&row.source, &row.table)
    }

    fn transaction(&mut self, tx: &Folded<'w>) {
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
    fn replayed(&mut self, tx: &Folded<'w>, net: &Net<'w>, stored: &Arc<Fields>) {
        let image = match net.full {
            true => net.image.clone(),
            false => laid_on(stored.clone(), net.image.clone()),
        };
        let image = self.in_todays_shape(net, image);
        let before = self.image_before(net).or_else(|| self.stale.get(&net.row).cloned());
        self.stale.insert(net.row.clone(), image.clone());
        let mut step = Step::new(&net.row, net.at);
        let rules = self.rules_of(&net.row);
        let found = self.find(rules, &net.row, &image).0;
        let of_now = self.find(rules, &net.row, stored).0;
        for rule in rules.evidence {
            // Without the image before, such a rule might see a change where there was none.
            let blind = before.is_none()
                && net.op != Op::Create
                && rule.when.as_ref().is_some_and(|w| w.uses("before"));
            // What an older image says of another record than the row is about by now has been
            // taken back.
            let (then, now) = (
                self.subject(rules, rule, &image, &found),
                self.subject(rules, rule, stored, &of_now),
            );
            if !blind && then == now {
                let images = Images {
                    row: &net.row,
                    op: net.op,
                    now: &image,
                    before: before.as_ref(),
                    mapped: None,
                    silent: false,
                    anew: false,
                    spoken_of: Vec::new(),
                    committed: tx.header.commit_micros,
                };
                self.state(rules, rule, &images, (&found, None), &mut step);
            }
        }
        step.troubles.clear();
        self.push(step);
    }

    /// A change that is at least as late as what is known.
    fn change(&mut self, tx: &Folded<'w>, net: &Net<'w>) {
        let mut kept = self.kept(&net.row).cloned();
        let parked = kept.as_mut().map(|kept| Parked::take_from(&mut kept.row)).unwrap_or_default();
        let stored = kept.as_ref().map(|kept| &kept.row);
        let again = stored.is_some_and(|s| s.at == net.at);
        let alive = stored.filter(|s| !s.deleted);
        let spoken = alive.filter(|s| s.waiting_for.is_empty()).map(|s| s.image.clone());
        let deleted = net.op == Op::Delete;
        let image = self.merged(net, stored.map(|row| &**row));
        let before = match (again, &spoken) {
            (true, _) => spoken.clone(),
            (false, Some(image)) => Some(image.clone()),
            (false, None) => self.image_before(net),
        };
        let (before, silent) = self.without_echo(tx, net, &image, before);
        let row = SourceRow {
            key: net.row.clone(),
            image: image.clone(),
            at: net.at,
            deleted,
            waiting_for: Vec::new(),
            refers_to: stored.map_or_else(Vec::new, |s| s.refers_to.clone()),
        };
        let mapped = spoken.as_ref().map(|was| {
            let known = kept.as_ref().and_then(|kept| kept.speech.as_ref());
            (was, self.said_last(net.table.rules, &net.row, was, known))
        });
        // What referring rows say as long as this one is as it was.
        let shifts = self.shifts(net.table.rules, stored, &row);
        let said_before = self.referring_speech(net.table.rules, stored, &row, &shifts);
        let mut step = Step::new(&net.row, net.at);
        step.doing = match (&before, net.op) {
            (Some(_), _) => Doing::Changed,
            (None, Op::Create) => Doing::Created,
            (None, _) => Doing::Found,
        };
        let key = |name: &Name| Some((name.clone(), image.get(name)?.clone()));
        step.key = net.table.key_names().filter_map(key).collect();
        let new = stored.is_none();
        self.now.insert(net.row.clone(), Kept::unheard(Arc::new(row)));
        let images = Images {
            row: &net.row,
            op: net.op,
            now: &image,
            before: before.as_ref(),
            mapped,
            silent,
            anew: false,
            spoken_of: parked.spoken_of,
            committed: tx.header.commit_micros,
        };
        self.speak(net.table.rules, &images, &mut step);
        if again {
            step.troubles.clear();
        }
        step.image = image;
        self.tell_ambiguous(&shifts, &mut step);
        self.push(step);
        if new {
            self.unpark(net.table.rules, &net.row);
        }
        for shift in &shifts {
            self.unpark(net.table.rules, &shift.sought());
        }
        for (other, last) in said_before {
            self.map_again(&other, last, tx.header.commit_micros);
        }
    }

    /// What the source has seen before its change, with the columns that Crossdock wrote; and
    /// whether there is nothing else.
    fn without_echo(
        &mut self,
        tx: &Folded<'w>,
        net: &Net<'w>,
        image: &Arc<Fields>,
        before: Option<Arc<Fields>>,
    ) -> (Option<Arc<Fields>>, bool) {
        let Some(digests) = &tx.mark else { return (before, false) };
        let deleted = net.op == Op::Delete;
        match echo::written(digests, &net.table.name, image, deleted) {
            Some(columns) => {
                self.count(Tally::Echo { source: tx.source.clone() }, 1);
                let laid = lay_over(before.as_ref().unwrap_or(image), image, columns);
                let silent = deleted || laid == **image;
                (Some(Arc::new(laid)), silent)
            }
            None => {
                self.count(Tally::GenuineInOurs { source: tx.source.clone() }, 1);
                (before, false)
            }
        }
    }

    /// The row after a change; columns that the log did not carry come from what is known.
    fn merged(&self, net: &Net<'_>, stored: Option<&SourceRow>) -> Arc<Fields> {
        let inherited = net.inherits.as_ref().and_then(|key| self.row(key));
        let image = match inherited.map(|row| &**row).or(stored).filter(|_| !net.full) {
            Some(row) => {
                let mut known = row.image.clone();
                // What was kept with the row of the old key is not a column of the new one.
                Parked::take(&mut known);
                laid_on(known, net.image.clone())
            }
            None => net.image.clone(),
        };
        self.in_todays_shape(net, image)
    }

    /// The row after a change that may have been made in an earlier shape of its table.
    fn in_todays_shape(&self, net: &Net<'_>, mut image: Arc<Fields>) -> Arc<Fields> {
        if let Some(older) = self.rules.olders.of(&net.row.source, &net.row.table) {
            older.change(&net.table.schema, &net.image, &mut image);
        }
        image
    }

    /// The row before a change, where the log carried it.
    fn image_before(&self, net: &Net<'_>) -> Option<Arc<Fields>> {
        let mut before = net.before.clone()?;
        if let Some(older) = self.rules.olders.of(&net.row.source, &net.row.table) {
            older.complete(&mut before);
        }
        Some(before)
    }

    /// Works out what a row says now.
    fn speak(&mut self, rules: TableRules<'w>, images: &Images<'_>, step: &mut Step) {
        let nothing = Arc::default();
        let mut speech = nothing;
        if images.op != Op::Delete {
            let (found, refers_to) = self.found_again(rules, images);
            let refers_to_the_same = refers_to.is_none();
            if let Some(refers_to) = refers_to {
                self.note_references(images.row, refers_to);
            }
            let last = images.mapped.as_ref().filter(|_| refers_to_the_same);
            speech = Arc::new(match last {
                Some((was, last)) => {
                    self.hear_again(rules.mappings, (was, images.now), last, found)
                }
                None => self.hear(rules.mappings, images.now, found),
            });
            if !speech.waiting_for.is_empty() {
                self.park(images, &speech.waiting_for);
                return;
            }
            if let Some(kept) = self.now.get_mut(images.row) {
                kept.speech = Some(speech.clone());
            }
        }
        let last = images.mapped.as_ref().map(|(_, last)| last);
        let still = |record: &&RecordKey| {
            !speech.said.iter().any(|s| s.record == **record)
                && !speech.failed.contains(&record.entity)
        };
        let said = last.iter().flat_map(|last| &last.said).map(|said| &said.record);
        step.left = said.chain(&images.spoken_of).filter(still).cloned().collect();
        step.earlier = match (images.before, &images.mapped) {
            (Some(before), Some((mapped, last)))
                if Arc::ptr_eq(mapped, before) || *mapped == before =>
            {
                Some(last.clone())
            }
            (Some(before), _) => Some(self.listen(rules, images.row, before)),
            (None, _) => None,
        };
        let troubles = |of: &Speech, but: &Speech| -> Vec<RowTrouble> {
            of.troubles.iter().filter(|t| !but.troubles.contains(t)).cloned().collect()
        };
        match last {
            Some(last) => {
                step.troubles.extend(troubles(&speech, last));
                step.mended = troubles(last, &speech);
            }
            None => step.troubles.extend(speech.troubles.iter().cloned()),
        }
        if !images.silent && !rules.evidence.is_empty() {
            let found = match images.op {
                Op::Delete => &self.find(rules, images.row, images.now).0,
                _ => &speech.found,
            };
            for rule in rules.evidence {
                let subject = known_subject(rules, rule, &speech);
                self.state(rules, rule, images, (found, subject), step);
            }
        }
        step.speech = Some(speech);
    }

    /// Evidence of a row by one rule.
    fn state(
        &mut self,
        rules: TableRules<'w>,
        rule: &Normalise,
        images: &Images<'_>,
        (found, subject): (&[Found], Option<RecordKey>),
        step: &mut Step,
    ) {
        let Some(mapping) = rules.mappings.get(rule.mapping) else { return };
        let id = || evidence_id(images.row, &rule.name);
        let deleted = images.op == Op::Delete;
        if deleted && rule.about.is_none() {
            step.withdrawn.extend(self.last_subjects(rules, rule, images).map(|r| (id(), r)));
        }
        if deleted && !rule.when.as_ref().is_some_and(|w| w.uses("op")) {
            return;
        }
        let Some(Found::All(lookups)) = found.get(rule.mapping) else { return };
        let view = RowView::new(images.now, refs(lookups));
        let entities = &self.rules.entities;
        let before = images.before.map(|b| &**b);
        match rule.fact(mapping, entities, &view, (before, images.op.letter()), subject) {
            Ok(Some(fact)) => {
                let id = id();
                let earlier = self.last_subjects(rules, rule, images);
                let others = earlier.filter(|record| *record != fact.record);
                step.withdrawn.extend(others.map(|record| (id, record)));
                step.troubles.extend(fact.trouble.clone());
                step.stated.push(Stated { id, authority: rule.authority, fact });
            }
            Ok(None) => {}
            Err(trouble) => step.troubles.push(trouble),
        }
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
        for kept in self.now.into_values() {
            let stored = self.store.rows.get(&kept.row.key).and_then(Option::as_ref);
            match stored.is_some_and(|stored| stored.row == kept.row) {
                true => self.out.heard.push(kept),
                false => self.out.rows.push(kept),
            }
        }
        self.out.rows.sort_unstable_by(|a, b| a.row.key.cmp(&b.row.key));
        Ok(self.out)
    }
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
