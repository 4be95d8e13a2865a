//! What an expression sees: rows, records and their children as lazily read CEL values, and the
//! way back from a CEL result to a [`Value`].

use std::borrow::Cow;

use bigdecimal::BigDecimal;
use cel::ExecutionError;
use cel::common::traits::Indexer;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Kind, Type,
};
use cel::common::value::{CowVal, Val};
use crossdock_model::canonical::{Fields, Name};
use crossdock_model::{Named, Value};
use serde_json::Value as Json;

use crate::decimal::Dec;

static RECORD: Type = Type::simple_type(Kind::Opaque, "record");

/// Child records by list name.
pub(crate) type Children<'s> = Named<Vec<&'s Fields>>;

/// Something with named values.
pub(crate) trait Members: std::fmt::Debug + Sync {
    /// The value of a name, if there is one.
    fn member(&self, name: &str) -> Option<&Value<'static>>;

    /// The same, of a name that is shared.
    fn of(&self, name: &Name) -> Option<&Value<'static>> {
        self.member(name)
    }
}

impl Members for Fields {
    fn member(&self, name: &str) -> Option<&Value<'static>> {
        self.get(name)
    }

    fn of(&self, name: &Name) -> Option<&Value<'static>> {
        Fields::of(self, name)
    }
}

/// A variable of an expression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Var<'s> {
    /// A row or a record; a column or field that is not there is NULL.
    Fields(&'s Fields),
    /// A record with its key and its children.
    Record {
        /// Printable key.
        key: &'s str,
        /// Field values.
        fields: &'s dyn Members,
        /// Child records, if they were loaded.
        children: Option<&'s Children<'s>>,
    },
    /// Evidence: what is not known of it is the empty text.
    Facts(&'s Fields),
    /// Something that does not exist: every member is NULL.
    Missing,
    /// A text.
    Text(&'s str),
}

/// The variables of one evaluation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope<'s> {
    vars: Vec<(&'s str, Var<'s>)>,
}

impl<'s> Scope<'s> {
    /// Adds a variable; a later one of the same name hides an earlier one.
    pub fn with(mut self, name: &'s str, var: Var<'s>) -> Self {
        self.vars.push((name, var));
        self
    }

    /// Looks a variable up.
    pub fn get(&self, name: &str) -> Option<Var<'s>> {
        self.vars.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }
}

impl<'s> Var<'s> {
    /// A member as a plain value, when the variable has members.
    pub fn member(&self, name: &str) -> Option<Value<'static>> {
        match self {
            Var::Fields(fields) => Some(fields.get(name).cloned().unwrap_or(Value::Null)),
            Var::Record { key, fields, .. } => match fields.member(name) {
                Some(value) => Some(value.clone()),
                None if name == "key" => Some(Value::Text((*key).to_string().into())),
                None => Some(Value::Null),
            },
            Var::Facts(fields) => {
                Some(fields.get(name).cloned().unwrap_or_else(|| Value::Text("".into())))
            }
            Var::Missing => Some(Value::Null),
            Var::Text(_) => None,
        }
    }

    /// A member as it is kept, when the variable has members.
    pub fn borrowed(&self, name: &Name) -> Option<Cow<'s, Value<'static>>> {
        let found = match self {
            Var::Fields(fields) | Var::Facts(fields) => fields.of(name),
            // A list of children comes before a field of its name.
            Var::Record { children: Some(children), .. } if children.of(name).is_some() => {
                return None;
            }
            Var::Record { fields, .. } => fields.of(name),
            Var::Missing => None,
            Var::Text(_) => return None,
        };
        match found {
            Some(value) => Some(Cow::Borrowed(value)),
            None => self.member(name).map(Cow::Owned),
        }
    }

    /// As a CEL value.
    pub fn to_val(self) -> Box<dyn Val + 's> {
        match self {
            Var::Text(text) => Box::new(CelString::from(text)),
            other => Box::new(View(other)),
        }
    }
}

/// A row or record that gives its members when they are asked for.
#[derive(Clone, Debug)]
struct View<'s>(Var<'s>);

impl<'s> Val for View<'s> {
    fn get_type(&self) -> &Type {
        &RECORD
    }

