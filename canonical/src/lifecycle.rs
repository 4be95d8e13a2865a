//! Lifecycles: a state computed from the set of accepted evidence, never from the order in which
//! it arrived.
//!
//! Evidence is walked in the order of its event times. A state of the main line is reached when
//! there is evidence for it and never left backwards; a side state is taken only from the states
//! that its transition names, as they were at that time. What follows depends on nothing but the
//! set, so that every order of arrival gives the same record.

mod file;
mod overlay;

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::{Evidence, Fields, Name};
use crossdock_model::{Named, Value};
use crossdock_schema_registry::FieldType;
use uuid::Uuid;

use crate::deadline::Limit;
use crate::expr::Expr;
use crate::problems::Spot;
use crate::scope::{Scope, Var};

pub(crate) use file::{States, read};
pub(crate) use overlay::{Addition, Part};

/// The lifecycle of one entity.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Where it stands.
    pub spot: Spot,
    /// The same as the name of a rule.
    pub rule: Name,
    /// Field that holds the state.
    pub field: Name,
    /// States of the main line.
    pub order: Vec<Name>,
    /// States beside it.
    pub side: Vec<Name>,
    /// The state without evidence.
    pub initial: Name,
    /// How long states may last, and by when they are expected.
    pub limits: Vec<Limit>,
    /// What overlays may add although the file is locked.
    pub open: Vec<Part>,
    /// What overlays have added.
    pub additions: Vec<Addition>,
    transitions: Vec<Transition>,
}

#[derive(Debug)]
struct Transition {
    to: Name,
    /// Place in `order`; `None` for a side state.
    rank: Option<usize>,
    on: Vec<Name>,
    by: Option<Vec<Name>>,
    guard: Option<Expr>,
    from: Option<Vec<Name>>,
    /// Raised when the move is asked for in another state than those of `from`.
    otherwise: Option<Name>,
    /// The move is never made: from these states this is raised instead.
    forbidden: Option<Name>,
    sets: Vec<Setting>,
    rule: Name,
}

#[derive(Debug)]
struct Setting {
    field: Name,
    kind: FieldType,
    /// `event_time`, `recorded_time`, `source`, `kind` or `data.NAME`.
    from: String,
}

/// What a set of evidence amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// The state and the rule that led to it.
    pub state: Option<(Name, Name)>,
    /// When it was reached, as its evidence says; `None` for the initial state.
    pub since: Option<i64>,
    /// When evidence whose time has not come yet must be looked at again.
    pub next: Option<i64>,
    /// States of the main line before it for which there is no evidence, in their order.
    pub inferred: Vec<Name>,
    /// Fields set from evidence: value, source of the evidence, rule.
    pub sets: BTreeMap<Name, (Value<'static>, Name, Name)>,
    /// Evidence that asked for an illegal move: evidence, exception, rule.
    pub illegal: Vec<(Uuid, Name, Name)>,
    /// Guards that failed: rule and what is wrong.
    pub errors: Vec<(Name, String)>,
}

impl Lifecycle {
    /// Fields that it computes.
    pub fn computes(&self) -> impl Iterator<Item = &Name> {
        let sets = self.transitions.iter().flat_map(|t| t.sets.iter().map(|s| &s.field));
        std::iter::once(&self.field).chain(sets)
    }

    /// Adds that a state sets a field to the time at which it was reached.
    pub fn set_time(&mut self, state: &str, field: &Name, kind: FieldType) {
        for transition in self.transitions.iter_mut().filter(|t| &*t.to == state) {
            let from = "event_time".to_string();
            transition.sets.push(Setting { field: field.clone(), kind, from });
        }
    }

    /// Whether what it comes to depends on the present.
    pub fn looks_at_the_clock(&self) -> bool {
        self.transitions.iter().filter_map(|t| t.guard.as_ref()).any(|g| g.uses("now"))
    }

    /// Kinds of evidence that lead to a state.
    pub fn kinds_of(&self, state: &str) -> impl Iterator<Item = &Name> {
        let to = move |t: &&Transition| &*t.to == state && t.forbidden.is_none();
        self.transitions.iter().filter(to).flat_map(|t| &t.on)
    }

    /// Where it is said what leads to a state, and each kind of evidence that does, with those
    /// whose word counts.
    pub fn ways_to(&self, state: &str) -> impl Iterator<Item = (&Name, Vec<String>)> {
        let to = move |t: &&Transition| &*t.to == state && t.forbidden.is_none();
        self.transitions.iter().filter(to).map(|t| {
            let by = t.by.as_ref().map(|by| {
                let names: Vec<&str> = by.iter().map(|n| &**n).collect();
                format!(" by {}", names.join(", "))
            });
            let by = by.unwrap_or_default();
            (&t.rule, t.on.iter().map(|kind| format!("{kind}{by}")).collect())
        })
    }

