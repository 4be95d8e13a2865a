//! What a commit writes: one statement for each table, each taking arrays. Pure functions from
//! an outcome to statements and parameters; nothing here talks to a database.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{
    Contribution, Deadline, Delivery, Evidence, ExceptionItem, HistoryEntry, Outcome, Record,
    RecordKey, Release, RowKey, RowWrite, SourceRow,
};

use super::encoding::{Micros, encode_fields, text};
use super::json_text::{fields_json, json, json_of, json_text, json_unless, origins_json};
use super::{Progress, guards, said, sql};
use crate::pipeline::Param;

/// A statement with its parameters.
pub(crate) type Write<'a> = (&'static str, Vec<Param<'a>>);

/// Everything of a commit, in the order in which it must run.
pub(crate) fn all<'a>(
    outcome: &'a Outcome,
    progress: &'a [Progress],
    ruleset: &'a str,
) -> Vec<Write<'a>> {
    let mut out = Vec::new();
    new_rows(&mut out, &outcome.new_rows.iter().map(|row| &**row).collect::<Vec<_>>());
    known_rows(&mut out, outcome);
    contributions(&mut out, outcome);
    records(&mut out, outcome);
    evidence(&mut out, &last_shared(&outcome.evidence, |e| e.id));
    history(&mut out, &outcome.history, ruleset);
    exceptions(&mut out, &outcome.exceptions, progress);
    releases(&mut out, &last_shared(&outcome.releases, |r| (&r.rule, &r.business_key)));
    deadlines(&mut out, &last_of(&outcome.deadlines, |d| d.id));
    deliveries(&mut out, &last_of(&outcome.deliveries, |d| d.event_id));
    guards::put(&mut out, &outcome.guards);
    progressed(&mut out, &last_of(progress, |p| &p.source));
    out
}

/// The last item of each key, in the order in which the keys first appear: a statement must not
/// touch a row twice.
fn last_of<'a, T, K: Hash + Eq>(
    items: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
) -> Vec<&'a T> {
    let items = items.into_iter();
    let mut places: HashMap<K, usize> = HashMap::with_capacity(items.size_hint().0);
    let mut kept: Vec<&T> = Vec::with_capacity(items.size_hint().0);
    for item in items {
        match places.get(&key(item)) {
            Some(&at) => kept[at] = item,
            None => {
                places.insert(key(item), kept.len());
                kept.push(item);
            }
        }
    }
    kept
}

/// The same for items that are shared.
fn last_shared<'a, T, K: Hash + Eq>(items: &'a [Arc<T>], key: impl Fn(&'a T) -> K) -> Vec<&'a T> {
    last_of(items.iter().map(|item| &**item), key)
}

fn column<'a, T, V>(items: &[T], value: impl Fn(&T) -> V) -> Param<'a>
where
    Vec<V>: tokio_postgres::types::ToSql + Sync + Send + 'a,
{
    Box::new(items.iter().map(value).collect::<Vec<V>>())
}

fn texts<'a, T: Copy>(items: &[T], value: impl Fn(T) -> &'a str) -> Param<'a> {
    Box::new(items.iter().map(|item| text(value(*item))).collect::<Vec<Cow<'a, str>>>())
}

fn row_columns<'a, T: Copy>(items: &[T], row: impl Fn(T) -> &'a RowKey) -> [Param<'a>; 3] {
    [
        texts(items, |i| &row(i).source),
        texts(items, |i| &row(i).table),
        texts(items, |i| &row(i).pk),
    ]
}

fn record_columns<'a, T: Copy>(items: &[T], key: impl Fn(T) -> &'a RecordKey) -> [Param<'a>; 2] {
    [texts(items, |i| &key(i).entity), texts(items, |i| &key(i).key)]
}

fn row_params<'a>(rows: &[&'a SourceRow]) -> Vec<Param<'a>> {
    let mut params: Vec<Param<'a>> = row_columns(rows, |r| &r.key).into();
    params.push(column(rows, |r| encode_fields(&r.image)));
    params.push(column(rows, |r| r.at.to_sortable()));
    params.push(column(rows, |r| r.deleted));
    params.push(column(rows, |r| json_unless(r.waiting_for.is_empty(), &r.waiting_for)));
    params.push(column(rows, |r| json_unless(r.refers_to.is_empty(), &r.refers_to)));
    params
}

