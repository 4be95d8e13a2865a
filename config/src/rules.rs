//! Entity, mapping and rule files become rules: the one place that compiles them.

use std::sync::Arc;

use crossdock_model::{SourceText, TableName};
use crossdock_schema_registry::Entities;

use crate::findings::Findings;

/// The texts of the files, each kind in name order.
pub(crate) struct RuleFiles {
    pub entities: Vec<SourceText>,
    pub mappings: Vec<SourceText>,
    pub rules: Vec<SourceText>,
}

/// What the files say: the entities checked, mappings and rules as texts.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Entities, shipped and extended.
    pub entities: Entities,
    /// Mapping files.
    pub mappings: Vec<SourceText>,
    /// Rule files.
    pub rules: Vec<SourceText>,
}

impl Rules {
    /// Tables of a source that mapping and rule files need.
    pub fn tables(&self, _source: &str) -> Vec<TableName> {
        Vec::new()
    }
}

/// Compiles the files. Names of sources and targets include those with problems of their own, so
/// that one mistake is reported once.
pub(crate) fn compile(
    files: RuleFiles,
    _sources: &[String],
    _targets: &[String],
    findings: &Findings,
) -> Option<Arc<Rules>> {
    let mut entities = Entities::shipped();
    findings.problems(entities.extend(&files.entities));
    let RuleFiles { mappings, rules, .. } = files;
    Some(Arc::new(Rules { entities, mappings, rules }))
}
