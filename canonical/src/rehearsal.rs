//! Running the `[[test]]` blocks of rule files: with the rules as they are, and a store in memory.

use std::collections::BTreeSet;

use crossdock_model::Value;
use crossdock_model::canonical::{Delivery, ExceptionItem, Name, Outcome, RecordKey, Tally};

use crate::rules::Rules;
use crate::scratch::Scratch;
use crate::staging::{Staged, Staging};
use crate::trial::{Expected, Trial};
use crate::workspace::Workspace;

/// Long after everything that tests speak of: 2100-01-01T00:00:00Z.
const LONG_AFTER_MICROS: i64 = 4_102_444_800_000_000;
/// As often a workspace may ask; mappings refer to each other in far fewer steps.
const ASKS_MAX: usize = 64;

/// What became of one `[[test]]` block.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// `file:line`.
    pub rule: String,
    /// What did not come as expected; empty when the rules passed it.
    pub failures: Vec<Failure>,
}

/// One thing that came otherwise than expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What: a field, or a word of `expect`.
    pub what: String,
    /// What the test expects.
    pub expected: String,
    /// What the rules came to.
    pub got: String,
}

/// What happened while a test ran.
#[derive(Debug, Default)]
struct Seen {
    raised: Vec<ExceptionItem>,
    deliveries: Vec<Delivery>,
    withheld: BTreeSet<String>,
}

impl Rules {
    /// Runs all `[[test]]` blocks, in the order of the files.
    pub fn run_tests(&self) -> Vec<TestResult> {
        self.trials.iter().map(|trial| run(self, trial)).collect()
    }
}

fn run(rules: &Rules, trial: &Trial) -> TestResult {
    let failures = match Staging::new(rules, trial).and_then(|staging| staging.stage()) {
        Ok(staged) => play(rules, trial, staged),
        Err(what) => vec![Failure {
            what: "the test itself".into(),
            expected: "rows that the mappings can read".into(),
            got: what,
        }],
    };
    TestResult { name: trial.name.to_string(), rule: trial.spot.name().to_string(), failures }
}

fn play(rules: &Rules, trial: &Trial, staged: Staged) -> Vec<Failure> {
    let mut store = Scratch::default();
    let now = trial.now_micros.unwrap_or(LONG_AFTER_MICROS);
    let mut seen = Seen::default();
    for tx in staged.before {
        judge(rules, &mut store, now, |w| w.take_in(&tx.source, &tx.header, tx.events.clone()));
    }
    let base = store.clone();
    for tx in staged.acts {
        let outcome =
            judge(rules, &mut store, now, |w| w.take_in(&tx.source, &tx.header, tx.events.clone()));
        seen.add(outcome);
    }
    let due = store.due(now);
    if trial.now_micros.is_some() && !due.is_empty() {
        seen.add(judge(rules, &mut store, now, |w| w.take_in_due(due.clone())));
    }
    let check = Check { rules, base: &base, store: &store, seen: &seen, set: &staged.set };
    trial.expect.iter().filter_map(|expected| check.one(expected)).collect()
}

/// Judges one batch and takes what comes of it into the store; gives it, too.
fn judge<'r>(
    rules: &'r Rules,
    store: &mut Scratch,
    now_micros: i64,
    take_in: impl Fn(&mut Workspace<'r>),
) -> Outcome {
    let mut work = Workspace::new(rules, "test", now_micros);
    take_in(&mut work);
    for _ in 0..ASKS_MAX {
        let needs = work.needs();
        if needs.is_empty() {
            break;
        }
        work.provide(store.load(&needs));
    }
    let outcome = work.finish();
    store.apply(outcome.clone());
    outcome
}

impl Seen {
    fn add(&mut self, outcome: Outcome) {
        self.raised.extend(outcome.exceptions.into_iter().filter(|e| e.open));
        self.deliveries.extend(outcome.deliveries);
        for tally in outcome.tallies.into_keys() {
            if let Tally::Withheld { field, .. } = tally {
                self.withheld.insert(field.to_string());
            }
        }
    }
}

struct Check<'c> {
    rules: &'c Rules,
    base: &'c Scratch,
    store: &'c Scratch,
    seen: &'c Seen,
    /// Fields that were set: record, field, column of the row, value.
    set: &'c [(RecordKey, Name, Name)],
}