/// Each row with each row that it refers to.
fn references<'a>(rows: &[&'a SourceRow]) -> Vec<(&'a RowKey, &'a RowKey)> {
    rows.iter().flat_map(|r| r.refers_to.iter().map(move |on| (&r.key, on))).collect()
}

fn reference_params<'a>(references: &[(&'a RowKey, &'a RowKey)]) -> Vec<Param<'a>> {
    let mut params: Vec<Param<'a>> = row_columns(references, |p| p.0).into();
    params.extend(row_columns(references, |p| p.1));
    params
}

fn new_rows<'a>(out: &mut Vec<Write<'a>>, rows: &[&'a SourceRow]) {
    if rows.is_empty() {
        return;
    }
    out.push((sql::ADD_ROWS, row_params(rows)));
    let references = references(rows);
    if !references.is_empty() {
        out.push((sql::PUT_REFERENCES, reference_params(&references)));
    }
}

/// Most changes of a row leave what it refers to as it is: nobody looks for that then.
fn known_rows<'a>(out: &mut Vec<Write<'a>>, outcome: &'a Outcome) {
    let mut rows = last_shared(&outcome.rows, |r| &r.key);
    if rows.is_empty() {
        return;
    }
    out.push((sql::PUT_ROWS, row_params(&rows)));
    rows.retain(|r| !outcome.same_references.contains(&r.key));
    if rows.is_empty() {
        return;
    }
    let references = references(&rows);
    let mut params: Vec<Param<'a>> = row_columns(&rows, |r| &r.key).into();
    params.extend(reference_params(&references));
    out.push((sql::DROP_REFERENCES, params));
    if !references.is_empty() {
        out.push((sql::PUT_REFERENCES, reference_params(&references)));
    }
}

/// What stands apart from its record.
fn contributions<'a>(out: &mut Vec<Write<'a>>, outcome: &'a Outcome) {
    let apart = |of: &'a [Arc<Contribution>]| {
        let all = of.iter().map(|contribution| &**contribution);
        all.filter(|contribution| !outcome.said.contains_key(&contribution.record))
    };
    let new: Vec<&Contribution> = apart(&outcome.new_contributions).collect();
    if !new.is_empty() {
        out.push((sql::ADD_CONTRIBUTIONS, contribution_params(&new)));
    }
    let all = last_of(apart(&outcome.contributions), |c| (&c.record, &c.row));
    let (gone, put): (Vec<&Contribution>, Vec<&Contribution>) = all.iter().partition(|c| c.gone);
    if !gone.is_empty() {
        let mut params: Vec<Param<'a>> = record_columns(&gone, |c| &c.record).into();
        params.extend(row_columns(&gone, |c| &c.row));
        out.push((sql::DROP_CONTRIBUTIONS, params));
    }
    if !put.is_empty() {
        out.push((sql::PUT_CONTRIBUTIONS, contribution_params(&put)));
    }
}

fn contribution_params<'a>(all: &[&'a Contribution]) -> Vec<Param<'a>> {
    let mut params: Vec<Param<'a>> = record_columns(all, |c| &c.record).into();
    params.extend(row_columns(all, |c| &c.row));
    params.push(column(all, |c| encode_fields(&c.fields)));
    params.push(column(all, |c| json_unless(c.links.is_empty(), &*c.links)));
    params.push(column(all, |c| c.at.to_sortable()));
    params
}

fn records<'a>(out: &mut Vec<Write<'a>>, outcome: &'a Outcome) {
    let new: Vec<&Record> = outcome.new_records.iter().map(|r| &**r).collect();
    let mut known = last_shared(&outcome.records, |r| &r.key);
    if !new.is_empty() {
        out.push((sql::ADD_RECORDS, record_params(&new, outcome)));
    }
    if !known.is_empty() {
        out.push((sql::PUT_RECORDS, record_params(&known, outcome)));
        known.retain(|r| !outcome.same_links.contains(&r.key));
    }
    if !known.is_empty() {
        let mut params: Vec<Param<'a>> = record_columns(&known, |r| &r.key).into();
        params.push(column(&known, |r| {
            let names: Vec<&str> = r.links.keys().map(|name| &**name).collect();
            text(&names.join("\u{1f}")).into_owned()
        }));
        out.push((sql::DROP_LINKS, params));
    }
    let links: Vec<(&RecordKey, &str, &RecordKey)> = new
        .iter()
        .chain(&known)
        .flat_map(|r| r.links.iter().map(move |(name, to)| (&r.key, &**name, to)))
        .collect();
    if !links.is_empty() {
        let mut params: Vec<Param<'a>> = record_columns(&links, |l| l.0).into();
        params.push(texts(&links, |l| l.1));
        params.extend(record_columns(&links, |l| l.2));
        out.push((sql::PUT_LINKS, params));
    }
}

