//! How long a state may last, by when it is expected, and how long a release may be held.
//!
//! A deadline belongs to a record and is due at a moment that follows from its evidence, its
//! fields and its holds. When it has passed, an exception is raised; when the reason is gone, the
//! exception is closed again. Nothing here asks for the time: it is looked at when the caller says
//! that it has come.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::{Deadline, ExceptionItem, Name, Record, RecordKey};
use crossdock_model::{Sorted, Value};
use crossdock_schema_registry::{EntityDef, FieldType};
use serde_json::json;
use uuid::Uuid;

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::judge::{Judge, Tx};
use crate::lifecycle::{Lifecycle, States, Verdict};
use crate::names::check_members;
use crate::problems::{Report, Spot, did_you_mean};
use crate::rules::Rules;
use crate::scope::{Scope, Var};
use crate::span;

/// Rule of a deadline at which evidence of the future is looked at again.
const EVIDENCE: &str = "evidence_due";

/// A limit in time on a state.
#[derive(Debug)]
pub(crate) struct Limit {
    /// The state.
    pub state: Name,
    /// What is limited.
    pub by: By,
    /// The exception that is raised.
    pub exception: Name,
    /// Team that looks after it.
    pub team: Name,
    /// Records that it is about, by their fields; `None` for all.
    pub when: Option<Expr>,
    /// An overlay says it: then it counts in place of what other files say of the state.
    pub overlay: bool,
    /// Where it stands.
    pub spot: Spot,
}

impl Limit {
    /// Whether both limit the same state in the same way.
    pub fn is_like(&self, other: &Limit) -> bool {
        let dwell = |limit: &Limit| matches!(limit.by, By::Dwell(_));
        self.state == other.state && dwell(self) == dwell(other)
    }

    /// The limit in words.
    pub fn words(&self) -> String {
        let by = match &self.by {
            By::Dwell(max) => format!("at most {}", span::words(*max)),
            By::Field(field, 0) => format!("by {field}"),
            By::Field(field, grace) => format!("by {field} and {}", span::words(*grace)),
        };
        let when = self.when.as_ref().map_or(String::new(), |when| format!(" when {}", when.text));
        format!("{by}{when}: {} ({})", self.exception, self.spot.name())
    }
}

/// What a limit is about.
#[derive(Debug)]
pub(crate) enum By {
    /// The state may last so many microseconds.
    Dwell(i64),
    /// The state must be reached by the time in a field, and so many microseconds.
    Field(Name, i64),
}

/// A deadline as it should be.
struct Wanted {
    id: Uuid,
    rule: Name,
    /// `None`: so long after the present, unless it is running already.
    due: Result<i64, i64>,
    then: Option<Then>,
}

/// What is raised when a deadline passes.
struct Then {
    exception: Name,
    team: Name,
    text: String,
    rule: Name,
}

/// Reads `[[lifecycle.*.dwell]]` and `[[lifecycle.*.expect]]`.
pub(crate) fn read(
    block: &Section<'_>,
    entity: &EntityDef,
    states: &States<'_>,
    report: &Report,
) -> Vec<Limit> {
    let condition = |block: &Section<'_>| {
        let item = block.get("when")?;
        let when = Expr::compile(item.text()?, item.spot(), &["rec"], report)?;
        check_members(&when, entity, &[], &BTreeMap::new(), report);
        Some(when)
    };
    let mut limits = Vec::new();
    for block in block.tables("dwell") {
        block.required("max");
        let by = block.get("max").and_then(|i| span::micros(&i)).map(By::Dwell);
        limits.extend(read_limit(&block, states, by, condition(&block)));
    }
    for block in block.tables("expect") {
        block.required("by");
        let grace = block.get("grace").and_then(|i| span::micros(&i)).unwrap_or(0);
        let field = block.get("by").and_then(|i| instant_field(&i, entity));
        let by = field.map(|f| By::Field(f, grace));
        limits.extend(read_limit(&block, states, by, condition(&block)));
    }
    limits
}

