//! Subjects: what is registered under which name, in which versions.

use std::collections::BTreeMap;

use crate::{AvroSchema, Compatibility, EntityDef, avro};

/// The largest number of versions of one subject; more are a runaway client.
const VERSIONS_MAX: usize = 1000;

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// Subject.
    pub subject: String,
    /// Number within the subject, from 1.
    pub version: u32,
    /// Number of the schema among all subjects; the same schema has the same everywhere.
    pub id: u32,
    /// The schema's text, as it was registered.
    pub schema: String,
}

/// All subjects. In memory; the caller keeps what is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subjects {
    /// In order of subject and version.
    versions: BTreeMap<String, Vec<SubjectVersion>>,
    /// Levels by subject; that of all others is below the empty name.
    levels: BTreeMap<String, Compatibility>,
}

/// Why a schema was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no schema.
    #[error("{0}")]
    Invalid(String),
    /// The subject's level does not allow it.
    #[error("schema of subject {subject} is not {level}: it {}", reasons.join("; it "))]
    Incompatible {
        /// Subject.
        subject: String,
        /// Its level.
        level: Compatibility,
        /// Every reason.
        reasons: Vec<String>,
    },
    /// There are too many.
    #[error("subject {0} has {VERSIONS_MAX} versions already")]
    Full(String),
}

impl Subjects {
    /// Puts together what was kept.
    pub fn new(
        versions: Vec<SubjectVersion>,
        levels: impl IntoIterator<Item = (String, Compatibility)>,
    ) -> Subjects {
        let mut subjects =
            Subjects { versions: BTreeMap::new(), levels: levels.into_iter().collect() };
        for version in versions {
            subjects.versions.entry(version.subject.clone()).or_default().push(version);
        }
        for versions in subjects.versions.values_mut() {
            versions.sort_by_key(|v| v.version);
        }
        subjects
    }

    /// Names of all subjects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.versions.keys().map(String::as_str)
    }

    /// Versions of a subject, oldest first; empty when there is no such subject.
    pub fn versions(&self, subject: &str) -> &[SubjectVersion] {
        self.versions.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Every version that has the schema with this id.
    pub fn with_id(&self, id: u32) -> impl Iterator<Item = &SubjectVersion> {
        self.versions.values().flatten().filter(move |v| v.id == id)
    }

    /// The level of a subject: its own, else the general one, else backward.
    pub fn level(&self, subject: &str) -> Compatibility {
        self.own_level(subject).or_else(|| self.own_level("")).unwrap_or_default()
    }

    /// The level that was set for a subject, or for all (the empty name).
    pub fn own_level(&self, subject: &str) -> Option<Compatibility> {
        self.levels.get(subject).copied()
    }

    /// Every level that was set, by subject; that of all others is below the empty name.
    pub fn levels(&self) -> impl Iterator<Item = (&str, Compatibility)> {
        self.levels.iter().map(|(subject, level)| (subject.as_str(), *level))
    }

    /// Sets the level of a subject, or of all that have none (the empty name).
    pub fn set_level(&mut self, subject: &str, level: Compatibility) {
        self.levels.insert(subject.to_string(), level);
    }

    /// The version of a subject that has this very schema.
    ///
    /// # Errors
    /// [`Refused::Invalid`].
    pub fn find(&self, subject: &str, text: &str) -> Result<Option<&SubjectVersion>, Refused> {
        let schema = parse(text)?;
        Ok(self.versions(subject).iter().find(|v| is(v, &schema)))
    }

    /// Whether a schema may follow those of a subject, by a level (that of the subject, when
    /// `None`) and against those versions that `among` chooses.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        subject: &str,
        text: &str,
        among: impl Fn(&SubjectVersion) -> bool,
    ) -> Result<(), Refused> {
        let (new, level) = (parse(text)?, self.level(subject));
        let mut earlier = Vec::new();
        for version in self.versions(subject).iter().filter(|v| among(v)) {
            earlier.push((version.version, parse(&version.schema)?));
        }
        level.check(&new, &earlier).map_err(|reasons| Refused::Incompatible {
            subject: subject.to_string(),
            level,
            reasons,
        })
    }

    /// Registers a schema, or finds it when it is there already.
    ///
    /// # Errors
    /// Why not; nothing is changed then.
    pub fn register(&mut self, subject: &str, text: &str) -> Result<SubjectVersion, Refused> {
        if let Some(known) = self.find(subject, text)? {
            return Ok(known.clone());
        }
        self.check(subject, text, |_| true)?;
        let schema = parse(text)?;
        let all = || self.versions.values().flatten();
        let id = all().find(|v| is(v, &schema)).map(|v| v.id);
        let id = id.unwrap_or_else(|| all().map(|v| v.id).max().unwrap_or(0) + 1);
        let versions = self.versions.entry(subject.to_string()).or_default();
        if versions.len() >= VERSIONS_MAX {
            return Err(Refused::Full(subject.to_string()));
        }
        let version = SubjectVersion {
            subject: subject.to_string(),
            version: versions.last().map_or(1, |v| v.version + 1),
            id,
            schema: text.to_string(),
        };
        versions.push(version.clone());
        Ok(version)
    }

    /// Registers the records of entities, each under [`subject`].
    ///
    /// # Errors
    /// Every entity that has changed in a way that its subject's level does not allow. Others are
    /// registered all the same.
    pub fn register_entities<'e>(
        &mut self,
        entities: impl IntoIterator<Item = &'e EntityDef>,
    ) -> Result<(), Vec<Refused>> {
        let register = |entity| self.register(&subject(entity), &avro(entity).to_string()).err();
        let refused: Vec<Refused> = entities.into_iter().filter_map(register).collect();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }
}

