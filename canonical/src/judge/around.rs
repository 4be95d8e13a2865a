//! What is around a record: children that its computed fields read, releases that wait for it.

use std::collections::BTreeSet;

use crossdock_model::Named;
use crossdock_model::canonical::{Links, RecordKey, Release};
use foldhash::HashMap;

use super::Judge;
use crate::deliver::Projection;
use crate::scope::Children;

impl Judge<'_> {
    /// Records that link to this one, for each list that computed fields of it read.
    pub(super) fn child_keys<'p>(
        &mut self,
        key: &RecordKey,
        projections: impl Iterator<Item = &'p Projection>,
    ) -> Named<Vec<RecordKey>> {
        let mut lists: Named<Vec<RecordKey>> = Named::new();
        for (list, child) in projections.flat_map(|p| &p.children) {
            if lists.contains_key(list) {
                continue;
            }
            let mut keys = self.linking(key, |entity| *entity == **child);
            keys.retain(|k| {
                let record = self.load(k).record.as_ref();
                record.is_some_and(|r| !r.deleted && r.links.values().any(|to| to == key))
            });
            lists.insert(list.clone(), keys);
        }
        lists
    }

    /// Records of some entities that link to a record, or did, sorted.
    pub(crate) fn linking(
        &mut self,
        key: &RecordKey,
        entities: impl Fn(&str) -> bool,
    ) -> Vec<RecordKey> {
        let stored = self.store.linking.get(key);
        if stored.is_none() {
            self.needs.linking.insert(key.clone());
        }
        let all = self.linked_from.get(key).into_iter().chain(stored).flatten();
        let mut from: Vec<RecordKey> = all.filter(|k| entities(&k.entity)).cloned().collect();
        from.sort_unstable();
        from.dedup();
        from
    }

    /// Remembers whom a record links to, as far as somebody looks for the records that do.
    pub(super) fn note_links(&mut self, key: &RecordKey, links: &Links) {
        let rules = self.rules;
        let (parents, followers) = (rules.parents.of(&key.entity), &rules.followers);
        for to in links.values() {
            let followed = followers.of(&to.entity).is_some_and(|f| f.contains(&key.entity));
            if followed || parents.is_some_and(|p| p.contains(&to.entity)) {
                self.linked_from.entry(to.clone()).or_default().insert(key.clone());
            }
        }
    }

    pub(super) fn children(&self, lists: &Named<Vec<RecordKey>>) -> Children<'_> {
        let fields = |k: &RecordKey| Some(&self.recs.get(k)?.record.as_ref()?.fields);
        lists
            .iter()
            .map(|(list, keys)| (list.clone(), keys.iter().filter_map(fields).collect()))
            .collect()
    }

    /// Records that link to a record and releases that depend on it.
    pub(crate) fn releases_on(&mut self, key: &RecordKey) -> BTreeSet<RecordKey> {
        let mut found: BTreeSet<RecordKey> = BTreeSet::new();
        match self.store.releases_on.get(key) {
            Some(releases) => found.extend(releases.iter().map(|r| r.record.clone())),
            None => _ = self.needs.releases.insert(key.clone()),
        }
        let waits = |other: &&RecordKey| {
            let releases = self.recs.get(*other).into_iter().flat_map(|r| r.releases.values());
            releases.into_iter().any(|r| !r.released && r.depends.contains(key))
        };
        found.extend(self.depending.get(key).into_iter().flatten().filter(waits).cloned());
        found
    }

    /// Remembers which records a release waits for.
    pub(crate) fn note_depends(&mut self, release: &Release) {
        note_depends(&mut self.depending, release);
    }
}

pub(super) fn note_depends(
    depending: &mut HashMap<RecordKey, BTreeSet<RecordKey>>,
    release: &Release,
) {
    for on in &release.depends {
        depending.entry(on.clone()).or_default().insert(release.record.clone());
    }
}