impl Check<'_> {
    fn one(&self, expected: &Expected) -> Option<Failure> {
        match expected {
            Expected::Applied(fields) => same("applied", fields, self.applied()),
            Expected::Reverted(fields) => same("reverted", fields, self.reverted()),
            Expected::Withheld(fields) => same("withheld", fields, self.seen.withheld.clone()),
            Expected::Released(names) => same("released", names, self.releases(true)),
            Expected::Held(names) => same("held", names, self.releases(false)),
            Expected::Exception(kind) => self.exception(kind),
            Expected::Field(name, value) => self.field(name, value),
        }
    }

    fn applied(&self) -> BTreeSet<String> {
        let value = |store: &Scratch, key: &RecordKey, field: &Name| {
            store.records.get(key).and_then(|r| r.fields.get(field)).cloned()
        };
        let moved = |(key, field, _): &&(RecordKey, Name, Name)| {
            value(self.base, key, field) != value(self.store, key, field)
        };
        self.set.iter().filter(moved).map(|(_, field, _)| field.to_string()).collect()
    }

    fn reverted(&self) -> BTreeSet<String> {
        let written =
            |(key, _, column): &&(RecordKey, Name, Name)| {
                self.seen.deliveries.iter().filter(|d| d.record == *key).any(|d| {
                    d.writes.iter().flat_map(|w| &w.columns).any(|(name, _)| name == column)
                })
            };
        self.set.iter().filter(written).map(|(_, field, _)| field.to_string()).collect()
    }

    fn releases(&self, released: bool) -> BTreeSet<String> {
        let releases = self.store.releases.values().filter(|r| r.released == released);
        releases.map(|r| r.rule.to_string()).collect()
    }

    fn exception(&self, kind: &str) -> Option<Failure> {
        let kinds: BTreeSet<&str> = self.seen.raised.iter().map(|e| &*e.kind).collect();
        let good = if kind.is_empty() { kinds.is_empty() } else { kinds.contains(kind) };
        (!good).then(|| Failure {
            what: "exception".into(),
            expected: shown(kind),
            got: list(kinds.iter().copied()),
        })
    }

    /// A field of the one record that has it.
    fn field(&self, name: &str, value: &Value<'static>) -> Option<Failure> {
        let (entity, field) = match name.split_once('.') {
            Some((entity, field)) => (Some(entity), field),
            None => (None, name),
        };
        let of = |key: &&RecordKey| match entity {
            Some(entity) => *key.entity == *entity,
            None => self.rules.entities.of(&key.entity).is_some_and(|e| e.field(field).is_some()),
        };
        let records: Vec<&RecordKey> = self.store.records.keys().filter(of).collect();
        let texts: BTreeSet<String> = records
            .iter()
            .filter_map(|key| self.store.records.get(*key))
            .map(|r| r.fields.get(field).and_then(|v| v.to_text()).unwrap_or_default())
            .collect();
        let expected = value.to_text().unwrap_or_default();
        let got = match texts.iter().collect::<Vec<_>>().as_slice() {
            [one] => shown(one),
            [] => "no record that has this field".to_string(),
            several => {
                let all = list(several.iter().map(|t| t.as_str()));
                format!("several records: {all}; write \"ENTITY.{field}\"")
            }
        };
        let kind =
            records.first().and_then(|k| self.rules.entities.entity(&k.entity)?.field(field));
        // `5000.00` and `5000` are one amount.
        let typed = kind.and_then(|k| k.coerce(value).ok()).and_then(|v| v.to_text());
        let expected: String = typed.unwrap_or_else(|| expected.to_string());
        (texts.len() != 1 || !texts.contains(&expected)).then(|| Failure {
            what: name.to_string(),
            expected: shown(&expected),
            got,
        })
    }
}

fn same(what: &str, expected: &[String], got: BTreeSet<String>) -> Option<Failure> {
    let wanted: BTreeSet<String> = expected.iter().cloned().collect();
    (wanted != got).then(|| Failure {
        what: what.to_string(),
        expected: list(wanted.iter().map(String::as_str)),
        got: list(got.iter().map(String::as_str)),
    })
}

fn list<'l>(words: impl Iterator<Item = &'l str>) -> String {
    let all: Vec<&str> = words.collect();
    if all.is_empty() { "none".to_string() } else { all.join(", ") }
}

fn shown(text: &str) -> String {
    if text.is_empty() { "none".to_string() } else { text.to_string() }
}
