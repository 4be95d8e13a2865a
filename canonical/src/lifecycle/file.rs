//! Lifecycles as written in rule files.

use std::collections::BTreeMap;

use crossdock_model::canonical::Name;
use crossdock_model::names::shared;
use crossdock_schema_registry::{Entities, EntityDef};

use super::{Lifecycle, Lifecycles, Setting, Transition, overlay};
use crate::deadline;
use crate::deliver::exception;
use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::mapping::Reader;
use crate::problems::{Spot, did_you_mean};
use crate::ruleset::{Replace, Rulesets};

/// Reads `[lifecycle.*]` of a rule file.
pub(crate) fn read(
    root: &Section<'_>,
    reader: &Reader<'_>,
    rulesets: &Rulesets,
    into: &mut Lifecycles,
) {
    let Some(section) = root.table("lifecycle") else { return };
    for (name, item) in section.entries() {
        let Some(block) = item.table() else { continue };
        let Some(entity) = reader.entities.entity(name) else {
            unknown_entity(&item, name, reader.entities);
            continue;
        };
        if block.get("order").is_none() && rulesets.region(&block.spot().file).is_some() {
            overlay::extend((&block, &item), entity, reader, rulesets, into);
            continue;
        }
        let Some(lifecycle) = read_one(&block, entity, reader) else { continue };
        if let Some(earlier) = into.get(name)
            && rulesets.replaces(&item, &format!("the lifecycle of {name}"), &earlier.spot)
                == Replace::Conflict
        {
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
    let states = States { order: &order, side: &side };
    let blocks = block.tables("transition");
    let mut transitions: Vec<Transition> =
        blocks.iter().filter_map(|t| read_transition(t, entity, &states, reader)).collect();
    let limits = deadline::read(block, entity, &states, reader.report);
    let open = overlay::open(block);
    block.done();
    let spot = block.spot();
    transitions.extend(plain_transitions(entity, &order, &order, &transitions, &spot));
    let (field, initial) = (shared(field), initial.into());
    let rule = spot.name();
    let additions = Vec::new();
    Some(Lifecycle {
        spot,
        rule,
        field,
        order,
        side,
        initial,
        limits,
        open,
        additions,
        transitions,
    })
}

/// Of some states, those of the main line of which nothing is said are reached by evidence of their
/// name.
pub(super) fn plain_transitions(
    entity: &EntityDef,
    of: &[Name],
    order: &[Name],
    written: &[Transition],
    spot: &Spot,
) -> Vec<Transition> {
    let said = |state: &Name| written.iter().any(|t| t.to == *state && t.forbidden.is_none());
    let plain = |(rank, state): (usize, &Name)| Transition {
        to: state.clone(),
        rank: Some(rank),
        on: ["milestone", &*entity.name].map(|of| format!("{of}.{state}").into()).into(),
        by: None,
        guard: None,
        from: None,
        otherwise: None,
        forbidden: None,
        sets: Vec::new(),
        rule: spot.name(),
    };
    let states = order.iter().enumerate().filter(|(_, state)| of.contains(state) && !said(state));
    states.map(plain).collect()
}

/// The states of a lifecycle.
pub(crate) struct States<'s> {
    order: &'s [Name],
    side: &'s [Name],
}

impl<'s> States<'s> {
    /// Those of a lifecycle.
    pub fn of(lifecycle: &'s Lifecycle) -> Self {
        States { order: &lifecycle.order, side: &lifecycle.side }
    }

    /// Reports a state that there is not.
    pub fn check(&self, item: &Item<'_>, state: &str) {
        let all = || self.order.iter().chain(self.side).map(|s| &**s);
        if !all().any(|s| s == state) {
            item.problem(format!("`{state}` is not a state"), did_you_mean(state, all()));
        }
    }
}

pub(super) fn read_transition(
    block: &Section<'_>,
    entity: &EntityDef,
    states: &States<'_>,
    reader: &Reader<'_>,
) -> Option<Transition> {
    let to = block.required("to")?;
    let forbidden = block.get("illegal").and_then(|item| forbidden(&item));
    if forbidden.is_none() {
        states.check(&block.get("to")?, to);
    }
    let mut on: Vec<Name> = block
        .get("on")
        .map(|i| i.texts().into_iter().map(Name::from).collect())
        .unwrap_or_default();
    if on.is_empty() && forbidden.is_some() {
        on.push(format!("{}.{to}", entity.name).into());
    }
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
            let names = ["ev", "rec", "now"];
            let guard = Expr::compile(item.text()?, item.spot(), &names, reader.report)?;
            crate::names::check_members(&guard, entity, &[], &BTreeMap::new(), reader.report);
            Some(guard)
        }
        None => None,
    };
    let otherwise = block.get("otherwise").and_then(|item| exception(&item));
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
        otherwise,
        forbidden,
        sets,
        rule: block.spot().name(),
    })
}

/// `illegal = "exception:KIND"`: the move is never made.
fn forbidden(item: &Item<'_>) -> Option<Name> {
    let text = item.text()?;
    if !text.starts_with("exception:") {
        let what = "`illegal` forbids the move from the states in `from`";
        let remedy = format!(
            "write illegal = \"exception:{text}\", or, where `from` lists the states from which \
             it is allowed, otherwise = \"exception:{text}\""
        );
        item.problem(what, remedy);
    }
    Some(text.strip_prefix("exception:").unwrap_or(text).into())
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
        Some(Setting { field: shared(field), kind, from: from.to_string() })
    };
    section.entries().iter().filter_map(read).collect()
}
