//! Which columns of looked-up tables matter: when one of them changes, the rows that refer to the
//! changed row are mapped again.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::{Fields, Name, RowKey};

use crate::evidence::Evidences;
use crate::expr::Expr;
use crate::mapping::{Alias, Mapping, Mappings, Path, Term};
use crate::upcast::Olders;

/// What lookups read of a table, and how they find its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Columns that matter; `None` when an expression may read any of them.
    columns: Option<BTreeSet<Name>>,
    /// Columns other than the key by which rows are found.
    pub aliases: Vec<Alias>,
    /// Some lookup goes on without a row.
    pub optional: bool,
}

/// What lookups read, by source and table.
pub(crate) type LookedUp = BTreeMap<(Name, Name), Used>;

impl Used {
    fn nothing() -> Self {
        Self { columns: Some(BTreeSet::new()), aliases: Vec::new(), optional: false }
    }

    /// Whether a change of a row can matter to the rows that refer to it.
    pub fn differs(&self, before: &Fields, now: &Fields) -> bool {
        match &self.columns {
            None => before != now,
            Some(columns) => columns.iter().any(|c| before.get(c) != now.get(c)),
        }
    }

    /// The same for an image that may lack columns, which are unchanged then.
    pub fn differs_where_given(&self, before: &Fields, now: &Fields) -> bool {
        let differs = |c: &Name| now.get(c).is_some_and(|v| before.get(c) != Some(v));
        match &self.columns {
            None => now.keys().any(differs),
            Some(columns) => columns.iter().any(differs),
        }
    }

    /// All aliases of a row.
    pub fn aliases_of(&self, source: &Name, row: &Fields) -> Vec<RowKey> {
        self.aliases.iter().filter_map(|alias| alias.of(source, row)).collect()
    }
}

/// Finds what all mappings and evidence rules read of the tables that they look up.
pub(crate) fn used(mappings: &Mappings, evidence: &Evidences, olders: &Olders) -> LookedUp {
    let mut all = LookedUp::new();
    for mapping in mappings.values().flatten() {
        let mut reads = Reads { mapping, olders, all: &mut all };
        reads.begin();
        let fields = mapping.links.iter().flat_map(|l| &l.key).chain(&mapping.fields);
        for field in fields {
            match &field.term {
                Term::Path(path) => reads.path(path),
                Term::Expr(expr) => reads.expr(expr),
                Term::Constant(_) => {}
            }
        }
        mapping.lookups.iter().flat_map(|l| &l.key).for_each(|path| reads.path(path));
        mapping.when.iter().chain(&mapping.deleted_when).for_each(|e| reads.expr(e));
    }
    for (table, rules) in evidence {
        for rule in rules {
            let Some(mapping) = mappings.get(table).and_then(|m| m.get(rule.mapping)) else {
                continue;
            };
            let mut reads = Reads { mapping, olders, all: &mut all };
            rule.when.iter().for_each(|e| reads.expr(e));
            rule.paths().for_each(|p| reads.path(p));
        }
    }
    all
}

struct Reads<'r> {
    mapping: &'r Mapping,
    olders: &'r Olders,
    all: &'r mut LookedUp,
}

impl Reads<'_> {
    fn begin(&mut self) {
        for lookup in &self.mapping.lookups {
            let key = (self.mapping.source.clone(), lookup.table.clone());
            let behind = |c: &Name| self.olders.behind(&key.0, &key.1, c);
            let used = self.all.entry(key.clone()).or_insert_with(Used::nothing);
            used.optional |= lookup.optional;
            let Some(alias) = &lookup.by else { continue };
            if let Some(columns) = &mut used.columns {
                columns.extend(alias.columns.iter().flat_map(behind));
                columns.extend(alias.columns.iter().cloned());
            }
            if !used.aliases.contains(alias) {
                used.aliases.push(alias.clone());
            }
        }
    }

    fn path(&mut self, path: &Path) {
        let Some(lookup) = path.lookup.and_then(|at| self.mapping.lookups.get(at)) else { return };
        let key = (self.mapping.source.clone(), lookup.table.clone());
        if let Some(columns) = self.all.get_mut(&key).and_then(|used| used.columns.as_mut()) {
            columns.extend(self.olders.behind(&key.0, &key.1, &path.column));
            columns.insert(path.column.clone());
        }
    }

    fn expr(&mut self, expr: &Expr) {
        for lookup in self.mapping.lookups.iter().filter(|l| expr.uses(&l.name)) {
            let key = (self.mapping.source.clone(), lookup.table.clone());
            if let Some(used) = self.all.get_mut(&key) {
                used.columns = None;
            }
        }
    }
}
