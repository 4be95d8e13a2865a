//! JSON as text, for `jsonb` columns, written without a tree of JSON in between: a row change
//! writes half a dozen of these.

use std::borrow::Cow;
use std::fmt;

use crossdock_model::Named;
use crossdock_model::canonical::{Fields, Name, Origin};
use crossdock_model::names::shared;
use crossdock_model::value::write_json_text;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use super::encoding::{text, value_of_json};

/// A NUL in JSON. `jsonb` refuses it.
const NUL: &str = "\\u0000";

/// JSON as `jsonb` takes it.
pub(crate) fn json(given: &Json) -> String {
    json_of(given)
}

/// JSON of anything serialisable.
pub(crate) fn json_of(given: &(impl Serialize + ?Sized)) -> String {
    without_nul(serde_json::to_string(given).unwrap_or_else(|_| "null".into()))
}

/// JSON of a list or map, unless nothing is in it: statements write `[]` or `{}` for `NULL`, which
/// spares the server reading a text that nearly all rows share.
pub(crate) fn json_unless(is_empty: bool, given: &(impl Serialize + ?Sized)) -> Option<String> {
    (!is_empty).then(|| json_of(given))
}

/// JSON that is text already.
pub(crate) fn json_text(given: &str) -> Cow<'_, str> {
    match given.contains(NUL) {
        true => Cow::Owned(without_nul(given.to_string())),
        false => Cow::Borrowed(given),
    }
}

/// Fields as people query them; see `Value::to_json`.
pub(crate) fn fields_json(fields: &Fields) -> String {
    let mut out = String::with_capacity(32 * fields.len() + 2);
    out.push('{');
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_json_text(&mut out, name);
        out.push(':');
        value.write_json(&mut out);
    }
    out.push('}');
    without_nul(out)
}

/// Fields that have the same origin, as they are kept: nearly all fields of a record come from
/// one or two places.
#[derive(Debug, Deserialize)]
pub(crate) struct Group {
    source: Shared,
    at: Name,
    rule: Shared,
    #[serde(default)]
    inferred: Vec<Name>,
    fields: Vec<Shared>,
}

/// A name that many share.
#[derive(Debug)]
struct Shared(Name);

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Shared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Shared, E> {
                Ok(Shared(shared(text)))
            }
        }
        json.deserialize_str(Text)
    }
}

/// Origins as they are kept: fields with the same origin together.
pub(crate) fn origins_json(origins: &Named<Origin>) -> String {
    let mut groups: Vec<(&Origin, Vec<&Name>)> = Vec::new();
    for (field, origin) in origins {
        match groups.iter_mut().find(|group| *group.0 == *origin) {
            Some(group) => group.1.push(field),
            None => groups.push((origin, vec![field])),
        }
    }
    let mut out = String::with_capacity(128 * groups.len() + 16 * origins.len() + 2);
    out.push('[');
    for (at, (origin, fields)) in groups.into_iter().enumerate() {
        out.push_str(if at > 0 { ",{" } else { "{" });
        let texts = [("source", &origin.source), ("at", &origin.at), ("rule", &origin.rule)];
        for (member, text) in texts {
            write_json_text(&mut out, member);
            out.push(':');
            write_json_text(&mut out, text);
            out.push(',');
        }
        if !origin.inferred.is_empty() {
            names_json(&mut out, "inferred", origin.inferred.iter());
            out.push(',');
        }
        names_json(&mut out, "fields", fields.into_iter());
        out.push('}');
    }
    out.push(']');
    without_nul(out)
}

fn names_json<'n>(out: &mut String, member: &str, names: impl Iterator<Item = &'n Name>) {
    write_json_text(out, member);
    out.push_str(":[");
    for (at, name) in names.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_json_text(out, name);
    }
    out.push(']');
}

/// The origins of which [`origins_json`] made these.
pub(crate) fn origins(groups: Vec<Group>) -> Named<Origin> {
    let each = |Group { source, at, rule, inferred, fields }: Group| {
        let origin = Origin { source: source.0, at, rule: rule.0, inferred };
        fields.into_iter().map(move |field| (field.0, origin.clone()))
    };
    groups.into_iter().flat_map(each).collect()
}

/// Fields as [`fields_json`] wrote them, as far as JSON knows their types.
#[derive(Debug)]
pub(crate) struct Plain(pub Fields);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Plain, M::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some((name, value)) = map.next_entry::<Shared, Json>()? {
                    fields.push((name.0, value_of_json(value)));
                }
                Ok(Plain(fields.into_iter().collect()))
            }
        }
        json.deserialize_map(Members)
    }
}

/// PostgreSQL keeps no NUL: its visible stand-in takes its place.
fn without_nul(written: String) -> String {
    if !written.contains(NUL) {
        return written;
    }
    match serde_json::from_str::<Json>(&written) {
        Ok(mut json) => {
            make_visible(&mut json);
            json.to_string()
        }
        Err(_) => written,
    }
}

fn make_visible(json: &mut Json) {
    match json {
        Json::String(s) if s.contains('\0') => *s = text(s).into_owned(),
        Json::Array(items) => items.iter_mut().for_each(make_visible),
        Json::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                make_visible(&mut value);
                map.insert(text(&key).into_owned(), value);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use crossdock_model::Value;

    use super::*;

    #[test]
    fn nul_becomes_visible() {
        let given = serde_json::json!({"a\u{0}": ["x\u{0}y", "\\u0000"]});
        assert_eq!(json(&given), "{\"a␀\":[\"x␀y\",\"\\\\u0000\"]}");
    }

    #[test]
    fn fields_are_the_json_of_their_values() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-7),
            Value::UInt(u64::MAX),
            Value::Decimal("12.500".into()),
            Value::Float(f64::NAN),
            Value::Text("a \"b\" \\ \u{1f} ü\u{0}".into()),
            Value::Json("{\"a\": [1, 2.50]}".into()),
            Value::Json("no json".into()),
            Value::TimestampTz(1_700_000_000_000_000),
            Value::Array(vec![Value::Int(1), Value::Null, Value::Text("x".into())]),
        ];
        let fields: Fields = values
            .iter()
            .enumerate()
            .map(|(n, v)| (format!("f{n:02}").into(), v.clone()))
            .collect();
        let written: Json = serde_json::from_str(&fields_json(&fields)).unwrap();
        for (name, value) in &fields {
            let mut expected = value.to_json();
            make_visible(&mut expected);
            assert_eq!(written[&**name], expected, "{value:?}");
        }
    }

    #[test]
    fn origins_come_back() {
        let origin = |source: &str, at: &str| Origin::new(source.into(), at.into(), "r:3".into());
        let mut status = origin("crossdock", "");
        status.inferred = vec!["picked".into()];
        let all: Named<Origin> = [
            ("qty".into(), origin("erp", "01")),
            ("sku".into(), origin("erp", "01")),
            ("status".into(), status),
            ("weight".into(), origin("wms", "02")),
        ]
        .into();
        let written = origins_json(&all);
        assert_eq!(origins(serde_json::from_str(&written).unwrap()), all);
        assert!(written.starts_with(
            r#"[{"source":"erp","at":"01","rule":"r:3","fields":["qty","sku"]},{"source":"crossdock""#
        ));
    }
}
