//! Evaluating a mapping for one row: pure, without knowledge of files or stores.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bigdecimal::BigDecimal;
use crossdock_model::canonical::{Fields, Links, Name, RecordKey, RowKey};
use crossdock_model::{Value, time};
use crossdock_schema_registry::{Entities, EntityDef, FieldType};
use jiff::tz::TimeZone;

use crate::codes::{CodeTable, Unmapped};
use crate::mapping::{FieldMap, LinkMap, Mapping, Path, Term};
use crate::scope::{Scope, Var};

/// A row with the rows that its mapping refers to.
#[derive(Clone, Debug)]
pub(crate) struct RowView<'a> {
    /// The row.
    pub row: &'a Fields,
    /// The looked-up rows; `None` where the key is NULL.
    pub lookups: Vec<Option<&'a Fields>>,
    /// The JSON document that was read last, by the place of its text.
    document: RefCell<Option<(*const Value<'static>, Rc<serde_json::Value>)>>,
}

/// Why a row says nothing about a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowTrouble {
    /// A value cannot be read, or an expression fails. Carries the field and what is wrong.
    Mapping {
        /// Field or condition.
        field: Name,
        /// Where the rule stands.
        rule: Name,
        /// One sentence, without values.
        what: String,
    },
    /// A part of the key is NULL.
    MissingKey {
        /// Entity.
        entity: Name,
        /// Where the rule stands.
        rule: Name,
    },
    /// A code that no table knows.
    UnknownCode {
        /// Code table.
        table: Name,
        /// The code.
        code: String,
    },
    /// Two rows have the values by which a lookup finds one.
    Ambiguous {
        /// What both are found by.
        alias: RowKey,
        /// The columns.
        columns: Vec<Name>,
        /// Keys of the row that is found and of the one that is not.
        rows: [Name; 2],
    },
}

/// What one row says about one record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// The record.
    pub record: RecordKey,
    /// Its fields.
    pub fields: Arc<Fields>,
    /// Its links.
    pub links: Arc<Links>,
}

/// The answer of a mapping to a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// What the row says, unless it says nothing.
    pub said: Option<Said>,
    /// What is wrong with it.
    pub troubles: Vec<RowTrouble>,
    /// The mapping failed as a whole: what the row said before stays.
    pub failed: bool,
}

impl<'a> RowView<'a> {
    /// A row with looked-up rows.
    pub fn new(row: &'a Fields, lookups: Vec<Option<&'a Fields>>) -> Self {
        Self { row, lookups, document: RefCell::default() }
    }

    /// The value at a path; `None` when the column was never seen. Only a member of a JSON document
    /// is a value of its own.
    pub fn value(&self, path: &Path) -> Option<Cow<'a, Value<'static>>> {
        let fields = match path.lookup {
            None => self.row,
            Some(at) => match self.lookups.get(at)? {
                Some(fields) => *fields,
                None => return Some(Cow::Owned(Value::Null)),
            },
        };
        let value = fields.of(&path.column)?;
        if path.members.is_empty() {
            return Some(Cow::Borrowed(value));
        }
        Some(Cow::Owned(self.member(value, &path.members)))
    }

    /// A member of a JSON document; NULL when there is none. A document is read once, however many
    /// of its members are asked for one after another.
    fn member(&self, value: &'a Value<'static>, members: &[String]) -> Value<'static> {
        let (Value::Json(text) | Value::Text(text)) = value else { return Value::Null };
        let mut last = self.document.borrow_mut();
        let place: *const Value<'static> = value;
        let document = match &*last {
            Some((known, document)) if *known == place => document.clone(),
            _ => {
                let Ok(json) = serde_json::from_str(text) else { return Value::Null };
                last.insert((place, Rc::new(json))).1.clone()
            }
        };
        member(&document, members)
    }

    /// The variables `row` and the lookups.
    pub fn scope<'s>(&'s self, mapping: &'s Mapping) -> Scope<'s> {
        let mut scope = Scope::default().with("row", Var::Fields(self.row));
        for (lookup, found) in mapping.lookups.iter().zip(&self.lookups) {
            scope = scope.with(&lookup.name, found.map_or(Var::Missing, Var::Fields));
        }
        scope
    }
}

