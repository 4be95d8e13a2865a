//! A record as a function of its contributions, its evidence and the rules.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use crossdock_model::canonical::{
    Contribution, Deadline, Evidence, Fields, Name, Origin, Record, RecordKey, Release, RowKey,
};
use crossdock_model::{LogOrder, Value};
use crossdock_schema_registry::EntityDef;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::expr::Expr;
use crate::lifecycle::Verdict;
use crate::ownership::{COMPUTED, Choice, FieldRule, Merge, OnViolation};
use crate::quarantine::Reach;
use crate::rowmap::convert;
use crate::rules::Rules;
use crate::scope::{Children, Scope, Var};

/// Origins of key fields and of computed ones are made for every record: their names are shared.
static KEY: LazyLock<Name> = LazyLock::new(|| "key".into());
static NOWHERE: LazyLock<Name> = LazyLock::new(|| "".into());
static CROSSDOCK: LazyLock<Name> = LazyLock::new(|| COMPUTED.into());

/// A record with everything that it is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rec {
    /// The record, once somebody contributes to it.
    pub record: Option<Arc<Record>>,
    /// What rows say about it.
    pub contributions: BTreeMap<RowKey, Arc<Contribution>>,
    /// Evidence about it.
    pub evidence: BTreeMap<Uuid, Arc<Evidence>>,
    /// Its releases by rule and business key.
    pub releases: BTreeMap<(Name, Name), Arc<Release>>,
    /// Its deadlines.
    pub deadlines: BTreeMap<Uuid, Deadline>,
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
    /// The record; its version is that of the previous one.
    pub record: Record,
    /// Rules that failed, and how.
    pub errors: Vec<(Name, String)>,
}

/// The owner of a field, given the other fields of the record and the records that it links to. A
/// condition about a record that is not there yet does not hold.
///
/// # Errors
/// The rule whose condition failed, and how.
pub(crate) fn choose<'c>(
    rule: &'c FieldRule,
    key: &str,
    fields: &Fields,
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
    fields: &Fields,
    linked: &Linked,
) -> Result<bool, String> {
    choice.frozen_when.as_ref().map_or(Ok(false), |when| condition(when, key, fields, linked))
}

fn condition(when: &Expr, key: &str, fields: &Fields, linked: &Linked) -> Result<bool, String> {
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
    let entity = rules.entities.entity(&key.entity)?;
    let mut live: Vec<&Contribution> =
        rec.contributions.values().map(|c| &**c).filter(|c| !c.gone).collect();
    if live.is_empty() {
        // What was there last is kept, so that one can see what has been deleted.
        let record = Record { deleted: true, ..Record::clone(rec.record.as_ref()?) };
        return Some(Computed { record, errors: Vec::new() });
    }
    let mut stopped = Vec::new();
    if let Some(quarantines) = rules.quarantines.get(&key.entity) {
        let stops =
            |c: &Contribution, reach| quarantines.iter().any(|q| q.reach == reach && q.stops(c));
        if live.iter().any(|c| stops(c, Reach::Key)) {
            let record = Record::clone(rec.record.as_ref()?);
            return Some(Computed { record, errors: Vec::new() });
        }
        stopped = live.iter().filter(|c| stops(c, Reach::Row)).map(|c| &c.row).collect();
        if rec.record.is_none() {
            live.retain(|c| !stopped.contains(&&c.row));
        }
    }
    let mut maker = Maker {
        rules,
        key,
        entity,
        live,
        stopped,
        previous: rec.record.as_deref(),
        around,
        fields: Fields::new(),
        origins: BTreeMap::new(),
        errors: Vec::new(),
    };
    if maker.live.is_empty() {
        return None;
    }
    maker.key_fields();
    maker.owned_fields();
    maker.lifecycle(rec);
    maker.projections();
    let links = maker.links();
    Some(maker.finish(links))
}

