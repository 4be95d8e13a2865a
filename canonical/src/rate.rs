//! Counting changes for rate guards, and setting aside those of a flood.
//!
//! A transaction whose changes make too many of them, by the clock of the source's commits, stops
//! the guard's stream: its changes, and those of later transactions, wait with their rows, and the
//! records keep the values that they have. Rows that were changed once more wait on. A replay finds
//! rows that are known already, which are no changes, so that nothing is counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_model::canonical::{
    ExceptionItem, Fields, GuardState, GuardStop, Name, RecordKey, RowKey, Tally,
};
use crossdock_model::time::instant_text;
use serde_json::json;

use crate::fold::Folded;
use crate::guard::RateGuard;
use crate::ids::derive;
use crate::rows::{Kept, Parked, RowStore};
use crate::rules::Rules;
use crate::step::{Doing, Mapped, Step};

/// Table of the row that stands for a guard: rows that it has stopped wait for this one.
const TABLE: &str = "crossdock.rate_guard";
/// A window is counted in so many parts: more would be exacter, and take more room.
const PARTS: i64 = 60;

/// The row for which rows wait that a guard has stopped.
pub fn guard_row(rule: &str, source: &str) -> RowKey {
    RowKey { source: source.into(), table: TABLE.into(), pk: rule.into() }
}

/// Counts the changes of a batch, and sets aside what guards stop.
pub(crate) fn guard(
    rules: &Rules,
    installation: &str,
    states: &BTreeMap<Name, GuardState>,
    store: &RowStore,
    transactions: &[Folded<'_>],
    mapped: &mut Mapped,
) {
    for rule in &rules.guards {
        let known = states.get(&rule.name).filter(|s| s.source == rule.source);
        let fresh = || GuardState::new(&rule.name, &rule.source);
        let mut counter = Counter {
            rule,
            installation,
            store,
            state: known.cloned().unwrap_or_else(fresh),
            row: guard_row(&rule.name, &rule.source),
            parked: BTreeSet::new(),
        };
        let before = counter.state.clone();
        for (at, folded) in transactions.iter().enumerate() {
            if folded.source == rule.source && folded.woken.is_empty() {
                counter.transaction(folded, at, mapped);
            }
        }
        if counter.state != before {
            mapped.guards.push(counter.state);
        }
    }
}

struct Counter<'c> {
    rule: &'c RateGuard,
    installation: &'c str,
    store: &'c RowStore,
    state: GuardState,
    /// What stopped rows wait for.
    row: RowKey,
    /// Rows that this batch has set aside.
    parked: BTreeSet<RowKey>,
}

