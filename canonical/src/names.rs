//! Checking the fields that expressions over records name.

use std::collections::BTreeMap;

use crossdock_model::Named;
use crossdock_model::canonical::Name;
use crossdock_schema_registry::{Entities, EntityDef};

use crate::expr::Expr;
use crate::mapping::Mappings;
use crate::problems::{Report, did_you_mean};

/// Link names of an entity and the entities that they name.
pub(crate) type Links = Named<Name>;

/// The links that mappings give to each entity.
pub(crate) fn links_of(mappings: &Mappings, report: &Report) -> Named<Links> {
    let mut all: Named<Links> = Named::new();
    for mapping in mappings.values().flatten() {
        let links = all.or_default(mapping.entity.clone());
        for link in &mapping.links {
            let earlier = links.insert(link.name.clone(), link.entity.clone());
            if let Some(other) = earlier.filter(|e| *e != link.entity) {
                let what = format!("the link `{}` names a {other} elsewhere", link.name);
                report.at(&mapping.spot, what, "give one of the two links another name");
            }
        }
    }
    all
}

/// Lists of children that `rec` has: entities that link to this one, by their name and `s`.
pub(crate) fn child_lists(entity: &str, links: &Named<Links>) -> BTreeMap<Name, Name> {
    links
        .iter()
        .filter(|(_, named)| named.values().any(|e| &**e == entity))
        .map(|(child, _)| (Name::from(format!("{child}s")), child.clone()))
        .collect()
}

/// Reports members of `rec` and of links that do not exist. `lists` are further members of `rec`.
pub(crate) fn check_members(
    expr: &Expr,
    entity: &EntityDef,
    lists: &[&str],
    links: &BTreeMap<Name, &EntityDef>,
    report: &Report,
) {
    for (root, member) in &expr.members {
        let (target, extra): (&EntityDef, &[&str]) = match (root.as_str(), links.get(root.as_str()))
        {
            ("rec", _) => (entity, lists),
            (_, Some(linked)) => (linked, &[]),
            _ => continue,
        };
        let known =
            target.field(member).is_some() || member == "key" || extra.contains(&member.as_str());
        if !known {
            let names = target.fields.keys().map(|f| &**f).chain(extra.iter().copied());
            let what = format!("{} has no field `{member}`", target.name);
            report.at(&expr.spot, what, did_you_mean(member, names));
        }
    }
}

/// Reports members of a variable that has the fields of an entity.
pub(crate) fn check_members_of(variable: &str, expr: &Expr, entity: &EntityDef, report: &Report) {
    let members = expr.members.iter().filter(|(root, _)| root == variable);
    for (_, member) in members.filter(|(_, m)| entity.field(m).is_none() && m != "key") {
        let what = format!("{} has no field `{member}`", entity.name);
        report.at(&expr.spot, what, did_you_mean(member, entity.fields.keys().map(|f| &**f)));
    }
}

/// The entities behind an entity's links.
pub(crate) fn linked_entities<'e>(
    entity: &str,
    links: &Named<Links>,
    entities: &'e Entities,
) -> BTreeMap<Name, &'e EntityDef> {
    let Some(named) = links.get(entity) else { return BTreeMap::new() };
    named
        .iter()
        .filter_map(|(link, entity)| Some((link.clone(), entities.entity(entity)?)))
        .collect()
}