fn record_params<'a>(records: &[&'a Record], outcome: &Outcome) -> Vec<Param<'a>> {
    let mut params: Vec<Param<'a>> = record_columns(records, |r| &r.key).into();
    params.push(column(records, |r| number(r.version)));
    params.push(column(records, |r| r.deleted));
    params.push(column(records, |r| fields_json(&r.fields)));
    params.push(column(records, |r| origins_json(&r.origins)));
    params.push(column(records, |r| json_unless(r.links.is_empty(), &r.links)));
    params.push(column(records, |r| outcome.said.get(&r.key).map(|said| said::encode(said))));
    params
}

fn evidence<'a>(out: &mut Vec<Write<'a>>, evidence: &[&'a Evidence]) {
    if evidence.is_empty() {
        return;
    }
    let mut params: Vec<Param<'a>> = vec![column(evidence, |e| e.id)];
    params.extend(record_columns(evidence, |e| &e.record));
    params.push(texts(evidence, |e| &e.kind));
    params.push(column(evidence, |e| Micros(e.event_micros)));
    params.push(column(evidence, |e| Micros(e.recorded_micros)));
    params.extend(row_columns(evidence, |e| &e.row));
    params.push(column(evidence, |e| e.authority));
    params.push(column(evidence, |e| e.at.to_sortable()));
    params.push(column(evidence, |e| e.withdrawn));
    params.push(column(evidence, |e| json(&e.data)));
    out.push((sql::PUT_EVIDENCE, params));
}

fn history<'a>(out: &mut Vec<Write<'a>>, history: &'a [HistoryEntry], ruleset: &'a str) {
    if history.is_empty() {
        return;
    }
    let history: Vec<&HistoryEntry> = history.iter().collect();
    let mut params: Vec<Param<'a>> = record_columns(&history, |h| &h.record).into();
    params.push(column(&history, |h| number(h.version)));
    params.push(texts(&history, |h| &h.source));
    params.push(texts(&history, |h| &h.transaction));
    params.push(texts(&history, |h| &h.position));
    params.push(column(&history, |h| Micros(h.commit_micros)));
    params.push(column(&history, |h| json_text(&h.changes)));
    params.push(Box::new(ruleset));
    out.push((sql::ADD_HISTORY, params));
}

/// Occurrences of one exception within an outcome are one row with their number; one that is only
/// closed needs no row of its own.
fn exceptions<'a>(out: &mut Vec<Write<'a>>, items: &'a [ExceptionItem], progress: &'a [Progress]) {
    let mut times: HashMap<uuid::Uuid, i64> = HashMap::new();
    for item in items {
        *times.entry(item.id).or_default() += i64::from(item.open);
    }
    let last = last_of(items, |i| i.id);
    let times_of = |i: &ExceptionItem| times.get(&i.id).copied().unwrap_or(0);
    let (raised, closed): (Vec<&ExceptionItem>, Vec<&ExceptionItem>) =
        last.iter().partition(|i| times_of(i) > 0);
    if !closed.is_empty() {
        out.push((sql::CLOSE_EXCEPTIONS, vec![column(&closed, |i| i.id)]));
    }
    if raised.is_empty() {
        return;
    }
    let optional = |of: fn(&RecordKey) -> &str| -> Param<'a> {
        let texts: Vec<Option<Cow<'a, str>>> =
            raised.iter().map(|i| i.record.as_ref().map(|r| text(of(r)))).collect();
        Box::new(texts)
    };
    let params: Vec<Param<'a>> = vec![
        column(&raised, |i| i.id),
        texts(&raised, |i| &i.kind),
        optional(|r| &r.entity),
        optional(|r| &r.key),
        texts(&raised, |i| &i.source),
        texts(&raised, |i| &i.rule),
        texts(&raised, |i| &i.team),
        texts(&raised, |i| &i.text),
        column(&raised, |i| json(&i.context)),
        column(&raised, |i| times_of(i)),
        column(&raised, |i| i.open),
        texts(&progress.iter().collect::<Vec<_>>(), |p| &p.source),
        column(progress, |p| number(p.seq)),
    ];
    out.push((sql::RAISE_EXCEPTIONS, params));
}

