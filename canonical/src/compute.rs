//! A record as a function of its contributions, its evidence and the rules.

mod draft;
mod part;
mod pick;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossdock_model::canonical::{
    Contribution, Deadline, Evidence, Fields, Links, Name, Record, RecordKey, Release, RowKey,
};
use crossdock_model::{LogOrder, Sorted, Value};
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::expr::Expr;
use crate::ownership::{Choice, FieldRule, Merge, OnViolation};
use crate::plan::EntityPlan;
use crate::quarantine::Reach;
use crate::rowmap::convert;
use crate::rules::Rules;
use crate::scope::{Children, Members, Scope, Var};

use draft::{Draft, Source};
pub(crate) use part::{Dirt, Part, Patched};
use pick::{Saying, Sayings, has_part, own, pick};
pub(crate) use pick::{by_pk, total};

/// A record with everything that it is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rec {
    /// The record, once somebody contributes to it.
    pub record: Option<Arc<Record>>,
    /// What rows say about it.
    pub contributions: Sorted<RowKey, Arc<Contribution>>,
    /// The store keeps what rows say apart from the record. Once it does so it stays so.
    pub apart: bool,
    /// Evidence about it.
    pub evidence: Sorted<Uuid, Arc<Evidence>>,
    /// Its releases by rule and business key.
    pub releases: Sorted<(Name, Name), Arc<Release>>,
    /// Its deadlines.
    pub deadlines: Sorted<Uuid, Deadline>,
    /// The record was computed under these very rules, and from what is said now: nothing but a
    /// change can make it another.
    pub settled: bool,
}

/// So many rows speak of a record at the most whose store keeps with it what they say: each change
/// writes all of it.
const TOGETHER_MAX: usize = 4;

impl Rec {
    /// Whether what rows say cannot be kept with the record.
    pub fn must_be_apart(&self) -> bool {
        let said = self.contributions.len();
        said > TOGETHER_MAX || self.record.is_none() && said > 0
    }
}

/// What a record depends on besides what is said of it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Records that link to it, as far as computed fields read them.
    pub children: &'a Children<'a>,
    /// Records that it links to, as far as its owners depend on them.
    pub linked: &'a Linked,
    /// What has just been written.
    pub fresh: &'a Fresh,
    /// The present, microseconds since the Unix epoch.
    pub now_micros: i64,
}

/// Linked records by link name; `None` where there is none yet.
pub(crate) type Linked = Vec<(Name, Option<Arc<Record>>)>;

/// Values that rules with `accept` have just taken from others than the owner, and fields that
/// their owners have just written.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// Taken from a non-owner.
    pub accepted: BTreeMap<(RecordKey, Name), (Value<'static>, Name, LogOrder)>,
    /// Written by the owner.
    pub owned: BTreeSet<(RecordKey, Name)>,
}

/// A computed record and what went wrong on the way.
#[derive(Debug)]
pub(crate) struct Computed {
    /// The record, with the version of the previous one; `None` when it is as it was.
    pub record: Option<Record>,
    /// Rules that failed, and how.
    pub errors: Vec<(Name, String)>,
    /// Every value is known to come from where it comes from now.
    pub settled: bool,
}

/// The owner of a field, given the other fields of the record and the records that it links to. A
/// condition about a record that is not there yet does not hold.
///
/// # Errors
/// The rule whose condition failed, and how.
pub(crate) fn choose<'c>(
    rule: &'c FieldRule,
    key: &str,
    fields: &dyn Members,
    linked: &Linked,
) -> Result<Option<&'c Choice>, (Name, String)> {
    for choice in rule {
        let Some(when) = &choice.when else { return Ok(Some(choice)) };
        let held = condition(when, key, fields, linked);
        if held.map_err(|what| (choice.rule.clone(), what))? {
            return Ok(Some(choice));
        }
    }
    Ok(None)
}

