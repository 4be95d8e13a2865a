//! Who owns what, who is told of it, and what happens to those who write it all the same.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::Name;

use crate::names::linked_entities;
use crate::ownership::{COMPUTED, Choice, Merge};
use crate::rules::Rules;

/// One possible owner of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Entity.
    pub entity: Name,
    /// Field.
    pub field: Name,
    /// Source, group or `crossdock`; empty for a part of the key.
    pub owner: Name,
    /// When it is the owner, in words; empty for always.
    pub when: String,
    /// What happens to a value that another source writes.
    pub on_violation: Name,
    /// Sources in whose tables the field is, by mapping.
    pub written_by: BTreeSet<Name>,
    /// Targets that hear of it, each with the rule: `erp (freight_accrual)`.
    pub read_by: BTreeSet<String>,
    /// `file:line`.
    pub rule: Name,
}

/// One state of a lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Entity.
    pub entity: Name,
    /// State.
    pub state: Name,
    /// It is beside the main line.
    pub beside: bool,
    /// The region whose overlay has added it.
    pub region: Option<Name>,
    /// Kinds of evidence that lead to it, and the rule: `milestone.delivered (rules/20.toml:31)`.
    pub ways: Vec<String>,
    /// How long it may last and by when it is expected, in words, with the rule.
    pub limits: Vec<String>,
}

impl Rules {
    /// Every field that somebody says, computes or is told of, with each of its possible owners, by
    /// entity and field.
    pub fn matrix(&self) -> Vec<Ownership> {
        let mut fields = self.computed.clone();
        let mut written: BTreeMap<(Name, Name), BTreeSet<Name>> = BTreeMap::new();
        for mapping in self.mappings.values().flatten() {
            for field in &mapping.fields {
                fields.or_default(mapping.entity.clone()).insert(field.name.clone());
                let place = (mapping.entity.clone(), field.name.clone());
                written.entry(place).or_default().insert(mapping.source.clone());
            }
        }
        let readers = self.readers();
        let mut rows = Vec::new();
        for (entity, names) in &fields {
            for field in names {
                let place = (entity.clone(), field.clone());
                let written_by = written.get(&place).cloned().unwrap_or_default();
                let read_by = readers.get(&place).cloned().unwrap_or_default();
                for (owner, when, on_violation, rule) in self.owners(entity, field) {
                    rows.push(Ownership {
                        entity: entity.clone(),
                        field: field.clone(),
                        owner,
                        when,
                        on_violation,
                        written_by: written_by.clone(),
                        read_by: read_by.clone(),
                        rule,
                    });
                }
            }
        }
        rows
    }

    /// Fields of an entity that rules compute: how far its records have come, and since when.
    pub fn computed_fields(&self, entity: &str) -> Vec<Name> {
        self.computed.get(entity).into_iter().flatten().cloned().collect()
    }

    /// Every state of every lifecycle, in the order of the main line, those beside it last.
    pub fn states(&self) -> Vec<State> {
        let mut rows = Vec::new();
        for (entity, lifecycle) in &self.lifecycles {
            for state in lifecycle.order.iter().chain(&lifecycle.side) {
                let region = lifecycle.additions.iter().find(|a| a.states.contains(state));
                let ways = lifecycle
                    .ways_to(state)
                    .map(|(rule, kinds)| format!("{} ({rule})", kinds.join(", ")));
                let limits = lifecycle.limits.iter().filter(|l| l.state == *state);
                rows.push(State {
                    entity: entity.clone(),
                    state: state.clone(),
                    beside: lifecycle.side.contains(state),
                    region: region.map(|a| a.region.clone()),
                    ways: ways.collect(),
                    limits: limits.map(|limit| limit.words()).collect(),
                });
            }
        }
        rows
    }

