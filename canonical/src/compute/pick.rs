//! Which of several contributions counts for a field.

use std::borrow::Cow;
use std::cmp::Ordering;

use bigdecimal::{BigDecimal, Zero};
use crossdock_model::Value;
use crossdock_model::canonical::{Contribution, Name, RowKey};
use crossdock_model::named::Walk;

use crate::decimal::DIGITS_MAX;
use crate::ownership::{Choice, Merge};

/// What a contribution says of a field.
pub(super) type Saying<'c> = (&'c Contribution, &'c Value<'static>);
/// What the owner says of a field.
pub(super) type Own<'c> = (&'c Contribution, Cow<'c, Value<'static>>);

/// What is said of a field, for one field after another in the order of their names: looking each
/// one up in each contribution would cost more than everything that is done with it.
pub(super) struct Sayings<'c> {
    live: Vec<(&'c Contribution, Walk<'c, Value<'static>>)>,
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

/// The value that a field has by what its owner says, and the contribution that it comes from: of a
/// sum, the latest part.
///
/// # Errors
/// There is no sum.
pub(super) fn own<'c>(
    said: &[Saying<'c>],
    choice: &Choice,
) -> Result<Option<Own<'c>>, &'static str> {
    let picked = pick(said, &choice.sources, choice.merge, !choice.null_is_value);
    let Some((by, value)) = picked else { return Ok(None) };
    match choice.merge {
        Merge::Sum => {
            let parts = said.iter().filter(|(by, _)| choice.owned_by(&by.row.source));
            Ok(Some((by, Cow::Owned(total(parts.map(|(_, value)| *value))?))))
        }
        Merge::Latest | Merge::Max | Merge::Min => Ok(Some((by, Cow::Borrowed(value)))),
    }
}

/// Whether one of some rows has a part in what the owner says.
pub(super) fn has_part(
    said: &[Saying<'_>],
    choice: &Choice,
    own: Option<&Own<'_>>,
    rows: &[&RowKey],
) -> bool {
    match choice.merge {
        Merge::Sum => said.iter().any(|(by, value)| {
            choice.owned_by(&by.row.source) && !value.is_null() && rows.contains(&&by.row)
        }),
        Merge::Latest | Merge::Max | Merge::Min => {
            own.is_some_and(|(by, _)| rows.contains(&&by.row))
        }
    }
}

/// The exact sum of some values; a NULL adds nothing.
///
/// # Errors
/// There is none.
pub(crate) fn total<'v>(
    values: impl Iterator<Item = &'v Value<'static>>,
) -> Result<Value<'static>, &'static str> {
    let mut total = BigDecimal::zero();
    for value in values.filter(|value| !value.is_null()) {
        let part = value.text().and_then(|text| crossdock_model::value::decimal(&text));
        total += part.ok_or("a part of the sum is no number")?;
        if total.digits() > DIGITS_MAX {
            return Err("the sum has too many digits");
        }
    }
    let text = crossdock_model::value::normal_decimal(&total.to_plain_string());
    Ok(Value::Decimal(text.into()))
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
        Merge::Sum => from.into_iter().max_by(|(a, _), (b, _)| (a.at, &a.row).cmp(&(b.at, &b.row))),
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