fn read_limit(
    block: &Section<'_>,
    states: &States<'_>,
    by: Option<By>,
    when: Option<Expr>,
) -> Option<Limit> {
    let state = block.required("state");
    if let (Some(state), Some(item)) = (state, block.get("state")) {
        states.check(&item, state);
    }
    let kind = block.required("exception");
    let kind = kind.map(|k| k.strip_prefix("exception:").unwrap_or(k));
    let team = block.text("owner_team").unwrap_or_default().into();
    block.done();
    let (state, exception) = (state?.into(), kind?.into());
    let overlay = false;
    Some(Limit { state, by: by?, exception, team, when, overlay, spot: block.spot() })
}

fn instant_field(item: &Item<'_>, entity: &EntityDef) -> Option<Name> {
    let field = item.text()?;
    match entity.field(field) {
        Some(FieldType::Instant) => Some(field.into()),
        Some(kind) => {
            item.problem(format!("{}.{field} is {kind}", entity.name), "name an instant");
            None
        }
        None => {
            let names = entity.fields.keys().map(|f| &**f);
            let what = format!("{} has no field `{field}`", entity.name);
            item.problem(what, did_you_mean(field, names));
            None
        }
    }
}

/// Entities whose records have deadlines.
pub(crate) fn timed_entities(rules: &Rules) -> BTreeSet<Name> {
    let limited = |l: &&Lifecycle| !l.limits.is_empty() || l.looks_at_the_clock();
    let lifecycles = rules.lifecycles.iter().filter(|(_, l)| limited(l)).map(|(e, _)| e);
    let releases = rules.telling.releases.iter();
    let held = releases.filter(|(_, all)| all.iter().any(|r| r.timeout.is_some()));
    lifecycles.chain(held.map(|(e, _)| e)).cloned().collect()
}

/// Whether a limit is about a record, and no overlay says otherwise of the same state. A condition
/// that cannot be evaluated counts as met: better a warning too many.
fn counts(limit: &Limit, lifecycle: &Lifecycle, record: &Record) -> bool {
    let rec = Var::Record { key: &record.key.key, fields: &record.fields, children: None };
    let scope = Scope::default().with("rec", rec);
    let holds = |l: &Limit| l.when.as_ref().is_none_or(|when| when.holds(&scope).unwrap_or(true));
    let over = |other: &Limit| other.overlay && other.is_like(limit) && holds(other);
    holds(limit) && (limit.overlay || !lifecycle.limits.iter().any(over))
}

