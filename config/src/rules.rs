//! Entity, mapping and rule files become rules: the one call into `canonical`.

use std::sync::Arc;

use crossdock_canonical::Known;
pub use crossdock_canonical::Rules;
use crossdock_model::SourceText;
use crossdock_model::canonical::Name;
use crossdock_schema_registry::Entities;

use crate::findings::Findings;

/// The texts of the files, each kind in name order.
pub(crate) struct RuleFiles {
    pub entities: Vec<SourceText>,
    pub mappings: Vec<SourceText>,
    pub rules: Vec<SourceText>,
}

/// Compiles the files. Names of sources and targets include those with problems of their own, so
/// that one mistake is reported once.
pub(crate) fn compile(
    files: RuleFiles,
    sources: &[String],
    targets: &[String],
    findings: &Findings,
) -> Option<Arc<Rules>> {
    let mut entities = Entities::shipped();
    findings.problems(entities.extend(&files.entities));
    let names = |names: &[String]| names.iter().map(|n| Name::from(n.as_str())).collect();
    let (sources, targets): (Vec<Name>, Vec<Name>) = (names(sources), names(targets));
    let known = Known { sources: &sources, targets: &targets };
    match Rules::load(entities, &files.mappings, &files.rules, &known) {
        Ok(rules) => Some(Arc::new(rules)),
        Err(problems) => {
            findings.problems(problems);
            None
        }
    }
}
