//! What is different about a record, for the store and for its history.

use std::sync::Arc;

use crossdock_model::canonical::{
    Contribution, Deadline, Evidence, Links, Name, Origin, Outcome, Record, RecordState,
};
use crossdock_model::value::write_json_text;
use crossdock_model::{Named, Value};
use serde_json::json;
use uuid::Uuid;

use crate::compute::{Change, Rec};
use crate::step::{Stated, Step};

/// Adds to an outcome what is different about a record. `withdraw` says whether evidence that is
/// not there any more is nowhere else either.
pub(crate) fn differences(
    old: &Rec,
    new: &Rec,
    withdraw: impl Fn(&Uuid) -> bool,
    out: &mut Outcome,
) {
    let said = say(old, new, out);
    for (id, evidence) in &old.evidence {
        if !new.evidence.contains_key(id) && withdraw(id) {
            let withdrawn = Evidence { withdrawn: true, ..Evidence::clone(evidence) };
            out.evidence.push(Arc::new(withdrawn));
        }
    }
    let kept = new.evidence.iter().filter(|(id, e)| changed(old.evidence.get(*id), e));
    out.evidence.extend(kept.map(|(_, e)| e.clone()));
    let kept = new.releases.iter().filter(|(k, r)| changed(old.releases.get(*k), r));
    out.releases.extend(kept.map(|(_, r)| r.clone()));
    for (id, deadline) in &old.deadlines {
        if !new.deadlines.contains_key(id) {
            out.deadlines.push(Deadline { gone: true, ..deadline.clone() });
        }
    }
    let kept = new.deadlines.iter().filter(|(id, d)| old.deadlines.get(*id) != Some(*d));
    out.deadlines.extend(kept.map(|(_, d)| d.clone()));
    let version = |r: &Option<Arc<Record>>| r.as_ref().map(|r| r.version);
    if version(&new.record) != version(&old.record) || said && !(old.apart && new.apart) {
        let put = if old.record.is_some() { &mut out.records } else { &mut out.new_records };
        put.extend(new.record.clone());
        keep_said(new, out);
        if let (Some(old), Some(new)) = (&old.record, &new.record)
            && old.links == new.links
        {
            out.same_links.insert(new.key.clone());
        }
    }
}

/// Adds what rows say differently; whether there is such.
fn say(old: &Rec, new: &Rec, out: &mut Outcome) -> bool {
    let before = (out.contributions.len(), out.new_contributions.len());
    for (row, contribution) in &old.contributions {
        if !new.contributions.contains_key(row) {
            let gone = Contribution { gone: true, ..Contribution::clone(contribution) };
            out.contributions.push(Arc::new(gone));
        }
    }
    // Where it stands from now on, the store has nothing yet.
    let moves = new.apart && !old.apart;
    for (row, contribution) in &new.contributions {
        let before = old.contributions.get(row);
        if moves || before.is_none() {
            out.new_contributions.push(contribution.clone());
        } else if changed(before, contribution) {
            out.contributions.push(contribution.clone());
        }
    }
    before != (out.contributions.len(), out.new_contributions.len())
}

/// A record that is put takes with it what rows say of it.
pub(crate) fn keep_said(rec: &Rec, out: &mut Outcome) {
    if let Some(record) = rec.record.as_ref().filter(|_| !rec.apart) {
        let said = rec.contributions.values().cloned().collect();
        out.said.insert(record.key.clone(), said);
    }
}

fn changed<T: PartialEq>(old: Option<&Arc<T>>, new: &Arc<T>) -> bool {
    old.is_none_or(|old| !Arc::ptr_eq(old, new) && old != new)
}

/// A record from what the store gave.
pub(crate) fn unpack(state: RecordState) -> Rec {
    let contributions = state.contributions.into_iter().filter(|c| !c.gone);
    let releases = state.releases.into_iter();
    Rec {
        record: state.record.map(Arc::new),
        apart: state.apart,
        contributions: contributions.map(|c| (c.row.clone(), Arc::new(c))).collect(),
        evidence: state.evidence.into_iter().map(|e| (e.id, Arc::new(e))).collect(),
        releases: releases
            .map(|r| ((r.rule.clone(), r.business_key.clone()), Arc::new(r)))
            .collect(),
        deadlines: state.deadlines.into_iter().map(|d| (d.id, d)).collect(),
        settled: false,
    }
}

