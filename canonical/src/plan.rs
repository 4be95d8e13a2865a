//! What is worked out once for each entity, so that computing a record looks nothing up by name.

use std::sync::Arc;

use crossdock_model::Named;
use crossdock_model::canonical::Name;
use foldhash::HashMap;

use crate::ownership::{Choice, FieldRule, OnViolation};
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
    /// All fields.
    pub fields: Named<FieldPlan>,
    /// Some owner lets others write.
    pub accepts: bool,
}

/// Who may write a field.
#[derive(Debug)]
pub(crate) struct FieldPlan {
    /// It is part of the key.
    pub key: bool,
    /// Crossdock computes it.
    pub computed: bool,
    /// Its possible owners.
    pub rule: Option<Arc<FieldRule>>,
}

impl FieldPlan {
    /// Whether a source owns it whatever the record says.
    pub fn plainly_owned_by(&self, source: &str) -> bool {
        let first = self.rule.as_ref().and_then(|rule| rule.first());
        let plain = |c: &&Choice| c.when.is_none() && c.frozen_when.is_none();
        !self.computed && first.filter(plain).is_some_and(|c| c.owned_by(source))
    }
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
        let field = |name: &Name| FieldPlan {
            key: entity.is_key(name),
            computed: computed.is_some_and(|computed| computed.contains(name)),
            rule: ownership.and_then(|o| o.rule_of(name)).cloned(),
        };
        let fields: Named<FieldPlan> =
            entity.fields.keys().map(|name| (name.clone(), field(name))).collect();
        let owned = |(name, field): (&Name, &FieldPlan)| {
            let rule = field.rule.clone().filter(|_| !field.key && !field.computed)?;
            Some(OwnedField { name: name.clone(), rule })
        };
        let mut owned: Vec<OwnedField> = fields.iter().filter_map(owned).collect();
        owned.sort_by_key(|field| field.rule.iter().any(|c| c.exprs().next().is_some()));
        let default = ownership.and_then(|o| o.default.clone());
        let rules = fields.values().filter_map(|field| field.rule.as_ref());
        let accepts = rules
            .flat_map(|rule| rule.iter())
            .any(|choice| choice.on_violation == OnViolation::Accept);
        EntityPlan { key: entity.key.clone(), owned, default, fields, accepts }
    };
    rules.entities.iter().map(|entity| (entity.name.clone(), plan(entity))).collect()
}
