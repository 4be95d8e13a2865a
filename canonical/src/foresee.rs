//! What judging a batch will need, found out without judging it: following keys, references and
//! links is cheap, judging only to learn that something is missing is not.
//!
//! This may ask for a little too much, and may miss what only judging finds out: then judging
//! itself says so.

use std::collections::BTreeSet;

use crossdock_model::Op;
use crossdock_model::canonical::{Fields, Needs, RecordKey, RowKey};
use foldhash::{HashMap, HashSet};

use crate::fold::{Folded, Net};
use crate::judge::RecordStore;
use crate::mapping::Mapping;
use crate::rowmap::{RowView, lookup_key};
use crate::rows::RowStore;
use crate::rules::Rules;
use crate::step::Step;

/// What mapping the rows of a batch will need.
pub(crate) fn rows(rules: &Rules, store: &RowStore, transactions: &[Folded]) -> Needs {
    let mut wanted = Rows { rules, store, now: HashMap::default(), rows: BTreeSet::new() };
    let nets = || transactions.iter().flat_map(|t| &t.nets);
    for key in nets().flat_map(|net| std::iter::once(&net.row).chain(&net.inherits)) {
        wanted.row(key);
    }
    if wanted.rows.is_empty() {
        wanted.now.extend(nets().map(|net| (&net.row, &*net.image)));
        let mut referring = BTreeSet::new();
        for net in nets() {
            if net.op != Op::Delete {
                wanted.lookups(&net.row, &net.image);
                wanted.stored_lookups(&net.row);
            }
            if wanted.is_read(net) {
                match store.referring.get(&net.row) {
                    Some(known) => known.iter().for_each(|other| wanted.stored_lookups(other)),
                    None => _ = referring.insert(net.row.clone()),
                }
            }
        }
        let rows = wanted.rows.into_iter().collect();
        return Needs { rows, referring_to: referring.into_iter().collect(), ..Needs::default() };
    }
    Needs { rows: wanted.rows.into_iter().collect(), ..Needs::default() }
}

struct Rows<'r> {
    rules: &'r Rules,
    store: &'r RowStore,
    /// The last image of each row in the batch.
    now: HashMap<&'r RowKey, &'r Fields>,
    rows: BTreeSet<RowKey>,
}

impl<'r> Rows<'r> {
    fn row(&mut self, key: &RowKey) {
        if !self.store.rows.contains_key(key) {
            self.rows.insert(key.clone());
        }
    }

    fn stored(&self, key: &RowKey) -> Option<&'r Fields> {
        Some(&self.store.rows.get(key)?.as_ref()?.image)
    }

    /// Whether rows that refer to a row may have to be mapped again.
    fn is_read(&self, net: &Net) -> bool {
        let table = (net.row.source.clone(), net.row.table.clone());
        let Some(used) = self.rules.looked_up.get(&table) else { return false };
        match self.stored(&net.row) {
            Some(stored) => net.op != Op::Delete && used.differs_where_given(stored, &net.image),
            None => true,
        }
    }

    fn stored_lookups(&mut self, key: &RowKey) {
        if let Some(image) = self.stored(key) {
            self.lookups(key, image);
        }
    }

    /// The rows that the mappings of a row read, as far as they can be followed; rows of the batch
    /// as they were before it and as they are after it.
    fn lookups(&mut self, key: &RowKey, image: &Fields) {
        let table = (key.source.clone(), key.table.clone());
        for mapping in self.rules.mappings.get(&table).into_iter().flatten() {
            if !mapping.lookups.is_empty() {
                self.follow(mapping, image, true);
                self.follow(mapping, image, false);
            }
        }
    }

    fn follow(&mut self, mapping: &Mapping, image: &Fields, batch_first: bool) {
        let mut found: Vec<Option<&Fields>> = Vec::with_capacity(mapping.lookups.len());
        for at in 0..mapping.lookups.len() {
            let Some(key) =
                lookup_key(mapping, at, &RowView { row: image, lookups: found.clone() })
            else {
                found.push(None);
                continue;
            };
            self.row(&key);
            let (batch, stored) = (self.now.get(&key).copied(), self.stored(&key));
            let other = if batch_first { batch.or(stored) } else { stored.or(batch) };
            found.push(other);
        }
    }
}

/// What judging the steps of a batch will need.
pub(crate) fn records(rules: &Rules, store: &RecordStore, steps: &[Vec<Step>]) -> Needs {
    let mut wanted = Records {
        rules,
        store,
        computed: HashSet::default(),
        open: Vec::new(),
        records: BTreeSet::new(),
        linking: BTreeSet::new(),
        releases: BTreeSet::new(),
    };
    for step in steps.iter().flatten() {
        step.records().for_each(|key| wanted.compute(key));
        for said in &step.said {
            let links = said.links.iter();
            links.for_each(|(link, to)| wanted.link(&said.record, link, to));
        }
    }
    while let Some(key) = wanted.open.pop() {
        wanted.computed(&key);
    }
    Needs {
        records: wanted.records.into_iter().collect(),
        linking_to: wanted.linking.into_iter().collect(),
        releases_on: wanted.releases.into_iter().collect(),
        ..Needs::default()
    }
}

struct Records<'r> {
    rules: &'r Rules,
    store: &'r RecordStore,
    /// Records that will be computed.
    computed: HashSet<RecordKey>,
    /// Those of them that have not been looked at.
    open: Vec<RecordKey>,
    records: BTreeSet<RecordKey>,
    linking: BTreeSet<RecordKey>,
    releases: BTreeSet<RecordKey>,
}

impl Records<'_> {
    fn compute(&mut self, key: &RecordKey) {
        if self.computed.insert(key.clone()) {
            self.open.push(key.clone());
        }
    }

    fn load(&mut self, key: &RecordKey) {
        if !self.store.records.contains_key(key) {
            self.records.insert(key.clone());
        }
    }

    /// A link of a record that changes: to one that computes a list of such records, or to one
    /// that rules read.
    fn link(&mut self, from: &RecordKey, link: &str, to: &RecordKey) {
        let rules = self.rules;
        if rules.parents.get(&from.entity).is_some_and(|parents| parents.contains(&to.entity)) {
            self.compute(to);
        }
        if rules.read_links.get(&from.entity).is_some_and(|links| links.contains(link)) {
            self.load(to);
        }
    }

    fn links_of(&mut self, key: &RecordKey) {
        let store = self.store;
        let record = store.records.get(key).and_then(|rec| rec.record.as_ref());
        for (link, to) in record.into_iter().flat_map(|r| &r.links) {
            self.link(key, link, to);
        }
    }

    fn computed(&mut self, key: &RecordKey) {
        let (rules, store) = (self.rules, self.store);
        self.load(key);
        self.links_of(key);
        let lists = rules.telling.projections.get(&key.entity).into_iter().flatten();
        let children: BTreeSet<_> = lists.flat_map(|p| p.children.values()).collect();
        if !children.is_empty() {
            match store.linking.get(key) {
                Some(from) => {
                    from.iter().filter(|k| children.contains(&k.entity)).for_each(|k| self.load(k));
                }
                None => _ = self.linking.insert(key.clone()),
            }
        }
        if rules.released_by_links.contains(&key.entity) {
            match store.releases_on.get(key) {
                Some(releases) => {
                    for release in releases {
                        self.load(&release.record);
                        self.links_of(&release.record);
                    }
                }
                None => _ = self.releases.insert(key.clone()),
            }
        }
    }
}
