//! What batches have learned of the store and done to it, kept for the batches after them: asking
//! the store again for what was just written costs more than judging it.

use std::hash::Hash;
use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{
    Evidence, Fields, Links, Needs, RecordKey, Release, RowKey, SourceRow,
};
use foldhash::{HashMap, HashSet};

use crate::compute::Rec;
use crate::judge::RecordStore;
use crate::rows::{Kept, RowStore};

/// About as many bytes are in each of two generations; what the last two batches touched is kept
/// whatever its size.
const BYTES_MAX: usize = 12 << 20;
/// What an entry of a map and the value in it take besides its texts, about.
const ENTRY_BYTES: usize = 160;

/// What is known of the canonical store by its only writer. Give it to each workspace and take it
/// back from it; begin with an empty one when a commit has failed.
///
/// It is kept in two generations. When the present one is full it becomes the one before, and what
/// nobody has asked for since is forgotten when that happens again.
#[derive(Debug)]
pub struct Memory {
    pub(crate) rows: RowStore,
    pub(crate) records: RecordStore,
    /// About what the present generation takes. Every entry is counted when it comes and when it
    /// goes.
    bytes: usize,
    bytes_max: usize,
    /// Of the last batch, and of the one before it.
    written: [Written; 2],
    before: Before,
}

/// The generation before. Nothing is in both; see [`Memory::recall`]. What a batch adds to is brought
/// into the present one: it must be known until that batch and the next are in the store.
#[derive(Debug, Default)]
struct Before {
    rows: RowStore,
    records: RecordStore,
}