/// A member of a JSON document; NULL when there is none.
fn member(document: &serde_json::Value, members: &[String]) -> Value<'static> {
    let mut at = document;
    for name in members {
        let next = match at {
            serde_json::Value::Array(items) => name.parse().ok().and_then(|i: usize| items.get(i)),
            other => other.get(name),
        };
        match next {
            Some(next) => at = next,
            None => return Value::Null,
        }
    }
    match at {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(v) => Value::Bool(*v),
        serde_json::Value::String(s) => Value::Text(s.clone().into()),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(v) => Value::Int(v),
            None => Value::Decimal(crossdock_model::value::normal_decimal(&n.to_string()).into()),
        },
        nested => Value::Json(nested.to_string().into()),
    }
}

/// Key of the row that a lookup finds, or the alias that this row has; `None` when a part of the
/// key is NULL or not known, or refers to another table.
pub(crate) fn lookup_key(mapping: &Mapping, at: usize, view: &RowView<'_>) -> Option<RowKey> {
    let lookup = mapping.lookups.get(at)?;
    let part = |path: &Path| view.value(path).filter(|v| !v.is_null());
    let pk = match (&lookup.prefix, &lookup.key[..]) {
        (Some(prefix), [only]) => part(only)?.to_text()?.strip_prefix(prefix.as_str())?.into(),
        (None, [only]) => RowKey::join([&*part(only)?]),
        (_, all) => {
            let parts: Option<Vec<Cow<'_, _>>> = all.iter().map(part).collect();
            RowKey::join(parts?.iter().map(|value| &**value))
        }
    };
    let table = lookup.by.as_ref().map_or(&lookup.table, |alias| &alias.held);
    Some(RowKey { source: mapping.source.clone(), table: table.clone(), pk })
}

/// Maps a row to a record.
pub(crate) fn map_row<'v>(mapping: &'v Mapping, entities: &Entities, view: &RowView<'v>) -> Answer {
    let mut answer = Answer::default();
    match contributes(mapping, view) {
        Ok(true) => {}
        Ok(false) => return answer,
        Err(trouble) => {
            answer.troubles.push(trouble);
            answer.failed = true;
            return answer;
        }
    }
    let Some(entity) = entities.of(&mapping.entity) else { return answer };
    let mut fields = Vec::with_capacity(mapping.fields.len());
    for field in &mapping.fields {
        match evaluate(field, mapping, view) {
            Ok(Some(value)) => fields.push((field.name.clone(), value.into_owned())),
            Ok(None) => {}
            Err(trouble) => {
                answer.failed |= matches!(trouble, RowTrouble::Mapping { .. });
                answer.troubles.push(trouble);
            }
        }
    }
    if answer.failed {
        return answer;
    }
    // Fields of a mapping are in the order in which records keep them.
    let fields = Fields::in_order(fields);
    let Some(record) = entity.record_key(|name| fields.of(name)) else {
        let rule = mapping.spot.name();
        answer.troubles.push(RowTrouble::MissingKey { entity: entity.name.clone(), rule });
        return answer;
    };
    let mut links = Links::new();
    for link in &mapping.links {
        match link_key(link, mapping, entities, view) {
            Ok(Some(key)) => _ = links.insert(link.name.clone(), key),
            Ok(None) => {}
            Err(trouble) => answer.troubles.push(trouble),
        }
    }
    answer.said = Some(Said { record, fields: Arc::new(fields), links: Arc::new(links) });
    answer
}

/// Maps a row again of which only some columns have changed, and none of the rows that it refers to;
/// `None` when it must be mapped as a whole.
pub(crate) fn map_again<'v>(
    mapping: &'v Mapping,
    entities: &Entities,
    view: &RowView<'v>,
    last: &Said,
    changed: &[&Name],
) -> Option<Said> {
    let entity = entities.of(&mapping.entity).filter(|_| last.record.entity == mapping.entity)?;
    let mut conditions = mapping.when.iter().chain(&mapping.deleted_when);
    if conditions.any(|condition| condition.reads("row", changed)) {
        return None;
    }
    let mut said = last.clone();
    for field in mapping.fields.iter().filter(|field| field.reads(changed)) {
        if entity.is_key(&field.name) {
            return None;
        }
        match (evaluate(field, mapping, view).ok()?, said.fields.of(&field.name)) {
            (Some(value), Some(old)) if *old == *value => {}
            (Some(value), Some(_)) => {
                Arc::make_mut(&mut said.fields).put(&field.name, value.into_owned());
            }
            // A column that was never seen, or that is seen for the first time.
            _ => return None,
        }
    }
    for link in &mapping.links {
        if link.key.iter().any(|part| part.reads(changed)) {
            return None;
        }
    }
    Some(said)
}

