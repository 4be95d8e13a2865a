//! Columns of a source table in an earlier shape: `was` of a `[[table]]` block.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_model::canonical::{Fields, Name};
use crossdock_model::{TableSchema, Value};

use super::Was;
use crate::document::{Item, Section};
use crate::expr::Expr;
use crate::problems::Report;
use crate::rowmap::RowTrouble;
use crate::scope::{Scope, Var};

/// The row as it was, in expressions.
const OLD: &str = "old";

/// How rows of one table looked before.
#[derive(Debug, Default)]
pub(crate) struct Older {
    /// Earlier names of columns.
    pub names: Was,
    /// Columns that are computed from earlier ones. Of several expressions the first counts whose
    /// columns are all there: each is for a shape of its own.
    pub computed: BTreeMap<Name, Vec<Arc<Expr>>>,
}

/// The same by source and table.
#[derive(Debug, Default)]
pub(crate) struct Olders {
    tables: BTreeMap<(Name, Name), Older>,
}

/// Reads `was.COLUMN = ["OLD", { expr = "..." }]` of a `[[table]]` block.
pub(crate) fn read(block: &Section<'_>, report: &Report) -> Older {
    let mut older = Older::default();
    let section = block.get("was").and_then(|item| item.table());
    for (column, item) in section.iter().flat_map(|section| section.entries()) {
        let shapes = if item.is_array() { item.array() } else { vec![item] };
        for shape in shapes {
            if shape.is_table() {
                let expr = expression(&shape, column, report).map(Arc::new);
                older.computed.entry(column.into()).or_default().extend(expr);
            } else if let Some(name) = shape.text() {
                if name == column {
                    item.problem(format!("`{column}` is its own earlier name"), "leave it out");
                }
                older.names.entry(column.into()).or_default().push(name.into());
            }
        }
    }
    older
}

/// Reads `{ expr = "..." }`.
fn expression(item: &Item<'_>, column: &str, report: &Report) -> Option<Expr> {
    let section = item.table()?;
    section.required("expr");
    let text = section.get("expr");
    section.done();
    let text = text?;
    let expr = Expr::compile(text.text()?, text.spot(), &[OLD], report)?;
    if expr.members.is_empty() {
        let remedy = "read the columns of the earlier shape, such as old.weight_g: they tell which \
                      rows have it";
        text.problem("the expression reads no column of `old`", remedy);
    }
    if columns(&expr).any(|old| old == column) {
        let what = format!("`{column}` is computed from itself");
        let remedy = "a row that has the column is in today's shape; give the new column a name \
                      of its own";
        text.problem(what, remedy);
    }
    Some(expr)
}

/// Earlier columns that an expression reads.
fn columns(expr: &Expr) -> impl Iterator<Item = &str> {
    expr.members.iter().map(|(_, column)| column.as_str())
}

/// The first value that the columns of an image are enough for.
fn value(exprs: &[Arc<Expr>], image: &Fields) -> Option<Result<Value<'static>, (Name, String)>> {
    let all_there = |expr: &&Arc<Expr>| columns(expr).all(|column| image.contains_key(column));
    let expr = exprs.iter().find(all_there)?;
    let scope = Scope::default().with(OLD, Var::Fields(image));
    Some(expr.value(&scope).map_err(|what| (expr.spot.name(), what)))
}

impl Older {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.computed.is_empty()
    }

    /// Computes what an image in an earlier shape lacks. What cannot be computed stays away, and
    /// [`Older::trouble`] says so.
    pub fn complete(&self, image: &mut Arc<Fields>) {
        for (column, exprs) in &self.computed {
            if image.contains_key(column) {
                continue;
            }
            if let Some(Ok(value)) = value(exprs, image) {
                Arc::make_mut(image).insert(column.clone(), value);
            }
        }
    }

    /// Computes once more what depends on columns that a change in an earlier shape carried;
    /// `image` is the row after it.
    pub fn change(&self, schema: &TableSchema, carried: &Fields, image: &mut Arc<Fields>) {
        for (column, exprs) in &self.computed {
            let mut read = exprs.iter().flat_map(|expr| columns(expr));
            if schema.column(column).is_some() || !read.any(|old| carried.contains_key(old)) {
                continue;
            }
            match value(exprs, image) {
                Some(Ok(value)) => _ = Arc::make_mut(image).insert(column.clone(), value),
                _ if image.contains_key(column) => _ = Arc::make_mut(image).remove(column),
                _ => {}
            }
        }
    }

    /// Why a column could not be computed, so that the row says nothing.
    fn trouble(&self, image: &Fields) -> Option<RowTrouble> {
        let mut lacking = self.computed.iter().filter(|(column, _)| !image.contains_key(*column));
        lacking.find_map(|(column, exprs)| {
            let (rule, what) = value(exprs, image)?.err()?;
            Some(RowTrouble::Mapping { field: column.clone(), rule, what })
        })
    }
}

impl Olders {
    /// Adds what a mapping says; two blocks of one table may say it both.
    pub fn add(&mut self, source: &Name, table: &Name, older: Older, report: &Report) {
        if older.is_empty() {
            return;
        }
        let all = self.tables.entry((source.clone(), table.clone())).or_default();
        all.names.extend(older.names);
        for (column, exprs) in older.computed {
            let texts = |exprs: &[Arc<Expr>]| -> Vec<Box<str>> {
                exprs.iter().map(|expr| expr.text.clone()).collect()
            };
            let earlier = all.computed.get(&column).filter(|e| texts(e) != texts(&exprs));
            if let (Some(earlier), Some(here)) = (earlier.and_then(|e| e.first()), exprs.first()) {
                let what = format!("{column} was something else at {}", earlier.spot.name());
                report.at(&here.spot, what, "say it once for each table");
            }
            all.computed.insert(column, exprs);
        }
    }

    /// How rows of a table looked before, unless they always looked as they do.
    pub fn of(&self, source: &Name, table: &Name) -> Option<&Older> {
        if self.tables.is_empty() {
            return None;
        }
        self.tables.get(&(source.clone(), table.clone()))
    }

    /// Why a row cannot be brought into today's shape.
    pub fn trouble(&self, source: &Name, table: &Name, image: &Fields) -> Option<RowTrouble> {
        self.of(source, table)?.trouble(image)
    }

    /// Earlier columns from which a column is computed.
    pub fn behind(&self, source: &Name, table: &Name, column: &str) -> Vec<Name> {
        let older = self.of(source, table);
        let exprs = older.and_then(|o| o.computed.get(column)).into_iter().flatten();
        exprs.flat_map(|expr| columns(expr)).map(Name::from).collect()
    }

    /// Every table of a source with what it was.
    pub fn of_source<'o>(&'o self, source: &'o str) -> impl Iterator<Item = (&'o Name, &'o Older)> {
        let of = move |((s, _), _): &(&(Name, Name), _)| &**s == source;
        self.tables.iter().filter(of).map(|((_, table), older)| (table, older))
    }
}
