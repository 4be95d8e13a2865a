//! What judging a batch will need, found out without judging it: following keys, references and
//! links is cheap, judging only to learn that something is missing is not.
//!
//! This may ask for a little too much, and may miss what only judging finds out: then judging
//! itself says so.

use crossdock_model::Op;
use crossdock_model::canonical::{Fields, Name, Needs, RecordKey, RowKey, SourceRow};
use foldhash::{HashMap, HashSet};

use crate::fold::{Folded, Net};
use crate::judge::RecordStore;
use crate::mapping::{Alias, Mapping};
use crate::rowmap::{RowView, lookup_key};
use crate::rows::{Found, RowStore};
use crate::rules::Rules;
use crate::step::Step;

/// What mapping the rows of a batch will need besides what has been loaded.
pub(crate) fn rows<'r>(
    rules: &Rules,
    store: &'r RowStore,
    transactions: &'r [Folded<'r>],
    foreseen: &mut Foreseen,
) -> Needs {
    let mut wanted = Rows {
        store,
        transactions,
        batch: None,
        rows: HashSet::default(),
        referring: HashSet::default(),
        open: false,
    };
    let nets = || transactions.iter().flat_map(|t| &t.nets);
    if foreseen.nets.is_none() {
        for key in nets().flat_map(|net| std::iter::once(&net.row).chain(&net.inherits)) {
            wanted.row(key);
        }
        if !wanted.rows.is_empty() {
            return Needs { rows: wanted.rows.into_iter().collect(), ..Needs::default() };
        }
    }
    let open = foreseen.nets.take().unwrap_or_else(|| (0..nets().count()).collect());
    let mut still = Vec::new();
    let (mut left, mut open) = (nets().enumerate(), open.into_iter());
    while let Some((at, net)) = open.next().and_then(|at| left.find(|(place, _)| *place == at)) {
        wanted.open = false;
        if net.op != Op::Delete && !wanted.looked_up_last(net) {
            let mappings = net.table.rules.mappings;
            wanted.lookups(mappings, &net.image);
            if wanted.looks_elsewhere(net) {
                wanted.stored_lookups(mappings, &net.row);
            }
        }
        if wanted.is_read(net) {
            wanted.readers(rules, &net.row);
        }
        for (by, alias) in wanted.shifts(net) {
            wanted.readers(rules, &by.sought(&alias));
            wanted.holders(&alias, &net.row.table);
        }
        if wanted.open {
            still.push(at);
        }
    }
    foreseen.nets = Some(still);
    let (rows, referring_to) = (wanted.rows.into_iter(), wanted.referring.into_iter());
    Needs { rows: rows.collect(), referring_to: referring_to.collect(), ..Needs::default() }
}

/// The rows of a batch, as others find them.
#[derive(Default)]
struct InBatch<'r> {
    /// The last image of each.
    images: HashMap<&'r RowKey, &'r Fields>,
    /// What else each is found by.
    aliases: HashMap<RowKey, Vec<&'r RowKey>>,
}

impl<'r> InBatch<'r> {
    fn of(transactions: &'r [Folded<'_>]) -> Self {
        let mut batch = Self::default();
        for net in transactions.iter().flat_map(|t| &t.nets) {
            batch.images.insert(&net.row, &*net.image);
            let Some(used) = net.table.rules.used else { continue };
            for alias in used.aliases_of(&net.row.source, &net.image) {
                batch.aliases.entry(alias).or_default().push(&net.row);
            }
        }
        batch
    }
}

struct Rows<'r> {
    store: &'r RowStore,
    transactions: &'r [Folded<'r>],
    /// Their rows, once somebody looks for one.
    batch: Option<InBatch<'r>>,
    rows: HashSet<RowKey>,
    /// Rows, and aliases, of which it must be known who refers to them.
    referring: HashSet<RowKey>,
    /// Something has not been loaded, behind which there may be more.
    open: bool,
}

impl<'r> Rows<'r> {
    fn row(&mut self, key: &RowKey) {
        if !self.store.rows.contains_key(key) {
            self.rows.insert(key.clone());
            self.open = true;
        }
    }

