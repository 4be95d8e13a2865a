//! What can be said of rules beyond each being right: doubts about how they work together.
//!
//! Problems stop a start; doubts do not. A rule set in doubt does what its files say, and that is
//! perhaps not what they mean.

use std::collections::BTreeSet;

use crossdock_model::Named;
use crossdock_model::Problem;
use crossdock_model::canonical::Name;

use crate::check::revertible;
use crate::evidence::Normalise;
use crate::expr::Expr;
use crate::mapping::{FieldMap, Term};
use crate::names::linked_entities;
use crate::ownership::{Choice, FieldRule, OnViolation};
use crate::problems::Report;
use crate::rules::Rules;

impl Rules {
    /// Doubts about rules that can be loaded: conditions of owners that may hold together, values
    /// that two systems would write back to each other for ever, states that nothing leads to,
    /// conditions of releases about which nobody will ever say anything. Sorted by file and line.
    pub fn doubts(&self) -> Vec<Problem> {
        let report = Report::default();
        let prover = Prover { rules: self, report: &report };
        prover.overlaps();
        prover.ping_pong();
        prover.unreachable();
        prover.silent_inputs();
        prover.unknown_states();
        report.into_problems()
    }
}

struct Prover<'p> {
    rules: &'p Rules,
    report: &'p Report,
}

