//! What the overlay of a region adds to a lifecycle: states, transitions, limits. What is there
//! already stays as it is, unless the file that says it is not locked.

use crossdock_model::canonical::Name;
use crossdock_schema_registry::EntityDef;

use super::file::{States, plain_transitions, read_transition};
use super::{Lifecycle, Lifecycles};
use crate::deadline::{self, Limit};
use crate::document::{Item, Section};
use crate::mapping::Reader;
use crate::problems::{Spot, did_you_mean};
use crate::ruleset::Rulesets;

/// What a locked lifecycle may leave open to overlays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Further states, and what leads to them.
    States,
    /// Further evidence that leads to states which the base has.
    Transitions,
    /// How long states may last, and by when they are expected, where the base says nothing.
    Limits,
}

const PARTS: [(&str, Part); 3] =
    [("states", Part::States), ("transitions", Part::Transitions), ("limits", Part::Limits)];

impl Part {
    fn word(self) -> &'static str {
        PARTS.iter().find(|(_, part)| *part == self).map_or("", |(word, _)| word)
    }
}

/// What one overlay has added.
#[derive(Clone, Debug)]
pub(crate) struct Addition {
    /// Region of the overlay.
    pub region: Name,
    /// Where it stands.
    pub spot: Spot,
    /// States, in the order in which they were added.
    pub states: Vec<Name>,
    /// How many transitions.
    pub transitions: usize,
    /// How many limits.
    pub limits: usize,
}

/// Reads `overlays = ["states", "transitions", "limits"]` of a lifecycle.
pub(super) fn open(block: &Section<'_>) -> Vec<Part> {
    let Some(item) = block.get("overlays") else { return Vec::new() };
    let part = |word: &str| {
        let found = PARTS.iter().find(|(known, _)| *known == word).map(|(_, part)| *part);
        if found.is_none() {
            let remedy = did_you_mean(word, PARTS.iter().map(|(known, _)| *known));
            item.problem(format!("overlays cannot add `{word}`"), remedy);
        }
        found
    };
    item.texts().into_iter().filter_map(part).collect()
}

/// Reads `[lifecycle.*]` of an overlay that has no `order` of its own.
pub(super) fn extend(
    (block, item): (&Section<'_>, &Item<'_>),
    entity: &EntityDef,
    reader: &Reader<'_>,
    rulesets: &Rulesets,
    into: &mut Lifecycles,
) {
    let Some(lifecycle) = into.get_mut(&entity.name) else {
        let what = format!("{} has no lifecycle that could be extended", entity.name);
        item.problem(what, "write it whole, with `field`, `order` and `initial`");
        return;
    };
    let locked = rulesets.is_locked_for(item, &lifecycle.spot);
    let mut extension = Extension { locked, lifecycle, added: Vec::new() };
    extension.states(block);
    let counts =
        (extension.transitions(block, entity, reader), extension.limits(block, entity, reader));
    block.done();
    let (spot, added) = (block.spot(), extension.added);
    let Some(lifecycle) = into.get_mut(&entity.name) else { return };
    let plain = plain_transitions(entity, &added, &lifecycle.order, &lifecycle.transitions, &spot);
    lifecycle.transitions.extend(plain);
    for transition in &mut lifecycle.transitions {
        transition.rank = lifecycle.order.iter().position(|s| *s == transition.to);
    }
    lifecycle.additions.push(Addition {
        region: rulesets.region(&spot.file).unwrap_or_else(|| spot.file.clone()),
        spot,
        states: added,
        transitions: counts.0,
        limits: counts.1,
    });
}

struct Extension<'l> {
    /// The base is locked: what may be added all the same, it says itself.
    locked: bool,
    lifecycle: &'l mut Lifecycle,
    added: Vec<Name>,
}