    fn stored(&self, key: &RowKey) -> Option<&'r Fields> {
        self.kept(key).map(|row| &*row.image)
    }

    fn kept(&self, key: &RowKey) -> Option<&'r SourceRow> {
        Some(&*self.store.rows.get(key)?.as_ref()?.row)
    }

    /// Wants the rows that were looked up when the row was mapped last, if that is known and it
    /// refers to the same ones now.
    fn looked_up_last(&mut self, net: &Net<'_>) -> bool {
        let store = self.store;
        let Some(Some(kept)) = store.rows.get(&net.row) else { return false };
        let Some(speech) = kept.speech.as_ref().filter(|_| net.full) else { return false };
        let was = &kept.row.image;
        if !net.table.rules.mappings.iter().all(|m| m.finds_the_same(was, &net.image)) {
            return false;
        }
        for found in &speech.found {
            let Found::All(lookups) = found else { return false };
            lookups.iter().flatten().for_each(|looked| self.row(&looked.key));
        }
        true
    }

    /// Whether the lookups of a row may find other rows than those of its image in the store.
    fn looks_elsewhere(&self, net: &Net<'_>) -> bool {
        let (Some(stored), true) = (self.stored(&net.row), net.full) else { return true };
        let lookups = net.table.rules.mappings.iter().flat_map(|m| &m.lookups);
        let mut keys = lookups.flat_map(|l| &l.key);
        keys.any(|k| k.lookup.is_none() && stored.get(&k.column) != net.image.get(&k.column))
    }

    /// Whether rows that refer to a row may have to be mapped again.
    fn is_read(&self, net: &Net<'_>) -> bool {
        let Some(used) = net.table.rules.used else { return false };
        let deleted = net.op == Op::Delete;
        match self.kept(&net.row) {
            Some(kept) if used.optional && kept.deleted != deleted => true,
            Some(kept) => !deleted && used.differs_where_given(&kept.image, &net.image),
            None => true,
        }
    }

    fn batch(&mut self) -> &InBatch<'r> {
        let transactions = self.transactions;
        self.batch.get_or_insert_with(|| InBatch::of(transactions))
    }

    /// The aliases that a row may get or lose.
    fn shifts<'n>(&self, net: &Net<'n>) -> Vec<(&'n Alias, RowKey)> {
        let mut shifts = Vec::new();
        for by in net.table.rules.used.map_or(&[][..], |used| &used.aliases) {
            let of = |image: &Fields| by.of(&net.row.source, image);
            let kept = self.kept(&net.row);
            let before = kept.filter(|kept| !kept.deleted).and_then(|kept| of(&kept.image));
            let now = of(&net.image).filter(|_| net.op != Op::Delete);
            if before != now {
                shifts.extend([before, now].into_iter().flatten().map(|alias| (by, alias)));
            }
        }
        shifts
    }

    /// Wants the rows that refer to a row or look for an alias, and what these look up.
    fn readers(&mut self, rules: &Rules, key: &RowKey) {
        let store = self.store;
        match store.referring.get(key) {
            Some(known) => {
                for other in known {
                    self.row(other);
                    let of_other = rules.of_table(&other.source, &other.table);
                    self.stored_lookups(of_other.mappings, other);
                }
            }
            None => {
                self.referring.insert(key.clone());
                self.open = true;
            }
        }
    }

    /// Wants the rows that have an alias; gives the first of them that is known.
    fn holders(&mut self, alias: &RowKey, table: &Name) -> Option<RowKey> {
        let store = self.store;
        let Some(known) = store.referring.get(alias) else {
            self.referring.insert(alias.clone());
            self.open = true;
            return None;
        };
        let stored: Vec<&RowKey> = known.iter().filter(|key| key.table == *table).collect();
        stored.iter().for_each(|key| self.row(key));
        let of_batch = self.batch().aliases.get(alias).and_then(|keys| keys.first());
        of_batch.or(stored.first()).map(|key| (*key).clone())
    }

    fn stored_lookups(&mut self, mappings: &[Mapping], key: &RowKey) {
        if let Some(image) = self.stored(key) {
            self.lookups(mappings, image);
        }
    }

    /// The rows that the mappings of a row read, as far as they can be followed; rows of the batch
    /// as they were before it and as they are after it.
    fn lookups(&mut self, mappings: &[Mapping], image: &Fields) {
        for mapping in mappings {
            if !mapping.lookups.is_empty() && self.follow(mapping, image, true) {
                self.follow(mapping, image, false);
            }
        }
    }

    /// Follows the lookups of a row. True when one of them has two images, and so two ways on.
    fn follow(&mut self, mapping: &Mapping, image: &Fields, batch_first: bool) -> bool {
        let mut two = false;
        let mut found: Vec<Option<&Fields>> = Vec::with_capacity(mapping.lookups.len());
        for (at, lookup) in mapping.lookups.iter().enumerate() {
            let key = lookup_key(mapping, at, &RowView::new(image, found.clone()));
            let key = match (key, &lookup.by) {
                (Some(alias), Some(_)) => self.holders(&alias, &lookup.table),
                (key, _) => key,
            };
            let Some(key) = key else {
                found.push(None);
                continue;
            };
            self.row(&key);
            let batch = self.batch().images.get(&key).copied();
            let stored = self.stored(&key);
            two |= batch.is_some() && stored.is_some();
            let other = if batch_first { batch.or(stored) } else { stored.or(batch) };
            found.push(other);
        }
        two
    }
}

