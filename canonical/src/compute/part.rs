//! A record after a change, from the record before it: only what the change has an influence on is
//! worked out anew. Whatever is not plain is left to [`super::compute`], which is the meaning of
//! this: both must come to the same record.

use std::borrow::Cow;
use std::sync::Arc;

use crossdock_model::canonical::{Contribution, Links, Name, Origin, Record, RecordKey};
use crossdock_model::{Sorted, Value};
use jiff::tz::TimeZone;

use super::draft::{Places, Source};
use super::pick::{Saying, own};
use super::{Rec, links_of};
use crate::deliver::Projection;
use crate::plan::EntityPlan;
use crate::rowmap::convert;
use crate::rules::Rules;
use crate::scope::{Children, Members, Scope, Var};

/// What has changed about a record since it was computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirt {
    /// Something else than what is named here.
    pub all: bool,
    /// Fields of which something else is said.
    pub fields: Vec<Name>,
    /// Other links are said.
    pub links: bool,
    /// There is other evidence.
    pub evidence: bool,
    /// Entities of children that have changed, and the fields; `None` for the whole of them.
    pub children: Vec<(Name, Option<Arc<[Name]>>)>,
}

impl Dirt {
    /// Everything may have changed.
    pub fn whole() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Nothing has.
    pub fn is_clean(&self) -> bool {
        !self.all
            && self.fields.is_empty()
            && !self.links
            && !self.evidence
            && self.children.is_empty()
    }

    /// Adds what else has changed.
    pub fn add(&mut self, other: Dirt) {
        self.all |= other.all;
        self.links |= other.links;
        self.evidence |= other.evidence;
        self.fields.extend(other.fields);
        self.children.extend(other.children);
    }

    /// A row says something for the first time of a record of which others have spoken.
    pub fn first(said: &Contribution) -> Self {
        let fields = said.fields.keys().cloned().collect();
        Self { fields, links: !said.links.is_empty(), ..Self::default() }
    }

    /// What is different about what a row says; `beside` says that the place of what it says
    /// counts, too, since another row of its source speaks of the record.
    pub fn between(old: &Contribution, new: &Contribution, beside: bool) -> Self {
        let mut dirt = Self { links: old.links != new.links, ..Self::default() };
        if beside || !Arc::ptr_eq(&old.fields, &new.fields) {
            let differ = old.fields.beside(&new.fields).filter(|(_, a, b)| beside || a != b);
            dirt.fields.extend(differ.map(|(name, ..)| name.clone()));
        }
        dirt
    }
}

/// A field as it is now.
struct Update<'p> {
    field: &'p Name,
    /// `None` when the field is not there any more.
    now: Option<(Cow<'p, Value<'static>>, Source<'p>)>,
}

/// A record that is being brought up to date.
pub(crate) struct Part<'p> {
    rules: &'p Rules,
    plan: &'p EntityPlan,
    key: &'p RecordKey,
    rec: &'p Rec,
    record: &'p Record,
    dirt: &'p Dirt,
    updates: Vec<Update<'p>>,
    links: Option<Links>,
}

/// What has come of it.
pub(crate) struct Patched {
    /// The record; `None` when it is as it was.
    pub record: Option<Record>,
    /// Fields that have changed; `None` when more than fields has.
    pub fields: Option<Arc<[Name]>>,
    /// It is what computing the whole of it would give. It is not, when a value that means the same
    /// as before comes from somewhere else: that is noted with the next change.
    pub settled: bool,
}

