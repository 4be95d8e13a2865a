//! The row that a rule writes into a target's table, or into its inbox.

use std::collections::BTreeMap;

use crossdock_model::TableName;
use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_schema_registry::{EntityDef, FieldType};

use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::lanes::known_target;
use crate::names::linked_entities;
use crate::problems::did_you_mean;
use crate::rules::Rules;
use crate::scope::Scope;

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

/// `[inbox.TARGET]`: tables into which releases go that name no table.
pub(crate) type Inboxes = BTreeMap<Name, TableName>;

/// Compiles an expression over a record and its links.
type Compile<'c> = dyn Fn(&Item<'_>) -> Option<Expr> + 'c;

impl Writing {
    /// Reads where a rule writes and what. `dedupe` are the fields of a release's business key;
    /// only a release may leave the table to the inbox.
    pub fn read(
        block: &Section<'_>,
        entity: &EntityDef,
        dedupe: Option<&[Name]>,
        targets: &[Name],
        inboxes: &Inboxes,
        expr: &Compile<'_>,
    ) -> Option<Writing> {
        block.required("target")?;
        let target_item = block.get("target")?;
        let known = known_target(&target_item, targets);
        let target = known.unwrap_or_else(|| target_item.as_text().unwrap_or_default().into());
        if let (Some(dedupe), None, Some(writes)) =
            (dedupe, block.get("table"), block.get("writes"))
        {
            let name = block.text("name").unwrap_or_default();
            let inbox = Inbox { target_item: &target_item, target, name, inboxes };
            return inbox.writing(entity, dedupe, &writes);
        }
        block.required("table")?;
        let table = table_name(&block.get("table")?)?;
        let kinds: &[&str] =
            if dedupe.is_some() { &["insert", "upsert"] } else { &["insert", "upsert", "update"] };
        block.required("write")?;
        let kind = read_kind(&block.get("write")?, kinds)?;
        let list = |key: &str| -> Vec<(Name, Expr)> {
            let section = block.get(key).and_then(|i| i.table());
            let entries = section.map(|s| s.entries()).unwrap_or_default();
            let read = |(name, item): &(&str, Item<'_>)| Some((Name::from(*name), expr(item)?));
            entries.iter().filter_map(read).collect()
        };
        let (key, columns) = (list("key"), list("columns"));
        if block.get("key").is_none() {
            let remedy = "add key = { COLUMN = 'EXPRESSION' }: a unique index must be on it";
            block.report().at(&block.spot(), "the written row lacks `key`", remedy);
        }
        let writing = Writing { target, table, kind, key, columns };
        if let Some(writes) = block.get("writes") {
            writing.check_writes(&writes);
        }
        Some(writing)
    }

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

    /// `writes` beside `columns` promises the same columns.
    fn check_writes(&self, item: &Item<'_>) {
        for column in item.texts() {
            let mut written = self.key.iter().chain(&self.columns).map(|(name, _)| &**name);
            if !written.any(|name| name == column) {
                let what = format!("`writes` names `{column}`, and the row has no such column");
                item.problem(what, "add it to `columns`, or remove it here");
            }
        }
    }
}

/// A release without a table of its own: its event goes into the target's inbox, with the fields
/// that it `writes`.
struct Inbox<'i> {
    target_item: &'i Item<'i>,
    target: Name,
    name: &'i str,
    inboxes: &'i Inboxes,
}

impl Inbox<'_> {
    fn writing(self, entity: &EntityDef, dedupe: &[Name], writes: &Item<'_>) -> Option<Writing> {
        let target = self.target;
        let Some(table) = self.inboxes.get(&target) else {
            let what = format!("the release has no `table`, and {target} has no inbox");
            let remedy =
                format!("add [inbox.{target}] with table = \"SCHEMA.TABLE\", or table, write, key");
            self.target_item.problem(what, remedy);
            return None;
        };
        let mut members = Vec::new();
        for field in writes.texts() {
            if entity.field(field).is_none() {
                let what = format!("{} has no field `{field}`", entity.name);
                writes.problem(what, did_you_mean(field, entity.fields.keys().map(|f| &**f)));
            }
            members.push(format!("\"{field}\": rec.{field}"));
        }
        let parts: Vec<String> = dedupe.iter().map(|f| format!("string(rec.{f})")).collect();
        let made = |name: &str, text: &str| {
            let report = writes.report();
            let expr = Expr::compile(text, writes.spot(), &["rec", "event_id"], report)?;
            Some((Name::from(name), expr))
        };
        let columns = [
            made("topic", &serde_json::Value::from(self.name).to_string()),
            made("business_key", &parts.join(" + \":\" + ")),
            made("payload", &format!("{{{}}}", members.join(", "))),
        ];
        Some(Writing {
            target,
            table: table.clone(),
            kind: WriteKind::Insert,
            key: vec![made("event_id", "event_id")?],
            columns: columns.into_iter().flatten().collect(),
        })
    }
}

/// Reads `[inbox.TARGET]` of a rule file.
pub(crate) fn read_inboxes(root: &Section<'_>, targets: &[Name], into: &mut Inboxes) {
    let Some(section) = root.table("inbox") else { return };
    for (name, item) in section.entries() {
        if !targets.iter().any(|t| &**t == name) {
            let remedy = did_you_mean(name, targets.iter().map(|t| &**t));
            item.problem(format!("there is no target `{name}` in the configuration"), remedy);
        }
        let Some(block) = item.table() else { continue };
        block.required("table");
        if let Some(table) = block.get("table").and_then(|i| table_name(&i)) {
            into.insert(name.into(), table);
        }
        block.done();
    }
}

fn table_name(item: &Item<'_>) -> Option<TableName> {
    let text = item.text()?;
    let table = TableName::parse(text);
    if table.is_none() {
        let remedy = "write schema.table (database.table on MySQL and MariaDB)";
        item.problem(format!("`{text}` names no table"), remedy);
    }
    table
}

fn read_kind(item: &Item<'_>, kinds: &[&str]) -> Option<WriteKind> {
    match item.text()? {
        "insert" => Some(WriteKind::Insert),
        "upsert" => Some(WriteKind::Upsert),
        "update" if kinds.contains(&"update") => Some(WriteKind::Update),
        other => {
            item.problem(format!("`write` cannot be `{other}`"), kinds.join(", "));
            None
        }
    }
}

/// Types of a target's columns, where an expression is nothing but a field.
pub(crate) fn column_kinds(rules: &Rules, target: &str) -> BTreeMap<Name, FieldType> {
    let subscriptions = rules.telling.subscriptions.iter();
    let told = subscriptions.flat_map(|(e, all)| all.iter().map(move |s| (e, &s.write)));
    let releases = rules.telling.releases.iter();
    let released = releases.flat_map(|(e, all)| all.iter().map(move |r| (e, &r.write)));
    let mut kinds: BTreeMap<Name, Option<FieldType>> = BTreeMap::new();
    for (entity, write) in told.chain(released).filter(|(_, write)| &*write.target == target) {
        let links = linked_entities(entity, &rules.links, &rules.entities);
        for (column, expr) in write.key.iter().chain(&write.columns) {
            let field = expr.text.trim().split_once('.').and_then(|(root, field)| match root {
                "rec" => rules.entities.entity(entity)?.field(field),
                link => links.get(link)?.field(field),
            });
            let known = kinds.entry(column.clone()).or_insert(field);
            if *known != field {
                *known = None;
            }
        }
    }
    kinds.into_iter().filter_map(|(column, kind)| Some((column, kind?))).collect()
}
