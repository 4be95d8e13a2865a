//! Which columns of looked-up tables matter: when one of them changes, the rows that refer to the
//! changed row are mapped again.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_model::canonical::{Fields, Name};

use crate::evidence::Evidences;
use crate::expr::Expr;
use crate::mapping::{Mapping, Mappings, Path, Term};
use crate::upcast::Olders;

/// Columns of a table that lookups read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    /// An expression may read any of them.
    All,
    /// These.
    Columns(BTreeSet<Name>),
}

/// Used columns by source and table.
pub(crate) type LookedUp = BTreeMap<(Name, Name), Used>;

impl Used {
    /// Whether a change of a row can matter to the rows that refer to it.
    pub fn differs(&self, before: &Fields, now: &Fields) -> bool {
        match self {
            Used::All => before != now,
            Used::Columns(columns) => columns.iter().any(|c| before.get(c) != now.get(c)),
        }
    }

    /// The same for an image that may lack columns, which are unchanged then.
    pub fn differs_where_given(&self, before: &Fields, now: &Fields) -> bool {
        let differs = |c: &Name| now.get(c).is_some_and(|v| before.get(c) != Some(v));
        match self {
            Used::All => now.keys().any(differs),
            Used::Columns(columns) => columns.iter().any(differs),
        }
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
        mapping.lookups.iter().for_each(|l| reads.path(&l.key));
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
            self.all.entry(key).or_insert_with(|| Used::Columns(BTreeSet::new()));
        }
    }

    fn path(&mut self, path: &Path) {
        let Some(lookup) = path.lookup.and_then(|at| self.mapping.lookups.get(at)) else { return };
        let key = (self.mapping.source.clone(), lookup.table.clone());
        if let Some(Used::Columns(columns)) = self.all.get_mut(&key) {
            columns.extend(self.olders.behind(&key.0, &key.1, &path.column));
            columns.insert(path.column.clone());
        }
    }

    fn expr(&mut self, expr: &Expr) {
        for lookup in self.mapping.lookups.iter().filter(|l| expr.uses(&l.name)) {
            let key = (self.mapping.source.clone(), lookup.table.clone());
            self.all.insert(key, Used::All);
        }
    }
}