fn releases<'a>(out: &mut Vec<Write<'a>>, releases: &[&'a Release]) {
    if releases.is_empty() {
        return;
    }
    let keys = |of: &[&'a Release]| -> Vec<Param<'a>> {
        vec![texts(of, |r| &r.rule), texts(of, |r| &r.business_key)]
    };
    let mut params = keys(releases);
    params.extend(record_columns(releases, |r| &r.record));
    params.push(column(releases, |r| json_of(&r.unmet)));
    params.push(column(releases, |r| json_of(&r.depends)));
    params.push(column(releases, |r| r.released));
    out.push((sql::PUT_RELEASES, params));
    out.push((sql::DROP_DEPENDS, keys(releases)));
    let depends: Vec<(&Release, &RecordKey)> =
        releases.iter().flat_map(|r| r.depends.iter().map(move |d| (*r, d))).collect();
    if !depends.is_empty() {
        let mut params: Vec<Param<'a>> =
            vec![texts(&depends, |d| &d.0.rule), texts(&depends, |d| &d.0.business_key)];
        params.extend(record_columns(&depends, |d| d.1));
        out.push((sql::PUT_DEPENDS, params));
    }
}

fn deadlines<'a>(out: &mut Vec<Write<'a>>, all: &[&'a Deadline]) {
    let (gone, put): (Vec<&Deadline>, Vec<&Deadline>) = all.iter().partition(|d| d.gone);
    if !gone.is_empty() {
        out.push((sql::DROP_DEADLINES, vec![column(&gone, |d| d.id)]));
    }
    if put.is_empty() {
        return;
    }
    let mut params: Vec<Param<'a>> = vec![column(&put, |d| d.id)];
    params.extend(record_columns(&put, |d| &d.record));
    params.push(texts(&put, |d| &d.rule));
    params.push(column(&put, |d| Micros(d.due_micros)));
    params.push(column(&put, |d| d.raised));
    out.push((sql::PUT_DEADLINES, params));
}

fn deliveries<'a>(out: &mut Vec<Write<'a>>, deliveries: &[&'a Delivery]) {
    if deliveries.is_empty() {
        return;
    }
    let mut params: Vec<Param<'a>> =
        vec![column(deliveries, |d| d.event_id), texts(deliveries, |d| &d.target)];
    params.push(texts(deliveries, |d| &d.rule));
    params.extend(record_columns(deliveries, |d| &d.record));
    params.push(column(deliveries, |d| writes_json(&d.writes)));
    params.push(column(deliveries, |d| d.reverts.as_ref().map(|f| text(f).into_owned())));
    params.push(column(deliveries, |d| i16::from(d.hops)));
    out.push((sql::OWE_DELIVERIES, params));
}

/// JSON knows no NaN and no infinity: such floats travel as decimals, which do.
fn writes_json(writes: &[RowWrite]) -> String {
    let odd = |value: &Value<'_>| match value {
        Value::Float(v) => !v.is_finite(),
        Value::Float32(v) => !v.is_finite(),
        _ => false,
    };
    if !writes.iter().flat_map(|w| w.key.iter().chain(&w.columns)).any(|(_, v)| odd(v)) {
        return json_of(&writes);
    }
    let mut writes = writes.to_vec();
    for (_, value) in writes.iter_mut().flat_map(|w| w.key.iter_mut().chain(&mut w.columns)) {
        let name = match value {
            Value::Float(v) if !v.is_finite() => float_name(*v),
            Value::Float32(v) if !v.is_finite() => float_name(f64::from(*v)),
            _ => continue,
        };
        *value = Value::Decimal(name.into());
    }
    json_of(&writes)
}

fn float_name(value: f64) -> &'static str {
    match value {
        v if v.is_nan() => "NaN",
        v if v > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn progressed<'a>(out: &mut Vec<Write<'a>>, progress: &[&'a Progress]) {
    if progress.is_empty() {
        return;
    }
    let params: Vec<Param<'a>> = vec![
        texts(progress, |p| &p.source),
        column(progress, |p| number(p.seq)),
        texts(progress, |p| &p.position),
        column(progress, |p| Micros(p.commit_micros)),
    ];
    out.push((sql::PUT_PROGRESS, params));
}

/// PostgreSQL has no unsigned integers; counters never come near the limit.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads a counter back.
pub(crate) fn counter(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