/// Whether nobody may change a field at present, its owner included.
///
/// # Errors
/// What is wrong with the condition.
pub(crate) fn is_frozen(
    choice: &Choice,
    key: &str,
    fields: &dyn Members,
    linked: &Linked,
) -> Result<bool, String> {
    choice.frozen_when.as_ref().map_or(Ok(false), |when| condition(when, key, fields, linked))
}

fn condition(
    when: &Expr,
    key: &str,
    fields: &dyn Members,
    linked: &Linked,
) -> Result<bool, String> {
    if linked.iter().any(|(link, record)| record.is_none() && when.uses(link)) {
        return Ok(false);
    }
    let mut scope = Scope::default().with("rec", Var::Record { key, fields, children: None });
    for (link, record) in linked {
        if let Some(record) = record {
            let (key, fields) = (&*record.key.key, &record.fields);
            scope = scope.with(link, Var::Record { key, fields, children: None });
        }
    }
    when.holds(&scope)
}

/// Computes a record; `None` while nobody has contributed to it.
pub(crate) fn compute(
    rules: &Rules,
    key: &RecordKey,
    rec: &Rec,
    around: Around<'_>,
) -> Option<Computed> {
    let plan = rules.plans.of(&key.entity)?;
    let mut live: Vec<&Contribution> =
        rec.contributions.values().map(|c| &**c).filter(|c| !c.gone).collect();
    let as_it_was = Computed { record: None, errors: Vec::new(), settled: false };
    if live.is_empty() {
        // What was there last is kept, so that one can see what has been deleted.
        let last = rec.record.as_ref()?;
        let gone = || Record { deleted: true, ..Record::clone(last) };
        return Some(Computed { record: (!last.deleted).then(gone), ..as_it_was });
    }
    let mut stopped = Vec::new();
    if let Some(quarantines) = rules.quarantines.of(&key.entity) {
        let stops =
            |c: &Contribution, reach| quarantines.iter().any(|q| q.reach == reach && q.stops(c));
        if live.iter().any(|c| stops(c, Reach::Key)) {
            return rec.record.is_some().then_some(as_it_was);
        }
        stopped = live.iter().filter(|c| stops(c, Reach::Row)).map(|c| &c.row).collect();
        if rec.record.is_none() {
            live.retain(|c| !stopped.contains(&&c.row));
        }
    }
    if live.is_empty() {
        return None;
    }
    let previous = rec.record.as_deref();
    let (draft, errors) = (Draft::with_capacity(plan.fields.len()), Vec::new());
    let mut maker = Maker { rules, key, plan, live, stopped, previous, around, draft, errors };
    maker.key_fields();
    maker.owned_fields();
    maker.lifecycle(rec);
    maker.projections();
    let links = links_of(rules, &key.entity, maker.live.iter().copied());
    let settled = maker.previous.is_none_or(|previous| maker.draft.comes_from(previous));
    let record = maker.draft.record(key, maker.previous, links);
    let settled = settled || record.is_some();
    Some(Computed { record, errors: maker.errors, settled })
}

/// Links of a record: what the entity's owner says, otherwise what anybody says.
pub(crate) fn links_of<'c>(
    rules: &Rules,
    entity: &Name,
    live: impl Iterator<Item = &'c Contribution>,
) -> Links {
    let owner = rules.plans.of(entity).and_then(|p| p.default.as_ref()).and_then(|r| r.first());
    let mut sorted: Vec<&Contribution> = live.filter(|c| !c.gone).collect();
    sorted.sort_by_key(|c| !owner.is_some_and(|o| o.owned_by(&c.row.source)));
    let mut links = Links::new();
    for (name, to) in sorted.iter().flat_map(|c| &*c.links) {
        if !links.contains_key(name) {
            links.insert(name.clone(), to.clone());
        }
    }
    links
}

struct Maker<'m> {
    rules: &'m Rules,
    key: &'m RecordKey,
    plan: &'m EntityPlan,
    live: Vec<&'m Contribution>,
    /// Rows that are in quarantine.
    stopped: Vec<&'m RowKey>,
    previous: Option<&'m Record>,
    around: Around<'m>,
    draft: Draft<'m>,
    errors: Vec<(Name, String)>,
}

