//! Which of several contributions counts for a field.

use std::cmp::Ordering;

use crossdock_model::Value;
use crossdock_model::canonical::{Contribution, Name};

use crate::ownership::Merge;

/// The contribution of these sources that counts for a field.
pub(super) fn pick<'c>(
    live: &[&'c Contribution],
    field: &Name,
    sources: &[Name],
    merge: Merge,
    skip_null: bool,
) -> Option<&'c Contribution> {
    let rank = |c: &Contribution| sources.iter().position(|s| *s == c.row.source);
    let counts = |c: &&Contribution| {
        rank(c).is_some()
            && c.fields
                .get(field)
                .is_some_and(|v| !(v.is_null() && (skip_null || merge != Merge::Latest)))
    };
    let mut candidates = live.iter().copied().filter(counts);
    let first = candidates.next()?;
    if candidates.next().is_none() {
        return Some(first);
    }
    let mut from: Vec<&Contribution> = live
        .iter()
        .copied()
        .filter(|c| rank(c).is_some() && c.fields.contains_key(field))
        .filter(|c| !skip_null || has_value(c, field))
        .collect();
    match merge {
        Merge::Max => from.into_iter().filter(|c| has_value(c, field)).max_by(|a, b| {
            compare(value(a, field), value(b, field)).then_with(|| b.row.cmp(&a.row))
        }),
        Merge::Min => from.into_iter().filter(|c| has_value(c, field)).min_by(|a, b| {
            compare(value(a, field), value(b, field)).then_with(|| a.row.cmp(&b.row))
        }),
        Merge::Latest => {
            // Of several rows of one table that speak of the same fact, the first one counts.
            from.sort_by(|a, b| {
                let table = |c: &Contribution| (rank(c), c.row.table.clone());
                table(a).cmp(&table(b)).then_with(|| by_pk(&a.row.pk, &b.row.pk))
            });
            from.dedup_by(|b, a| a.row.source == b.row.source && a.row.table == b.row.table);
            from.into_iter().min_by_key(|c| (rank(c), std::cmp::Reverse(c.at)))
        }
    }
}

/// Order of primary keys: numbers by value.
fn by_pk(a: &str, b: &str) -> Ordering {
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

fn value<'c>(contribution: &'c Contribution, field: &Name) -> &'c Value<'static> {
    contribution.fields.get(field).unwrap_or(&Value::Null)
}

pub(super) fn has_value(contribution: &Contribution, field: &Name) -> bool {
    contribution.fields.get(field).is_some_and(|v| !v.is_null())
}
