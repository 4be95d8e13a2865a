//! Two sets of rules and one log: which records come out otherwise.
//!
//! Each side judges the same transactions into a store of its own in memory, and nothing is
//! written. What was there before the log begins is taken from a canonical store when it is asked
//! for: rows as that store has them now, mapped by each side's own rules, and the evidence about
//! the records that they speak of. Only evidence of rows that the log itself has is made anew.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crossdock_model::canonical::{
    Loaded, Name, Needs, Outcome, Record, RecordKey, RowKey, SourceRow,
};
use crossdock_model::{ChangeEvent, LogOrder, Position, TxHeader};

use crate::rules::Rules;
use crate::scratch::Scratch;
use crate::workspace::Workspace;

/// A whole transaction of a source.
#[derive(Clone, Debug)]
pub struct ReplayTx {
    /// Source.
    pub source: Name,
    /// What is known of it.
    pub header: TxHeader,
    /// Its changes.
    pub events: Vec<ChangeEvent>,
}

/// A field that comes out otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    /// Field.
    pub field: Name,
    /// Under the old rules; `None` for no value.
    pub old: Option<String>,
    /// Under the new rules; `None` for no value.
    pub new: Option<String>,
    /// The new rule that decides, or the old one where there is none.
    pub rule: Name,
}

/// A record that comes out otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordDifference {
    /// The record.
    pub record: RecordKey,
    /// It is there under the old rules.
    pub was: bool,
    /// It is there under the new rules.
    pub is: bool,
    /// Fields, in the order of their names.
    pub fields: Vec<FieldDifference>,
}

/// How much is owed to a target, or how many exceptions of a kind are open, under either rules.
pub type Counts = BTreeMap<Name, (usize, usize)>;

/// A comparison in progress. Its memory grows with the rows and records that the log speaks of, or
/// that these hang together with: ask [`Comparison::records`] and stop in time.
pub struct Comparison<'r> {
    sides: [Side<'r>; 2],
    installation: String,
    now_micros: i64,
    /// Rows of the canonical store; `None` where it has none.
    base: BTreeMap<RowKey, Option<SourceRow>>,
    /// Records of which the canonical store was asked.
    asked: HashSet<RecordKey>,
    /// Records that link to a record, in the canonical store.
    linking: BTreeMap<RecordKey, Vec<RecordKey>>,
    /// Rows that have an alias, in the canonical store.
    holding: BTreeMap<RowKey, Vec<RowKey>>,
    /// Rows that must have spoken before anything else is judged.
    seeds: Vec<Vec<SourceRow>>,
}

struct Side<'r> {
    rules: &'r Rules,
    store: Scratch,
}