/// Whether two states of a record mean something different, given the fields that differ.
pub(crate) fn differs(old: &Record, new: &Record, fields: &[Change<'_>]) -> bool {
    !fields.is_empty()
        || old.deleted != new.deleted
        || old.links != new.links
        || !infers_the_same(old, new)
}

/// Whether the same steps of lifecycles were reported by nobody.
pub(crate) fn infers_the_same(old: &Record, new: &Record) -> bool {
    inferred(old).eq(inferred(new))
}

/// Steps of lifecycles that nobody reported.
fn inferred(record: &Record) -> impl Iterator<Item = (&Name, &Vec<Name>)> {
    let steps = record.origins.iter().map(|(field, origin)| (field, &origin.inferred));
    steps.filter(|(_, inferred)| !inferred.is_empty())
}

/// `{field: [old, new]}` as text; links and deletion are told like fields, steps that nobody
/// reported as `FIELD.inferred`.
/// `plain` says that nothing but these fields is different.
pub(crate) fn changes(
    old: Option<&Record>,
    new: &Record,
    fields: &[Change<'_>],
    plain: bool,
) -> String {
    let mut out = Changes { text: String::with_capacity(64 * (fields.len() + 1)) };
    for (field, was, now) in fields {
        out.member(field, "", was, now, |value, text| value.write_json(text));
    }
    if plain {
        return out.end();
    }
    static NO_LINKS: Links = Links::new();
    let links = old.map_or(&NO_LINKS, |o| &o.links).beside(&new.links);
    for (name, before, after) in links {
        if before.map(|k| &k.key) != after.map(|k| &k.key) {
            out.member(name, "", &before, &after, |to, text| write_json_text(text, &to.key));
        }
    }
    static NO_ORIGINS: Named<Origin> = Named::new();
    let origins = old.map_or(&NO_ORIGINS, |o| &o.origins).beside(&new.origins);
    for (field, before, after) in origins {
        let steps = |o: Option<&'_ Origin>| o.is_some_and(|o| !o.inferred.is_empty());
        if steps(before) || steps(after) {
            let told = |o: Option<&Origin>| o.map(|o| o.inferred.clone()).filter(|s| !s.is_empty());
            let (before, after) = (told(before), told(after));
            if before != after {
                out.member(field, ".inferred", &before, &after, |steps, text| {
                    text.push_str(&json!(steps).to_string());
                });
            }
        }
    }
    if old.is_some_and(|o| o.deleted) != new.deleted {
        let flag = |value: &bool, text: &mut String| Value::Bool(*value).write_json(text);
        out.member("deleted", "", &Some(!new.deleted), &Some(new.deleted), flag);
    }
    out.end()
}

/// The text of a JSON object of pairs.
struct Changes {
    text: String,
}

impl Changes {
    fn member<T>(
        &mut self,
        name: &str,
        suffix: &str,
        old: &Option<T>,
        new: &Option<T>,
        write: impl Fn(&T, &mut String),
    ) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        match suffix {
            "" => write_json_text(&mut self.text, name),
            suffix => write_json_text(&mut self.text, &[name, suffix].concat()),
        }
        for (value, before) in [(old, ":["), (new, ",")] {
            self.text.push_str(before);
            match value {
                Some(value) => write(value, &mut self.text),
                None => self.text.push_str("null"),
            }
        }
        self.text.push(']');
    }

    fn end(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "{}" } else { "}" });
        self.text
    }
}

/// Evidence as a row states it.
pub(crate) fn evidence(stated: &Stated, step: &Step, commit_micros: i64) -> Evidence {
    let fact = &stated.fact;
    let commit_micros = step.committed.unwrap_or(commit_micros);
    Evidence {
        id: stated.id,
        record: fact.record.clone(),
        kind: fact.kind.clone(),
        event_micros: fact.event_micros.unwrap_or(commit_micros),
        recorded_micros: commit_micros,
        row: step.row.clone(),
        authority: stated.authority,
        at: step.at,
        withdrawn: false,
        data: fact.data.clone(),
    }
}

/// The same fact said again keeps its first place; a correction by a later image replaces it.
/// `timed` says that the event time comes from the row and not from the commit.
pub(crate) fn merge_evidence(
    old: Option<Arc<Evidence>>,
    new: Evidence,
    timed: bool,
) -> Arc<Evidence> {
    let Some(old) = old else { return Arc::new(new) };
    let same = !old.withdrawn
        && old.kind == new.kind
        && old.data == new.data
        && old.authority == new.authority
        && (!timed || old.event_micros == new.event_micros);
    let replaces = if same { new.at < old.at } else { new.at >= old.at };
    if replaces { Arc::new(new) } else { old }
}
