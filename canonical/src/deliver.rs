//! What targets are told: computed fields, subscriptions and release rules, as written.

use std::collections::BTreeMap;

use crossdock_model::TableName;
use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_schema_registry::{Entities, EntityDef, FieldType};

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::names::{Links, check_members, child_lists, linked_entities};
use crate::problems::{Report, Spot, did_you_mean};
use crate::scope::Scope;

/// One `[[project]]` block.
#[derive(Debug)]
pub(crate) struct Projection {
    /// Where it stands.
    pub spot: Spot,
    /// Field that it computes.
    pub field: Name,
    /// Its type.
    pub kind: FieldType,
    /// How.
    pub value: Expr,
    /// Entities whose records it reads as lists, by list name.
    pub children: BTreeMap<Name, Name>,
}

/// The row that a target gets.
#[derive(Debug)]
pub(crate) struct Writing {
    /// Target.
    pub target: Name,
    /// Table.
    pub table: TableName,
    kind: WriteKind,
    key: Vec<(Name, Expr)>,
    columns: Vec<(Name, Expr)>,
}

/// One `[[subscribe]]` block.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Name.
    pub name: Name,
    /// Fields whose change is told.
    pub fields: Vec<Name>,
    /// Only records for which this holds are told.
    pub when: Option<Expr>,
    /// Whether records created by a snapshot are told.
    pub snapshot: bool,
    /// What is written.
    pub write: Writing,
}

/// One `[[release]]` block.
#[derive(Debug)]
pub(crate) struct ReleaseRule {
    /// Name.
    pub name: Name,
    /// Fields that form the business key.
    pub dedupe: Vec<Name>,
    /// Conditions and their names.
    pub when: Vec<(Name, Expr)>,
    /// Team that looks after it.
    pub team: Name,
    /// What is written.
    pub write: Writing,
}

/// A table of a target and what a rule writes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetWrite {
    /// Target.
    pub target: Name,
    /// Table.
    pub table: TableName,
    /// How.
    pub kind: WriteKind,
    /// Columns that identify the row.
    pub key: Vec<Name>,
    /// Further columns.
    pub columns: Vec<Name>,
}

impl Writing {
    /// What it writes, without the expressions.
    pub fn target_write(&self) -> TargetWrite {
        let names = |list: &[(Name, Expr)]| list.iter().map(|(name, _)| name.clone()).collect();
        TargetWrite {
            target: self.target.clone(),
            table: self.table.clone(),
            kind: self.kind,
            key: names(&self.key),
            columns: names(&self.columns),
        }
    }

    /// The row to write.
    ///
    /// # Errors
    /// The column and what is wrong with its expression.
    pub fn row(&self, scope: &Scope<'_>) -> Result<RowWrite, String> {
        let values = |list: &[(Name, Expr)]| {
            list.iter()
                .map(|(name, expr)| match expr.value(scope) {
                    Ok(value) => Ok((name.clone(), value)),
                    Err(what) => Err(format!("{name}: {what}")),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(RowWrite {
            table: self.table.clone(),
            kind: self.kind,
            key: values(&self.key)?,
            columns: values(&self.columns)?,
        })
    }

    /// All its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.key.iter().chain(&self.columns).map(|(_, e)| e)
    }
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
    pub projections: BTreeMap<Name, Vec<Projection>>,
    /// Subscriptions.
    pub subscriptions: BTreeMap<Name, Vec<Subscription>>,
    /// Release rules.
    pub releases: BTreeMap<Name, Vec<ReleaseRule>>,
}

/// Reads the sections about targets.
pub(crate) struct TellingReader<'r> {
    /// Entities.
    pub entities: &'r Entities,
    /// Links of each entity.
    pub links: &'r BTreeMap<Name, Links>,
    /// Configured targets.
    pub targets: &'r [Name],
    /// Where problems go.
    pub report: &'r Report,
}

impl TellingReader<'_> {
    /// Reads one rule file.
    pub fn file(&self, root: &Section<'_>, into: &mut Telling) {
        for block in root.tables("project") {
            if let Some((entity, projection)) = self.projection(&block) {
                let list = into.projections.entry(entity).or_default();
                if list.iter().any(|p| p.field == projection.field) {
                    let what = format!("`{}` is computed twice", projection.field);
                    self.report.at(&projection.spot, what, "keep one of the two");
                }
                list.push(projection);
            }
        }
        for block in root.tables("subscribe") {
            if let Some((entity, subscription)) = self.subscription(&block) {
                self.check_name(&block, &subscription.name, into);
                into.subscriptions.entry(entity).or_default().push(subscription);
            }
        }
        for block in root.tables("release") {
            if let Some((entity, release)) = self.release(&block) {
                self.check_name(&block, &release.name, into);
                into.releases.entry(entity).or_default().push(release);
            }
        }
    }