/// How far it is known what judging the steps of a batch will need.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    /// Row changes, by their place in the batch, around which something has not been loaded yet.
    nets: Option<Vec<usize>>,
    begun: bool,
    /// Records that will be computed.
    computed: HashSet<RecordKey>,
    /// Those of them around which something has not been loaded yet.
    open: Vec<RecordKey>,
}

/// What judging the steps of a batch will need besides what has been loaded.
pub(crate) fn records(
    rules: &Rules,
    store: &RecordStore,
    steps: &[Vec<Step>],
    foreseen: &mut Foreseen,
) -> Needs {
    let begun = std::mem::replace(&mut foreseen.begun, true);
    let mut wanted = Records {
        rules,
        store,
        computed: &mut foreseen.computed,
        open: std::mem::take(&mut foreseen.open),
        records: HashSet::default(),
        linking: HashSet::default(),
        releases: HashSet::default(),
    };
    for step in steps.iter().flatten().filter(|_| !begun) {
        step.records().for_each(|key| wanted.compute(key));
        for said in step.said() {
            let links = said.links.iter();
            links.for_each(|(link, to)| wanted.link(&said.record, link, to));
        }
    }
    while let Some(key) = wanted.open.pop() {
        if !wanted.computed(&key) {
            foreseen.open.push(key);
        }
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
    computed: &'r mut HashSet<RecordKey>,
    /// Those of them that have not been looked at.
    open: Vec<RecordKey>,
    records: HashSet<RecordKey>,
    linking: HashSet<RecordKey>,
    releases: HashSet<RecordKey>,
}

impl Records<'_> {
    fn compute(&mut self, key: &RecordKey) {
        if !self.computed.contains(key) {
            self.computed.insert(key.clone());
            self.open.push(key.clone());
        }
    }

    /// Whether a record has been loaded.
    fn load(&mut self, key: &RecordKey) -> bool {
        let loaded = self.store.records.contains_key(key);
        if !loaded {
            self.records.insert(key.clone());
        }
        loaded
    }

    /// A link of a record that changes: to one that computes a list of such records, or to one
    /// that rules read.
    fn link(&mut self, from: &RecordKey, link: &str, to: &RecordKey) {
        let rules = self.rules;
        if rules.parents.of(&from.entity).is_some_and(|parents| parents.contains(&to.entity)) {
            self.compute(to);
        }
        let read = [rules.read_links.of(&from.entity), rules.owner_links.of(&from.entity)];
        if read.into_iter().flatten().any(|links| links.contains(link)) {
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

    /// Looks around a record that will be computed. False when something there must be loaded first
    /// to see further.
    fn computed(&mut self, key: &RecordKey) -> bool {
        let (rules, store) = (self.rules, self.store);
        let mut known = self.load(key);
        self.links_of(key);
        let lists = rules.telling.projections.of(&key.entity).into_iter().flatten();
        let children: Vec<&Name> = lists.flat_map(|p| p.children.values()).collect();
        let followers = rules.followers.of(&key.entity);
        if !children.is_empty() || followers.is_some() {
            match store.linking.get(key) {
                Some(from) => {
                    let all = from.iter().filter(|k| children.contains(&&k.entity));
                    all.for_each(|k| _ = self.load(k));
                    let follow = |k: &&RecordKey| followers.is_some_and(|f| f.contains(&k.entity));
                    from.iter().filter(follow).for_each(|k| self.compute(k));
                }
                None => {
                    known = false;
                    self.linking.insert(key.clone());
                }
            }
        }
        if rules.released_by_links.contains(&key.entity) {
            match store.releases_on.get(key) {
                Some(releases) => {
                    for release in releases {
                        known &= self.load(&release.record);
                        self.links_of(&release.record);
                    }
                }
                None => {
                    known = false;
                    self.releases.insert(key.clone());
                }
            }
        }
        known
    }
}