impl<'m> Maker<'m> {
    fn key_fields(&mut self) {
        let Some(first) = self.live.first().copied() else { return };
        for field in &self.plan.key {
            if let Some(value) = first.fields.get(field) {
                self.draft.set(field, Cow::Borrowed(value), Source::Key(first));
            }
        }
    }

    fn owned_fields(&mut self) {
        let plan = self.plan;
        if let ([only], true) = (&self.live[..], plan.plain) {
            return self.fields_of(only);
        }
        let mut sayings = Sayings::of(&self.live);
        for owned in &plan.owned {
            let said = sayings.about(&owned.name);
            if said.is_empty() {
                continue;
            }
            let linked = self.around.linked;
            match choose(&owned.rule, &self.key.key, &self.draft, linked) {
                Ok(Some(choice)) => self.owned_field(&owned.name, choice, said),
                Ok(None) => {}
                Err(error) => {
                    self.errors.push(error);
                    self.keep(&owned.name);
                }
            }
        }
    }

    /// The fields of a record of which one row alone speaks, when no field depends on another.
    fn fields_of(&mut self, only: &'m Contribution) {
        let mut plans = self.plan.fields.walk();
        for (field, value) in only.fields.iter() {
            let plan = plans.find(field).filter(|plan| !plan.key && !plan.computed);
            let rule = plan.and_then(|plan| plan.rule.as_ref());
            if let Some(choice) = rule.and_then(|rule| rule.first()) {
                self.owned_field(field, choice, &[(only, value)]);
            }
        }
    }

    /// Keeps the value that a field has.
    fn keep(&mut self, field: &'m Name) {
        let Some(previous) = self.previous else { return };
        if let Some(origin) = previous.origins.get(field) {
            let value = previous.fields.get(field).map_or(Cow::Owned(Value::Null), Cow::Borrowed);
            self.draft.set(field, value, Source::Kept(origin));
        }
    }

