//! Rows that are found by other columns than their key: which row has an alias, and who must hear
//! when that changes.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name, RowKey, SourceRow};

use super::speech::{Found, Looked};
use super::{Step, Work};
use crate::compute::by_pk;
use crate::lookups::Used;
use crate::mapping::{Alias, Lookup};
use crate::rowmap::RowTrouble;
use crate::rules::TableRules;

/// An alias that a row gets or loses with a change.
#[derive(Debug)]
pub(super) struct Shift<'w> {
    by: &'w Alias,
    alias: RowKey,
    /// More than one row had it before.
    was_ambiguous: bool,
}

impl Shift<'_> {
    /// To what those refer who look for it.
    pub fn sought(&self) -> RowKey {
        self.by.sought(&self.alias)
    }
}

impl<'w> Work<'w> {
    /// The aliases that a row gets or loses.
    pub(super) fn shifts(
        &mut self,
        rules: TableRules<'w>,
        stored: Option<&Arc<SourceRow>>,
        row: &SourceRow,
    ) -> Vec<Shift<'w>> {
        let Some(used) = rules.used.filter(|used| !used.aliases.is_empty()) else {
            return Vec::new();
        };
        let mut shifts = Vec::new();
        for by in &used.aliases {
            let before = stored.filter(|s| !s.deleted).and_then(|s| {
                let alias = by.of(&s.key.source, &s.image)?;
                s.refers_to.contains(&alias).then_some(alias)
            });
            let now = by.of(&row.key.source, &row.image).filter(|_| !row.deleted);
            if before == now {
                continue;
            }
            for alias in [before, now].into_iter().flatten() {
                let was_ambiguous = self.living(by, &alias, &row.key.table).len() > 1;
                shifts.push(Shift { by, alias, was_ambiguous });
            }
        }
        shifts
    }

    /// Tells of aliases that two rows have, and of those that two rows had.
    pub(super) fn tell_ambiguous(&mut self, shifts: &[Shift<'w>], step: &mut Step) {
        for Shift { by, alias, was_ambiguous } in shifts {
            let living = self.living(by, alias, &step.row.table);
            let rows = match (&living[..], was_ambiguous) {
                ([first, second, ..], _) => [first.clone(), second.clone()],
                (_, true) => [step.row.pk.clone(), step.row.pk.clone()],
                (_, false) => continue,
            };
            let columns = by.columns.clone();
            let trouble = RowTrouble::Ambiguous { alias: alias.clone(), columns, rows };
            match living.len() > 1 {
                true => step.troubles.push(trouble),
                false => step.mended.push(trouble),
            }
        }
    }

    /// The keys of the rows that have an alias, the one that is found first.
    fn living(&mut self, by: &Alias, alias: &RowKey, table: &Name) -> Vec<Name> {
        let mut keys: Vec<Name> = Vec::new();
        for other in self.referring_to(alias).into_iter().filter(|other| other.table == *table) {
            let has = |row: &Arc<SourceRow>| {
                !row.deleted && by.of(&alias.source, &row.image).as_ref() == Some(alias)
            };
            match self.row(&other) {
                Some(row) if has(row) => keys.push(other.pk),
                _ => {}
            }
        }
        keys.sort_by(|a, b| by_pk(a, b));
        keys
    }

    /// The row that a lookup finds by an alias: of several the one with the smallest key, and of
    /// rows that are deleted, if there are no others, the one that was so last. `me` is the row
    /// that is mapped: it may find itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn look_up_alias(
        &mut self,
        (lookup, by): (&Lookup, &Alias),
        alias: &RowKey,
        me: (&RowKey, &Arc<Fields>),
    ) -> Result<Option<Looked>, Found> {
        let mut candidates: BTreeSet<RowKey> = self.referring_to(alias);
        if me.0.table == lookup.table {
            candidates.insert(me.0.clone());
        }
        let mut best: Option<(Rank, Looked)> = None;
        for key in candidates.into_iter().filter(|key| key.table == lookup.table) {
            let row = self.row(&key).cloned();
            let (image, rank) = match &row {
                _ if key == *me.0 => (me.1.clone(), Rank::Living),
                Some(row) if row.deleted && lookup.optional => continue,
                Some(row) if row.deleted => (row.image.clone(), Rank::Gone(Reverse(row.at))),
                Some(row) => (row.image.clone(), Rank::Living),
                None => continue,
            };
            if by.of(&alias.source, &image).as_ref() != Some(alias) {
                continue;
            }
            let better = best.as_ref().is_none_or(|(least, found)| {
                rank.cmp(least).then_with(|| by_pk(&key.pk, &found.key.pk)).is_lt()
            });
            if better {
                best = Some((rank, Looked { key, image }));
            }
        }
        match best {
            _ if !self.store.referring.contains_key(alias) => Err(Found::NotLoaded),
            None if !lookup.optional => Err(Found::Waiting(by.sought(alias))),
            best => Ok(best.map(|(_, found)| found)),
        }
    }
}

/// How good a row is for a lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Living,
    /// It was deleted there.
    Gone(Reverse<crossdock_model::LogOrder>),
}

/// The aliases of a row.
pub(super) fn aliases_of(used: Option<&Used>, row: &RowKey, image: &Fields) -> Vec<RowKey> {
    used.map_or_else(Vec::new, |used| used.aliases_of(&row.source, image))
}
