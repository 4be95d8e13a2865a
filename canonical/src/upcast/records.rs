//! Fields of records in an earlier shape: `up` of a field, which computes it from those of earlier
//! versions, and `down` of a field that there is no more, for readers who still know it.

use std::collections::BTreeMap;

use crossdock_model::Value;
use crossdock_model::canonical::{Fields, Name, Record};
use crossdock_schema_registry::{Cast, Entities, EntityDef, FieldType};

use crate::expr::Expr;
use crate::names::check_members_of;
use crate::problems::{Report, Spot, did_you_mean};
use crate::rules::Rules;
use crate::scope::{Scope, Var};
use crate::upcast;

/// The compiled casts of the entities that have any.
pub(crate) type Casts = BTreeMap<Name, EntityCasts>;

/// How records of one entity come from an earlier shape and go back to it.
#[derive(Debug, Default)]
pub(crate) struct EntityCasts {
    up: BTreeMap<Name, Expr>,
    down: BTreeMap<Name, Expr>,
}

/// Compiles the casts of all entities.
pub(crate) fn records(entities: &Entities, report: &Report) -> Casts {
    let casts = entities.iter().filter(|e| !e.up.is_empty() || !e.earlier.is_empty());
    casts.map(|entity| (entity.name.clone(), EntityCasts::compile(entity, report))).collect()
}

fn compile(cast: &Cast, variable: &str, report: &Report) -> Option<Expr> {
    let spot = Spot { file: cast.file.clone(), line: cast.line };
    Expr::compile(&cast.expr, spot, &[variable], report)
}

impl EntityCasts {
    fn compile(entity: &EntityDef, report: &Report) -> Self {
        let mut casts = Self::default();
        for (field, cast) in &entity.up {
            let Some(expr) = compile(cast, "old", report) else { continue };
            let known = || entity.earlier.keys().chain(entity.was.values().flatten());
            for (_, old) in expr.members.iter().filter(|(_, m)| !known().any(|k| **k == **m)) {
                let what = format!("{} had no field `{old}`", entity.name);
                let remedy = match known().next() {
                    Some(_) => did_you_mean(old, known().map(|k| &**k)),
                    None => format!("say what it was: [entity.{}.earlier]", entity.name),
                };
                report.at(&expr.spot, what, remedy);
            }
            if expr.members.is_empty() {
                let remedy = "read fields of the earlier shape, such as old.weight_g";
                report.at(&expr.spot, "the expression reads no field of `old`", remedy);
            }
            casts.up.insert(field.clone(), expr);
        }
        for (field, earlier) in &entity.earlier {
            let Some(cast) = &earlier.down else { continue };
            let Some(expr) = compile(cast, "rec", report) else { continue };
            check_members_of("rec", &expr, entity, report);
            casts.down.insert(field.clone(), expr);
        }
        casts
    }

    /// Values of today's fields, from those of an earlier shape.
    fn up(&self, old: &Fields, entity: &EntityDef) -> Vec<(Name, Value<'static>, &Expr)> {
        let mut found = Vec::new();
        for (field, expr) in &self.up {
            let there = |(_, old_field): &(String, String)| old.contains_key(old_field.as_str());
            if old.contains_key(field) || !expr.members.iter().any(there) {
                continue;
            }
            let mut typed = old.clone();
            for (name, value) in typed.iter_mut() {
                if let Some(Ok(of_then)) = entity.earlier.get(name).map(|e| e.kind.coerce(value)) {
                    *value = of_then;
                }
            }
            let scope = Scope::default().with("old", Var::Fields(&typed));
            let kind = entity.field(field);
            let value = expr.value(&scope).ok().zip(kind).and_then(|(v, k)| k.coerce(&v).ok());
            found.extend(value.map(|value| (field.clone(), value, expr)));
        }
        found
    }
}

/// Brings what a row said of a record into today's shape.
pub(crate) fn contribution(fields: &mut Fields, entity: &EntityDef, casts: &Casts) {
    if let Some(casts) = casts.get(&entity.name) {
        for (field, value, _) in casts.up(fields, entity) {
            fields.insert(field, value);
        }
        entity.earlier.keys().for_each(|name| _ = fields.remove(name));
    }
    if !entity.was.is_empty() {
        upcast::fields(fields, &entity.was);
    }
}

/// Brings a record, and where its fields come from, into today's shape.
pub(crate) fn record(record: &mut Record, entity: &EntityDef, casts: &Casts) {
    if let Some(casts) = casts.get(&entity.name) {
        for (field, value, expr) in casts.up(&record.fields, entity) {
            let mut origins =
                expr.members.iter().filter_map(|(_, old)| record.origins.get(old.as_str()));
            if let Some(origin) = origins.next().cloned() {
                record.origins.insert(field.clone(), origin);
            }
            record.fields.insert(field, value);
        }
        for name in entity.earlier.keys() {
            record.fields.remove(name);
            record.origins.remove(name);
        }
    }
    upcast::fields(&mut record.fields, &entity.was);
    let origins = &record.origins;
    let renamed: Vec<(Name, Name)> =
        upcast::present(&entity.was, |name| origins.contains_key(name))
            .into_iter()
            .map(|(old, now)| (old.clone(), now.clone()))
            .collect();
    for (old, now) in renamed {
        if let Some(origin) = record.origins.remove(&old) {
            record.origins.insert(now, origin);
        }
    }
}

impl Rules {
    /// A record's values of fields that there are no more, for readers of an earlier version of
    /// its schema. `fields` are the present ones.
    ///
    /// # Errors
    /// The field, the place of the rule and one sentence, without values.
    pub fn earlier_fields(
        &self,
        key: &crossdock_model::canonical::RecordKey,
        fields: &Fields,
    ) -> Result<BTreeMap<Name, Value<'static>>, String> {
        let (Some(casts), Some(entity)) =
            (self.casts.get(&key.entity), self.entities.of(&key.entity))
        else {
            return Ok(BTreeMap::new());
        };
        let rec = Var::Record { key: &key.key, fields, children: None };
        let scope = Scope::default().with("rec", rec);
        let value = |(field, expr): (&Name, &Expr)| {
            let kind = entity.earlier.get(field).map_or(FieldType::Text, |e| e.kind);
            let value = expr.value(&scope).and_then(|v| {
                kind.coerce(&v).map_err(|()| format!("what comes of it is not {kind}"))
            });
            match value {
                Ok(value) => Ok((field.clone(), value)),
                Err(what) => Err(format!("{field} ({}): {what}", expr.spot.name())),
            }
        };
        casts.down.iter().map(value).collect()
    }
}
