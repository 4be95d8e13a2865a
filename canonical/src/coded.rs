//! Which columns of a source are read through a code table that does not take unknown codes.

use std::sync::Arc;

use crossdock_model::TableName;
use crossdock_model::canonical::Name;

use crate::codes::{CodeTable, Unmapped};
use crate::mapping::{Mapping, Path, Term};
use crate::problems::Spot;
use crate::rules::Rules;

/// A column whose values must stand in a code table: any other value is an exception.
#[derive(Debug)]
pub struct CodedColumn {
    /// Table that has the column.
    pub table: TableName,
    /// Column.
    pub column: Name,
    /// File and line of what reads it.
    pub place: String,
    /// Name of the code table.
    pub codes: Name,
    entries: Arc<CodeTable>,
}

impl CodedColumn {
    /// Whether the code table says what a code means.
    pub fn knows(&self, code: &str) -> bool {
        self.entries.look_up(&[code.to_string()]).is_some()
    }
}

/// Every such column of a source. Members of JSON columns and codes of several parts are left
/// out: their values can't be listed by a query over one column.
pub(crate) fn coded_columns(rules: &Rules, source: &str) -> Vec<CodedColumn> {
    let mut found = Vec::new();
    for ((of, table), blocks) in rules.mappings.iter().filter(|((s, _), _)| &**s == source) {
        for mapping in blocks {
            let links = mapping.links.iter().flat_map(|link| &link.key);
            for field in mapping.fields.iter().chain(links) {
                if let (Term::Path(path), Some(codes)) = (&field.term, &field.codes) {
                    found.extend(coded(mapping, path, codes, &field.spot));
                }
            }
        }
        let evidence = rules.evidence.get(&(of.clone(), table.clone()));
        for rule in evidence.into_iter().flatten() {
            let mapping = blocks.get(rule.mapping);
            if let (Some(mapping), Some((codes, key))) = (mapping, &rule.codes)
                && let [path] = key.as_slice()
            {
                found.extend(coded(mapping, path, codes, &rule.spot));
            }
        }
    }
    found
}

fn coded(
    mapping: &Mapping,
    path: &Path,
    codes: &Arc<CodeTable>,
    spot: &Spot,
) -> Option<CodedColumn> {
    if codes.unmapped != Unmapped::Exception || !path.members.is_empty() {
        return None;
    }
    let table = match path.lookup {
        None => &mapping.table,
        Some(at) => &mapping.lookups.get(at)?.table,
    };
    Some(CodedColumn {
        table: TableName::parse(table)?,
        column: path.column.clone(),
        place: spot.name().to_string(),
        codes: codes.name.clone(),
        entries: codes.clone(),
    })
}
