//! Which keys the store may have, so that it need not be asked about those that it certainly does
//! not have: most rows that a source inserts are new, and so are their records.

use std::hash::Hash;

use crossdock_model::canonical::{Needs, Outcome, RecordKey, RowKey};
use fastbloom::BloomFilter;
use foldhash::fast::RandomState;
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::encoding::text;
use crate::{ApplyError, classify};

/// So many keys of rows, and of records, are known; a store with more is asked about everything.
/// Reading them takes about a second for a million.
const KEYS_MAX: usize = 2_000_000;
/// With as many keys, one of a hundred that the store does not have is asked for all the same.
const BITS_PER_KEY: usize = 10;

/// About how many rows the larger of two tables has; below zero when nobody has counted.
const ABOUT: &str = "SELECT max(reltuples)::bigint FROM pg_catalog.pg_class
    WHERE oid IN ('crossdock.source_row'::regclass, 'crossdock.record'::regclass)";
const ROWS: &str = "SELECT table_name, pk FROM crossdock.source_row LIMIT $1";
const RECORDS: &str = "SELECT key FROM crossdock.record LIMIT $1";
/// What is kept apart of a record: most have none of it.
const MORE: &str = "SELECT key FROM (
        SELECT key FROM crossdock.evidence UNION ALL SELECT key FROM crossdock.release
        UNION ALL SELECT key FROM crossdock.deadline
        UNION ALL SELECT key FROM crossdock.contribution
    ) k LIMIT $1";

/// What a store is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// What the store may have of what is needed.
    pub needs: Needs,
    /// Further records, of which nothing is kept apart: evidence, releases, deadlines and
    /// contributions are not looked for.
    pub plain_records: Vec<RecordKey>,
}

impl Asked {
    /// True when the store has nothing of what is needed.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// What the only writer of a store knows of its keys.
#[derive(Debug, Default)]
pub struct Presence {
    rows: Keys,
    /// Records that are there.
    records: Keys,
    /// Records with evidence, releases, deadlines, or contributions that stand apart.
    more: Keys,
}

impl Presence {
    /// Reads the keys of a store. Whatever is committed from then on must be [`Presence::put`].
    pub async fn read(store: &mut PostgresStore) -> Result<Self, ApplyError> {
        Self::read_up_to(store, KEYS_MAX).await
    }

    /// The same, for a store with so many keys at the most.
    pub async fn read_up_to(store: &mut PostgresStore, most: usize) -> Result<Self, ApplyError> {
        let about = store.query(ABOUT, &[]).await?;
        let about = about.first().and_then(|row| row.get::<_, Option<i64>>(0)).unwrap_or(0);
        if usize::try_from(about).is_ok_and(|about| about > most) {
            return Ok(Self::default());
        }
        let [mut rows, mut records, mut more] = [(); 3].map(|()| Keys::up_to(most));
        let row = |keys: &mut Keys, row: &Row| {
            keys.put(&(row.get::<_, &str>(0), row.get::<_, &str>(1)));
        };
        let record = |keys: &mut Keys, row: &Row| keys.put(row.get::<_, &str>(0));
        read(store, ROWS, &mut rows, most, row).await?;
        read(store, RECORDS, &mut records, most, record).await?;
        read(store, MORE, &mut more, 4 * most, record).await?;
        Ok(Self { rows, records, more })
    }

    /// What the store must be asked: what it may have.
    pub fn asked(&self, needs: &Needs) -> Asked {
        let row = |key: &&RowKey| self.rows.may_have(&(&*text(&key.table), &*text(&key.pk)));
        let (mut records, mut plain_records) = (Vec::new(), Vec::new());
        for key in &needs.records {
            let name = &*text(&key.key);
            if self.more.may_have(name) {
                records.push(key.clone());
            } else if self.records.may_have(name) {
                plain_records.push(key.clone());
            }
        }
        let needs = Needs {
            rows: needs.rows.iter().filter(row).cloned().collect(),
            referring_to: needs.referring_to.clone(),
            records,
            linking_to: needs.linking_to.clone(),
            releases_on: needs.releases_on.clone(),
        };
        Asked { needs, plain_records }
    }

    /// Takes in what is about to be committed.
    pub fn put(&mut self, outcome: &Outcome) {
        for row in outcome.rows.iter().chain(&outcome.new_rows) {
            self.rows.put(&(&*text(&row.key.table), &*text(&row.key.pk)));
        }
        for record in outcome.records.iter().chain(&outcome.new_records) {
            self.records.put(&*text(&record.key.key));
        }
        let said = outcome.contributions.iter().chain(&outcome.new_contributions);
        let apart = said.map(|c| &c.record).filter(|key| !outcome.said.contains_key(key));
        let more = outcome.evidence.iter().map(|e| &e.record).chain(apart);
        let more = more.chain(outcome.releases.iter().map(|r| &r.record));
        for key in more.chain(outcome.deadlines.iter().map(|d| &d.record)) {
            self.more.put(&*text(&key.key));
        }
    }
}

/// Puts the key of each row of an answer, holding none of them. With more rows than that nothing
/// is known.
async fn read(
    store: &mut PostgresStore,
    sql: &'static str,
    keys: &mut Keys,
    most: usize,
    put: impl Fn(&mut Keys, &Row),
) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&store.name, "reading the keys of the canonical store", e);
    // One more says that there are too many.
    let limit = i64::try_from(most).unwrap_or(i64::MAX - 1) + 1;
    let params: [&(dyn ToSql + Sync); 1] = [&limit];
    let rows = store.client.query_raw(sql, params).await.map_err(failed)?;
    let mut rows = std::pin::pin!(rows);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        put(keys, &row);
        count += 1;
    }
    if count > most {
        *keys = Keys::default();
    }
    Ok(())
}

/// Keys of one kind. Knows nothing until it is told how many there may be, and when there are more.
#[derive(Debug, Default)]
struct Keys {
    filter: Option<BloomFilter<RandomState>>,
    /// How many more it takes.
    room: usize,
}

impl Keys {
    fn up_to(most: usize) -> Self {
        let bits = BloomFilter::with_num_bits((BITS_PER_KEY * most).max(64));
        let filter = bits.hasher(RandomState::default()).expected_items(most.max(1));
        Self { filter: Some(filter), room: most }
    }

    fn put(&mut self, key: &(impl Hash + ?Sized)) {
        let Some(filter) = &mut self.filter else { return };
        if filter.insert(key) {
            return;
        }
        match self.room.checked_sub(1) {
            Some(left) => self.room = left,
            None => self.filter = None,
        }
    }

    fn may_have(&self, key: &(impl Hash + ?Sized)) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.contains(key))
    }
}
