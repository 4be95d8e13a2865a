//! Judging one batch of source transactions: ask, be given, decide.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crossdock_model::canonical::{
    Fields, GuardState, Loaded, Name, Needs, Outcome, Record, RecordKey, RecordState, Release,
    RowKey, SourceRow,
};
use crossdock_model::{ChangeEvent, Op, TxHeader};
use crossdock_schema_registry::{Entities, EntityDef};

use crate::difference::unpack;
use crate::fold::{Folded, Tables, fold, gone, woken};
use crate::foresee::{self, Foreseen};
use crate::judge::{Batch, Judged, judge_all};
use crate::memory::Memory;
use crate::rate;
use crate::rows::{Kept, map_all};
use crate::rules::Rules;
use crate::step::Mapped;
use crate::upcast::{self, Casts};

/// Judges one batch. Take in whole transactions in the order of their source's log, then answer
/// [`Workspace::needs`] until it is empty, then [`Workspace::finish`].
#[derive(Debug)]
pub struct Workspace<'r> {
    rules: &'r Rules,
    installation: String,
    now_micros: i64,
    tables: Tables<'r>,
    transactions: Vec<Folded<'r>>,
    memory: Memory,
    /// What was asked for last.
    asked: Needs,
    mapped: Option<Mapped>,
    foreseen: Foreseen,
    judged: Option<Judged>,
    /// Records whose time has come.
    due: BTreeSet<RecordKey>,
    /// Rate guards, as they were before the batch.
    guards: BTreeMap<Name, GuardState>,
}

impl<'r> Workspace<'r> {
    /// An empty batch. `installation` is the configured name, which identities carry;
    /// `now_micros` is the present, microseconds since the Unix epoch.
    pub fn new(rules: &'r Rules, installation: &str, now_micros: i64) -> Self {
        Self::with(rules, installation, now_micros, Memory::default())
    }

    /// An empty batch that knows what those before it have learned. The memory must be of the same
    /// rules, and of batches that are all committed or are about to be, in order.
    pub fn with(rules: &'r Rules, installation: &str, now_micros: i64, memory: Memory) -> Self {
        Self {
            rules,
            installation: installation.to_string(),
            now_micros,
            tables: Tables::default(),
            transactions: Vec::new(),
            memory,
            asked: Needs::default(),
            mapped: None,
            foreseen: Foreseen::default(),
            judged: None,
            due: BTreeSet::new(),
            guards: BTreeMap::new(),
        }
    }

    /// Gives the rate guards as they were before the batch.
    pub fn with_guards(mut self, guards: impl IntoIterator<Item = GuardState>) -> Self {
        self.guards.extend(guards.into_iter().map(|state| (state.rule.clone(), state)));
        self
    }

    /// Adds rows that a rate guard has stopped and that are to be taken now.
    pub fn take_in_woken(&mut self, source: &Name, header: &TxHeader, rows: Vec<SourceRow>) {
        let keys = rows.iter().map(|row| row.key.clone()).collect();
        self.transactions.push(woken(source, header.clone(), keys, false));
        for row in rows {
            self.memory.loaded(upcast::row(row, &self.rules.olders));
        }
        self.begin_again();
    }

    /// Adds a row of which nothing but its image is known here: it is mapped as it is, and states
    /// no evidence.
    pub(crate) fn take_in_again(&mut self, source: &Name, header: &TxHeader, row: SourceRow) {
        self.transactions.push(woken(source, header.clone(), vec![row.key.clone()], true));
        self.memory.loaded(upcast::row(row, &self.rules.olders));
        self.begin_again();
    }

    /// Rows that the batch brings whole, so that nothing of what they were is needed.
    pub(crate) fn whole_rows(&self) -> HashSet<RowKey> {
        let mut first: HashMap<&RowKey, bool> = HashMap::new();
        for net in self.transactions.iter().flat_map(|t| &t.nets) {
            first.entry(&net.row).or_insert(net.full && net.op != Op::Delete);
        }
        first.into_iter().filter(|(_, full)| *full).map(|(row, _)| row.clone()).collect()
    }

