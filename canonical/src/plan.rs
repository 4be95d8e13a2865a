//! What is worked out once for each entity, so that computing a record looks nothing up by name.

use std::sync::Arc;

use crossdock_model::canonical::Name;
use foldhash::HashMap;

use crate::ownership::FieldRule;
use crate::rules::Rules;

/// How the records of one entity are computed.
#[derive(Debug)]
pub(crate) struct EntityPlan {
    /// Key fields, in the order of the key.
    pub key: Vec<Name>,
    /// Owned fields in the order in which their owners are found: those whose owner depends on the
    /// record come after those on which it may depend.
    pub owned: Vec<OwnedField>,
    /// The owner of every field not named.
    pub default: Option<Arc<FieldRule>>,
    /// Number of fields.
    pub fields: usize,
}

/// A field that is neither part of the key nor computed, and its possible owners.
#[derive(Debug)]
pub(crate) struct OwnedField {
    /// The field.
    pub name: Name,
    /// Its possible owners.
    pub rule: Arc<FieldRule>,
}

/// Plans by entity.
pub(crate) type Plans = HashMap<Name, EntityPlan>;

/// Works out the plans of all entities; everything else has been read.
pub(crate) fn plans(rules: &Rules) -> Plans {
    let plan = |entity: &crossdock_schema_registry::EntityDef| {
        let ownership = rules.ownership.get(&entity.name);
        let computed = rules.computed.get(&entity.name);
        let owned = |field: &&Name| {
            !entity.is_key(field) && !computed.is_some_and(|computed| computed.contains(*field))
        };
        let field = |name: &Name| {
            Some(OwnedField { name: name.clone(), rule: ownership?.rule_of(name)?.clone() })
        };
        let mut owned: Vec<OwnedField> =
            entity.fields.keys().filter(owned).filter_map(field).collect();
        owned.sort_by_key(|field| field.rule.iter().any(|c| c.exprs().next().is_some()));
        let default = ownership.and_then(|o| o.default.clone());
        EntityPlan { key: entity.key.clone(), owned, default, fields: entity.fields.len() }
    };
    rules.entities.iter().map(|entity| (entity.name.clone(), plan(entity))).collect()
}