impl Counter<'_> {
    fn transaction(&mut self, folded: &Folded<'_>, at: usize, mapped: &mut Mapped) {
        let commit = folded.header.commit_micros;
        let Some(steps) = mapped.steps.get(at) else { return };
        let hits: BTreeSet<usize> =
            (0..steps.len()).filter(|i| steps.get(*i).is_some_and(|s| self.is_hit(s))).collect();
        if self.state.releasing {
            return;
        }
        if self.state.stopped.is_none() && !hits.is_empty() && !folded.header.snapshot {
            let total = self.count(commit, hits.len() as u64);
            if total > self.rule.changes {
                mapped.raised.push(self.stop(folded, total));
            }
        }
        if self.state.stopped.is_none() {
            return;
        }
        let Some(steps) = mapped.steps.get_mut(at) else { return };
        for (i, step) in steps.iter_mut().enumerate() {
            // Evidence and other records of the row wait with it; a row that leaves a record
            // because its key was changed does not.
            let waits = hits.contains(&i) || self.is_waiting(&step.row);
            let keeps_its_key = step.left.is_empty() || step.said().is_empty();
            if waits && keeps_its_key {
                self.parked.insert(step.row.clone());
                let row = park(&mut mapped.rows, self.store, step, &self.row, commit);
                if row {
                    *step = Step::new(&step.row, step.at);
                    *mapped.tallies.entry(self.withheld()).or_default() += 1;
                }
            }
        }
    }

    /// Whether a step changes what the guard counts.
    fn is_hit(&self, step: &Step) -> bool {
        let rule = self.rule;
        let of_entity = |record: &RecordKey| record.entity == rule.entity;
        if step.doing == Doing::Found || step.row.source != rule.source {
            return false;
        }
        let said = step.said().iter().filter(|s| of_entity(&s.record)).any(|said| {
            let before = step.before().iter().find(|b| b.record == said.record);
            match (&rule.field, before) {
                (Some(field), Some(before)) => differs(&before.fields, &said.fields, field),
                (Some(_), None) => false,
                (None, Some(before)) => {
                    said.fields.keys().any(|field| differs(&before.fields, &said.fields, field))
                }
                (None, None) => true,
            }
        });
        said || rule.field.is_none() && step.left.iter().any(of_entity)
    }

    fn withheld(&self) -> Tally {
        Tally::Withheld {
            entity: self.rule.entity.clone(),
            field: self.rule.field.clone().unwrap_or_else(|| "*".into()),
            source: self.rule.source.clone(),
            action: "rate_guard".into(),
        }
    }

    fn is_waiting(&self, row: &RowKey) -> bool {
        let stored = || self.store.rows.get(row).and_then(Option::as_ref);
        self.parked.contains(row) || stored().is_some_and(|k| k.row.waiting_for.contains(&self.row))
    }

    /// Adds changes; gives how many there were in the window that ends now.
    fn count(&mut self, commit: i64, changes: u64) -> u64 {
        let width = (self.rule.window_micros / PARTS).max(1);
        let begin = commit - commit.rem_euclid(width);
        let counts = &mut self.state.counts;
        counts.retain(|(at, _)| *at > commit.saturating_sub(self.rule.window_micros));
        match counts.iter_mut().find(|(at, _)| *at == begin) {
            Some((_, n)) => *n = n.saturating_add(changes),
            None => counts.push((begin, changes)),
        }
        counts.iter().map(|(_, n)| n).fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn stop(&mut self, folded: &Folded<'_>, changes: u64) -> ExceptionItem {
        let rule = self.rule;
        let position: Name = folded.header.commit.to_string().into();
        let id = derive(&[self.installation, "rate_guard", &rule.name, &position]);
        let commit_micros = folded.header.commit_micros;
        self.state.counts.clear();
        self.state.stopped =
            Some(GuardStop { exception: id, position: position.clone(), commit_micros, changes });
        let what = rule.field.as_ref().map_or(String::new(), |f| format!("{f} of "));
        ExceptionItem {
            id,
            kind: rule.exception.clone(),
            record: None,
            source: rule.source.clone(),
            rule: rule.name.clone(),
            team: rule.team.clone(),
            text: format!(
                "{} changed {what}{} {changes} times within {} s, at most {} are expected; these \
                 changes wait since {}.",
                rule.source,
                rule.entity,
                rule.window_micros / 1_000_000,
                rule.changes,
                instant_text(commit_micros)
            ),
            context: json!({
                "transaction": folded.header.id,
                "position": &*position,
                "changes": changes,
                "remedy": format!("crossdock rules release {}", rule.name),
            }),
            open: true,
        }
    }
}

fn differs(before: &Fields, after: &Fields, field: &Name) -> bool {
    match (before.get(field), after.get(field)) {
        (Some(before), Some(after)) => !before.same_as(after),
        (before, after) => before.is_some() != after.is_some(),
    }
}

/// Lets a row wait; false when nothing is known of it that could wait.
fn park(rows: &mut Vec<Kept>, store: &RowStore, step: &Step, guard: &RowKey, commit: i64) -> bool {
    let place = match rows.binary_search_by(|kept| kept.row.key.cmp(&step.row)) {
        Ok(place) => place,
        Err(place) => match store.rows.get(&step.row).and_then(Option::as_ref) {
            Some(stored) => {
                rows.insert(place, Kept::unheard(stored.row.clone()));
                place
            }
            None => return false,
        },
    };
    let Some(kept) = rows.get_mut(place) else { return false };
    kept.speech = None;
    let row = Arc::make_mut(&mut kept.row);
    let committed = step.committed.unwrap_or(commit);
    let spoken_of = step.said().iter().chain(step.before()).map(|said| said.record.clone());
    let spoken_of = spoken_of.chain(step.left.iter().cloned()).collect();
    Parked { committed, spoken_of }.put(Arc::make_mut(&mut row.image));
    for list in [&mut row.waiting_for, &mut row.refers_to] {
        if !list.contains(guard) {
            list.push(guard.clone());
            list.sort();
        }
    }
    true
}

impl Rules {
    /// Whether a rate guard that the store knows is one of these rules: what one that is gone has
    /// stopped goes on.
    pub fn has_guard(&self, state: &GuardState) -> bool {
        self.guards.iter().any(|g| g.name == state.rule && g.source == state.source)
    }
}
