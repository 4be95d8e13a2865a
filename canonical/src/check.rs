//! Checks that need all files: every field has one owner, reverts are possible, computed fields
//! do not depend on themselves.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::Name;
use crossdock_schema_registry::FieldType;

use crate::mapping::{FieldMap, Term};
use crate::ownership::{COMPUTED, OnViolation};
use crate::problems::{Report, Spot};
use crate::rules::Rules;

/// Reports what is wrong with the rules as a whole.
pub(crate) fn check(rules: &Rules, report: &Report) {
    let computed = computed_fields(rules);
    check_owners(rules, &computed, report);
    check_computed(rules, &computed, report);
    check_reverts(rules, report);
    check_circles(rules, report);
}

/// Fields that lifecycles and projections compute, and where that is said.
pub(crate) fn computed_fields(rules: &Rules) -> BTreeMap<(Name, Name), Spot> {
    let mut all = BTreeMap::new();
    for (entity, lifecycle) in &rules.lifecycles {
        for field in lifecycle.computes() {
            all.insert((entity.clone(), field.clone()), lifecycle.spot.clone());
        }
    }
    for (entity, projections) in &rules.telling.projections {
        for projection in projections {
            let key = (entity.clone(), projection.field.clone());
            all.insert(key, projection.spot.clone());
        }
    }
    all
}

/// A field `STATE_at` that rules say is computed, and that nothing computes, is set to the time at
/// which its state was reached.
pub(crate) fn set_times(rules: &mut Rules) {
    let computed = computed_fields(rules);
    for (entity, lifecycle) in rules.lifecycles.iter_mut() {
        let Some(def) = rules.entities.entity(entity) else { continue };
        let declared = rules.ownership.of(entity).into_iter().flat_map(|o| &o.fields);
        let ours = declared.filter(|(_, rule)| rule.iter().all(|c| c.computed()));
        for (field, _) in
            ours.filter(|(f, _)| !computed.contains_key(&(entity.clone(), (*f).clone())))
        {
            let Some(state) = field.strip_suffix("_at") else { continue };
            if let Some(kind @ FieldType::Instant) = def.field(field) {
                lifecycle.set_time(state, field, kind);
            }
        }
    }
}

fn check_owners(rules: &Rules, computed: &BTreeMap<(Name, Name), Spot>, report: &Report) {
    let mut ownerless: BTreeMap<(Spot, Name), BTreeSet<Name>> = BTreeMap::new();
    for mapping in rules.mappings.values().flatten() {
        let Some(entity) = rules.entities.of(&mapping.entity) else { continue };
        let owners = rules.ownership.of(&mapping.entity);
        for field in mapping.fields.iter().filter(|f| !entity.is_key(&f.name)) {
            let owned = owners.is_some_and(|o| o.of(&field.name).is_some());
            if !owned && !computed.contains_key(&(entity.name.clone(), field.name.clone())) {
                let key = (mapping.spot.clone(), entity.name.clone());
                ownerless.entry(key).or_default().insert(field.name.clone());
            }
        }
    }
    for ((spot, entity), fields) in ownerless {
        let names: Vec<&str> = fields.iter().map(|f| &**f).collect();
        let what = format!("nobody owns {entity}.{}", names.join(&format!(", {entity}.")));
        let remedy = format!("add [entity.{entity}] with owner = \"...\" to a rule file");
        report.at(&spot, what, remedy);
    }
}

fn check_computed(rules: &Rules, computed: &BTreeMap<(Name, Name), Spot>, report: &Report) {
    for ((entity, field), spot) in computed {
        let rule = rules.ownership.of(entity).and_then(|o| o.fields.get(field));
        for choice in rule.iter().flat_map(|r| r.iter()).filter(|c| !c.computed()) {
            let what = format!(
                "{entity}.{field} has two owners: {} at {}, and it is computed at {}",
                choice.owner,
                choice.rule,
                spot.name()
            );
            report.at(&choice.spot, what, format!("write owner = \"{COMPUTED}\""));
        }
    }
}

/// A column to which the owner's value can be written back.
pub(crate) fn revertible(field: &FieldMap) -> bool {
    matches!(&field.term, Term::Path(p) if p.lookup.is_none() && p.members.is_empty())
        && field.codes.is_none()
}

fn check_reverts(rules: &Rules, report: &Report) {
    for mapping in rules.mappings.values().flatten() {
        let Some(owners) = rules.ownership.of(&mapping.entity) else { continue };
        let Some(entity) = rules.entities.of(&mapping.entity) else { continue };
        for field in mapping.fields.iter().filter(|f| !entity.is_key(&f.name)) {
            if matches!(field.term, Term::Constant(_)) {
                continue;
            }
            let reverts = owners.of(&field.name).into_iter().flatten().find(|c| {
                c.on_violation == OnViolation::Revert
                    && !c.owned_by(&mapping.source)
                    && !c.falls_back_to(&mapping.source)
            });
            let Some(choice) = reverts else { continue };
            let (source, name) = (&mapping.source, &field.name);
            if !revertible(field) {
                let what =
                    format!("{name} cannot be written back to {source} (rule {})", choice.rule);
                let remedy = "map it from a plain column, or write on_violation = \"quarantine\"";
                report.at(&field.spot, what, remedy);
            }
            if !rules.targets.contains(source) {
                let what = format!("{name} is to be written back to {source}, which is no target");
                let remedy = format!("add [target.{source}], or choose another on_violation");
                report.at(&choice.spot, what, remedy);
            }
        }
    }
}

fn check_circles(rules: &Rules, report: &Report) {
    for (entity, projections) in &rules.telling.projections {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&Name> = rules.parents.of(entity).into_iter().flatten().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(rules.parents.get(next).into_iter().flatten());
            }
        }
        if let Some(first) = projections.first().filter(|_| seen.contains(entity)) {
            let what = format!("computed fields of {entity} depend on themselves in a circle");
            report.at(&first.spot, what, "let one of the entities not read the other's records");
        }
    }
}
