//! What targets are told: computed fields, subscriptions and release rules, as written.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::Named;
use crossdock_model::canonical::Name;
use crossdock_model::names::shared;
use crossdock_schema_registry::{Entities, EntityDef, FieldType};

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::lanes::Kind;
use crate::names::{Links, check_members, child_lists, linked_entities};
use crate::problems::{Report, Spot, did_you_mean};
use crate::ruleset::{Replace, Rulesets};
use crate::span;
use crate::writing::{Inboxes, Writing};

/// One `[[project]]` block.
#[derive(Debug)]
pub(crate) struct Projection {
    /// Where it stands.
    pub spot: Spot,
    /// The same as a name.
    pub rule: Name,
    /// Field that it computes.
    pub field: Name,
    /// Its type.
    pub kind: FieldType,
    /// How.
    pub value: Expr,
    /// Entities whose records it reads as lists, by list name.
    pub children: BTreeMap<Name, Name>,
}

/// One `[[subscribe]]` block.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Name.
    pub name: Name,
    /// Fields whose change is told.
    pub fields: Vec<Name>,
    /// Links that its expressions read.
    pub links: Vec<Name>,
    /// Only records for which this holds are told.
    pub when: Option<Expr>,
    /// Whether records created by a snapshot are told.
    pub snapshot: bool,
    /// What is written.
    pub write: Writing,
    /// What kind of delivery it owes.
    pub kind: Kind,
    /// Where it stands.
    pub spot: Spot,
}

/// One `[[release]]` block.
#[derive(Debug)]
pub(crate) struct ReleaseRule {
    /// Name.
    pub name: Name,
    /// Fields that form the business key.
    pub dedupe: Vec<Name>,
    /// Links that its expressions read.
    pub links: Vec<Name>,
    /// Conditions and their names.
    pub when: Vec<(Name, Expr)>,
    /// Team that looks after it.
    pub team: Name,
    /// What is written.
    pub write: Writing,
    /// What kind of delivery it owes.
    pub kind: Kind,
    /// How long it may be held, and the exception that is raised then.
    pub timeout: Option<Timeout>,
    /// Where it stands.
    pub spot: Spot,
}

/// What happens to a release that is held for long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timeout {
    /// Microseconds after which it is long.
    pub micros: i64,
    /// The exception.
    pub exception: Name,
}

impl Subscription {
    /// All its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.when.iter().chain(self.write.exprs())
    }
}

impl ReleaseRule {
    /// All its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.when.iter().map(|(_, e)| e).chain(self.write.exprs())
    }
}

/// What targets are told, by entity.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// Computed fields in file order.
    pub projections: Named<Vec<Projection>>,
    /// Subscriptions.
    pub subscriptions: Named<Vec<Subscription>>,
    /// Release rules.
    pub releases: Named<Vec<ReleaseRule>>,
}

/// Reads the sections about targets.
pub(crate) struct TellingReader<'r> {
    /// Entities.
    pub entities: &'r Entities,
    /// Links of each entity.
    pub links: &'r Named<Links>,
    /// Configured targets.
    pub targets: &'r [Name],
    /// Where releases without a table of their own go.
    pub inboxes: &'r Inboxes,
    /// Which file may replace what.
    pub rulesets: &'r Rulesets,
    /// Where problems go.
    pub report: &'r Report,
}

