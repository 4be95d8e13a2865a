//! Who owns each field, as written in rule files.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::Named;
use crossdock_model::canonical::Name;
use crossdock_model::names::shared;
use crossdock_schema_registry::{Entities, EntityDef, FieldType};

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::names::{Links, check_members, linked_entities};
use crate::problems::{Report, Spot, did_you_mean};
use crate::ruleset::{Replace, Rulesets};

/// Owner of computed fields.
pub(crate) const COMPUTED: &str = "crossdock";

/// What happens to a value that somebody wrote who does not own the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnViolation {
    /// Withheld and counted.
    Ignore,
    /// Withheld, counted, and an exception.
    Quarantine,
    /// Withheld, counted, and the owner's value is written back.
    Revert,
    /// Taken.
    Accept,
}

impl OnViolation {
    /// The word in files and metrics.
    pub fn word(self) -> &'static str {
        match self {
            OnViolation::Ignore => "ignore",
            OnViolation::Quarantine => "quarantine",
            OnViolation::Revert => "revert",
            OnViolation::Accept => "accept",
        }
    }
}

/// Which of several contributions of the owner counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// The latest one.
    Latest,
    /// The greatest value.
    Max,
    /// The smallest value.
    Min,
    /// The sum of all values, exactly.
    Sum,
}

/// One possible owner of a field.
#[derive(Debug)]
pub(crate) struct Choice {
    /// As written: a source, a group, `crossdock`.
    pub owner: Name,
    /// Its sources.
    pub sources: Vec<Name>,
    /// Sources to fall back to, in order, when the owner has no value.
    pub fallback: Vec<Vec<Name>>,
    /// Holds when this owner is the one.
    pub when: Option<Expr>,
    /// While it holds, nobody may change the field, its owner included.
    pub frozen_when: Option<Expr>,
    /// Which of the owner's contributions counts.
    pub merge: Merge,
    /// What happens to others' values.
    pub on_violation: OnViolation,
    /// The owner's NULL erases a value.
    pub null_is_value: bool,
    /// `file:line`.
    pub rule: Name,
    /// Where it stands.
    pub spot: Spot,
}

impl Choice {
    /// Whether Crossdock computes the field.
    pub fn computed(&self) -> bool {
        &*self.owner == COMPUTED
    }

    /// Whether a source is the owner, or one of them.
    pub fn owned_by(&self, source: &str) -> bool {
        self.sources.iter().any(|s| &**s == source)
    }

    /// Its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.when.iter().chain(&self.frozen_when)
    }

    /// Whether the owner's value may come from this source when the owner has none.
    pub fn falls_back_to(&self, source: &str) -> bool {
        self.fallback.iter().flatten().any(|s| &**s == source)
    }
}

/// The owners of one field, of which the first whose condition holds counts.
pub(crate) type FieldRule = Vec<Choice>;

/// Ownership in one entity.
#[derive(Debug, Default)]
pub(crate) struct EntityRule {
    /// Owner of every field not named.
    pub default: Option<Arc<FieldRule>>,
    /// Fields with rules of their own.
    pub fields: Named<Arc<FieldRule>>,
}

impl EntityRule {
    /// All its choices.
    pub fn choices(&self) -> impl Iterator<Item = &Choice> {
        self.default.iter().chain(self.fields.values()).flat_map(|rule| rule.iter())
    }

    /// The rule for a field.
    pub fn of(&self, field: &str) -> Option<&FieldRule> {
        self.rule_of(field).map(|rule| &**rule)
    }

    /// The same, to be shared.
    pub fn rule_of(&self, field: &str) -> Option<&Arc<FieldRule>> {
        self.fields.get(field).or(self.default.as_ref())
    }
}

/// Ownership by entity.
pub(crate) type Ownership = Named<EntityRule>;

#[derive(Clone, Copy)]
struct Defaults {
    on_violation: OnViolation,
    null_is_value: bool,
}

