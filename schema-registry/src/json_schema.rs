//! Entities as JSON Schema (draft 2020-12).

use serde_json::{Map, Value as Json, json};

use crate::{EntityDef, FieldType};

/// The JSON Schema of an entity's records, as deliveries and the canonical store have them: decimals
/// and times are texts. Further members are allowed, so that a reader outlives new fields.
pub fn json_schema(entity: &EntityDef) -> Json {
    let mut properties = Map::new();
    for (name, kind) in &entity.fields {
        properties.insert(name.to_string(), property(*kind, !entity.is_key(name)));
    }
    let required: Vec<&str> = entity.key.iter().map(|name| &**name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": &*entity.name,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn property(kind: FieldType, nullable: bool) -> Json {
    let (name, more) = match kind {
        FieldType::Text => ("string", json!({})),
        FieldType::Integer => ("integer", json!({})),
        FieldType::Boolean => ("boolean", json!({})),
        FieldType::Date => ("string", json!({ "format": "date" })),
        FieldType::Instant => ("string", json!({ "format": "date-time" })),
        FieldType::Decimal => ("string", json!({ "pattern": "^-?[0-9]+(\\.[0-9]+)?$" })),
        FieldType::Json => return json!({}),
    };
    let mut property = Map::new();
    property.insert("type".into(), if nullable { json!([name, "null"]) } else { json!(name) });
    if let Json::Object(more) = more {
        property.extend(more);
    }
    Json::Object(property)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entities;
    use crossdock_model::SourceText;

    #[test]
    fn an_entity_is_described() {
        let mut entities = Entities::default();
        let text = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                    no = \"integer\"\nweight = \"decimal\"\nat = \"instant\"\nextra = \"json\"\n";
        let problems = entities.extend(&[SourceText { file: "e".into(), text: text.into() }]);
        assert_eq!(problems, []);
        let expected = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "parcel",
            "type": "object",
            "properties": {
                "at": { "type": ["string", "null"], "format": "date-time" },
                "extra": {},
                "no": { "type": "integer" },
                "weight": { "type": ["string", "null"], "pattern": "^-?[0-9]+(\\.[0-9]+)?$" }
            },
            "required": ["no"]
        });
        assert_eq!(json_schema(entities.entity("parcel").unwrap()), expected);
    }
}
