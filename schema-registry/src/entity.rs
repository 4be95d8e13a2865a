//! Entities: which canonical records exist, how they are identified and what they hold.

use std::collections::BTreeMap;

use crossdock_model::canonical::{Name, RecordKey};
use crossdock_model::{Named, Problem, SourceText, Value};
use serde::{Deserialize, Serialize};

use crate::{FieldType, entities_file};

/// The entity files that Crossdock ships, in the order in which they are read.
const SHIPPED: [(&str, &str); 4] = [
    ("entities/10-master-data.toml", include_str!("../entities/10-master-data.toml")),
    ("entities/20-orders.toml", include_str!("../entities/20-orders.toml")),
    ("entities/30-warehouse.toml", include_str!("../entities/30-warehouse.toml")),
    ("entities/40-transport.toml", include_str!("../entities/40-transport.toml")),
];

/// Room for a key of the usual length.
const KEY_BYTES: usize = 48;

/// One kind of canonical record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityDef {
    /// Name: `shipment`.
    pub name: Name,
    /// First part of its keys: `shp`.
    pub prefix: Name,
    /// Fields that form the natural key, in order. Each is in `fields`; there is at least one.
    pub key: Vec<Name>,
    /// Every field and its type, the key fields included.
    pub fields: Named<FieldType>,
    /// Earlier names of fields that have been renamed, by the present one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub was: BTreeMap<Name, Vec<Name>>,
    /// How fields are computed from those of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub up: BTreeMap<Name, Cast>,
    /// Fields that earlier versions had and that there are no more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<Name, Earlier>,
}

/// An expression that makes a field of one version from those of another. What it means is not
/// known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cast {
    /// As it is written.
    pub expr: String,
    /// File as the user named it.
    pub file: Name,
    /// Line, from 1.
    pub line: u32,
}

/// A field that there is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Its type.
    pub kind: FieldType,
    /// How those who still read it get it; `None`: as NULL.
    pub down: Option<Cast>,
}

impl EntityDef {
    /// The type of a field; `None` when the entity has no such field.
    pub fn field(&self, name: &str) -> Option<FieldType> {
        self.fields.get(name).copied()
    }

    /// Whether its records had another shape once.
    pub fn was_otherwise(&self) -> bool {
        !(self.was.is_empty() && self.up.is_empty() && self.earlier.is_empty())
    }

    /// True when the field is part of the key.
    pub fn is_key(&self, name: &str) -> bool {
        self.key.iter().any(|k| &**k == name)
    }

    /// The key of the record that these fields, asked for by name, identify: `shp:EU:SHP-000812`. Values are brought
    /// to the types of the fields first, so that `7` and `"7"` name one record.
    ///
    /// `None` when a part of the key is NULL, missing, or not of its field's type.
    pub fn record_key<'v>(
        &self,
        value_of: impl Fn(&Name) -> Option<&'v Value<'static>>,
    ) -> Option<RecordKey> {
        let mut key = String::with_capacity(KEY_BYTES);
        key.push_str(&self.prefix);
        for name in &self.key {
            let (value, kind) = (value_of(name)?, *self.fields.of(name)?);
            key.push(':');
            match (kind.has(value), value) {
                (true, Value::Int(_)) => value.push_text(&mut key)?,
                (true, value) => escape(&mut key, &value.text()?),
                (false, value) => escape(&mut key, &kind.coerce(value).ok()?.text()?),
            }
        }
        Some(RecordKey { entity: self.name.clone(), key: key.into() })
    }
}

/// `:` divides the parts of a key, `%` marks an escape: both are written as escapes in a part.
fn escape(out: &mut String, part: &str) {
    if !part.contains(['%', ':']) {
        return out.push_str(part);
    }
    for c in part.chars() {
        match c {
            '%' => out.push_str("%25"),
            ':' => out.push_str("%3A"),
            c => out.push(c),
        }
    }
}

/// All entities by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entities {
    by_name: Named<EntityDef>,
}

impl Entities {
    /// The entities that come with Crossdock.
    pub fn shipped() -> Entities {
        let mut entities = Entities::default();
        let files = SHIPPED.map(|(file, text)| SourceText { file: file.into(), text: text.into() });
        let problems = entities.extend(&files);
        debug_assert!(problems.is_empty(), "{problems:?}");
        entities
    }

    /// Adds entities, and fields to entities that exist. An existing entity keeps its prefix, its
    /// key and the type of every field.
    ///
    /// Returns every problem of every file. Whatever is sound is taken all the same, so that the
    /// files which refer to it can be checked too; with problems, nothing must be run.
    pub fn extend(&mut self, files: &[SourceText]) -> Vec<Problem> {
        files.iter().flat_map(|file| entities_file::read(file, &mut self.by_name)).collect()
    }

    /// An entity by name.
    pub fn entity(&self, name: &str) -> Option<&EntityDef> {
        self.by_name.get(name)
    }

    /// The same, by a name that is shared.
    pub fn of(&self, name: &Name) -> Option<&EntityDef> {
        self.by_name.of(name)
    }

