//! Entities as Avro schemas, and Avro schemas that others bring.
//!
//! A record of an entity has `_key`, `_version` and `_deleted` (names that no field can have), the
//! fields of its natural key, and every other field as a union with null whose default is null, so
//! that adding a field is compatible both ways. Decimals are texts: Avro's own decimals have one
//! scale for all values, which would round or refuse what a system sends.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::{Value as Json, json};

use crate::{EntityDef, FieldType};

/// Namespace of the records' names.
const NAMESPACE: &str = "crossdock";
/// Larger schemas are refused unread.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// The Avro schema of an entity's records.
pub fn avro(entity: &EntityDef) -> Json {
    let mut fields = vec![
        json!({ "name": "_key", "type": "string", "doc": "Canonical key, such as shp:EU:1." }),
        json!({ "name": "_version", "type": "long", "doc": "Grows with every change." }),
        json!({ "name": "_deleted", "type": "boolean", "default": false }),
    ];
    for (name, kind) in &entity.fields {
        let mut field = match entity.is_key(name) {
            true => json!({ "name": &**name, "type": scalar(*kind) }),
            false => {
                json!({ "name": &**name, "type": ["null", scalar(*kind)], "default": null })
            }
        };
        if let Some(was) = entity.was.get(name) {
            let was: Vec<&str> = was.iter().map(|old| &**old).collect();
            field["aliases"] = json!(was);
        }
        fields.push(field);
    }
    json!({
        "type": "record",
        "name": &*entity.name,
        "namespace": NAMESPACE,
        "fields": fields,
    })
}

fn scalar(kind: FieldType) -> Json {
    match kind {
        FieldType::Text => json!("string"),
        FieldType::Integer => json!("long"),
        FieldType::Boolean => json!("boolean"),
        FieldType::Date => json!({ "type": "int", "logicalType": "date" }),
        FieldType::Instant => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        FieldType::Decimal => json!({ "type": "string", "crossdock.type": "decimal" }),
        FieldType::Json => json!({ "type": "string", "connect.name": "io.debezium.data.Json" }),
    }
}

/// An Avro schema that is sound.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    schema: Schema,
    json: Json,
}

impl AvroSchema {
    /// Reads a schema: an object, a list, or a bare type name (`"string"`, with or without
    /// quotes).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<AvroSchema, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err("the schema is larger than 1 MiB".into());
        }
        let json = serde_json::from_str(text).unwrap_or_else(|_| Json::from(text.trim()));
        let schema = Schema::parse(&json).map_err(|error| error.to_string())?;
        Ok(AvroSchema { schema, json })
    }

    /// True when both are the same schema, whatever the order and spacing of their texts.
    pub fn is_same(&self, other: &AvroSchema) -> bool {
        self.json == other.json
    }

    /// Whether this schema can read what was written with `writer`.
    ///
    /// # Errors
    /// Why not, naming the field.
    pub fn can_read(&self, writer: &AvroSchema) -> Result<(), String> {
        SchemaCompatibility::can_read(&writer.schema, &self.schema).map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entities;

    #[test]
    fn every_shipped_entity_has_a_sound_schema() {
        for entity in Entities::shipped().iter() {
            AvroSchema::parse(&avro(entity).to_string()).unwrap();
        }
    }

    #[test]
    fn a_schema_is_known_again_in_another_order() {
        let one = r#"{"type":"record","name":"a","fields":[{"name":"x","type":"long"}]}"#;
        let two = r#"{ "name":"a", "fields":[{"type":"long","name":"x"}], "type":"record" }"#;
        let (one, two) = (AvroSchema::parse(one).unwrap(), AvroSchema::parse(two).unwrap());
        assert!(one.is_same(&two));
        assert!(!one.is_same(&AvroSchema::parse("\"string\"").unwrap()));
        assert!(
            AvroSchema::parse("string").unwrap().is_same(&AvroSchema::parse("\"string\"").unwrap())
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for text in ["", "{}", "[1]", "{\"type\":\"nothing\"}", &"[".repeat(100_000)] {
            assert!(AvroSchema::parse(text).is_err(), "{text:.40}");
        }
        let large = format!("\"{}\"", "x".repeat(SCHEMA_BYTES_MAX));
        assert_eq!(AvroSchema::parse(&large).unwrap_err(), "the schema is larger than 1 MiB");
    }
}