impl Extension<'_> {
    /// Whether something may be added; reports it when not.
    fn may(&self, part: Part, at: &Item<'_>, what: &str) -> bool {
        let may = !self.locked || self.lifecycle.open.contains(&part);
        if !may {
            let base = self.lifecycle.spot.name();
            let what = format!("{what}: the lifecycle at {base} is locked");
            let remedy = format!(
                "remove it here, or ask those who own that rule set for overlays = [\"{}\"]",
                part.word()
            );
            at.problem(what, remedy);
        }
        may
    }

    /// Whether something that is there already may be said otherwise.
    fn may_replace(&self, at: &Section<'_>, limit: &Limit) -> bool {
        let earlier = self.lifecycle.limits.iter().find(|l| !l.overlay && l.is_like(limit));
        if let Some(earlier) = earlier.filter(|_| self.locked) {
            let what =
                format!("the limit of `{}` at {} is locked", limit.state, earlier.spot.name());
            let remedy = "remove it here, or ask those who own that rule set";
            at.report().at(&at.spot(), what, remedy);
            return false;
        }
        true
    }

    /// `add = { sealed = "loaded" }`, behind which state; `side = [...]`.
    fn states(&mut self, block: &Section<'_>) {
        let section = block.get("add").and_then(|item| item.table());
        for (state, item) in section.iter().flat_map(|s| s.entries()) {
            let Some(before) = item.text() else { continue };
            if !self.is_new(&item, state) {
                continue;
            }
            match self.lifecycle.rank(before) {
                Some(at) => {
                    self.lifecycle.order.insert(at + 1, state.into());
                    self.added.push(state.into());
                }
                None => {
                    let names = self.lifecycle.order.iter().map(|s| &**s);
                    let what = format!("`{before}` is no state behind which `{state}` could stand");
                    item.problem(what, did_you_mean(before, names));
                }
            }
        }
        if let Some(item) = block.get("side") {
            for state in item.texts() {
                if self.is_new(&item, state) {
                    self.lifecycle.side.push(state.into());
                    self.added.push(state.into());
                }
            }
        }
    }

    fn is_new(&self, item: &Item<'_>, state: &str) -> bool {
        let known = self.lifecycle.order.iter().chain(&self.lifecycle.side).any(|s| &**s == state);
        if known {
            let at =
                self.lifecycle.additions.iter().find(|a| a.states.iter().any(|s| &**s == state));
            let at = at.map_or_else(|| self.lifecycle.spot.name(), |a| a.spot.name());
            item.problem(format!("`{state}` is a state already, at {at}"), "take another name");
        }
        !known && self.may(Part::States, item, &format!("`{state}` cannot be added"))
    }

    fn transitions(
        &mut self,
        block: &Section<'_>,
        entity: &EntityDef,
        reader: &Reader<'_>,
    ) -> usize {
        let before = self.lifecycle.transitions.len();
        for block in block.tables("transition") {
            let states = States::of(self.lifecycle);
            let Some(transition) = read_transition(&block, entity, &states, reader) else {
                continue;
            };
            let own = self.added.contains(&transition.to);
            let Some(to) = block.get("to") else { continue };
            let what = format!("a transition to `{}` cannot be added", transition.to);
            if own || self.may(Part::Transitions, &to, &what) {
                self.lifecycle.transitions.push(transition);
            }
        }
        self.lifecycle.transitions.len() - before
    }

    fn limits(&mut self, block: &Section<'_>, entity: &EntityDef, reader: &Reader<'_>) -> usize {
        let before = self.lifecycle.limits.len();
        let limits = deadline::read(block, entity, &States::of(self.lifecycle), reader.report);
        for limit in limits {
            let own = self.added.contains(&limit.state);
            let item = block.get("dwell").or_else(|| block.get("expect"));
            let what = format!("a limit of `{}` cannot be added", limit.state);
            let may = own || item.is_none_or(|item| self.may(Part::Limits, &item, &what));
            if may && self.may_replace(block, &limit) {
                self.lifecycle.limits.push(Limit { overlay: true, ..limit });
            }
        }
        self.lifecycle.limits.len() - before
    }
}
