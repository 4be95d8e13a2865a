//! Records as readers of an earlier version of their schema know them.

use std::collections::BTreeMap;

use crossdock_model::canonical::Name;
use serde_json::{Map, Value as Json};

use crate::EntityDef;

/// A record in the shape of a version of its Avro schema: fields that have been renamed since under
/// the name that they had then, and without those that have come since. `fields` are the present
/// ones, as the canonical store keeps them; `known` are values of the schema's fields that are no
/// fields of the entity (`_key`, `_version`, `_deleted`).
///
/// `None` when the schema is not that of a record.
pub fn shaped(
    entity: &EntityDef,
    schema: &Json,
    fields: &BTreeMap<Name, Json>,
    known: &BTreeMap<&str, Json>,
) -> Option<Json> {
    let mut shaped = Map::new();
    for field in schema.get("fields")?.as_array()? {
        let name = field.get("name")?.as_str()?;
        let renamed = || entity.was.iter().find(|(_, old)| old.iter().any(|o| &**o == name));
        let value = known
            .get(name)
            .or_else(|| fields.get(name))
            .or_else(|| fields.get(renamed()?.0))
            .cloned()
            .unwrap_or(Json::Null);
        shaped.insert(name.to_string(), value);
    }
    Some(shaped.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AvroSchema, Entities, avro};
    use crossdock_model::SourceText;
    use serde_json::json;

    fn entity(fields: &str) -> EntityDef {
        let text = format!(
            "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
             no = \"integer\"\n{fields}"
        );
        let mut entities = Entities::default();
        assert_eq!(entities.extend(&[SourceText { file: "own.toml".into(), text }]), []);
        entities.entity("parcel").unwrap().clone()
    }

    #[test]
    fn a_renamed_field_is_found_under_both_names() {
        let old = entity("weight = \"text\"\n");
        let new =
            entity("weight_kg = { type = \"decimal\", was = [\"weight\"] }\nseal = \"text\"\n");
        let (first, second) = (avro(&old), avro(&new));
        let field = second["fields"].as_array().unwrap().last().unwrap();
        assert_eq!((&field["name"], &field["aliases"]), (&json!("weight_kg"), &json!(["weight"])));
        AvroSchema::parse(&second.to_string()).unwrap();

        let fields = BTreeMap::from([
            (Name::from("no"), json!(7)),
            (Name::from("weight_kg"), json!("2.5")),
            (Name::from("seal"), json!("x")),
        ]);
        let known = BTreeMap::from([
            ("_key", json!("par:7")),
            ("_version", json!(3)),
            ("_deleted", json!(false)),
        ]);
        let then = shaped(&new, &first, &fields, &known).unwrap();
        let expected = json!({
            "_key": "par:7", "_version": 3, "_deleted": false, "no": 7, "weight": "2.5"
        });
        assert_eq!(then, expected);
        let now = shaped(&new, &second, &fields, &known).unwrap();
        assert_eq!((&now["weight_kg"], &now["seal"]), (&json!("2.5"), &json!("x")));
        assert_eq!(shaped(&new, &json!("string"), &fields, &known), None);
    }

    #[test]
    fn what_a_field_was_called_must_be_free() {
        let text = "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
                    no = \"integer\"\nweight = \"text\"\n\
                    a = { type = \"text\", was = [\"weight\"] }\n\
                    b = { type = \"text\", was = \"c\" }\nd = { was = [\"e\"] }\n\
                    f = { type = \"text\", were = [\"g\"] }\n";
        let file = SourceText { file: "own.toml".into(), text: text.into() };
        let problems = Entities::default().extend(&[file]);
        let lines: Vec<u32> = problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [7, 8, 9, 10], "{problems:#?}");
    }
}
