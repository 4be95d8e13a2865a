//! What is worked out once for each entity, so that computing a record looks nothing up by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_model::Named;
use crossdock_model::canonical::Name;

use crate::deliver::Projection;
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
    /// A field depends on what is said of it and on nothing else, evidence and computed fields
    /// aside: then a change is followed field by field.
    pub plain: bool,
    /// Computed fields, in the order in which they are computed.
    pub projected: Vec<Projected>,
}

/// What a computed field depends on.
#[derive(Debug)]
pub(crate) struct Projected {
    /// Fields of the record; `None` for all.
    pub reads: Option<BTreeSet<Name>>,
    /// Entities whose records it reads as lists.
    pub children: BTreeSet<Name>,
    /// Fields of those; `None` for all.
    pub of_children: Option<BTreeSet<Name>>,
}

impl Projected {
    fn new(projection: &Projection) -> Self {
        let names = |names: &BTreeSet<String>| names.iter().map(|n| n.as_str().into()).collect();
        Self {
            reads: projection.value.members_of("rec").map(|read| read.map(Name::from).collect()),
            children: projection.children.values().cloned().collect(),
            of_children: projection.value.elements.as_ref().map(names),
        }
    }

    /// Whether a change of a field of the record matters.
    pub fn reads(&self, field: &Name) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.contains(field))
    }

    /// Whether a change of a child matters; `fields` are those that changed, `None` for the whole
    /// of it.
    pub fn reads_child(&self, entity: &Name, fields: Option<&[Name]>) -> bool {
        let any = |of: &BTreeSet<Name>, fields: &[Name]| fields.iter().any(|f| of.contains(f));
        self.children.contains(entity)
            && match (&self.of_children, fields) {
                (Some(of), Some(fields)) => any(of, fields),
                _ => true,
            }
    }
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

/// Whether the fields of an entity are independent of each other, but for computed ones that read
/// what was computed before them.
fn is_plain(rules: &Rules, entity: &Name, owned: &[OwnedField]) -> bool {
    let simple = |choice: &Choice| {
        choice.exprs().next().is_none()
            && choice.fallback.is_empty()
            && choice.on_violation != OnViolation::Accept
    };
    let projections = rules.telling.projections.of(entity).map_or(&[][..], Vec::as_slice);
    let forwards = projections.iter().enumerate().all(|(at, projection)| {
        let later = || projections.iter().skip(at).map(|later| &*later.field);
        let read = projection.value.members_of("rec");
        read.is_some_and(|mut read| read.all(|field| later().all(|later| later != field)))
    });
    forwards
        && owned.iter().all(|field| matches!(&field.rule[..], [only] if simple(only)))
        && !rules.quarantines.contains_key(entity)
        && rules.lifecycles.of(entity).is_none_or(|lifecycle| !lifecycle.is_guarded())
}

/// Plans by entity.
pub(crate) type Plans = Named<EntityPlan>;

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
        let projected = rules.telling.projections.get(&entity.name);
        let projected: Vec<Projected> =
            projected.into_iter().flatten().map(Projected::new).collect();
        let plain = is_plain(rules, &entity.name, &owned);
        let rules = fields.values().filter_map(|field| field.rule.as_ref());
        let accepts = rules
            .flat_map(|rule| rule.iter())
            .any(|choice| choice.on_violation == OnViolation::Accept);
        let key = entity.key.clone();
        EntityPlan { key, owned, default, fields, accepts, plain, projected }
    };
    rules.entities.iter().map(|entity| (entity.name.clone(), plan(entity))).collect()
}