/// What is judged at once.
enum Input<'i> {
    Log(&'i [ReplayTx]),
    Seeds(&'i [SourceRow]),
}

impl<'r> Comparison<'r> {
    /// Nothing judged yet. `now_micros` is the present, microseconds since the Unix epoch.
    pub fn new(old: &'r Rules, new: &'r Rules, installation: &str, now_micros: i64) -> Self {
        let side = |rules| Side { rules, store: Scratch::default() };
        Self {
            sides: [side(old), side(new)],
            installation: installation.to_string(),
            now_micros,
            base: BTreeMap::new(),
            asked: HashSet::new(),
            linking: BTreeMap::new(),
            holding: BTreeMap::new(),
            seeds: Vec::new(),
        }
    }

    /// Records that are held in memory.
    pub fn records(&self) -> usize {
        self.asked.len()
    }

    /// Judges transactions on both sides. `load` asks the canonical store.
    ///
    /// # Errors
    /// What `load` failed with.
    pub fn judge<E>(
        &mut self,
        log: &[ReplayTx],
        load: &mut dyn FnMut(&Needs) -> Result<Loaded, E>,
    ) -> Result<(), E> {
        loop {
            while let Some(rows) = self.seeds.pop() {
                if !self.both(&Input::Seeds(&rows), load)? {
                    // What these rows hang together with comes first.
                    let found = self.seeds.split_off(self.seeds.len().saturating_sub(1));
                    self.seeds.push(rows);
                    self.seeds.extend(found);
                }
            }
            if self.both(&Input::Log(log), load)? {
                return Ok(());
            }
        }
    }

    /// Judges on both sides; false when further rows must be judged before.
    fn both<E>(
        &mut self,
        input: &Input<'_>,
        load: &mut dyn FnMut(&Needs) -> Result<Loaded, E>,
    ) -> Result<bool, E> {
        let mut outcomes = Vec::with_capacity(2);
        for side in 0..2 {
            match self.one(side, input, load)? {
                Some(outcome) => outcomes.push(outcome),
                None => return Ok(false),
            }
        }
        for (side, outcome) in self.sides.iter_mut().zip(outcomes) {
            side.store.apply(outcome);
            if let Input::Seeds(rows) = input {
                // As they are, unless judging has made something else of them (parked).
                for row in rows.iter() {
                    side.store.keep_row(row);
                }
            }
        }
        Ok(true)
    }

    fn one<E>(
        &mut self,
        side: usize,
        input: &Input<'_>,
        load: &mut dyn FnMut(&Needs) -> Result<Loaded, E>,
    ) -> Result<Option<Outcome>, E> {
        let Some(rules) = self.sides.get(side).map(|s| s.rules) else { return Ok(None) };
        let mut work = Workspace::new(rules, &self.installation, self.now_micros);
        match input {
            Input::Log(log) => {
                for tx in log.iter() {
                    work.take_in(&tx.source, &tx.header, tx.events.clone());
                }
            }
            Input::Seeds(rows) => {
                let header = seed_header(self.now_micros);
                for row in rows.iter() {
                    work.take_in_again(&row.key.source, &header, row.clone());
                }
            }
        }
        let whole = work.whole_rows();
        loop {
            let needs = work.needs();
            if needs.is_empty() {
                return Ok(Some(work.finish()));
            }
            if self.look_outside(&needs, load)? {
                return Ok(None);
            }
            let loaded = self.answer(side, &needs, &whole);
            work.provide(loaded);
        }
    }

    /// Loads from the canonical store what was never asked for; true when rows were found that
    /// must be judged first.
    fn look_outside<E>(
        &mut self,
        needs: &Needs,
        load: &mut dyn FnMut(&Needs) -> Result<Loaded, E>,
    ) -> Result<bool, E> {
        let rows = needs.rows.iter().filter(|k| !self.base.contains_key(*k)).cloned();
        let records = needs.records.iter().filter(|k| !self.asked.contains(*k)).cloned();
        let linking = needs.linking_to.iter().filter(|k| !self.linking.contains_key(*k)).cloned();
        let sides = &self.sides;
        let is_alias = |key: &&RowKey| sides.iter().any(|side| side.rules.is_alias(key));
        let new_alias = |key: &&RowKey| is_alias(key) && !self.holding.contains_key(*key);
        let new = Needs {
            referring_to: needs.referring_to.iter().filter(new_alias).cloned().collect(),
            rows: rows.collect(),
            records: records.collect(),
            linking_to: linking.collect(),
            ..Needs::default()
        };
        if new.is_empty() {
            return Ok(false);
        }
        let loaded = load(&new)?;
        self.note_rows(&new.rows, loaded.rows);
        self.note_holders(new.referring_to, loaded.referring);
        for key in &new.linking_to {
            self.linking.entry(key.clone()).or_default();
        }
        for (to, from) in loaded.linking {
            self.linking.entry(to).or_default().push(from);
        }
        self.asked.extend(new.records);
        let mut rows: BTreeSet<RowKey> = BTreeSet::new();
        for (_, state) in loaded.records {
            rows.extend(state.contributions.into_iter().map(|c| c.row));
            for side in &mut self.sides {
                side.store.keep_evidence(&state.evidence);
            }
        }
        let spoken = |row: &RowKey| self.sides.iter().any(|s| s.store.rows.contains_key(row));
        let missing: Vec<RowKey> = rows.into_iter().filter(|row| !spoken(row)).collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let unknown = missing.iter().filter(|row| !self.base.contains_key(*row)).cloned();
        let unknown: Vec<RowKey> = unknown.collect();
        if !unknown.is_empty() {
            let loaded = load(&Needs { rows: unknown.clone(), ..Needs::default() })?;
            self.note_rows(&unknown, loaded.rows);
        }
        let found = missing.iter().filter_map(|row| self.base.get(row)?.clone());
        let seeds: Vec<SourceRow> = found.filter(|row| !row.deleted).collect();
        let any = !seeds.is_empty();
        if any {
            self.seeds.push(seeds);
        }
        Ok(any)
    }

    fn note_holders(&mut self, asked: Vec<RowKey>, found: Vec<SourceRow>) {
        for alias in asked {
            let holds = |row: &&SourceRow| row.refers_to.contains(&alias);
            let keys = found.iter().filter(holds).map(|row| row.key.clone()).collect();
            self.holding.insert(alias, keys);
        }
        let new = found.into_iter().filter(|row| !self.base.contains_key(&row.key)).collect();
        self.note_rows(&[], new);
    }

    fn note_rows(&mut self, asked: &[RowKey], found: Vec<SourceRow>) {
        for key in asked {
            self.base.entry(key.clone()).or_insert(None);
        }
        for row in found {
            let row = SourceRow { at: before_all(), waiting_for: Vec::new(), ..row };
            self.base.insert(row.key.clone(), Some(row));
        }
    }

    /// What one side knows, and besides it what the canonical store has. A row that the log has
    /// whole is taken from there: its own evidence is to be found again.
    fn answer(&self, side: usize, needs: &Needs, whole: &HashSet<RowKey>) -> Loaded {
        let Some(side) = self.sides.get(side) else { return Loaded::default() };
        let mut loaded = side.store.load(needs);
        let known: HashSet<RowKey> = loaded.rows.iter().map(|r| r.key.clone()).collect();
        let outside = needs.rows.iter().filter(|k| !known.contains(*k) && !whole.contains(*k));
        loaded.rows.extend(outside.filter_map(|k| self.base.get(k)?.clone()));
        let holding = needs.referring_to.iter().filter_map(|alias| self.holding.get(alias));
        let new = |key: &&RowKey| !side.store.rows.contains_key(*key) && !whole.contains(*key);
        for key in holding.flatten().filter(new) {
            loaded.referring.extend(self.base.get(key).cloned().flatten());
        }
        for to in &needs.linking_to {
            let from = self.linking.get(to).into_iter().flatten();
            loaded.linking.extend(from.map(|from| (to.clone(), from.clone())));
        }
        loaded
    }

    /// Records that come out otherwise, in the order of their keys.
    pub fn differences(&self) -> Vec<RecordDifference> {
        let [old, new] = &self.sides;
        let mut keys: Vec<&RecordKey> = self.asked.iter().collect();
        keys.sort();
        let there = |side: &'_ Side<'r>, key: &RecordKey| -> Option<Record> {
            side.store.records.get(key).filter(|r| !r.deleted).cloned()
        };
        let different = keys.into_iter().filter_map(|key| {
            let (was, is) = (there(old, key), there(new, key));
            let fields = fields(was.as_ref(), is.as_ref());
            let (was, is) = (was.is_some(), is.is_some());
            let differs = was != is || !fields.is_empty();
            differs.then(|| RecordDifference { record: key.clone(), was, is, fields })
        });
        different.collect()
    }

    /// Open exceptions by kind, where their number differs.
    pub fn exceptions(&self) -> Counts {
        self.counts(|store| {
            let open = store.exceptions.values().filter(|e| e.open);
            open.map(|e| e.kind.clone()).collect()
        })
    }

    /// Deliveries by rule, where their number differs.
    pub fn deliveries(&self) -> Counts {
        self.counts(|store| store.deliveries.iter().map(|d| d.rule.clone()).collect())
    }

    fn counts(&self, of: impl Fn(&Scratch) -> Vec<Name>) -> Counts {
        let mut counts = Counts::new();
        let [old, new] = &self.sides;
        of(&old.store).into_iter().for_each(|name| counts.entry(name).or_default().0 += 1);
        of(&new.store).into_iter().for_each(|name| counts.entry(name).or_default().1 += 1);
        counts.retain(|_, (old, new)| old != new);
        counts
    }
}

fn fields(was: Option<&Record>, is: Option<&Record>) -> Vec<FieldDifference> {
    let names = was.into_iter().chain(is).flat_map(|r| r.fields.keys().cloned());
    let all: BTreeSet<Name> = names.collect();
    let different = all.into_iter().filter_map(|field| {
        let text = |r: Option<&Record>| r?.fields.get(&field)?.to_text().map(|t| t.to_string());
        let same =
            match (was.and_then(|r| r.fields.get(&field)), is.and_then(|r| r.fields.get(&field))) {
                (Some(old), Some(new)) => old.same_as(new),
                (old, new) => old.is_none() && new.is_none(),
            };
        let rule = |r: Option<&Record>| Some(r?.origins.get(&field)?.rule.clone());
        let rule = rule(is).or_else(|| rule(was)).unwrap_or_else(|| "".into());
        let (old, new) = (text(was), text(is));
        (!same).then_some(FieldDifference { field, old, new, rule })
    });
    different.collect()
}

/// Before everything that a log has.
fn before_all() -> LogOrder {
    Position::Postgres { lsn: 0 }.order(0)
}

fn seed_header(now_micros: i64) -> TxHeader {
    TxHeader {
        id: "store".into(),
        commit: Position::Postgres { lsn: 0 },
        commit_micros: now_micros,
        origin: None,
        snapshot: true,
    }
}