/// Reads ownership from rule files.
pub(crate) struct OwnershipReader<'r> {
    /// Entities.
    pub entities: &'r Entities,
    /// Configured sources.
    pub sources: &'r [Name],
    /// Groups of sources.
    pub groups: BTreeMap<Name, Vec<Name>>,
    /// Links of each entity.
    pub links: &'r Named<Links>,
    /// Which file may replace what.
    pub rulesets: &'r Rulesets,
    /// Where problems go.
    pub report: &'r Report,
}

impl OwnershipReader<'_> {
    /// Reads `[group]` of a file.
    pub fn groups(&mut self, root: &Section<'_>) {
        let Some(section) = root.table("group") else { return };
        for (name, item) in section.entries() {
            let mut members: Vec<Name> = Vec::new();
            for source in item.texts() {
                match self.sources.iter().find(|s| &***s == source) {
                    Some(known) => members.push(known.clone()),
                    None => self.unknown_owner(&item, source),
                }
            }
            if self.sources.iter().any(|s| &**s == name) || name == COMPUTED {
                item.problem(format!("`{name}` is a source already"), "name the group otherwise");
            }
            self.groups.insert(name.into(), members);
        }
    }

    /// Reads `[defaults]` and `[entity.*]` of a file.
    pub fn file(&self, root: &Section<'_>, into: &mut Ownership) {
        let mut defaults = Defaults { on_violation: OnViolation::Quarantine, null_is_value: true };
        if let Some(section) = root.table("defaults") {
            defaults = read_policy(&section, defaults);
            if let Some(item) = section.get("on_error").filter(|i| i.as_text() != Some("hold")) {
                item.problem("an expression that fails always holds", "write \"hold\"");
            }
            section.done();
        }
        let Some(section) = root.table("entity") else { return };
        for (name, item) in section.entries() {
            let Some(entity) = self.entities.entity(name) else {
                let remedy = did_you_mean(name, self.entities.iter().map(|e| &*e.name));
                item.problem(format!("there is no entity `{name}`"), remedy);
                continue;
            };
            let Some(block) = item.table() else { continue };
            self.entity(&block, entity, defaults, into.or_default(entity.name.clone()));
        }
    }

    fn entity(
        &self,
        block: &Section<'_>,
        entity: &EntityDef,
        defaults: Defaults,
        into: &mut EntityRule,
    ) {
        let policy = read_policy(block, defaults);
        if let Some(item) = block.get("key") {
            let wanted: Vec<&str> = entity.key.iter().map(|k| &**k).collect();
            if item.texts() != wanted {
                let what = format!("the key of {} is {}", entity.name, wanted.join(", "));
                item.problem(what, "keys are said in the entity files: remove this line");
            }
        }
        if let Some(item) = block.get("owner") {
            let rule = self.choices(&item, entity, policy, None);
            let earlier = into.default.as_ref().and_then(|r| r.first());
            if self.is_free(&item, &format!("{}.*", entity.name), earlier) {
                into.default = Some(rule.into());
            }
        }
        let fields = block.get("fields").and_then(|i| i.table());
        for (name, item) in fields.iter().flat_map(Section::entries) {
            if entity.field(name).is_none() {
                let what = format!("{} has no field `{name}`", entity.name);
                item.problem(what, did_you_mean(name, entity.fields.keys().map(|f| &**f)));
                continue;
            }
            if entity.is_key(name) {
                let what = format!("`{name}` is part of the key and has no owner");
                item.problem(what, "remove this line");
                continue;
            }
            let rule = self.field(&item, entity, policy, name);
            let what = format!("{}.{name}", entity.name);
            let earlier = into.fields.get(name).and_then(|r| r.first());
            // A rule of its own for a field takes it away from the owner of the entity.
            let of_entity = into.default.as_ref().and_then(|r| r.first());
            let of_entity = of_entity.filter(|c| earlier.is_none() && self.locks(&item, c));
            if self.is_free(&item, &what, earlier.or(of_entity)) {
                into.fields.insert(shared(name), rule.into());
            }
        }
        block.done();
    }

    /// Whether an overlay may not say anything about what a file says.
    fn locks(&self, item: &Item<'_>, earlier: &Choice) -> bool {
        self.rulesets.is_locked_for(item, &earlier.spot)
    }

    /// Whether nobody owns a field yet, or an overlay replaces the owner; otherwise reported.
    fn is_free(&self, item: &Item<'_>, field: &str, earlier: Option<&Choice>) -> bool {
        let Some(earlier) = earlier else { return true };
        match self.rulesets.replaces(item, field, &earlier.spot) {
            Replace::Yes => true,
            Replace::Locked => false,
            Replace::Conflict => {
                two_owners(item, field, earlier);
                true
            }
        }
    }

    fn field(
        &self,
        item: &Item<'_>,
        entity: &EntityDef,
        policy: Defaults,
        name: &str,
    ) -> FieldRule {
        let items = if item.is_array() { item.array() } else { vec![*item] };
        let mut rule = FieldRule::new();
        for item in &items {
            let choices = self.choices(item, entity, policy, entity.field(name));
            let unconditional = rule.iter().find(|c| c.when.is_none());
            if let Some(earlier) = unconditional.filter(|_| !choices.is_empty()) {
                two_owners(item, &format!("{}.{name}", entity.name), earlier);
            }
            rule.extend(choices);
        }
        if !rule.is_empty() && rule.iter().all(|c| c.when.is_some()) {
            let what = format!("nobody owns {}.{name} when no condition holds", entity.name);
            item.problem(what, "end the list with an entry without `when`");
        }
        rule
    }

    /// The owner's name. A list is what people write who want two owners.
    fn one_owner<'i>(&self, item: &Item<'i>, entity: &EntityDef) -> Option<&'i str> {
        if item.is_array() {
            let what = format!("two owners for a field of {}: there can be only one", entity.name);
            let remedy = "write one source, or the name of a [group] whose sources speak of \
                          different records; for \"the first that has a value\" write fallback";
            item.problem(what, remedy);
            return None;
        }
        item.text()
    }

    /// The owner that an entry names; with `until` and `then`, the one after it in front. `kind` is
    /// the type of the field, if it is about one.
    fn choices(
        &self,
        item: &Item<'_>,
        entity: &EntityDef,
        policy: Defaults,
        kind: Option<FieldType>,
    ) -> FieldRule {
        let mut found = FieldRule::new();
        if !item.is_table() {
            let owner = self.one_owner(item, entity).and_then(|o| self.plain(item, o, policy));
            found.extend(owner);
            return found;
        }
        let Some(s) = item.table() else { return found };
        let policy = read_policy(&s, policy);
        let owner = match s.get("owner") {
            Some(item) => self.one_owner(&item, entity).map(|owner| (item, owner)),
            None => s.required("owner").and(None),
        };
        let first = owner.and_then(|(item, owner)| self.plain(&item, owner, policy));
        let Some(mut choice) = first else { return found };
        choice.spot = item.spot();
        choice.rule = choice.spot.name();
        if let Some(item) = s.get("fallback") {
            choice.fallback =
                item.texts().iter().filter_map(|o| self.sources_of(&item, o)).collect();
        }
        choice.merge = s.get("merge").map_or(Merge::Latest, |item| read_merge(&item, kind));
        choice.when = s.get("when").and_then(|i| self.condition(&i, entity));
        choice.frozen_when = s.get("frozen_when").and_then(|i| self.condition(&i, entity));
        match (s.get("until"), s.get("then")) {
            (Some(until), Some(then)) => {
                let after = then.text().and_then(|owner| self.plain(&then, owner, policy));
                let until = self.condition(&until, entity);
                if let (Some(mut after), Some(until)) = (after, until) {
                    after.when = Some(until);
                    found.push(after);
                }
                if let Some(when) = s.get("when") {
                    when.problem("`until` and `when` in one entry", "write a list with `when`");
                }
            }
            (Some(one), None) | (None, Some(one)) => {
                let what = format!("`{}` stands alone", one.key);
                one.problem(what, "write until = 'CONDITION' and then = \"OWNER\" together");
            }
            (None, None) => {}
        }
        s.done();
        found.push(choice);
        found
    }

    /// An owner without conditions.
    fn plain(&self, item: &Item<'_>, owner: &str, policy: Defaults) -> Option<Choice> {
        let spot = item.spot();
        Some(Choice {
            owner: owner.into(),
            sources: self.sources_of(item, owner)?,
            fallback: Vec::new(),
            when: None,
            frozen_when: None,
            merge: Merge::Latest,
            on_violation: policy.on_violation,
            null_is_value: policy.null_is_value,
            rule: spot.name(),
            spot,
        })
    }

    /// A condition over the record and the records that it links to.
    fn condition(&self, item: &Item<'_>, entity: &EntityDef) -> Option<Expr> {
        let links = linked_entities(&entity.name, self.links, self.entities);
        let names: Vec<&str> = std::iter::once("rec").chain(links.keys().map(|l| &**l)).collect();
        let expr = Expr::compile(item.text()?, item.spot(), &names, self.report)?;
        check_members(&expr, entity, &[], &links, self.report);
        Some(expr)
    }

    fn sources_of(&self, item: &Item<'_>, owner: &str) -> Option<Vec<Name>> {
        if owner == COMPUTED {
            return Some(Vec::new());
        }
        if let Some(group) = self.groups.get(owner) {
            return Some(group.clone());
        }
        match self.sources.iter().find(|s| &***s == owner) {
            Some(source) => Some(vec![source.clone()]),
            None => {
                self.unknown_owner(item, owner);
                None
            }
        }
    }

    fn unknown_owner(&self, item: &Item<'_>, owner: &str) {
        let names = self.sources.iter().chain(self.groups.keys()).map(|n| &**n);
        let remedy = did_you_mean(owner, names.chain([COMPUTED]));
        item.problem(format!("there is no source or group `{owner}`"), remedy);
    }
}