    /// Adds records that have a deadline which has passed: they are looked at again after
    /// everything else, and what is overdue raises its exception.
    pub fn take_in_due(&mut self, records: impl IntoIterator<Item = RecordKey>) {
        self.due.extend(records);
        self.begin_again();
    }

    /// Adds a whole transaction of a source.
    pub fn take_in(&mut self, source: &Name, header: &TxHeader, events: Vec<ChangeEvent>) {
        let mut header = header.clone();
        if header.commit_micros == 0 {
            // A snapshot has no commit time: what it reads is so now.
            header.commit_micros = self.now_micros;
        }
        let folded = fold(&mut self.tables, source, header, events, self.rules);
        self.transactions.push(folded);
        self.begin_again();
    }

    /// Adds rows that are in the store and not in their source any more, as it was found out at
    /// the place where `header` commits: each is deleted there, like by a transaction of the
    /// source.
    pub fn take_in_gone(&mut self, source: &Name, header: &TxHeader, rows: Vec<SourceRow>) {
        let mut header = header.clone();
        if header.commit_micros == 0 {
            header.commit_micros = self.now_micros;
        }
        self.transactions.push(gone(source, header, &rows, self.rules));
        for row in rows {
            self.memory.loaded(upcast::row(row, &self.rules.olders));
        }
        self.begin_again();
    }

    /// What was found out is not so any more: there is more to judge.
    fn begin_again(&mut self) {
        (self.mapped, self.judged) = (None, None);
        self.foreseen = Foreseen::default();
    }

    /// What must be loaded next; empty when the batch can be finished. Nothing is asked twice.
    pub fn needs(&mut self) -> Needs {
        while let Err(needs) = self.work() {
            let needs = self.memory.recall(needs);
            if !needs.is_empty() {
                self.asked.clone_from(&needs);
                return needs;
            }
        }
        Needs::default()
    }

    /// Whether the store can answer only once the batch before this one is committed there.
    pub fn must_be_committed(&self, needs: &Needs) -> bool {
        self.memory.must_be_committed(needs)
    }

    /// Maps once all rows that will be read are there, and judges once all records are.
    fn work(&mut self) -> Result<(), Needs> {
        if self.mapped.is_none() {
            let rows = &self.memory.rows;
            known(foresee::rows(self.rules, rows, &self.transactions, &mut self.foreseen))?;
            let mut mapped = map_all(self.rules, rows, &self.transactions)?;
            rate::guard(
                self.rules,
                &self.installation,
                &self.guards,
                rows,
                &self.transactions,
                &mut mapped,
            );
            self.mapped = Some(mapped);
        }
        let Some(mapped) = &self.mapped else { return Ok(()) };
        if self.judged.is_none() {
            let (rules, records) = (self.rules, &self.memory.records);
            known(foresee::records(rules, records, &mapped.steps, &mut self.foreseen))?;
            let batch = Batch {
                transactions: &self.transactions,
                steps: &mapped.steps,
                due: &self.due,
                now_micros: self.now_micros,
            };
            let store = &self.memory.records;
            self.judged = Some(judge_all(self.rules, &self.installation, store, &batch)?);
        }
        Ok(())
    }

    /// Takes what was asked for last. What was asked for and is not mentioned does not exist.
    pub fn provide(&mut self, loaded: Loaded) {
        let asked = std::mem::take(&mut self.asked);
        take(self.rules, &mut self.memory, asked, loaded);
    }

    /// What the batch comes to. Without an empty [`Workspace::needs`] before it, nothing.
    pub fn finish(self) -> Outcome {
        self.end().0
    }