impl Prover<'_> {
    /// Conditional owners of which more than one condition can hold: the first counts.
    fn overlaps(&self) {
        for (entity, rule) in &self.rules.ownership {
            for (field, rule) in &rule.fields {
                let conditional: Vec<&Choice> = rule.iter().filter(|c| c.when.is_some()).collect();
                for (at, one) in conditional.iter().enumerate() {
                    for other in conditional.iter().take(at).filter(|o| o.owner != one.owner) {
                        self.overlap(entity, field, other, one);
                    }
                }
            }
        }
    }

    fn overlap(&self, entity: &Name, field: &Name, first: &Choice, second: &Choice) {
        if apart(first, second) {
            return;
        }
        let what = format!(
            "{entity}.{field} has two owners when both conditions hold: {} at {}, and {} here; \
             the first counts",
            first.owner, first.rule, second.owner
        );
        let remedy = "make the conditions exclude each other, like rec.site == \"EU\" and \
                      rec.site == \"US\"";
        self.report.at(&second.spot, what, remedy);
    }

    /// A field that is written back to a source although the owner is told by that source's column
    /// through a rule of its own: each would undo the other.
    fn ping_pong(&self) {
        let writes = self.rules.writes();
        for mapping in self.rules.mappings.values().flatten() {
            let Some(owners) = self.rules.ownership.of(&mapping.entity) else { continue };
            for field in &mapping.fields {
                let Some(choice) = reverting(owners.of(&field.name), &mapping.source) else {
                    continue;
                };
                let Some(column) = plain_column(field) else { continue };
                let writer = writes.iter().find(|w| {
                    w.target == mapping.source
                        && w.table.to_string() == *mapping.table
                        && w.columns.contains(column)
                });
                if writer.is_some() {
                    let what = format!(
                        "{} is written back to {} (rule {}), and a subscription or release writes \
                         the same column of {}: they could undo each other for ever",
                        field.name, mapping.source, choice.rule, mapping.table
                    );
                    let remedy = "let one of the two write it: on_violation = \"quarantine\", or \
                                  take the column out of the other rule";
                    self.report.at(&field.spot, what, remedy);
                }
            }
        }
    }

    /// States that no evidence leads to.
    fn unreachable(&self) {
        let emitted = self.emitted();
        for (entity, lifecycle) in &self.rules.lifecycles {
            let mut never = Vec::new();
            for state in lifecycle.order.iter().chain(&lifecycle.side) {
                let said = lifecycle.kinds_of(state).any(|kind| emitted.contains(kind));
                if !said && *state != lifecycle.initial {
                    never.push(&**state);
                }
            }
            if !never.is_empty() {
                let what =
                    format!("no rule says anything that leads {entity} to: {}", never.join(", "));
                let remedy = "add a [[normalise]] block that emits it, or remove the state";
                self.report.at(&lifecycle.spot, what, remedy);
            }
        }
    }

    /// Kinds of evidence that rules may emit.
    fn emitted(&self) -> BTreeSet<Name> {
        let kinds = |rule: &Normalise| -> Vec<Name> {
            match &rule.codes {
                Some((table, _)) => {
                    table.values().map(|word| rule.emit.replace('*', word).into()).collect()
                }
                None => vec![rule.emit.clone()],
            }
        };
        self.rules.evidence.values().flatten().flat_map(kinds).collect()
    }

    /// Fields that conditions of releases read and that nobody says or computes.
    fn silent_inputs(&self) {
        let said = self.said();
        for (entity, releases) in &self.rules.telling.releases {
            let links = linked_entities(entity, &self.rules.links, &self.rules.entities);
            for release in releases {
                let exprs = release.when.iter().map(|(name, expr)| (name, expr));
                for (name, (root, field)) in
                    exprs.flat_map(|(n, e)| e.members.iter().map(move |m| (n, m)))
                {
                    let of = match root.as_str() {
                        "rec" => entity,
                        link => match links.get(link) {
                            Some(def) => &def.name,
                            None => continue,
                        },
                    };
                    let known = said.get(of).is_some_and(|f| f.contains(field.as_str()));
                    if !known && field != "key" {
                        let what = format!(
                            "{} waits for `{name}`, and nothing ever says {of}.{field}",
                            release.name
                        );
                        let remedy = format!("map {field} in a mapping file, or compute it");
                        self.report.at(&release.spot, what, remedy);
                    }
                }
            }
        }
    }

    /// Expressions that list states and do not know one that an overlay has put between them.
    fn unknown_states(&self) {
        let telling = &self.rules.telling;
        let computed = telling.projections.values().flatten().map(|p| &p.value);
        let subscriptions = telling.subscriptions.values().flatten().flat_map(|s| s.exprs());
        let releases = telling.releases.values().flatten().flat_map(|r| r.exprs());
        let exprs: Vec<&Expr> = computed.chain(subscriptions).chain(releases).collect();
        for lifecycle in self.rules.lifecycles.values() {
            for addition in &lifecycle.additions {
                for state in &addition.states {
                    let before = lifecycle
                        .rank(state)
                        .and_then(|at| lifecycle.order.get(at.checked_sub(1)?));
                    let Some(before) = before else { continue };
                    let names =
                        |expr: &Expr, state: &str| expr.text.contains(&format!("\"{state}\""));
                    for expr in exprs.iter().filter(|e| names(e, before) && !names(e, state)) {
                        let what = format!(
                            "`{before}` is named here, and not `{state}`, which region {} puts \
                             behind it",
                            addition.region
                        );
                        let remedy = format!("name `{state}`, too, unless it means something else");
                        self.report.at(&expr.spot, what, remedy);
                    }
                }
            }
        }
    }

    /// Fields that mappings say or rules compute, by entity.
    fn said(&self) -> Named<BTreeSet<Name>> {
        let mut said = self.rules.computed.clone();
        for mapping in self.rules.mappings.values().flatten() {
            let fields = mapping.fields.iter().map(|f| f.name.clone());
            said.or_default(mapping.entity.clone()).extend(fields);
        }
        said
    }
}

/// The rule by which a source that does not own a field gets the owner's value back.
fn reverting<'c>(rule: Option<&'c FieldRule>, source: &Name) -> Option<&'c Choice> {
    let reverts = |c: &&Choice| c.on_violation == OnViolation::Revert && !c.owned_by(source);
    rule.into_iter().flatten().find(reverts)
}

fn plain_column(field: &FieldMap) -> Option<&Name> {
    match &field.term {
        Term::Path(path) if revertible(field) => Some(&path.column),
        _ => None,
    }
}

/// Whether two conditions plainly exclude each other: both compare one field with another text.
fn apart(first: &Choice, second: &Choice) -> bool {
    let tests = |c: &Choice| c.when.as_ref().map(|w| w.equalities()).unwrap_or_default();
    let (one, two) = (tests(first), tests(second));
    one.iter().any(|(path, text)| two.iter().any(|(p, t)| p == path && t != text))
}