impl TellingReader<'_> {
    /// Reads one rule file.
    pub fn file(&self, root: &Section<'_>, into: &mut Telling) {
        for block in root.tables("project") {
            if let Some((entity, projection)) = self.projection(&block) {
                let list = into.projections.or_default(entity);
                let earlier = list.iter().position(|p| p.field == projection.field);
                match earlier.and_then(|at| list.get_mut(at)) {
                    Some(earlier) => {
                        let what = format!("`{}`", projection.field);
                        if self.replaces(&block, "field", &what, &earlier.spot) {
                            *earlier = projection;
                        }
                    }
                    None => list.push(projection),
                }
            }
        }
        for block in root.tables("subscribe") {
            if let Some((entity, subscription)) = self.subscription(&block)
                && self.is_free(&block, &subscription.name, into)
            {
                into.subscriptions.or_default(entity).push(subscription);
            }
        }
        for block in root.tables("release") {
            if let Some((entity, release)) = self.release(&block)
                && self.is_free(&block, &release.name, into)
            {
                into.releases.or_default(entity).push(release);
            }
        }
    }

    /// Whether a rule may have its name: nobody has it, or an overlay replaces who has, who is
    /// taken out.
    fn is_free(&self, block: &Section<'_>, name: &str, telling: &mut Telling) -> bool {
        let subscriptions = telling.subscriptions.values().flatten().map(|s| (&s.name, &s.spot));
        let releases = telling.releases.values().flatten().map(|r| (&r.name, &r.spot));
        let earlier = subscriptions.chain(releases).find(|(n, _)| &***n == name);
        let Some(spot) = earlier.map(|(_, spot)| spot.clone()) else { return true };
        if !self.replaces(block, "name", &format!("a rule called `{name}`"), &spot) {
            return false;
        }
        telling.subscriptions.values_mut().for_each(|all| all.retain(|s| &*s.name != name));
        telling.releases.values_mut().for_each(|all| all.retain(|r| &*r.name != name));
        true
    }

    /// Whether a block may replace another; if not, that is reported.
    fn replaces(&self, block: &Section<'_>, key: &str, what: &str, earlier: &Spot) -> bool {
        let Some(item) = block.get(key) else { return false };
        match self.rulesets.replaces(&item, what, earlier) {
            Replace::Yes => true,
            Replace::Locked => false,
            Replace::Conflict => {
                let what = format!("there is another one for {what}, at {}", earlier.name());
                self.report.at(&block.spot(), what, "keep one of the two, or rename one");
                false
            }
        }
    }

    fn entity(&self, block: &Section<'_>, key: &str) -> Option<&EntityDef> {
        let name = block.required(key)?;
        let found = self.entities.entity(name);
        if let Some(item) = block.get(key).filter(|_| found.is_none()) {
            let remedy = did_you_mean(name, self.entities.iter().map(|e| &*e.name));
            item.problem(format!("there is no entity `{name}`"), remedy);
        }
        found
    }

    fn check_field(&self, item: &Item<'_>, entity: &EntityDef, field: &str) -> Option<FieldType> {
        let kind = entity.field(field);
        if kind.is_none() {
            let what = format!("{} has no field `{field}`", entity.name);
            item.problem(what, did_you_mean(field, entity.fields.keys().map(|f| &**f)));
        }
        kind
    }

    fn projection(&self, block: &Section<'_>) -> Option<(Name, Projection)> {
        let entity = self.entity(block, "entity")?;
        let field = block.required("field")?;
        let kind = self.check_field(&block.get("field")?, entity, field)?;
        block.required("value")?;
        let item = block.get("value")?;
        let value = Expr::compile(item.text()?, item.spot(), &["rec"], self.report)?;
        block.done();
        let lists = child_lists(&entity.name, self.links);
        let names: Vec<&str> = lists.keys().map(|n| &**n).collect();
        check_members(&value, entity, &names, &BTreeMap::new(), self.report);
        let used = |list: &Name| value.members.contains(&("rec".to_string(), list.to_string()));
        let children = lists.into_iter().filter(|(list, _)| used(list)).collect();
        let projection = Projection {
            rule: block.spot().name(),
            spot: block.spot(),
            field: shared(field),
            kind,
            value,
            children,
        };
        Some((entity.name.clone(), projection))
    }

    fn subscription(&self, block: &Section<'_>) -> Option<(Name, Subscription)> {
        let name = block.required("name")?;
        let entity = self.entity(block, "entity")?;
        let item = block.get("fields");
        let fields: Vec<Name> = item
            .iter()
            .flat_map(|i| i.texts().into_iter().map(move |f| (i, f)))
            .filter(|(i, f)| self.check_field(i, entity, f).is_some())
            .map(|(_, f)| shared(f))
            .collect();
        if item.is_none() {
            let remedy = "add fields = [\"...\"], the fields whose change is told";
            self.report.at(&block.spot(), format!("`{name}` lacks `fields`"), remedy);
        }
        let when = match block.get("when") {
            Some(item) => Some(self.expr(&item, entity)?),
            None => None,
        };
        let snapshot = block.get("snapshot").is_none_or(|i| {
            i.as_bool().unwrap_or_else(|| {
                i.wrong("true or false");
                true
            })
        });
        let kind = kind_of(block, entity, name);
        let write = self.writing(block, entity, None)?;
        block.done();
        let (name, spot) = (name.into(), block.spot());
        let read = when.iter().chain(write.exprs());
        let links = self.links_read(entity, read);
        let subscription = Subscription { name, fields, links, when, snapshot, write, kind, spot };
        Some((entity.name.clone(), subscription))
    }

    fn release(&self, block: &Section<'_>) -> Option<(Name, ReleaseRule)> {
        let name = block.required("name")?;
        let entity = self.entity(block, "from")?;
        let dedupe = block.get("dedupe");
        let fields: Vec<Name> = dedupe
            .iter()
            .flat_map(|i| i.texts().into_iter().map(move |f| (i, f)))
            .filter(|(i, f)| self.check_field(i, entity, f).is_some())
            .map(|(_, f)| shared(f))
            .collect();
        if fields.is_empty() {
            let remedy = "add dedupe = [\"...\"], the fields that identify one release";
            self.report.at(&block.spot(), format!("`{name}` lacks `dedupe`"), remedy);
        }
        let mut when = Vec::new();
        for condition in block.tables("when") {
            let label = condition.required("name");
            condition.required("expr");
            let expr = condition.get("expr").and_then(|i| self.expr(&i, entity));
            condition.done();
            when.extend(label.zip(expr).map(|(label, expr)| (Name::from(label), expr)));
        }
        let team = block.text("owner_team").unwrap_or_default().into();
        let kind = kind_of(block, entity, name);
        let timeout = self.timeout(block, name);
        let write = self.writing(block, entity, Some(&fields));
        block.done();
        let (name, spot, write) = (name.into(), block.spot(), write?);
        let read = when.iter().map(|(_, expr)| expr).chain(write.exprs());
        let links = self.links_read(entity, read);
        let dedupe = fields;
        let rule = ReleaseRule { name, dedupe, links, when, team, write, kind, timeout, spot };
        Some((entity.name.clone(), rule))
    }

    /// The links of an entity that expressions read.
    fn links_read<'e>(
        &self,
        entity: &EntityDef,
        exprs: impl Iterator<Item = &'e Expr>,
    ) -> Vec<Name> {
        let used: BTreeSet<&str> = exprs.flat_map(Expr::variables).collect();
        let all = self.links.of(&entity.name).into_iter().flat_map(|links| links.keys());
        all.filter(|link| used.contains(&***link)).cloned().collect()
    }

    fn timeout(&self, block: &Section<'_>, name: &str) -> Option<Timeout> {
        let (long, then) = (block.get("hold_timeout"), block.get("on_timeout"));
        match (&long, &then) {
            (Some(long), Some(then)) => {
                let exception = exception(then)?;
                Some(Timeout { micros: span::micros(long)?, exception })
            }
            (None, None) => None,
            _ => {
                let what = format!("`{name}` has only one of `hold_timeout` and `on_timeout`");
                let remedy = "write both, like \"48h\" and \"exception:freight_accrual_held\"";
                self.report.at(&block.spot(), what, remedy);
                None
            }
        }
    }

    fn writing(
        &self,
        block: &Section<'_>,
        entity: &EntityDef,
        dedupe: Option<&[Name]>,
    ) -> Option<Writing> {
        let expr = |item: &Item<'_>| self.expr(item, entity);
        Writing::read(block, entity, dedupe, self.targets, self.inboxes, &expr)
    }

    fn expr(&self, item: &Item<'_>, entity: &EntityDef) -> Option<Expr> {
        let links = linked_entities(&entity.name, self.links, self.entities);
        let names: Vec<&str> =
            ["rec", "event_id"].into_iter().chain(links.keys().map(|l| &**l)).collect();
        let expr = Expr::compile(item.text()?, item.spot(), &names, self.report)?;
        check_members(&expr, entity, &[], &links, self.report);
        Some(expr)
    }
}

/// The kind of delivery that a rule owes, and the lane that it names.
fn kind_of(block: &Section<'_>, entity: &EntityDef, name: &str) -> Kind {
    let kind = block.text("kind").map_or_else(|| format!("{}.{name}", entity.name), str::to_string);
    let lane = block.get("lane").and_then(|i| Some((i.text()?.into(), i.spot())));
    Kind { kind: kind.into(), lane }
}

/// The kind in `exception:KIND`; a problem is reported and gives `None`.
pub(crate) fn exception(item: &Item<'_>) -> Option<Name> {
    let kind = item.text()?.strip_prefix("exception:").filter(|kind| !kind.is_empty());
    if kind.is_none() {
        let what = format!("`{}` says no exception", item.key);
        item.problem(what, "write \"exception:\" and a name, like \"exception:too_late\"");
    }
    kind.map(Name::from)
}