/// The subject of an entity's records.
pub fn subject(entity: &EntityDef) -> String {
    format!("crossdock.{}", entity.name)
}

fn parse(text: &str) -> Result<AvroSchema, Refused> {
    AvroSchema::parse(text).map_err(Refused::Invalid)
}

fn is(version: &SubjectVersion, schema: &AvroSchema) -> bool {
    AvroSchema::parse(&version.schema).is_ok_and(|known| known.is_same(schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entities;
    use crossdock_model::SourceText;

    fn parcel(more: &str) -> Entities {
        let text = format!(
            "[entity.parcel]\nprefix = \"par\"\nkey = [\"no\"]\n[entity.parcel.fields]\n\
             no = \"integer\"\n{more}"
        );
        let mut entities = Entities::default();
        assert_eq!(entities.extend(&[SourceText { file: "e".into(), text }]), []);
        entities
    }

    #[test]
    fn a_new_field_is_a_new_version_and_a_changed_type_is_refused() {
        let mut subjects = Subjects::default();
        for (entities, versions) in
            [(parcel(""), 1), (parcel(""), 1), (parcel("weight = \"decimal\"\n"), 2)]
        {
            subjects.register_entities(entities.iter()).unwrap();
            assert_eq!(subjects.versions("crossdock.parcel").len(), versions);
        }
        let refused = subjects.register_entities(parcel("weight = \"integer\"\n").iter());
        let refused = refused.unwrap_err();
        let Refused::Incompatible { level, reasons, .. } = &refused[0] else { panic!() };
        assert_eq!(*level, Compatibility::Backward);
        assert!(reasons[0].contains("'weight'"), "{reasons:?}");
        assert_eq!(subjects.versions("crossdock.parcel").len(), 2);
        // A field that is gone again is no harm to those who read with the newer version.
        subjects.register_entities(parcel("").iter()).unwrap();
        assert_eq!(subjects.versions("crossdock.parcel").len(), 2, "it is version 1");
    }

    #[test]
    fn equal_schemas_share_an_id() {
        let mut subjects = Subjects::default();
        let one = subjects.register("orders-value", "\"string\"").unwrap();
        let other = subjects.register("orders-key", " \"string\" ").unwrap();
        let third = subjects.register("stock-value", "\"long\"").unwrap();
        assert_eq!((one.id, other.id, third.id), (1, 1, 2));
        assert_eq!(subjects.with_id(1).count(), 2);
        assert_eq!(
            subjects.names().collect::<Vec<_>>(),
            ["orders-key", "orders-value", "stock-value"]
        );
    }

    #[test]
    fn a_subject_has_its_own_level_or_the_general_one() {
        let mut subjects = Subjects::default();
        assert_eq!(subjects.level("a"), Compatibility::Backward);
        subjects.set_level("", Compatibility::None);
        subjects.set_level("b", Compatibility::FullTransitive);
        assert_eq!(subjects.level("a"), Compatibility::None);
        assert_eq!(subjects.level("b"), Compatibility::FullTransitive);
        subjects.register("a", "\"string\"").unwrap();
        subjects.register("a", "\"long\"").unwrap();
        assert_eq!(subjects.versions("a").len(), 2);
        subjects.register("b", "\"string\"").unwrap();
        assert!(matches!(subjects.register("b", "\"long\""), Err(Refused::Incompatible { .. })));
        assert!(matches!(subjects.register("b", "{"), Err(Refused::Invalid(_))));
    }

    #[test]
    fn what_was_kept_is_put_together_in_order() {
        let mut subjects = Subjects::default();
        subjects.set_level("a", Compatibility::None);
        for schema in ["\"string\"", "\"long\"", "\"boolean\""] {
            subjects.register("a", schema).unwrap();
        }
        let mut kept = subjects.versions("a").to_vec();
        kept.reverse();
        let again = Subjects::new(kept, [("a".to_string(), Compatibility::None)]);
        assert_eq!(again, subjects);
    }
}
