//! `[[quarantine]]`: what is said about a record and is not believed until a person has looked.
//!
//! What a row says is kept in any case. While it fits a rule, the fields that it would decide keep
//! the values that they have (`scope = "row"`), or the whole record stays as it is (`"key"`). The
//! next thing that the row says ends it: nothing has to be repeated. Whether a row is believed
//! depends on what it says and on nothing else, so that replays come to the same end.

use crossdock_model::Named;
use crossdock_model::canonical::{Contribution, ExceptionItem, Fields, Name, RecordKey, RowKey};
use crossdock_schema_registry::Entities;
use serde_json::json;

use crate::document::Section;
use crate::expr::Expr;
use crate::guard::{self, RateGuard};
use crate::judge::{Judge, Tx};
use crate::names::check_members_of;
use crate::problems::{Report, Spot, did_you_mean};
use crate::scope::{Scope, Var};
use crate::step::Step;

/// How much one row in quarantine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The fields that the row would decide.
    Row,
    /// The record.
    Key,
}

/// One `[[quarantine]]` block.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// Name.
    pub name: Name,
    /// What is not believed: over `after`, the fields that a row says, and `source`.
    when: Expr,
    /// How much is stopped.
    pub reach: Reach,
    /// The exception that is raised.
    exception: Name,
    team: Name,
    /// Where it stands.
    pub spot: Spot,
}

/// Quarantine rules by entity.
pub(crate) type Quarantines = Named<Vec<Quarantine>>;

impl Quarantine {
    /// Whether what a row says about a record is not believed. A rule is about the rows that say
    /// something of every field that it names.
    ///
    /// # Errors
    /// What is wrong with the condition; then it is not believed either.
    pub fn holds(&self, key: &str, source: &str, fields: &Fields) -> Result<bool, String> {
        let mut named = self.when.members.iter().filter(|(root, _)| root == "after");
        if named.any(|(_, field)| field != "key" && !fields.contains_key(field.as_str())) {
            return Ok(false);
        }
        let after = Var::Record { key, fields, children: None };
        self.when.holds(&Scope::default().with("after", after).with("source", Var::Text(source)))
    }

    /// Whether it stops a contribution; an error stops it, too.
    pub fn stops(&self, contribution: &Contribution) -> bool {
        let (key, source) = (&contribution.record.key, &contribution.row.source);
        self.holds(key, source, &contribution.fields).unwrap_or(true)
    }
}

/// Reads the `[[quarantine]]` blocks of a rule file.
pub(crate) fn read(
    root: &Section<'_>,
    entities: &Entities,
    sources: &[Name],
    report: &Report,
    into: &mut (Quarantines, Vec<RateGuard>),
) {
    for block in root.tables("quarantine") {
        if block.get("rate").is_some() {
            into.1.extend(guard::read(&block, entities, sources, report));
        } else if let Some((entity, rule)) = read_block(&block, entities, report) {
            let rules = into.0.or_default(entity);
            if let Some(earlier) = rules.iter().find(|r| r.name == rule.name) {
                let what = format!("`{}` is defined at {}, too", rule.name, earlier.spot.name());
                report.at(&rule.spot, what, "rules have one name each: rename one");
            }
            rules.push(rule);
        }
    }
}

fn read_block(
    block: &Section<'_>,
    entities: &Entities,
    report: &Report,
) -> Option<(Name, Quarantine)> {
    let name = block.required("name");
    let on = block.required("on")?;
    let exception = block.required("exception");
    block.required("when");
    let reach = match block.required("scope") {
        Some("row") => Some(Reach::Row),
        Some("key") => Some(Reach::Key),
        Some(other) => {
            let what = format!("`scope` cannot be `{other}`");
            report.at(&block.spot(), what, "row: what the row says; key: the whole record");
            None
        }
        None => None,
    };
    let team = block.text("owner_team").unwrap_or_default().into();
    let Some(entity) = entities.entity(on) else {
        let remedy = did_you_mean(on, entities.iter().map(|e| &*e.name));
        block.get("on")?.problem(format!("there is no entity `{on}`"), remedy);
        return None;
    };
    let item = block.get("when")?;
    let when = Expr::compile(item.text()?, item.spot(), &["after", "source"], report)?;
    check_members_of("after", &when, entity, report);
    block.done();
    let (spot, exception) = (block.spot(), exception?.into());
    let rule = Quarantine { name: name?.into(), when, reach: reach?, exception, team, spot };
    Some((entity.name.clone(), rule))
}

impl Judge<'_> {
    /// Raises what has gone into quarantine with a step, and closes what has come out of it.
    pub(crate) fn quarantines(&mut self, tx: &Tx<'_>, step: &Step) {
        let rules = self.rules;
        for said in step.said() {
            for rule in rules.quarantines.of(&said.record.entity).into_iter().flatten() {
                let source = &step.row.source;
                match rule.holds(&said.record.key, source, &said.fields) {
                    Ok(held) => {
                        // As a rule the row was in order before: there is nothing to close.
                        let earlier = step.before().iter().find(|b| b.record == said.record);
                        let was = earlier.map(|b| rule.holds(&b.record.key, source, &b.fields));
                        if held || was != Some(Ok(false)) {
                            self.quarantined(tx, rule, &said.record, &step.row, held);
                        }
                    }
                    Err(what) => {
                        self.troubles.of_rule(&said.record, &rule.name, &what, &rule.team);
                    }
                }
            }
        }
        for record in &step.left {
            for rule in rules.quarantines.of(&record.entity).into_iter().flatten() {
                self.quarantined(tx, rule, record, &step.row, false);
            }
        }
    }

    fn quarantined(
        &mut self,
        tx: &Tx<'_>,
        rule: &Quarantine,
        record: &RecordKey,
        row: &RowKey,
        open: bool,
    ) {
        let what = match rule.reach {
            Reach::Row => "what it says is not taken",
            Reach::Key => "nothing about it is taken",
        };
        let id = ["quarantine", &rule.name, &record.key, &row.source, &row.table, &row.pk];
        self.troubles.raise(ExceptionItem {
            id: self.troubles.id(&id),
            kind: rule.exception.clone(),
            record: Some(record.clone()),
            source: row.source.clone(),
            rule: rule.name.clone(),
            team: rule.team.clone(),
            text: format!(
                "{} of {} speaks of {} and fits the rule {}; {what} until it says otherwise.",
                row.table, row.source, record.key, rule.name
            ),
            context: json!({
                "table": &*row.table,
                "row": row.pk.replace('\u{1f}', ","),
                "transaction": tx.folded.header.id,
                "position": &*tx.place,
            }),
            open,
        });
    }
}