/// Links of a record: what the entity's owner says, otherwise what anybody says.
pub(crate) fn links_of<'c>(
    rules: &Rules,
    entity: &Name,
    live: impl Iterator<Item = &'c Contribution>,
) -> BTreeMap<Name, RecordKey> {
    let owners = rules.ownership.get(entity);
    let owner = owners.and_then(|o| o.default.as_ref()).and_then(|r| r.first());
    let mut sorted: Vec<&Contribution> = live.filter(|c| !c.gone).collect();
    sorted.sort_by_key(|c| !owner.is_some_and(|o| o.owned_by(&c.row.source)));
    let mut links = BTreeMap::new();
    for (name, to) in sorted.iter().flat_map(|c| &c.links) {
        links.entry(name.clone()).or_insert_with(|| to.clone());
    }
    links
}

struct Maker<'m> {
    rules: &'m Rules,
    key: &'m RecordKey,
    entity: &'m EntityDef,
    live: Vec<&'m Contribution>,
    /// Rows that are in quarantine.
    stopped: Vec<&'m RowKey>,
    previous: Option<&'m Record>,
    around: Around<'m>,
    fields: Fields,
    origins: BTreeMap<Name, Origin>,
    errors: Vec<(Name, String)>,
}

impl<'m> Maker<'m> {
    fn set(&mut self, field: &Name, value: Value<'static>, origin: Origin) {
        self.fields.insert(field.clone(), value);
        self.origins.insert(field.clone(), origin);
    }

    fn key_fields(&mut self) {
        let Some(first) = self.live.first().copied() else { return };
        for field in &self.entity.key {
            let Some(value) = first.fields.get(field) else { continue };
            let source = first.row.source.clone();
            let origin = Origin::new(source, NOWHERE.clone(), KEY.clone());
            self.set(field, value.clone(), origin);
        }
    }

    fn owned_fields(&mut self) {
        let Some(ownership) = self.rules.ownership.get(&self.key.entity) else { return };
        let computed = self.rules.computed.get(&self.key.entity);
        let said = |f: &Name| self.live.iter().any(|c| c.fields.contains_key(f));
        let owned = |f: &Name| {
            said(f) && !self.entity.is_key(f) && !computed.is_some_and(|c| c.contains(f))
        };
        let names = self.entity.fields.keys().filter(|f| owned(f));
        let mut rules: Vec<(&'m Name, &'m FieldRule)> =
            names.filter_map(|f| Some((f, ownership.of(f)?))).collect();
        // Fields whose owner depends on the record come after those on which it may depend.
        rules.sort_by_key(|(_, rule)| rule.iter().any(|c| c.exprs().next().is_some()));
        for (field, rule) in rules {
            match choose(rule, &self.key.key, &self.fields, self.around.linked) {
                Ok(Some(choice)) => self.owned_field(field, choice),
                Ok(None) => {}
                Err(error) => {
                    self.errors.push(error);
                    self.keep(field);
                }
            }
        }
    }

    /// Keeps the value that a field has.
    fn keep(&mut self, field: &Name) {
        let Some(previous) = self.previous else { return };
        if let Some(origin) = previous.origins.get(field) {
            let value = previous.fields.get(field).cloned().unwrap_or(Value::Null);
            self.set(field, value, origin.clone());
        }
    }