impl Judge<'_> {
    /// Brings the deadlines of a record up to date. When `tx` is the clock, those that have passed
    /// raise their exceptions.
    pub(crate) fn deadlines(&mut self, tx: &Tx<'_>, key: &RecordKey) {
        let timed = self.rules.timed.contains(&key.entity);
        // Under other rules, or without a record, what was due is not due any more.
        if !timed && !tx.is_clock {
            return;
        }
        let Some(rec) = self.recs.get(key) else { return };
        let known = rec.deadlines.clone();
        let Some(record) = rec.record.clone() else {
            if !known.is_empty() {
                self.load_mut(key).deadlines = Sorted::new();
            }
            return;
        };
        let wanted = if record.deleted || !timed { Vec::new() } else { self.wanted(&record) };
        let mut now: Sorted<Uuid, Deadline> = Sorted::new();
        for item in &wanted {
            let running = known.get(&item.id);
            let due = match item.due {
                Ok(at) => at,
                Err(long) => match running {
                    Some(running) => running.due_micros,
                    None => tx.folded.header.commit_micros.saturating_add(long),
                },
            };
            let same = running.filter(|r| r.due_micros == due);
            let mut raised = same.is_some_and(|r| r.raised);
            if let Some(then) = &item.then {
                if running.is_some_and(|r| r.raised) && !raised {
                    self.overdue(&record, item.id, then, due, false);
                }
                if tx.is_clock && !raised && due <= self.now_micros {
                    self.overdue(&record, item.id, then, due, true);
                    raised = true;
                }
            }
            let rule = item.rule.clone();
            let record = key.clone();
            let deadline =
                Deadline { id: item.id, record, rule, due_micros: due, raised, gone: false };
            now.insert(item.id, deadline);
        }
        for over in known.values().filter(|k| k.raised && !now.contains_key(&k.id)) {
            let then = Then {
                exception: over.rule.clone(),
                team: "".into(),
                text: format!("{key} is not overdue any more."),
                rule: over.rule.clone(),
            };
            self.overdue(&record, over.id, &then, over.due_micros, false);
        }
        if known != now {
            self.load_mut(key).deadlines = now;
        }
    }

    /// The deadlines that a record should have.
    fn wanted(&self, record: &Record) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        let key = &record.key;
        let Some(rec) = self.recs.get(key) else { return wanted };
        if let Some(lifecycle) = self.rules.lifecycles.of(&key.entity) {
            let evidence = rec.evidence.values().map(|e| &**e);
            let verdict = lifecycle.judge(evidence, &key.key, &record.fields, self.now_micros);
            let limits = lifecycle.limits.iter();
            wanted.extend(limits.filter_map(|l| self.limit(record, lifecycle, &verdict, l)));
            if let Some(due) = verdict.next {
                let id = self.troubles.id(&["deadline", EVIDENCE, &key.key]);
                wanted.push(Wanted { id, rule: EVIDENCE.into(), due: Ok(due), then: None });
            }
        }
        let rules = self.rules.telling.releases.of(&key.entity);
        for rule in rules.into_iter().flatten() {
            let Some(timeout) = &rule.timeout else { continue };
            let held = rec.releases.values().filter(|r| r.rule == rule.name && !r.released);
            for release in held {
                let unmet: Vec<&str> = release.unmet.iter().map(|n| &**n).collect();
                let then = Then {
                    exception: timeout.exception.clone(),
                    team: rule.team.clone(),
                    text: format!(
                        "{} of {} has been held for {}; it waits for: {}.",
                        rule.name,
                        key.key,
                        span::words(timeout.micros),
                        unmet.join(", ")
                    ),
                    rule: rule.name.clone(),
                };
                wanted.push(Wanted {
                    id: self.troubles.id(&["deadline", &rule.name, &release.business_key]),
                    rule: rule.name.clone(),
                    due: Err(timeout.micros),
                    then: Some(then),
                });
            }
        }
        wanted
    }

    fn limit(
        &self,
        record: &Record,
        lifecycle: &Lifecycle,
        verdict: &Verdict,
        limit: &Limit,
    ) -> Option<Wanted> {
        let (state, _) = verdict.state.as_ref()?;
        let key = &record.key;
        if !counts(limit, lifecycle, record) {
            return None;
        }
        let (due, text) = match &limit.by {
            By::Dwell(max) => {
                let due = verdict.since.map_or(Err(*max), |since| Ok(since.saturating_add(*max)));
                let long = span::words(*max);
                let text = format!("{} has been {state} for more than {long}.", key.key);
                ((*state == limit.state).then_some(due)?, text)
            }
            By::Field(field, grace) => {
                let (at, wanted) = (lifecycle.rank(state)?, lifecycle.rank(&limit.state)?);
                let Some(Value::TimestampTz(by)) = record.fields.get(field) else { return None };
                let due = Ok(by.saturating_add(*grace));
                let text =
                    format!("{} is {state} and was expected {} by {field}.", key.key, limit.state);
                ((at < wanted).then_some(due)?, text)
            }
        };
        let (exception, team) = (limit.exception.clone(), limit.team.clone());
        let then = Some(Then { exception, team, text, rule: limit.spot.name() });
        let id = self.troubles.id(&["deadline", &limit.exception, &limit.state, &key.key]);
        Some(Wanted { id, rule: limit.exception.clone(), due, then })
    }

    fn overdue(&mut self, record: &Record, id: Uuid, then: &Then, due: i64, open: bool) {
        self.troubles.raise(ExceptionItem {
            id,
            kind: then.exception.clone(),
            record: Some(record.key.clone()),
            source: crate::ownership::COMPUTED.into(),
            rule: then.rule.clone(),
            team: then.team.clone(),
            text: then.text.clone(),
            context: json!({ "due_at": crossdock_model::time::instant_text(due) }),
            open,
        });
    }
}
