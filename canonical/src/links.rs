//! Ownership that depends on other records: who must be looked at, and who follows a change.

use std::collections::BTreeSet;

use crossdock_model::Named;
use crossdock_model::canonical::{Name, RecordKey};

use crate::compute::{Linked, links_of};
use crate::judge::Judge;
use crate::names::Links;
use crate::ownership::Ownership;

/// Links that the ownership rules of an entity read, by entity.
pub(crate) type OwnerLinks = Named<BTreeSet<Name>>;

/// Finds the links that ownership rules read.
pub(crate) fn read_by_owners(ownership: &Ownership, links: &Named<Links>) -> OwnerLinks {
    let mut all = OwnerLinks::new();
    for (entity, rule) in ownership {
        for link in links.of(entity).into_iter().flat_map(|l| l.keys()) {
            if rule.choices().flat_map(|c| c.exprs()).any(|e| e.uses(link)) {
                all.or_default(entity.clone()).insert(link.clone());
            }
        }
    }
    all
}

/// Entities whose owners depend on records of an entity, by that entity.
pub(crate) fn followers(owner_links: &OwnerLinks, links: &Named<Links>) -> Named<BTreeSet<Name>> {
    let mut all: Named<BTreeSet<Name>> = Named::new();
    for (entity, names) in owner_links {
        let named = links.of(entity);
        for to in names.iter().filter_map(|link| named?.get(link)) {
            all.or_default(to.clone()).insert(entity.clone());
        }
    }
    all
}

impl Judge<'_> {
    /// The records that the owners of a record's fields depend on.
    pub(crate) fn owner_linked(&mut self, key: &RecordKey) -> Linked {
        let rules = self.rules;
        let Some(names) = rules.owner_links.of(&key.entity) else { return Linked::new() };
        let said = self.load(key).contributions.values().map(|c| &**c);
        let links = links_of(rules, &key.entity, said);
        let read = |link: &Name| {
            let record = links.get(link).and_then(|to| self.load(to).record.clone());
            (link.clone(), record.filter(|r| !r.deleted))
        };
        names.iter().map(read).collect()
    }

    /// Records whose owners may be others now that a record has changed.
    pub(crate) fn followers(&mut self, key: &RecordKey) -> Vec<RecordKey> {
        let Some(entities) = self.rules.followers.of(&key.entity) else { return Vec::new() };
        self.linking(key, |entity| entities.contains(entity))
    }
}