    fn owned_field(&mut self, field: &Name, choice: &Choice) {
        if choice.computed() {
            return;
        }
        let known = || self.previous.is_some_and(|p| p.origins.contains_key(field));
        if choice.frozen_when.is_some() && known() {
            match is_frozen(choice, &self.key.key, &self.fields, self.around.linked) {
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
        let own = pick(&self.live, field, &choice.sources, choice.merge, !choice.null_is_value);
        if own.is_some_and(|c| self.stopped.contains(&&c.row)) {
            return self.keep(field);
        }
        if let Some(c) = own.filter(|c| has_value(c, field)) {
            self.say(field, c, choice);
            return;
        }
        let others = choice.fallback.iter();
        let other = others.filter_map(|s| pick(&self.live, field, s, Merge::Latest, true)).next();
        if other.is_some_and(|c| self.stopped.contains(&&c.row)) {
            return self.keep(field);
        }
        if let Some(c) = other {
            self.say(field, c, choice);
            return;
        }
        match own {
            Some(c) => self.say(field, c, choice),
            None if !choice.null_is_value => {
                let by_owner = self
                    .previous
                    .and_then(|p| p.origins.get(field))
                    .is_some_and(|o| choice.owned_by(&o.source));
                if by_owner {
                    self.keep(field);
                }
            }
            None => {}
        }
    }

    /// Takes what a contribution says. A value that means the same is the same: the text of its
    /// origin is not made anew.
    fn say(&mut self, field: &Name, contribution: &Contribution, choice: &Choice) {
        let value = contribution.fields.get(field).unwrap_or(&Value::Null);
        let source = &contribution.row.source;
        let known = self.previous.and_then(|p| Some((p.fields.get(field)?, p.origins.get(field)?)));
        if let Some((old, origin)) = known.filter(|(v, o)| o.source == *source && v.same_as(value))
        {
            return self.set(field, old.clone(), origin.clone());
        }
        let at = contribution.at.to_sortable().into();
        let origin = Origin::new(source.clone(), at, choice.rule.clone());
        self.set(field, value.clone(), origin);
    }

    /// A value of somebody else that the rule accepts, until the owner writes again.
    fn accepted(&mut self, field: &Name, choice: &Choice) -> bool {
        let place = (self.key.clone(), field.clone());
        if let Some((value, source, at)) = self.around.fresh.accepted.get(&place) {
            let (source, at) = (source.clone(), at.to_sortable().into());
            let origin = Origin::new(source, at, choice.rule.clone());
            self.set(field, value.clone(), origin);
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
        let Some(lifecycle) = self.rules.lifecycles.get(&self.key.entity) else { return };
        let evidence = rec.evidence.values().map(|e| &**e);
        let now = self.around.now_micros;
        let verdict = lifecycle.judge(evidence, &self.key.key, &self.fields, now);
        let Verdict { state, sets, errors, inferred, .. } = verdict;
        self.errors.extend(errors);
        if let Some((state, rule)) = state {
            let value = Value::Text(state.to_string().into());
            self.set(&lifecycle.field, value, Origin { inferred, ..computed_by(rule) });
        }
        for (field, (value, _, rule)) in sets {
            self.set(&field, value, computed_by(rule));
        }
    }

    fn projections(&mut self) {
        let children = self.around.children;
        for projection in self.rules.telling.projections.get(&self.key.entity).into_iter().flatten()
        {
            let result = {
                let key = &*self.key.key;
                let rec = Var::Record { key, fields: &self.fields, children: Some(children) };
                projection.value.value(&Scope::default().with("rec", rec)).and_then(|value| {
                    convert(&value, projection.kind, 0, &TimeZone::UTC)
                        .map_err(|()| format!("the result is not {}", projection.kind))
                })
            };
            match result {
                Ok(value) => {
                    self.set(&projection.field, value, computed_by(projection.spot.name()));
                }
                Err(what) => {
                    self.errors.push((projection.spot.name(), what));
                    self.keep(&projection.field);
                }
            }
        }
    }

    fn links(&self) -> BTreeMap<Name, RecordKey> {
        links_of(self.rules, &self.key.entity, self.live.iter().copied())
    }

    fn finish(mut self, links: BTreeMap<Name, RecordKey>) -> Computed {
        if let Some(previous) = self.previous {
            // A value that means the same is the same: its origin stays, too.
            for (field, value) in &mut self.fields {
                let Some(old) = previous.fields.get(field).filter(|old| old.same_as(value)) else {
                    continue;
                };
                if value != old {
                    *value = old.clone();
                }
                if let Some(origin) = previous.origins.get(field) {
                    let now = self.origins.get(field);
                    let same =
                        |o: &Origin| o.source == origin.source && o.inferred == origin.inferred;
                    if now.is_some_and(same) {
                        self.origins.insert(field.clone(), origin.clone());
                    }
                }
            }
        }
        // A NULL is as good as nothing, and so it is nothing: otherwise a record would tell whether
        // the NULL or the first value came first.
        self.fields.retain(|_, value| !value.is_null());
        let record = Record {
            key: self.key.clone(),
            version: self.previous.map_or(0, |p| p.version),
            deleted: false,
            fields: self.fields,
            origins: self.origins,
            links,
        };
        Computed { record, errors: self.errors }
    }
}

fn computed_by(rule: Name) -> Origin {
    Origin::new(CROSSDOCK.clone(), NOWHERE.clone(), rule)
}

fn value(contribution: &Contribution, field: &Name) -> Value<'static> {
    contribution.fields.get(field).cloned().unwrap_or(Value::Null)
}

fn has_value(contribution: &Contribution, field: &Name) -> bool {
    contribution.fields.get(field).is_some_and(|v| !v.is_null())
}

/// The contribution of these sources that counts for a field.
fn pick<'c>(
    live: &[&'c Contribution],
    field: &Name,
    sources: &[Name],
    merge: Merge,
    skip_null: bool,
) -> Option<&'c Contribution> {
    let rank = |c: &Contribution| sources.iter().position(|s| *s == c.row.source);
    let mut from: Vec<&Contribution> = live
        .iter()
        .copied()
        .filter(|c| rank(c).is_some() && c.fields.contains_key(field))
        .filter(|c| !skip_null || has_value(c, field))
        .collect();
    match merge {
        Merge::Max => from.into_iter().filter(|c| has_value(c, field)).max_by(|a, b| {
            compare(&value(a, field), &value(b, field)).then_with(|| b.row.cmp(&a.row))
        }),
        Merge::Min => from.into_iter().filter(|c| has_value(c, field)).min_by(|a, b| {
            compare(&value(a, field), &value(b, field)).then_with(|| a.row.cmp(&b.row))
        }),
        Merge::Latest => {
            // Of several rows of one table that speak of the same fact, the first one counts.
            from.sort_by(|a, b| {
                let table = |c: &Contribution| (rank(c), c.row.table.clone());
                table(a).cmp(&table(b)).then_with(|| by_pk(&a.row.pk, &b.row.pk))
            });
            from.dedup_by(|b, a| a.row.source == b.row.source && a.row.table == b.row.table);
            from.into_iter().min_by_key(|c| (rank(c), std::cmp::Reverse(c.at)))
        }
    }
}

/// Order of primary keys: numbers by value.
pub(crate) fn by_pk(a: &str, b: &str) -> Ordering {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(x), Ok(y)) => x.cmp(&y),
        _ => a.cmp(b),
    }
}

fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    let (a, b) = (a.to_text().unwrap_or_default(), b.to_text().unwrap_or_default());
    let number = crossdock_model::value::decimal;
    match (number(&a), number(&b)) {
        (Some(x), Some(y)) => x.cmp(&y),
        _ => a.cmp(&b),
    }
}

/// Fields that differ between two states of a record; a NULL is as good as nothing.
pub(crate) fn changed_fields<'r>(
    old: Option<&'r Record>,
    new: &'r Record,
) -> impl Iterator<Item = &'r Name> {
    static EMPTY: Fields = Fields::new();
    let before = old.map_or(&EMPTY, |r| &r.fields);
    let gone =
        before.iter().filter(|(name, old)| !old.is_null() && !new.fields.contains_key(*name));
    let other = new.fields.iter().filter(move |(name, new)| match before.get(*name) {
        Some(old) => !old.same_as(new),
        None => !new.is_null(),
    });
    gone.chain(other).map(|(name, _)| name)
}