    /// As [`Workspace::finish`], with what the next batch may know.
    pub fn end(self) -> (Outcome, Memory) {
        let (Some(mapped), Some(Judged { mut outcome, recs })) = (self.mapped, self.judged) else {
            return (Outcome::default(), Memory::default());
        };
        let mut memory = self.memory;
        for Kept { row, .. } in &mapped.rows {
            let Some(Some(known)) = memory.rows.rows.get(&row.key) else {
                outcome.new_rows.push(row.clone());
                continue;
            };
            if known.row.refers_to == row.refers_to {
                outcome.same_references.insert(row.key.clone());
            }
            outcome.rows.push(row.clone());
        }
        memory.take_in(mapped.rows, mapped.heard, recs, &outcome.evidence);
        outcome.guards = mapped.guards;
        outcome.exceptions.extend(mapped.raised);
        for (tally, n) in mapped.tallies {
            *outcome.tallies.entry(tally).or_default() += n;
        }
        (outcome, memory)
    }
}

/// Takes into the memory what was asked for. What was asked for and is not mentioned does not exist.
pub(crate) fn take(rules: &Rules, memory: &mut Memory, asked: Needs, loaded: Loaded) {
    let (entities, casts) = (&rules.entities, &rules.casts);
    for key in asked.referring_to {
        memory.rows.referring.entry(key).or_default();
    }
    for row in &loaded.referring {
        // Of what else it refers to, others may be unknown that do so, too.
        for other in &row.refers_to {
            if let Some(known) = memory.rows.referring.get_mut(other) {
                known.insert(row.key.clone());
            }
        }
    }
    for row in loaded.rows.into_iter().chain(loaded.referring) {
        memory.loaded(upcast::row(row, &rules.olders));
    }
    memory.records.records.reserve(asked.records.len());
    for (key, state) in loaded.records {
        memory.loaded_record(key, || unpack(typed(state, entities, casts)));
    }
    for (to, from) in loaded.linking {
        memory.records.linking.entry(to).or_default().insert(from);
    }
    for key in &asked.releases_on {
        let depends = |r: &&Release| r.depends.contains(key);
        let found = loaded.releases.iter().filter(depends).cloned().collect();
        memory.records.releases_on.insert(key.clone(), found);
    }
    for key in asked.rows {
        memory.rows.rows.entry(key).or_insert(None);
    }
    for key in asked.records {
        memory.records.records.entry(key).or_default();
    }
    for key in asked.linking_to {
        memory.records.linking.entry(key).or_default();
    }
}

pub(crate) fn known(needs: Needs) -> Result<(), Needs> {
    if needs.is_empty() { Ok(()) } else { Err(needs) }
}

/// Gives values that come from the store as plain JSON the types of their fields.
fn typed(mut state: RecordState, entities: &Entities, casts: &Casts) -> RecordState {
    if let Some(record) = &mut state.record {
        type_record(record, entities, casts);
    }
    for contribution in &mut state.contributions {
        let Some(entity) = entities.of(&contribution.record.entity) else { continue };
        if entity.was_otherwise() {
            upcast::contribution(Arc::make_mut(&mut contribution.fields), entity, casts);
        }
        let mut kinds = entity.fields.walk();
        let mut fields = contribution.fields.iter();
        if !fields.all(|(name, value)| kinds.find(name).is_none_or(|kind| kind.has(value))) {
            type_fields(Arc::make_mut(&mut contribution.fields), entity);
        }
    }
    state
}

/// Gives a record that comes from the store the types, and the names, of the entity files.
pub(crate) fn type_record(record: &mut Record, entities: &Entities, casts: &Casts) {
    let Some(entity) = entities.of(&record.key.entity) else { return };
    if entity.was_otherwise() {
        upcast::record(record, entity, casts);
    }
    type_fields(&mut record.fields, entity);
}

fn type_fields(fields: &mut Fields, entity: &EntityDef) {
    let mut kinds = entity.fields.walk();
    for (name, value) in fields.iter_mut() {
        let Some(kind) = kinds.find(name).filter(|kind| !kind.has(value)) else { continue };
        if let Ok(typed) = kind.coerce(value) {
            *value = typed;
        }
    }
}