/// The record that a row is about, whether or not it contributes to it.
pub(crate) fn record_of<'v>(
    mapping: &'v Mapping,
    entities: &Entities,
    view: &RowView<'v>,
) -> Result<Option<RecordKey>, RowTrouble> {
    let Some(entity) = entities.of(&mapping.entity) else { return Ok(None) };
    key_from(mapping.fields.iter().filter(|f| entity.is_key(&f.name)), entity, mapping, view)
}

/// The record that a link names; `None` when a part of its key is NULL.
pub(crate) fn link_key<'v>(
    link: &'v LinkMap,
    mapping: &Mapping,
    entities: &Entities,
    view: &RowView<'v>,
) -> Result<Option<RecordKey>, RowTrouble> {
    let Some(entity) = entities.of(&link.entity) else { return Ok(None) };
    key_from(link.key.iter(), entity, mapping, view)
}

fn key_from<'f>(
    key: impl Iterator<Item = &'f FieldMap>,
    entity: &EntityDef,
    mapping: &Mapping,
    view: &RowView<'f>,
) -> Result<Option<RecordKey>, RowTrouble> {
    let mut fields: Vec<(&Name, Cow<'_, Value<'static>>)> = Vec::with_capacity(entity.key.len());
    for field in key {
        if let Some(value) = evaluate(field, mapping, view)? {
            fields.push((&field.name, value));
        }
    }
    let of = |name: &Name| fields.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| &**v);
    Ok(entity.record_key(of))
}

fn contributes(mapping: &Mapping, view: &RowView<'_>) -> Result<bool, RowTrouble> {
    let check = |expr: &crate::expr::Expr, name: &str| {
        expr.holds(&view.scope(mapping)).map_err(|what| RowTrouble::Mapping {
            field: name.into(),
            rule: expr.spot.name(),
            what,
        })
    };
    if let Some(when) = &mapping.when
        && !check(when, "when")?
    {
        return Ok(false);
    }
    match &mapping.deleted_when {
        Some(gone) => Ok(!check(gone, "deleted_when")?),
        None => Ok(true),
    }
}

/// The value of one field; `None` when its column was never seen.
pub(crate) fn evaluate<'v>(
    field: &'v FieldMap,
    mapping: &Mapping,
    view: &RowView<'v>,
) -> Result<Option<Cow<'v, Value<'static>>>, RowTrouble> {
    let bad = |what: String| RowTrouble::Mapping {
        field: field.name.clone(),
        rule: field.spot.name(),
        what,
    };
    let value = match &field.term {
        Term::Constant(value) => return Ok(Some(Cow::Borrowed(value))),
        Term::Path(path) => match view.value(path) {
            Some(value) => value,
            None => return Ok(None),
        },
        Term::Expr(expr) => Cow::Owned(expr.value(&view.scope(mapping)).map_err(bad)?),
    };
    if value.is_null() {
        return Ok(Some(Cow::Owned(Value::Null)));
    }
    let value = match &field.codes {
        Some(codes) => Cow::Owned(translate(codes, &[value.to_text().unwrap_or_default()])?),
        None => value,
    };
    if field.shift == 0 && field.kind.has(&value) {
        return Ok(Some(value));
    }
    let converted = convert(&value, field.kind, field.shift, &field.zone);
    converted.map(|value| Some(Cow::Owned(value))).map_err(|()| {
        let from = match &field.term {
            Term::Path(path) => format!("column {}.{}", mapping.table, path.column),
            _ => format!("the expression at {}", field.spot.name()),
        };
        bad(format!("{from} cannot be read as {} for {}", field.kind, field.name))
    })
}

/// What a code means.
pub(crate) fn translate(codes: &CodeTable, parts: &[String]) -> Result<Value<'static>, RowTrouble> {
    match (codes.look_up(parts), codes.unmapped) {
        (Some(value), _) => Ok(Value::Text(value.to_string().into())),
        (None, Unmapped::Keep) => Ok(Value::Text(parts.join(":").into())),
        (None, Unmapped::Exception) => {
            Err(RowTrouble::UnknownCode { table: codes.name.clone(), code: parts.join(":") })
        }
    }
}