    fn owned_field(&mut self, field: &'m Name, choice: &'m Choice, said: &[Saying<'m>]) {
        if choice.computed() {
            return;
        }
        let known = || self.previous.is_some_and(|p| p.origins.contains_key(field));
        if choice.frozen_when.is_some() && known() {
            match is_frozen(choice, &self.key.key, &self.draft, self.around.linked) {
                Ok(false) => {}
                Ok(true) => return self.keep(field),
                Err(what) => {
                    self.errors.push((choice.rule.clone(), what));
                    return self.keep(field);
                }
            }
        }
        if choice.on_violation == OnViolation::Accept && self.accepted(field, choice) {
            return;
        }
        let own = match own(said, choice) {
            Ok(own) => own,
            Err(what) => {
                self.errors.push((choice.rule.clone(), what.to_string()));
                return self.keep(field);
            }
        };
        if has_part(said, choice, own.as_ref(), &self.stopped) {
            return self.keep(field);
        }
        if let Some((by, value)) = own.as_ref().filter(|(_, value)| !value.is_null()) {
            return self.draft.set(field, value.clone(), Source::Said(by, &choice.rule));
        }
        let others = choice.fallback.iter();
        let other = others.filter_map(|s| pick(said, s, Merge::Latest, true)).next();
        if other.is_some_and(|(by, _)| self.stopped.contains(&&by.row)) {
            return self.keep(field);
        }
        let other = other.map(|(by, value)| (by, Cow::Borrowed(value)));
        if let Some((by, value)) = other.or(own) {
            return self.draft.set(field, value, Source::Said(by, &choice.rule));
        }
        if !choice.null_is_value {
            let origin = self.previous.and_then(|p| p.origins.get(field));
            if origin.is_some_and(|o| choice.owned_by(&o.source)) {
                self.keep(field);
            }
        }
    }

    /// A value of somebody else that the rule accepts, until the owner writes again.
    fn accepted(&mut self, field: &'m Name, choice: &'m Choice) -> bool {
        let place = (self.key.clone(), field.clone());
        if let Some((value, source, at)) = self.around.fresh.accepted.get(&place) {
            let source = Source::Accepted { source, at: *at, rule: &choice.rule };
            self.draft.set(field, Cow::Borrowed(value), source);
            return true;
        }
        let origin = self.previous.and_then(|p| p.origins.get(field));
        let foreign = origin.is_some_and(|o| !choice.owned_by(&o.source));
        let kept = foreign && !self.around.fresh.owned.contains(&place);
        if kept {
            self.keep(field);
        }
        kept
    }

    fn lifecycle(&mut self, rec: &Rec) {
        let Some(lifecycle) = self.rules.lifecycles.of(&self.key.entity) else { return };
        let evidence = rec.evidence.values().map(|e| &**e);
        // Only guards look at the other fields.
        let fields = if lifecycle.is_guarded() { self.draft.fields() } else { Fields::new() };
        let verdict = lifecycle.judge(evidence, &self.key.key, &fields, self.around.now_micros);
        self.errors.extend(verdict.errors);
        if let Some((state, rule)) = verdict.state {
            let value = Value::Text(state.to_string().into());
            let source = Source::State { rule, inferred: verdict.inferred };
            self.draft.set(&lifecycle.field, Cow::Owned(value), source);
        }
        for (field, (value, _, rule)) in verdict.sets {
            let Some(field) = lifecycle.computes().find(|f| **f == field) else { continue };
            self.draft.set(field, Cow::Owned(value), Source::Computed(rule));
        }
    }

    fn projections(&mut self) {
        let children = self.around.children;
        for projection in self.rules.telling.projections.of(&self.key.entity).into_iter().flatten()
        {
            let result = {
                let key = &*self.key.key;
                let rec = Var::Record { key, fields: &self.draft, children: Some(children) };
                projection.value.value(&Scope::default().with("rec", rec)).and_then(|value| {
                    convert(&value, projection.kind, 0, &TimeZone::UTC)
                        .map_err(|()| format!("the result is not {}", projection.kind))
                })
            };
            match result {
                Ok(value) => {
                    let source = Source::Computed(projection.rule.clone());
                    self.draft.set(&projection.field, Cow::Owned(value), source);
                }
                Err(what) => {
                    self.errors.push((projection.rule.clone(), what));
                    self.keep(&projection.field);
                }
            }
        }
    }
}

/// Fields that differ between two states of a record, each with its value before and after; a NULL
/// is as good as nothing, and comes as nothing.
pub(crate) fn changed_fields<'r>(
    old: Option<&'r Record>,
    new: &'r Record,
) -> impl Iterator<Item = Change<'r>> {
    static EMPTY: Fields = Fields::new();
    let before = old.map_or(&EMPTY, |r| &r.fields);
    before.beside(&new.fields).filter_map(|(name, old, new)| change(name, old, new))
}

/// The same for one field.
pub(crate) fn changed_field<'r>(
    old: &'r Record,
    new: &'r Record,
    name: &'r Name,
) -> Option<Change<'r>> {
    change(name, old.fields.of(name), new.fields.of(name))
}

fn change<'r>(
    name: &'r Name,
    old: Option<&'r Value<'static>>,
    new: Option<&'r Value<'static>>,
) -> Option<Change<'r>> {
    let (old, new) = (old.filter(|v| !v.is_null()), new.filter(|v| !v.is_null()));
    let same = match (old, new) {
        (Some(old), Some(new)) => old.same_as(new),
        (old, new) => old.is_none() && new.is_none(),
    };
    (!same).then_some((name, old, new))
}

/// A field, its value before and its value after.
pub(crate) type Change<'r> = (&'r Name, Option<&'r Value<'static>>, Option<&'r Value<'static>>);