impl Members for Part<'_> {
    fn member(&self, name: &str) -> Option<&Value<'static>> {
        match self.updates.iter().rev().find(|u| **u.field == *name) {
            Some(update) => update.now.as_ref().map(|(value, _)| &**value),
            None => self.record.fields.get(name),
        }
    }

    fn of(&self, name: &Name) -> Option<&Value<'static>> {
        match self.updates.iter().rev().find(|u| u.field == name) {
            Some(update) => update.now.as_ref().map(|(value, _)| &**value),
            None => self.record.fields.of(name),
        }
    }
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<'p> Part<'p> {
    /// Begins with what is said and what is evident; `None` when the record must be computed as a
    /// whole.
    pub fn begin(
        rules: &'p Rules,
        key: &'p RecordKey,
        rec: &'p Rec,
        dirt: &'p Dirt,
        now_micros: i64,
    ) -> Option<Self> {
        let plan = rules.plans.of(&key.entity).filter(|plan| plan.plain)?;
        let record = rec.record.as_deref().filter(|record| !record.deleted)?;
        if dirt.all || !rec.settled {
            return None;
        }
        let mut part =
            Self { rules, plan, key, rec, record, dirt, updates: Vec::new(), links: None };
        for field in &dirt.fields {
            part.said(field)?;
        }
        if dirt.evidence {
            part.lifecycle(now_micros);
        }
        if dirt.links {
            let live = rec.contributions.values().map(|c| &**c);
            let links = links_of(rules, &key.entity, live);
            part.links = Some(links).filter(|links| *links != record.links);
        }
        Some(part)
    }

    /// A field of which something else is said.
    fn said(&mut self, field: &Name) -> Option<()> {
        let (name, plan) = self.plan.fields.get_key_value(field)?;
        if plan.key || plan.computed || self.updates.iter().any(|u| u.field == name) {
            return Some(());
        }
        let Some(choice) = plan.rule.as_ref().and_then(|rule| rule.first()) else {
            return Some(());
        };
        if choice.computed() {
            return Some(());
        }
        let contributions = self.rec.contributions.values().map(|c| &**c).filter(|c| !c.gone);
        let said: Vec<Saying<'p>> =
            contributions.filter_map(|c| Some((c, c.fields.of(name)?))).collect();
        let own = own(&said, choice).ok()?;
        let now = own.map(|(by, value)| (value, Source::Said(by, &choice.rule)));
        let kept = !choice.null_is_value
            && !said.is_empty()
            && now.as_ref().is_none_or(|(value, _)| value.is_null())
            && self.record.origins.get(name).is_some_and(|o| choice.owned_by(&o.source));
        if !kept {
            self.updates.push(Update { field: name, now });
        }
        Some(())
    }

    fn lifecycle(&mut self, now_micros: i64) {
        let Some(lifecycle) = self.rules.lifecycles.of(&self.key.entity) else { return };
        let evidence = self.rec.evidence.values().map(|e| &**e);
        let verdict = lifecycle.judge(evidence, &self.key.key, &Sorted::new(), now_micros);
        let mut sets = verdict.sets;
        for field in lifecycle.computes() {
            let now = match &verdict.state {
                Some((state, rule)) if *field == lifecycle.field => {
                    let inferred = verdict.inferred.clone();
                    let value = Value::Text(crossdock_model::Str::kept(state));
                    Some((Cow::Owned(value), Source::State { rule: rule.clone(), inferred }))
                }
                _ => sets
                    .remove(field)
                    .map(|(value, _, rule)| (Cow::Owned(value), Source::Computed(rule))),
            };
            if !self.updates.iter().any(|u| u.field == field) {
                self.updates.push(Update { field, now });
            }
        }
    }

    /// Whether a computed field must be computed again.
    fn is_due(&self, at: usize) -> bool {
        let Some(plan) = self.plan.projected.get(at) else { return false };
        let by_child =
            self.dirt.children.iter().any(|(of, fields)| plan.reads_child(of, fields.as_deref()));
        by_child || self.updates.iter().any(|u| plan.reads(u.field) && self.differs(u))
    }

    /// The computed fields that must be computed again, as far as that is known before the first of
    /// them is.
    pub fn due(&self) -> impl Iterator<Item = &'p Projection> {
        let all = self.rules.telling.projections.of(&self.key.entity).into_iter().flatten();
        all.enumerate().filter(|(at, _)| self.is_due(*at)).map(|(_, projection)| projection)
    }

    /// Computes them, given the lists that those which were due read. `None` when the record must
    /// be computed as a whole.
    pub fn projections(&mut self, children: &Children<'_>) -> Option<()> {
        let all = self.rules.telling.projections.of(&self.key.entity).into_iter().flatten();
        for (at, projection) in all.enumerate() {
            if !self.is_due(at) {
                continue;
            }
            if projection.children.keys().any(|list| !children.contains_key(list)) {
                return None;
            }
            let key = &*self.key.key;
            let rec = Var::Record { key, fields: &*self, children: Some(children) };
            let value = projection.value.value(&Scope::default().with("rec", rec)).ok()?;
            let value = convert(&value, projection.kind, 0, &TimeZone::UTC).ok()?;
            let now = Some((Cow::Owned(value), Source::Computed(projection.rule.clone())));
            self.updates.retain(|u| *u.field != projection.field);
            self.updates.push(Update { field: &projection.field, now });
        }
        Some(())
    }

    /// Whether a field means something else than before.
    fn differs(&self, update: &Update<'_>) -> bool {
        let old = self.record.fields.of(update.field).filter(|v| !v.is_null());
        let new = update.now.as_ref().map(|(value, _)| &**value).filter(|v| !v.is_null());
        match (old, new) {
            (Some(old), Some(new)) => !old.same_as(new),
            (old, new) => old.is_some() != new.is_some(),
        }
    }

    /// Whether other steps of the lifecycle have been reported by nobody.
    fn infers(&self, update: &Update<'_>) -> bool {
        let now = update.now.as_ref().map_or(&[][..], |(_, source)| source.inferred());
        let known = self.record.origins.of(update.field).map_or(&[][..], |o| &o.inferred);
        now != known
    }

    /// Whether a value comes from somewhere else than before.
    fn moves(&self, update: &Update<'_>) -> bool {
        let now = update.now.as_ref().map(|(_, source)| source.name());
        now != self.record.origins.of(update.field).map(|o| &o.source)
    }

    /// The record as it is now.
    pub fn end(mut self) -> Patched {
        let updates = std::mem::take(&mut self.updates);
        let changed: Vec<Name> =
            updates.iter().filter(|u| self.differs(u)).map(|u| u.field.clone()).collect();
        let other = self.links.is_some() || updates.iter().any(|u| self.infers(u));
        if changed.is_empty() && !other {
            let settled = !updates.iter().any(|u| self.moves(u));
            return Patched { record: None, fields: None, settled };
        }
        let mut record = self.record.clone();
        let mut places = Places::default();
        for update in updates {
            let differs = self.differs(&update);
            let keeps = !differs && !self.moves(&update) && !self.infers(&update);
            if keeps {
                continue;
            }
            let Some((value, source)) = update.now else {
                record.fields.remove(update.field);
                record.origins.remove(update.field);
                continue;
            };
            let origin: Origin = source.into_origin(&mut places);
            record.origins.put(update.field, origin);
            match value.is_null() {
                true => _ = record.fields.remove(update.field),
                false if differs => {
                    record.fields.put(update.field, value.into_owned());
                }
                false => {}
            }
        }
        if let Some(links) = self.links {
            record.links = links;
        }
        let fields = (!other).then(|| changed.into());
        Patched { record: Some(record), fields, settled: true }
    }
}