    fn cel_type() -> &'static Type {
        &RECORD
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Indexer for View<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = index.downcast_ref::<CelString>() else {
            return Err(ExecutionError::UnexpectedType {
                got: index.get_type().name().to_string(),
                want: "string".to_string(),
            });
        };
        let name = name.inner();
        if let Var::Record { children: Some(children), .. } = self.0
            && let Some(list) = children.get(name)
        {
            let items = list.iter().map(|f| Var::Fields(f).to_val()).collect::<Vec<_>>();
            return Ok(CowVal::owned(CelList::from(items)));
        }
        let value = self.0.member(name).unwrap_or(Value::Null);
        Ok(CowVal::Owned(to_cel(&value)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

/// A plain value as CEL sees it: integers, booleans, text; decimals and instants are text.
pub(crate) fn to_cel<'v>(value: &Value<'_>) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(v) => Box::new(CelBool::from(*v)),
        Value::Int(v) => Box::new(CelInt::from(*v)),
        Value::UInt(v) => match i64::try_from(*v) {
            Ok(v) => Box::new(CelInt::from(v)),
            Err(_) => Box::new(CelUInt::from(*v)),
        },
        Value::Float(v) => Box::new(CelDouble::from(*v)),
        Value::Json(_) | Value::Array(_) => from_json(&value.to_json()),
        other => Box::new(CelString::from(other.to_text().unwrap_or_default())),
    }
}

fn from_json<'v>(json: &Json) -> Box<dyn Val + 'v> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(v) => Box::new(CelBool::from(*v)),
        Json::Number(n) => match n.as_i64() {
            Some(v) => Box::new(CelInt::from(v)),
            // As text, so that `dec()` reads it exactly.
            None => Box::new(CelString::from(n.to_string())),
        },
        Json::String(s) => Box::new(CelString::from(s.clone())),
        Json::Array(items) => {
            Box::new(CelList::from(items.iter().map(from_json).collect::<Vec<_>>()))
        }
        Json::Object(members) => {
            let map: std::collections::HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
                members.iter().map(|(k, v)| (CelMapKey::from(k.clone()), from_json(v))).collect();
            Box::new(CelMap::from(map))
        }
    }
}

/// A CEL result as a plain value; a map or list becomes JSON.
///
/// # Errors
/// When the result is a whole row or record, or of a type that has no plain form.
pub(crate) fn from_cel(value: &dyn Val) -> Result<Value<'static>, String> {
    if let Some(v) = value.downcast_ref::<CelString>() {
        return Ok(Value::Text(v.inner().to_string().into()));
    }
    if let Some(v) = value.downcast_ref::<CelInt>() {
        return Ok(Value::Int(*v.inner()));
    }
    if let Some(v) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*v.inner()));
    }
    if let Some(v) = value.downcast_ref::<CelUInt>() {
        return Ok(Value::UInt(*v.inner()));
    }
    if let Some(v) = value.downcast_ref::<CelDouble>() {
        return Ok(Value::Float(*v.inner()));
    }
    if let Some(v) = value.downcast_ref::<Dec>() {
        return Ok(Value::Decimal(v.0.to_plain_string().into()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    Ok(Value::Json(to_json(value)?.to_string().into()))
}

fn to_json(value: &dyn Val) -> Result<Json, String> {
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list.inner().iter().map(|v| to_json(v.as_ref())).collect();
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut members: Vec<(String, Json)> = Vec::with_capacity(map.inner().len());
        for (key, member) in map.inner() {
            let name = from_cel(key.inner())?.to_text().unwrap_or_default();
            members.push((name, to_json(member.as_ref())?));
        }
        // Sorted: the same document on every run.
        members.sort_by(|a, b| a.0.cmp(&b.0));
        return Ok(Json::Object(members.into_iter().collect()));
    }
    if value.as_builtin_plain() {
        return Ok(from_cel(value)?.to_json());
    }
    Err(format!("a value of type {} cannot be written; name its fields", value.get_type().name()))
}

/// Whether a CEL value has a plain form.
trait Plain {
    /// True for text, numbers, booleans, decimals and null.
    fn as_builtin_plain(&self) -> bool;
}

impl Plain for dyn Val + '_ {
    fn as_builtin_plain(&self) -> bool {
        self.downcast_ref::<Dec>().is_some()
            || matches!(
                self.get_type().kind(),
                Kind::String
                    | Kind::Int
                    | Kind::UInt
                    | Kind::Boolean
                    | Kind::Double
                    | Kind::NullType
            )
    }
}

/// Reads an exact decimal from what `dec()` was given.
pub(crate) fn to_decimal(value: &dyn Val) -> Result<BigDecimal, String> {
    if let Some(v) = value.downcast_ref::<Dec>() {
        return Ok(v.0.clone());
    }
    match from_cel(value)? {
        Value::Null => Err("a NULL is not a decimal; test with present() first".to_string()),
        Value::Json(_) | Value::Bool(_) => Err("this is not a decimal".to_string()),
        plain => crossdock_model::value::decimal(&plain.to_text().unwrap_or_default())
            .ok_or_else(|| "this text is not a decimal".to_string()),
    }
}