/// Rows and records that a batch has given a new reference, link or hold, and of which
/// nobody has asked who refers to them. The store's answer would lack what is not committed yet.
#[derive(Debug, Default)]
struct Written {
    referring: HashSet<RowKey>,
    linking: HashSet<RecordKey>,
    releases: HashSet<RecordKey>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Memory {
    /// Empty; holds about twice so many bytes besides the last two batches.
    pub fn of(bytes_max: usize) -> Self {
        let (rows, records) = (RowStore::default(), RecordStore::default());
        let (written, before) = (Default::default(), Before::default());
        Self { rows, records, bytes: 0, bytes_max, written, before }
    }

    /// Brings what is needed into the present generation, as far as the one before has it; gives
    /// what it has not.
    pub(crate) fn recall(&mut self, mut needs: Needs) -> Needs {
        needs.rows.retain(|key| !self.recall_row(key));
        needs.records.retain(|key| !self.recall_record(key));
        let (was, now) = (&mut self.before, &mut self.rows.referring);
        needs.referring_to.retain(|key| !recall(&mut was.rows.referring, now, key));
        let now = &mut self.records;
        needs.linking_to.retain(|key| !recall(&mut was.records.linking, &mut now.linking, key));
        let was = &mut was.records.releases_on;
        needs.releases_on.retain(|key| !recall(was, &mut now.releases_on, key));
        needs
    }

    fn recall_row(&mut self, key: &RowKey) -> bool {
        let found = recall(&mut self.before.rows.rows, &mut self.rows.rows, key);
        let kept = self.rows.rows.get(key).filter(|_| found).and_then(Option::as_ref);
        self.bytes += kept.map_or(0, |kept| row_bytes(&kept.row));
        found
    }

    fn recall_record(&mut self, key: &RecordKey) -> bool {
        let found = recall(&mut self.before.records.records, &mut self.records.records, key);
        let rec = self.records.records.get(key).filter(|_| found);
        self.bytes += rec.map_or(0, |rec| rec_bytes(rec));
        found
    }

    /// The present generation is full.
    fn turn(&mut self) {
        let (rows, records) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.records));
        self.before = Before { rows, records };
        self.bytes = 0;
    }

    /// Whether the store can answer only once the last two batches are committed there.
    pub(crate) fn must_be_committed(&self, needs: &Needs) -> bool {
        self.written.iter().any(|written| {
            needs.referring_to.iter().any(|key| written.referring.contains(key))
                || needs.linking_to.iter().any(|key| written.linking.contains(key))
                || needs.releases_on.iter().any(|key| written.releases.contains(key))
        })
    }

    /// Takes a record as the store has it.
    pub(crate) fn loaded_record(&mut self, key: RecordKey, rec: impl FnOnce() -> Rec) {
        if !self.recall_record(&key) && !self.records.records.contains_key(&key) {
            let rec = rec();
            self.bytes += rec_bytes(&rec);
            self.records.records.insert(key, Arc::new(rec));
        }
    }

    /// Takes a row as the store has it.
    pub(crate) fn loaded(&mut self, row: SourceRow) {
        if !self.recall_row(&row.key) && !self.rows.rows.contains_key(&row.key) {
            self.bytes += row_bytes(&row);
            self.rows.rows.insert(row.key.clone(), Some(Kept::unheard(Arc::new(row))));
        }
    }

    /// Takes what a batch has done: the rows that it changed or heard, and the records that it
    /// looked at.
    pub(crate) fn take_in(
        &mut self,
        rows: Vec<Kept>,
        heard: Vec<Kept>,
        recs: HashMap<RecordKey, Arc<Rec>>,
        evidence: &[Arc<Evidence>],
    ) {
        let sets = self.rows.referring.len() + self.records.linking.len();
        if self.bytes + ENTRY_BYTES * sets > self.bytes_max {
            self.turn();
        }
        let [last, _] = std::mem::take(&mut self.written);
        self.written = [Written::default(), last];
        rows.into_iter().for_each(|kept| self.row(kept));
        for kept in heard {
            if let Some(Some(known)) = self.rows.rows.get_mut(&kept.row.key) {
                known.speech = kept.speech;
            }
        }
        recs.into_iter().for_each(|(key, rec)| self.record(key, rec));
        // The store keeps what was taken back, so that what is older does not bring it again.
        for item in evidence.iter().filter(|item| item.withdrawn) {
            let Some(rec) = self.records.records.get_mut(&item.record) else { continue };
            if !rec.evidence.contains_key(&item.id) {
                Arc::make_mut(rec).evidence.insert(item.id, item.clone());
                self.bytes += 2 * ENTRY_BYTES;
            }
        }
    }

    fn row(&mut self, kept: Kept) {
        let row = &kept.row;
        // It may be in the generation before if the batch has just made this one anew.
        self.recall_row(&row.key);
        let known = self.rows.rows.get(&row.key).and_then(Option::as_ref);
        let same = known.is_some_and(|known| known.row.refers_to == row.refers_to);
        for other in row.refers_to.iter().filter(|_| !same) {
            let now = &mut self.rows.referring;
            recall(&mut self.before.rows.referring, now, other);
            match now.get_mut(other) {
                Some(known) => _ = known.insert(row.key.clone()),
                None => _ = self.written[0].referring.insert(other.clone()),
            }
        }
        self.bytes += row_bytes(row);
        let old = self.rows.rows.insert(row.key.clone(), Some(kept));
        self.gone(old.flatten().map_or(0, |kept| row_bytes(&kept.row)));
    }

    fn record(&mut self, key: RecordKey, rec: Arc<Rec>) {
        self.recall_record(&key);
        let known = self.records.records.get(&key);
        if known.is_some_and(|known| Arc::ptr_eq(known, &rec)) {
            return;
        }
        // Links that were there before are in the store.
        let before = known.and_then(|known| known.record.as_ref()).map(|record| &record.links);
        let links = rec.record.as_ref().map(|record| &record.links).filter(|l| before != Some(*l));
        for to in links.into_iter().flat_map(Links::values) {
            let now = &mut self.records.linking;
            recall(&mut self.before.records.linking, now, to);
            match now.get_mut(to) {
                Some(known) => _ = known.insert(key.clone()),
                None => _ = self.written[0].linking.insert(to.clone()),
            }
        }
        for release in rec.releases.values() {
            self.release(release);
        }
        self.bytes += rec_bytes(&rec);
        let old = self.records.records.insert(key, rec);
        self.gone(old.map_or(0, |rec| rec_bytes(&rec)));
    }

    /// What is known not to be there has not been counted when it came.
    fn gone(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn release(&mut self, release: &Arc<Release>) {
        for on in &release.depends {
            let (now, was) = (&mut self.records.releases_on, &mut self.before.records.releases_on);
            recall(was, now, on);
            let Some(known) = now.get_mut(on) else {
                self.written[0].releases.insert(on.clone());
                continue;
            };
            let same =
                |r: &&mut Release| r.rule == release.rule && r.business_key == release.business_key;
            match known.iter_mut().find(same) {
                Some(old) => old.clone_from(release),
                None => known.push(Release::clone(release)),
            }
        }
    }
}

/// Moves an entry; whether it was there.
fn recall<K: Eq + Hash, V>(was: &mut HashMap<K, V>, now: &mut HashMap<K, V>, key: &K) -> bool {
    if was.is_empty() {
        return false;
    }
    let Some((key, value)) = was.remove_entry(key) else { return false };
    now.insert(key, value);
    true
}

fn row_bytes(row: &SourceRow) -> usize {
    ENTRY_BYTES + fields_bytes(&row.image)
}

fn rec_bytes(rec: &Rec) -> usize {
    let said: usize =
        rec.contributions.values().map(|c| ENTRY_BYTES + fields_bytes(&c.fields)).sum();
    // A record has its values and, for each, where it comes from.
    let record = rec.record.iter().map(|r| 2 * fields_bytes(&r.fields)).sum::<usize>();
    let others = rec.evidence.len() + rec.releases.len() + rec.deadlines.len();
    ENTRY_BYTES * (1 + 2 * others) + said + record
}

fn fields_bytes(fields: &Fields) -> usize {
    let text = |value: &Value<'_>| match value {
        Value::Text(text) | Value::Json(text) | Value::Decimal(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    fields.values().map(|value| ENTRY_BYTES / 2 + text(value)).sum()
}