/// Brings a value to a field's type: wall-clock times by their zone, decimals shifted.
pub(crate) fn convert(
    value: &Value<'_>,
    kind: FieldType,
    shift: i64,
    zone: &TimeZone,
) -> Result<Value<'static>, ()> {
    if kind == FieldType::Instant
        && let Some(wall) = wall_clock(value)
    {
        return instant(wall, zone);
    }
    if kind == FieldType::Date
        && let Value::Timestamp(_) | Value::TimestampTz(_) = value
    {
        return day(value, zone).ok_or(());
    }
    let value = kind.coerce(value)?;
    if shift == 0 {
        return Ok(value);
    }
    shifted(&value, shift).ok_or(())
}

/// Moves the decimal point: 1250 shifted by -2 is 12.5.
pub(crate) fn shifted(value: &Value<'_>, places: i64) -> Option<Value<'static>> {
    let number = crossdock_model::value::decimal(&value.to_text()?)?;
    let (digits, scale) = number.into_bigint_and_exponent();
    let moved = BigDecimal::new(digits, scale.checked_sub(places)?);
    let text = crossdock_model::value::normal_decimal(&moved.to_plain_string());
    Some(Value::Decimal(text.into()))
}

/// The day of a time: that which its clock showed or, when the time has a zone of its own, that
/// which it was in `zone`. Infinity has none.
fn day(value: &Value<'_>, zone: &TimeZone) -> Option<Value<'static>> {
    let shown = match value {
        Value::Timestamp(micros) if !matches!(*micros, i64::MAX | i64::MIN) => *micros,
        Value::TimestampTz(micros) => {
            let at = jiff::Timestamp::from_microsecond(*micros).ok()?;
            micros.checked_add(i64::from(zone.to_offset(at).seconds()) * 1_000_000)?
        }
        _ => return None,
    };
    i32::try_from(shown.div_euclid(time::DAY_MICROS)).ok().map(Value::Date)
}

/// What a clock showed, microseconds; `None` when the value is no wall-clock time.
fn wall_clock(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Timestamp(micros) => Some(*micros),
        Value::Date(days) => Some(i64::from(*days) * time::DAY_MICROS),
        Value::Text(text) => match time::parse_timestamp(text) {
            Some((micros, None)) => Some(micros),
            _ => None,
        },
        _ => None,
    }
}

/// Gives a wall-clock time its zone. A time that the clock shows twice is the earlier one; a time
/// that it skips is taken as if the clock had not yet been put forward. Infinity has no zone.
fn instant(wall: i64, zone: &TimeZone) -> Result<Value<'static>, ()> {
    if *zone == TimeZone::UTC || matches!(wall, i64::MAX | i64::MIN) {
        return Ok(Value::TimestampTz(wall));
    }
    let utc = jiff::Timestamp::from_microsecond(wall).map_err(|_| ())?;
    let civil = TimeZone::UTC.to_datetime(utc);
    let at = zone.to_ambiguous_timestamp(civil).compatible().map_err(|_| ())?;
    Ok(Value::TimestampTz(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clocks_have_a_zone_and_cents_a_point() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let at = Value::Text("2026-11-23 10:00:00".to_string().into());
        let utc = convert(&at, FieldType::Instant, 0, &berlin).unwrap();
        assert_eq!(utc.to_text().as_deref(), Some("2026-11-23T09:00:00Z"));
        let summer = Value::Timestamp(time::parse_instant("2026-05-01 10:00:00").unwrap());
        let utc = convert(&summer, FieldType::Instant, 0, &berlin).unwrap();
        assert_eq!(utc.to_text().as_deref(), Some("2026-05-01T08:00:00Z"));
        // Half past eleven in the evening of the same day, UTC and then in Berlin.
        let late = time::parse_instant("2026-05-01 23:30:00").unwrap();
        for (time, day) in [
            (Value::Timestamp(late), Some("2026-05-01")),
            (Value::TimestampTz(late), Some("2026-05-02")),
            (Value::Timestamp(-1), Some("1969-12-31")),
            (Value::Timestamp(i64::MAX), None),
            (Value::TimestampTz(i64::MIN), None),
        ] {
            let date = convert(&time, FieldType::Date, 0, &berlin);
            assert_eq!(date.ok().and_then(|d| d.to_text()).as_deref(), day, "{time:?}");
        }
        let cents = convert(&Value::Int(1250), FieldType::Decimal, -2, &TimeZone::UTC).unwrap();
        assert_eq!(cents.to_text().as_deref(), Some("12.5"));
    }
}