    /// What overlays have added to lifecycles, a sentence each.
    pub fn additions(&self) -> Vec<String> {
        let mut said = Vec::new();
        for (entity, lifecycle) in &self.lifecycles {
            for addition in &lifecycle.additions {
                let states: Vec<&str> = addition.states.iter().map(|s| &**s).collect();
                let states = if states.is_empty() { "none".into() } else { states.join(", ") };
                said.push(format!(
                    "region {} extends the lifecycle of {entity} ({}): states {states}; {} \
                     transitions; {} limits",
                    addition.region,
                    addition.spot.name(),
                    addition.transitions,
                    addition.limits
                ));
            }
        }
        said
    }

    fn owners(&self, entity: &Name, field: &Name) -> Vec<(Name, String, Name, Name)> {
        let is_key = self.entities.entity(entity).is_some_and(|e| e.is_key(field));
        if is_key {
            return vec![("".into(), "key".into(), "".into(), "".into())];
        }
        let computed = self.computed.get(entity).is_some_and(|c| c.contains(field));
        let rule = self.ownership.of(entity).and_then(|o| o.of(field));
        let mut rows: Vec<(Name, String, Name, Name)> = rule
            .into_iter()
            .flatten()
            .map(|c| (c.owner.clone(), words(c), c.on_violation.word().into(), c.rule.clone()))
            .collect();
        if computed {
            let policy = rows.first().map_or_else(|| "ignore".into(), |r| r.2.clone());
            rows = vec![(COMPUTED.into(), "computed".into(), policy, "".into())];
        }
        rows
    }

    /// Who hears of a field through subscriptions and releases.
    fn readers(&self) -> BTreeMap<(Name, Name), BTreeSet<String>> {
        let mut readers: BTreeMap<(Name, Name), BTreeSet<String>> = BTreeMap::new();
        let subscriptions = self.telling.subscriptions.iter();
        let told = subscriptions.flat_map(|(e, all)| all.iter().map(move |s| (e, s)));
        for (entity, rule) in told {
            let reader = format!("{} ({})", rule.write.target, rule.name);
            for field in &rule.fields {
                let place = (entity.clone(), field.clone());
                readers.entry(place).or_default().insert(reader.clone());
            }
            rule.exprs().for_each(|e| self.note(&mut readers, entity, e, &reader));
        }
        let releases = self.telling.releases.iter();
        for (entity, rule) in releases.flat_map(|(e, all)| all.iter().map(move |r| (e, r))) {
            let reader = format!("{} ({})", rule.write.target, rule.name);
            rule.exprs().for_each(|e| self.note(&mut readers, entity, e, &reader));
        }
        readers
    }

    fn note(
        &self,
        readers: &mut BTreeMap<(Name, Name), BTreeSet<String>>,
        entity: &Name,
        expr: &crate::expr::Expr,
        reader: &str,
    ) {
        let links = linked_entities(entity, &self.links, &self.entities);
        for (root, field) in &expr.members {
            let of = match root.as_str() {
                "rec" => entity.clone(),
                link => match links.get(link) {
                    Some(def) => def.name.clone(),
                    None => continue,
                },
            };
            let place = (of, Name::from(field.as_str()));
            readers.entry(place).or_default().insert(reader.to_string());
        }
    }
}

/// When an owner is the one, and what else decides.
fn words(choice: &Choice) -> String {
    let mut parts = Vec::new();
    if let Some(when) = &choice.when {
        parts.push(format!("when {}", when.text));
    }
    if let Some(frozen) = &choice.frozen_when {
        parts.push(format!("frozen when {}", frozen.text));
    }
    match choice.merge {
        Merge::Latest => {}
        Merge::Max => parts.push("greatest value".to_string()),
        Merge::Min => parts.push("smallest value".to_string()),
        Merge::Sum => parts.push("sum of all rows".to_string()),
    }
    if !choice.fallback.is_empty() {
        let others: Vec<&str> = choice.fallback.iter().flatten().map(|s| &**s).collect();
        parts.push(format!("otherwise {}", others.join(", ")));
    }
    parts.join("; ")
}
