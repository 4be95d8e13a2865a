//! Lifecycles: a state computed from the set of accepted evidence, never from the order in which
//! it arrived.
//!
//! Evidence is walked in the order of its event times. A state of the main line is reached when
//! there is evidence for it and never left backwards; a side state is taken only from the states
//! that its transition names, as they were at that time. What follows depends on nothing but the
//! set, so that every order of arrival gives the same record.

use std::collections::BTreeMap;

use crossdock_model::Value;
use crossdock_model::canonical::{Evidence, Fields, Name};
use crossdock_schema_registry::{Entities, EntityDef, FieldType};
use uuid::Uuid;

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::mapping::Reader;
use crate::problems::{Spot, did_you_mean};
use crate::scope::{Scope, Var};

/// The lifecycle of one entity.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Where it stands.
    pub spot: Spot,
    /// Field that holds the state.
    pub field: Name,
    order: Vec<Name>,
    initial: Name,
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
    illegal: Option<Name>,
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

    /// Whether anything but the evidence itself can matter.
    pub fn is_guarded(&self) -> bool {
        self.transitions.iter().any(|t| t.guard.is_some())
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

    /// Judges a set of evidence. `rec` holds the fields that are not computed.
    pub fn judge<'e>(
        &self,
        evidence: impl IntoIterator<Item = &'e Evidence>,
        key: &str,
        rec: &Fields,
    ) -> Verdict {
        let mut walk = Walk {
            lifecycle: self,
            state: self.initial.clone(),
            rule: self.spot.name(),
            verdict: Verdict::default(),
            sets: BTreeMap::new(),
        };
        let mut sorted: Vec<&Evidence> = evidence.into_iter().filter(|e| !e.withdrawn).collect();
        sorted.sort_by(|a, b| {
            let rank = |e: &Evidence| self.rank_of_kind(&e.kind).is_none();
            (a.event_micros, rank(a), -a.authority, a.id).cmp(&(
                b.event_micros,
                rank(b),
                -b.authority,
                b.id,
            ))
        });
        for item in sorted {
            for transition in self.transitions.iter().filter(|t| t.is_for(item)) {
                match transition.allows(item, key, rec) {
                    Ok(true) => walk.step(transition, item),
                    Ok(false) => {}
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

    fn allows(&self, evidence: &Evidence, key: &str, rec: &Fields) -> Result<bool, String> {
        let Some(guard) = &self.guard else { return Ok(true) };
        let instant = |micros| Value::TimestampTz(micros);
        let mut ev = Fields::new();
        let text = |name: &Name| Value::Text(name.to_string().into());
        ev.insert("kind".into(), text(&evidence.kind));
        ev.insert("source".into(), text(&evidence.row.source));
        ev.insert("event_time".into(), instant(evidence.event_micros));
        ev.insert("recorded_time".into(), instant(evidence.recorded_micros));
        ev.insert("authority".into(), Value::Int(i64::from(evidence.authority)));
        ev.insert("data".into(), Value::Json(evidence.data.to_string().into()));
        let rec = Var::Record { key, fields: rec, children: None };
        guard.holds(&Scope::default().with("ev", Var::Fields(&ev)).with("rec", rec))
    }
}

/// A candidate for a field set from evidence; the least one wins.
type Candidate = (i32, i64, Uuid);

struct Walk<'l> {
    lifecycle: &'l Lifecycle,
    state: Name,
    rule: Name,
    verdict: Verdict,
    sets: BTreeMap<Name, (Candidate, Value<'static>, Name, Name)>,
}

impl Walk<'_> {
    fn step(&mut self, transition: &Transition, evidence: &Evidence) {
        let at = self.lifecycle.rank(&self.state);
        let named = transition.from.as_ref().map(|from| from.contains(&self.state));
        let legal = match (transition.rank, at) {
            // From a side state back to the main line only where the rule says so.
            (Some(_), None) => named == Some(true),
            _ => named != Some(false) || self.state == transition.to,
        };
        if !legal {
            if let Some(kind) = &transition.illegal {
                let illegal = (evidence.id, kind.clone(), transition.rule.clone());
                self.verdict.illegal.push(illegal);
            }
            return;
        }
        let forward = match (transition.rank, at) {
            (Some(to), Some(at)) => to > at,
            _ => self.state != transition.to,
        };
        if forward {
            self.state = transition.to.clone();
            self.rule = transition.rule.clone();
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
        self.verdict.state = Some((self.state, self.rule));
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
pub(crate) type Lifecycles = BTreeMap<Name, Lifecycle>;

/// Reads `[lifecycle.*]` of a rule file.
pub(crate) fn read(root: &Section<'_>, reader: &Reader<'_>, into: &mut Lifecycles) {
    let Some(section) = root.table("lifecycle") else { return };
    for (name, item) in section.entries() {
        let Some(block) = item.table() else { continue };
        let Some(entity) = reader.entities.entity(name) else {
            unknown_entity(&item, name, reader.entities);
            continue;
        };
        let Some(lifecycle) = read_one(&block, entity, reader) else { continue };
        if let Some(earlier) = into.get(name) {
            let what = format!("{name} has a lifecycle already, at {}", earlier.spot.name());
            item.problem(what, "keep one of the two");
        }
        into.insert(entity.name.clone(), lifecycle);
    }
}

fn unknown_entity(item: &Item<'_>, name: &str, entities: &Entities) {
    let remedy = did_you_mean(name, entities.iter().map(|e| &*e.name));
    item.problem(format!("there is no entity `{name}`"), remedy);
}

fn read_one(block: &Section<'_>, entity: &EntityDef, reader: &Reader<'_>) -> Option<Lifecycle> {
    let names = |key: &str| -> Vec<Name> {
        block.get(key).map(|i| i.texts().into_iter().map(Name::from).collect()).unwrap_or_default()
    };
    let field = block.required("field")?;
    if let Some(item) = block.get("field").filter(|_| entity.field(field).is_none()) {
        let what = format!("{} has no field `{field}`", entity.name);
        item.problem(what, did_you_mean(field, entity.fields.keys().map(|f| &**f)));
    }
    let (order, side) = (names("order"), names("side"));
    let initial = block.required("initial")?;
    if let Some(item) = block.get("initial").filter(|_| !order.iter().any(|s| &**s == initial)) {
        let remedy = did_you_mean(initial, order.iter().map(|s| &**s));
        item.problem(format!("`{initial}` is not in `order`"), remedy);
    }
    for (key, wanted) in [("late_event", "evidence_only"), ("skip_ahead", "true")] {
        if let Some(item) = block.get(key)
            && item.as_text() != Some(wanted)
            && item.as_bool() != Some(true)
        {
            item.problem(format!("`{key}` is always {wanted}"), "remove this line");
        }
    }
    for item in block.get("dwell").iter().flat_map(Item::array) {
        item.problem("dwell times are not supported yet", "remove this section");
    }
    let states = States { order: &order, side: &side };
    let blocks = block.tables("transition");
    let transitions =
        blocks.iter().filter_map(|t| read_transition(t, entity, &states, reader)).collect();
    block.done();
    let spot = block.spot();
    let (field, initial) = (field.into(), initial.into());
    Some(Lifecycle { spot, field, order, initial, transitions })
}

struct States<'s> {
    order: &'s [Name],
    side: &'s [Name],
}

impl States<'_> {
    fn check(&self, item: &Item<'_>, state: &str) {
        let all = || self.order.iter().chain(self.side).map(|s| &**s);
        if !all().any(|s| s == state) {
            item.problem(format!("`{state}` is not a state"), did_you_mean(state, all()));
        }
    }
}

fn read_transition(
    block: &Section<'_>,
    entity: &EntityDef,
    states: &States<'_>,
    reader: &Reader<'_>,
) -> Option<Transition> {
    let to = block.required("to")?;
    states.check(&block.get("to")?, to);
    let on: Vec<Name> = block
        .get("on")
        .map(|i| i.texts().into_iter().map(Name::from).collect())
        .unwrap_or_default();
    if on.is_empty() {
        let remedy = "add on = [\"...\"], the kinds of evidence that lead to it";
        block.report().at(&block.spot(), format!("the transition to `{to}` lacks `on`"), remedy);
    }
    let by = block.get("by").map(|item| {
        let texts = item.texts();
        texts.iter().for_each(|s| _ = reader.check_source(&item, s));
        texts.into_iter().map(Name::from).collect()
    });
    let from = block.get("from").map(|item| {
        let texts = item.texts();
        texts.iter().for_each(|s| states.check(&item, s));
        texts.into_iter().map(Name::from).collect()
    });
    let guard = match block.get("guard") {
        Some(item) => {
            let guard = Expr::compile(item.text()?, item.spot(), &["ev", "rec"], reader.report)?;
            crate::names::check_members(&guard, entity, &[], &BTreeMap::new(), reader.report);
            Some(guard)
        }
        None => None,
    };
    let illegal = block.text("illegal");
    let sets = block.get("sets").and_then(|i| i.table());
    let sets = sets.map(|s| read_sets(&s, entity)).unwrap_or_default();
    block.done();
    Some(Transition {
        rank: states.order.iter().position(|s| &**s == to),
        to: to.into(),
        on,
        by,
        guard,
        from,
        illegal: illegal.map(|k| k.strip_prefix("exception:").unwrap_or(k).into()),
        sets,
        rule: block.spot().name(),
    })
}

fn read_sets(section: &Section<'_>, entity: &EntityDef) -> Vec<Setting> {
    let read = |(field, item): &(&str, Item<'_>)| {
        let from = item.text()?;
        let Some(kind) = entity.field(field) else {
            let what = format!("{} has no field `{field}`", entity.name);
            item.problem(what, did_you_mean(field, entity.fields.keys().map(|f| &**f)));
            return None;
        };
        let known = ["event_time", "recorded_time", "source", "kind"];
        if !known.contains(&from) && !from.starts_with("data.") {
            let remedy = did_you_mean(from, known.into_iter().chain(["data.NAME"]));
            item.problem(format!("evidence has no `{from}`"), remedy);
        }
        Some(Setting { field: (*field).into(), kind, from: from.to_string() })
    };
    section.entries().iter().filter_map(read).collect()
}
