//! Which of several contributions counts for a field.

use std::cmp::Ordering;

use crossdock_model::Value;
use crossdock_model::canonical::{Contribution, Name};
use crossdock_model::named::Walk;

use crate::ownership::Merge;

/// What a contribution says of a field.
pub(super) type Saying<'c> = (&'c Contribution, &'c Value<'static>);

/// What is said of a field, for one field after another in the order of their names: looking each
/// one up in each contribution would cost more than everything that is done with it.
pub(super) struct Sayings<'c> {
    live: Vec<(&'c Contribution, Walk<'c, Name, Value<'static>>)>,
    last: Option<&'c Name>,
    said: Vec<Saying<'c>>,
}

impl<'c> Sayings<'c> {
    pub fn of(live: &[&'c Contribution]) -> Self {
        let walks = live.iter().map(|c| (*c, c.fields.walk())).collect();
        Self { live: walks, last: None, said: Vec::with_capacity(live.len()) }
    }

    /// What is said of a field, in the order of the contributions.
    pub fn about(&mut self, field: &'c Name) -> &[Saying<'c>] {
        if self.last.is_some_and(|last| last >= field) {
            self.live.iter_mut().for_each(|(by, walk)| *walk = by.fields.walk());
        }
        self.last = Some(field);
        self.said.clear();
        for (by, walk) in &mut self.live {
            if let Some(value) = walk.find(field) {
                self.said.push((by, value));
            }
        }
        &self.said
    }
}

/// What the contribution says that counts for a field, of those of some sources.
pub(super) fn pick<'c>(
    said: &[Saying<'c>],
    sources: &[Name],
    merge: Merge,
    skip_null: bool,
) -> Option<Saying<'c>> {
    let rank = |c: &Contribution| sources.iter().position(|s| *s == c.row.source);
    let skip_null = skip_null || merge != Merge::Latest;
    let counts = |(by, value): &Saying<'c>| rank(by).is_some() && !(skip_null && value.is_null());
    let mut candidates = said.iter().copied().filter(counts);
    let first = candidates.next()?;
    if candidates.next().is_none() {
        return Some(first);
    }
    let mut from: Vec<Saying<'c>> = said.iter().copied().filter(counts).collect();
    match merge {
        Merge::Max => {
            from.into_iter().max_by(|a, b| compare(a.1, b.1).then_with(|| b.0.row.cmp(&a.0.row)))
        }
        Merge::Min => {
            from.into_iter().min_by(|a, b| compare(a.1, b.1).then_with(|| a.0.row.cmp(&b.0.row)))
        }
        Merge::Latest => {
            // Of several rows of one table that speak of the same fact, the first one counts.
            from.sort_by(|(a, _), (b, _)| {
                (rank(a), &a.row.table)
                    .cmp(&(rank(b), &b.row.table))
                    .then_with(|| by_pk(&a.row.pk, &b.row.pk))
            });
            from.dedup_by(|(b, _), (a, _)| {
                a.row.source == b.row.source && a.row.table == b.row.table
            });
            from.into_iter().min_by_key(|(c, _)| (rank(c), std::cmp::Reverse(c.at)))
        }
    }
}

/// Order of primary keys: numbers by value.
pub(crate) fn by_pk(a: &str, b: &str) -> Ordering {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(x), Ok(y)) => x.cmp(&y),
        _ => a.cmp(b),
    }
}

fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    let (a, b) = (a.text().unwrap_or_default(), b.text().unwrap_or_default());
    let number = crossdock_model::value::decimal;
    match (number(&a), number(&b)) {
        (Some(x), Some(y)) => x.cmp(&y),
        _ => a.cmp(&b),
    }
}