    /// All entities in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &EntityDef> {
        self.by_name.values()
    }

    /// The entity to which a key belongs, by its prefix: `shp:EU:1` is a `shipment`.
    pub fn of_key(&self, key: &str) -> Option<&EntityDef> {
        let prefix = key.split(':').next()?;
        self.by_name.values().find(|e| &*e.prefix == prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_model::canonical::Fields;

    fn file(text: &str) -> [SourceText; 1] {
        [SourceText { file: "entities/own.toml".into(), text: text.into() }]
    }

    fn lines(problems: &[Problem]) -> Vec<u32> {
        problems.iter().map(|p| p.line).collect()
    }

    fn fields(values: &[(&str, Value<'static>)]) -> Fields {
        values.iter().map(|(k, v)| (Name::from(*k), v.clone())).collect()
    }

    #[test]
    fn what_is_shipped_is_sound() {
        let mut entities = Entities::default();
        let files = SHIPPED.map(|(file, text)| SourceText { file: file.into(), text: text.into() });
        assert_eq!(entities.extend(&files), []);
        let prefixes = [
            ("customer", "cus", "party_code"),
            ("product", "prd", "sku"),
            ("carrier", "car", "scac"),
            ("sales_order", "ord", "order_no"),
            ("order_line", "oln", "order_no,line_no"),
            ("shipment", "shp", "site,shipment_no"),
            ("load", "lod", "load_no"),
            ("milestone", "mst", "milestone_id"),
            ("freight_cost", "frc", "shipment_no,charge_code,cost_version"),
            ("inventory_position", "inv", "site,sku"),
            ("pick", "pck", "site,pick_task"),
            ("location", "loc", "code"),
        ];
        for (name, prefix, key) in prefixes {
            let entity = Entities::shipped().entity(name).cloned().unwrap();
            assert_eq!((&*entity.prefix, entity.key.join(",").as_str()), (prefix, key), "{name}");
        }
    }

    #[test]
    fn keys_are_printable_and_unambiguous() {
        let entities = Entities::shipped();
        let shipment = entities.entity("shipment").unwrap();
        let key = |site: &'static str, no: &'static str| {
            let row = [("site", Value::Text(site.into())), ("shipment_no", Value::Text(no.into()))];
            let row = fields(&row);
            shipment.record_key(|f| row.get(f)).unwrap().key.to_string()
        };
        assert_eq!(key("EU", "SHP-000812"), "shp:EU:SHP-000812");
        assert_eq!(key("a:b", "c%3A"), "shp:a%3Ab:c%253A");
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
        assert_eq!(entities.of_key("shp:EU:1").map(|e| &*e.name), Some("shipment"));
        assert_eq!(entities.of_key("nope:1"), None);

        let line = entities.entity("order_line").unwrap();
        let of = |line_no| {
            let row = [("order_no", Value::Text("SO-1".into())), ("line_no", line_no)];
            let row = fields(&row);
            line.record_key(|f| row.get(f)).map(|k| k.key.to_string())
        };
        assert_eq!(of(Value::Int(7)).as_deref(), Some("oln:SO-1:7"));
        assert_eq!(of(Value::Text("7".into())).as_deref(), Some("oln:SO-1:7"));
        assert_eq!(of(Value::Decimal("7.00".into())).as_deref(), Some("oln:SO-1:7"));
        assert_eq!(of(Value::Null), None);
        assert_eq!(of(Value::Text("seven".into())), None);
        assert_eq!(line.record_key(|_| None), None);
    }

    #[test]
    fn an_entity_may_gain_fields_and_nothing_else() {
        let mut entities = Entities::shipped();
        let gained = "[entity.shipment.fields]\nsealed_by = \"text\"\n\
                      [entity.yard]\nprefix = \"yrd\"\n\
                      key = [\"site\"]\n[entity.yard.fields]\nsite = \"text\"\n";
        assert_eq!(entities.extend(&file(gained)), []);
        let shipment = entities.entity("shipment").unwrap();
        assert_eq!(shipment.field("sealed_by"), Some(FieldType::Text));
        assert_eq!(shipment.field("weight"), Some(FieldType::Decimal));
        assert!(entities.entity("yard").unwrap().is_key("site"));

        let changed = "[entity.shipment]\nprefix = \"sh2\"\nkey = [\"shipment_no\"]\n\
                       [entity.shipment.fields]\nweight = \"text\"\n";
        assert_eq!(lines(&entities.extend(&file(changed))), [2, 3, 5]);
        assert_eq!(entities.entity("shipment").unwrap().field("weight"), Some(FieldType::Decimal));
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = "colour = 1\n[entity.Shipment2]\nprefix = \"shp\"\n\
                    key = [\"nope\", 3]\nowner = \"erp\"\n\
                    [entity.Shipment2.fields]\nkey = \"text\"\na = \"varchar\"\nb = 5\n\
                    [entity.empty]\n";
        let problems = Entities::shipped().extend(&file(text));
        assert_eq!(lines(&problems), [1, 2, 3, 4, 4, 5, 7, 8, 9, 10, 10], "{problems:#?}");
        assert!(problems.iter().all(|p| !p.remedy.is_empty() && p.file == "entities/own.toml"));
        let broken = Entities::shipped().extend(&file("[entity.a\n"));
        assert_eq!(lines(&broken), [1]);
    }
}