fn read_merge(item: &Item<'_>, kind: Option<FieldType>) -> Merge {
    match item.text() {
        Some("sum") if kind == Some(FieldType::Decimal) => Merge::Sum,
        Some("sum") => {
            item.problem("only a decimal can be a sum", "name a decimal field, or remove `merge`");
            Merge::Latest
        }
        Some("max") => Merge::Max,
        Some("min") => Merge::Min,
        Some("latest") | None => Merge::Latest,
        Some(other) => {
            item.problem(format!("`merge` cannot be `{other}`"), "max, min, sum or latest");
            Merge::Latest
        }
    }
}

fn two_owners(item: &Item<'_>, field: &str, earlier: &Choice) {
    let what =
        format!("{field} has two owners: {} at {}, and this one", earlier.owner, earlier.rule);
    item.problem(what, "keep one of the two, or give them conditions in one list");
}

fn read_policy(section: &Section<'_>, defaults: Defaults) -> Defaults {
    let mut policy = defaults;
    if let Some(item) = section.get("on_violation") {
        policy.on_violation = match item.text() {
            Some("ignore") => OnViolation::Ignore,
            Some("quarantine") => OnViolation::Quarantine,
            Some("revert") => OnViolation::Revert,
            Some("accept") => OnViolation::Accept,
            Some(other) => {
                let remedy = "ignore, quarantine, revert or accept";
                item.problem(format!("`on_violation` cannot be `{other}`"), remedy);
                policy.on_violation
            }
            None => policy.on_violation,
        };
    }
    if let Some(item) = section.get("null") {
        policy.null_is_value = match item.text() {
            Some("overwrite") => true,
            Some("keep") => false,
            _ => {
                item.problem("`null` is neither overwrite nor keep", "overwrite or keep");
                policy.null_is_value
            }
        };
    }
    policy
}