    fn check_name(&self, block: &Section<'_>, name: &str, telling: &Telling) {
        let subscriptions = telling.subscriptions.values().flatten().map(|s| &*s.name);
        let mut names = subscriptions.chain(telling.releases.values().flatten().map(|r| &*r.name));
        if names.any(|n| n == name) {
            let what = format!("there is another rule called `{name}`");
            self.report.at(&block.spot(), what, "rules have one name each: rename one");
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
        let projection =
            Projection { spot: block.spot(), field: field.into(), kind, value, children };
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
            .map(|(_, f)| f.into())
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
        let write = self.writing(block, entity, &["insert", "upsert", "update"])?;
        block.done();
        let subscription = Subscription { name: name.into(), fields, when, snapshot, write };
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
            .map(|(_, f)| f.into())
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
        for key in ["lane", "writes", "hold_timeout", "on_timeout"] {
            if let Some(item) = block.get(key) {
                item.problem(format!("`{key}` is not supported yet"), "remove this line");
            }
        }
        let team = block.text("owner_team").unwrap_or_default().into();
        let write = self.writing(block, entity, &["insert", "upsert"]);
        block.done();
        let rule = ReleaseRule { name: name.into(), dedupe: fields, when, team, write: write? };
        Some((entity.name.clone(), rule))
    }

    fn expr(&self, item: &Item<'_>, entity: &EntityDef) -> Option<Expr> {
        let links = linked_entities(&entity.name, self.links, self.entities);
        let names: Vec<&str> =
            ["rec", "event_id"].into_iter().chain(links.keys().map(|l| &**l)).collect();
        let expr = Expr::compile(item.text()?, item.spot(), &names, self.report)?;
        check_members(&expr, entity, &[], &links, self.report);
        Some(expr)
    }

    fn writing(&self, block: &Section<'_>, entity: &EntityDef, kinds: &[&str]) -> Option<Writing> {
        let target = block.required("target")?;
        if !self.targets.iter().any(|t| &**t == target) {
            let remedy = did_you_mean(target, self.targets.iter().map(|t| &**t));
            let what = format!("there is no target `{target}` in the configuration");
            block.get("target")?.problem(what, remedy);
        }
        let table = block.required("table")?;
        let Some(table) = TableName::parse(table) else {
            let remedy = "write schema.table (database.table on MySQL and MariaDB)";
            block.get("table")?.problem(format!("`{table}` names no table"), remedy);
            return None;
        };
        let kind = block.required("write")?;
        let kind = match kind {
            "insert" => WriteKind::Insert,
            "upsert" => WriteKind::Upsert,
            "update" if kinds.contains(&"update") => WriteKind::Update,
            other => {
                let what = format!("`write` cannot be `{other}`");
                block.get("write")?.problem(what, kinds.join(", "));
                return None;
            }
        };
        let list = |key: &str| -> Vec<(Name, Expr)> {
            let section = block.get(key).and_then(|i| i.table());
            let entries = section.map(|s| s.entries()).unwrap_or_default();
            let read = |(name, item): &(&str, Item<'_>)| {
                Some((Name::from(*name), self.expr(item, entity)?))
            };
            entries.iter().filter_map(read).collect()
        };
        let (key, columns) = (list("key"), list("columns"));
        if block.get("key").is_none() {
            let remedy = "add key = { COLUMN = 'EXPRESSION' }: a unique index must be on it";
            self.report.at(&block.spot(), "the written row lacks `key`", remedy);
        }
        Some(Writing { target: target.into(), table, kind, key, columns })
    }
}