    /// Whether anything but the evidence itself can matter.
    pub fn is_guarded(&self) -> bool {
        self.transitions.iter().any(|t| t.guard.is_some())
    }

    /// Whether evidence of a kind may ask for a move that is not followed.
    pub fn may_refuse(&self, kind: &str) -> bool {
        let refuses = |t: &&Transition| t.otherwise.is_some() || t.forbidden.is_some();
        self.transitions.iter().filter(refuses).any(|t| t.on.iter().any(|k| &**k == kind))
    }

    /// The farthest place in the main line that this kind of evidence can lead to.
    pub fn rank_of_kind(&self, kind: &str) -> Option<usize> {
        let led = self.transitions.iter().filter(|t| t.on.iter().any(|k| &**k == kind));
        led.filter_map(|t| t.rank).max()
    }

    /// The place of a state in the main line.
    pub fn rank(&self, state: &str) -> Option<usize> {
        self.order.iter().position(|s| &**s == state)
    }

    /// Judges a set of evidence at a moment. `rec` holds the fields that are not computed.
    pub fn judge<'e>(
        &self,
        evidence: impl IntoIterator<Item = &'e Evidence>,
        key: &str,
        rec: &Fields,
        now_micros: i64,
    ) -> Verdict {
        let mut walk = Walk {
            lifecycle: self,
            state: self.initial.clone(),
            rule: None,
            now_micros,
            verdict: Verdict::default(),
            sets: BTreeMap::new(),
            reached: BTreeSet::new(),
        };
        let mut sorted: Vec<&Evidence> = evidence.into_iter().filter(|e| !e.withdrawn).collect();
        sorted.sort_by_cached_key(|e| {
            let beside = self.rank_of_kind(&e.kind).is_none();
            (e.event_micros, beside, -e.authority, e.id)
        });
        for item in sorted {
            for transition in self.transitions.iter().filter(|t| t.is_for(item)) {
                match walk.allows(transition, item, key, rec) {
                    Ok(true) => walk.step(transition, item),
                    Ok(false) => walk.wait(transition, item),
                    Err(what) => walk.verdict.errors.push((transition.rule.clone(), what)),
                }
            }
        }
        walk.finish()
    }
}

impl Transition {
    fn is_for(&self, evidence: &Evidence) -> bool {
        self.on.contains(&evidence.kind)
            && self.by.as_ref().is_none_or(|by| by.contains(&evidence.row.source))
    }
}

/// What a guard sees of evidence: what is not known is the empty text. Times have six digits after
/// the second, so that they can be compared as texts.
fn facts(evidence: &Evidence) -> Fields {
    let text = |name: &str| Value::Text(name.to_string().into());
    let mut ev = Fields::new();
    for (name, value) in evidence.data.as_object().into_iter().flatten() {
        let value = match value {
            serde_json::Value::String(s) => text(s),
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Null => continue,
            other => Value::Json(other.to_string().into()),
        };
        ev.insert(name.as_str().into(), value);
    }
    ev.insert("kind".into(), text(&evidence.kind));
    ev.insert("source".into(), text(&evidence.row.source));
    ev.insert("event_time".into(), text(&moment(evidence.event_micros)));
    ev.insert("recorded_time".into(), text(&moment(evidence.recorded_micros)));
    ev.insert("authority".into(), Value::Int(i64::from(evidence.authority)));
    ev.insert("data".into(), Value::Json(evidence.data.to_string().into()));
    ev
}

/// A moment as text of fixed length.
fn moment(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(at) => format!("{at:.6}"),
        Err(_) => String::new(),
    }
}

/// A candidate for a field set from evidence; the least one wins.
type Candidate = (i32, i64, Uuid);

struct Walk<'l> {
    lifecycle: &'l Lifecycle,
    state: Name,
    rule: Option<Name>,
    now_micros: i64,
    verdict: Verdict,
    sets: BTreeMap<Name, (Candidate, Value<'static>, Name, Name)>,
    /// Places in the main line for which there is evidence.
    reached: BTreeSet<usize>,
}

