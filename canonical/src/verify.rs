//! Comparing the files with the tables that a source database really has, and which columns of a
//! table they use.

use std::collections::BTreeMap;

use crossdock_model::canonical::Name;
use crossdock_model::{Problem, TableSchema};

use crate::expr::Expr;
use crate::mapping::{FieldMap, Mapping, Path, Term};
use crate::problems::{Report, Spot, did_you_mean};
use crate::rules::Rules;

/// Every table and column of a source that files name and the database does not have.
pub(crate) fn verify(rules: &Rules, source: &str, schemas: &[TableSchema]) -> Vec<Problem> {
    let report = Report::default();
    let tables = schemas.iter().map(|s| (s.name.to_string(), s)).collect();
    Verifier { tables, changed: None, report: &report }.source(rules, source);
    report.into_problems()
}

/// Every place where files use one of some columns of a source's table.
pub(crate) fn uses(
    rules: &Rules,
    source: &str,
    table: &TableSchema,
    columns: &[Name],
) -> Vec<Problem> {
    let report = Report::default();
    let tables = [(table.name.to_string(), table)].into();
    Verifier { tables, changed: Some(columns), report: &report }.source(rules, source);
    report.into_problems()
}

struct Verifier<'v> {
    tables: BTreeMap<String, &'v TableSchema>,
    /// When given, the uses of these columns are reported, and nothing else is.
    changed: Option<&'v [Name]>,
    report: &'v Report,
}

impl Verifier<'_> {
    fn source(&self, rules: &Rules, source: &str) {
        for (table, older) in rules.olders.of_source(source).filter(|_| self.changed.is_none()) {
            for (column, exprs) in &older.computed {
                exprs.iter().for_each(|expr| self.column(table, column, &expr.spot));
            }
        }
        for ((_, table), blocks) in rules.mappings.iter().filter(|((s, _), _)| &**s == source) {
            for mapping in blocks {
                self.mapping(mapping);
            }
            let key = (Name::from(source), table.clone());
            for rule in rules.evidence.get(&key).into_iter().flatten() {
                let Some(mapping) = blocks.get(rule.mapping) else { continue };
                rule.paths().for_each(|p| self.path(mapping, p, &rule.spot));
                rule.when.iter().for_each(|e| self.expr(mapping, e));
            }
        }
    }

    fn table(&self, name: &str, spot: &Spot) -> Option<&TableSchema> {
        let found = self.tables.get(name).copied();
        if found.is_none() && self.changed.is_none() {
            let remedy = did_you_mean(name, self.tables.keys().map(String::as_str));
            self.report.at(spot, format!("the database has no table `{name}`"), remedy);
        }
        found
    }

    fn mapping(&self, mapping: &Mapping) {
        match self.table(&mapping.table, &mapping.spot) {
            // Columns of looked-up tables may have changed all the same.
            _ if self.changed.is_some() => {}
            None => return,
            Some(table) if table.key_columns().is_empty() => {
                let what = format!("table `{}` has no primary key", mapping.table);
                self.report.at(&mapping.spot, what, "add a primary key to the table");
            }
            Some(_) => {}
        }
        for lookup in &mapping.lookups {
            lookup.key.iter().for_each(|path| self.path(mapping, path, &lookup.spot));
            let found = self.table(&lookup.table, &lookup.spot);
            if let Some(alias) = &lookup.by {
                let columns = alias.columns.iter();
                columns.for_each(|column| self.column(&lookup.table, column, &lookup.spot));
                continue;
            }
            let given = lookup.key.len();
            if let Some(found) = found
                && found.key_columns().len() != given
                && self.changed.is_none()
            {
                let columns = if given == 1 { "one column" } else { "so many columns" };
                let what = format!("`{}` is not found by {columns}", lookup.table);
                let remedy = "give `key` a part for each column of its primary key, or say in `by` \
                              which other columns find it";
                self.report.at(&lookup.spot, what, remedy);
            }
        }
        mapping.fields.iter().for_each(|f| self.field(mapping, f));
        for link in &mapping.links {
            link.key.iter().for_each(|f| self.field(mapping, f));
        }
        mapping.when.iter().chain(&mapping.deleted_when).for_each(|e| self.expr(mapping, e));
    }

    fn field(&self, mapping: &Mapping, field: &FieldMap) {
        match &field.term {
            Term::Path(path) => self.path(mapping, path, &field.spot),
            Term::Expr(expr) => self.expr(mapping, expr),
            Term::Constant(_) => {}
        }
    }

    fn path(&self, mapping: &Mapping, path: &Path, spot: &Spot) {
        let table = match path.lookup {
            None => &mapping.table,
            Some(at) => match mapping.lookups.get(at) {
                Some(lookup) => &lookup.table,
                None => return,
            },
        };
        self.column(table, &path.column, spot);
    }

    fn expr(&self, mapping: &Mapping, expr: &Expr) {
        for (root, column) in &expr.members {
            let table = match root.as_str() {
                "row" | "after" | "before" => &mapping.table,
                other => match mapping.lookups.iter().find(|l| &*l.name == other) {
                    Some(lookup) => &lookup.table,
                    None => continue,
                },
            };
            self.column(table, column, &expr.spot);
        }
    }

    fn column(&self, table: &str, column: &str, spot: &Spot) {
        // A missing table is reported once, where it is named.
        let Some(schema) = self.tables.get(table) else { return };
        if let Some(changed) = self.changed {
            if changed.iter().any(|c| &**c == column) {
                self.report.at(spot, format!("reads column `{column}` of `{table}`"), "");
            }
            return;
        }
        if schema.column(column).is_none() {
            let remedy = did_you_mean(column, schema.columns.iter().map(|c| &*c.name));
            self.report.at(spot, format!("table `{table}` has no column `{column}`"), remedy);
        }
    }
}