impl Walk<'_> {
    /// Whether the guard of a transition lets evidence pass, in the state reached so far.
    fn allows(
        &self,
        transition: &Transition,
        evidence: &Evidence,
        key: &str,
        rec: &Fields,
    ) -> Result<bool, String> {
        let Some(guard) = &transition.guard else { return Ok(true) };
        let ev = facts(evidence);
        let now = moment(self.now_micros);
        let field = &self.lifecycle.field;
        let mut here = None;
        if guard.members.contains(&("rec".to_string(), field.to_string())) {
            let mut fields = rec.clone();
            fields.insert(field.clone(), Value::Text(self.state.to_string().into()));
            here = Some(fields);
        }
        let fields = here.as_ref().unwrap_or(rec);
        let rec = Var::Record { key, fields, children: None };
        let scope = Scope::default()
            .with("ev", Var::Facts(&ev))
            .with("rec", rec)
            .with("now", Var::Text(&now));
        guard.holds(&scope)
    }

    /// Notes evidence of the future that a guard may let pass when its time has come.
    fn wait(&mut self, transition: &Transition, evidence: &Evidence) {
        let timed = transition.guard.as_ref().is_some_and(|g| g.uses("now"));
        if timed && evidence.event_micros > self.now_micros {
            let at = evidence.event_micros;
            self.verdict.next = Some(self.verdict.next.map_or(at, |next| next.min(at)));
        }
    }

    fn step(&mut self, transition: &Transition, evidence: &Evidence) {
        let at = self.lifecycle.rank(&self.state);
        let named = transition.from.as_ref().map(|from| from.contains(&self.state));
        if let Some(kind) = &transition.forbidden {
            if named != Some(false) {
                let illegal = (evidence.id, kind.clone(), transition.rule.clone());
                self.verdict.illegal.push(illegal);
            }
            return;
        }
        let legal = match (transition.rank, at) {
            // From a side state back to the main line only where the rule says so.
            (Some(_), None) => named == Some(true),
            _ => named != Some(false) || self.state == transition.to,
        };
        if !legal {
            if let Some(kind) = &transition.otherwise {
                let illegal = (evidence.id, kind.clone(), transition.rule.clone());
                self.verdict.illegal.push(illegal);
            }
            return;
        }
        self.reached.extend(transition.rank);
        let forward = match (transition.rank, at) {
            (Some(to), Some(at)) => to > at,
            _ => self.state != transition.to,
        };
        if forward {
            self.state = transition.to.clone();
            self.rule = Some(transition.rule.clone());
            self.verdict.since = Some(evidence.event_micros);
        }
        for setting in &transition.sets {
            self.set(setting, transition, evidence);
        }
    }

    fn set(&mut self, setting: &Setting, transition: &Transition, evidence: &Evidence) {
        let Ok(value) = setting.kind.coerce(&setting.value(evidence)) else { return };
        let candidate = (-evidence.authority, evidence.event_micros, evidence.id);
        let better = self.sets.get(&setting.field).is_none_or(|(best, ..)| candidate < *best);
        if better {
            let source = evidence.row.source.clone();
            let winner = (candidate, value, source, transition.rule.clone());
            self.sets.insert(setting.field.clone(), winner);
        }
    }

    fn finish(mut self) -> Verdict {
        let order = &self.lifecycle.order;
        let first = self.lifecycle.rank(&self.lifecycle.initial).map_or(0, |rank| rank + 1);
        if let Some(last) = self.reached.last() {
            let skipped = (first..*last).filter(|rank| !self.reached.contains(rank));
            self.verdict.inferred = skipped.filter_map(|rank| order.get(rank).cloned()).collect();
        }
        let rule = self.rule.unwrap_or_else(|| self.lifecycle.rule.clone());
        self.verdict.state = Some((self.state, rule));
        let sets = self.sets.into_iter();
        self.verdict.sets = sets.map(|(f, (_, value, by, rule))| (f, (value, by, rule))).collect();
        self.verdict.errors.sort();
        self.verdict.errors.dedup();
        self.verdict
    }
}

impl Setting {
    fn value(&self, evidence: &Evidence) -> Value<'static> {
        match self.from.as_str() {
            "event_time" => Value::TimestampTz(evidence.event_micros),
            "recorded_time" => Value::TimestampTz(evidence.recorded_micros),
            "source" => Value::Text(evidence.row.source.to_string().into()),
            "kind" => Value::Text(evidence.kind.to_string().into()),
            other => match other.strip_prefix("data.").and_then(|n| evidence.data.get(n)) {
                Some(serde_json::Value::String(s)) => Value::Text(s.clone().into()),
                Some(json) if !json.is_null() => Value::Json(json.to_string().into()),
                _ => Value::Null,
            },
        }
    }
}

/// Lifecycles by entity.
pub(crate) type Lifecycles = Named<Lifecycle>;
