//! The schema registry: what is registered, kept in the canonical store, and the pages on which
//! serialisers find it.

mod pages;

use std::collections::BTreeMap;
use std::str::FromStr;

use crossdock_apply::store::{StoredSubjects, StoredVersion};
use crossdock_apply::{ApplyError, ConnectOptions, PostgresStore};
use crossdock_schema_registry::{Compatibility, Entities, Refused, SubjectVersion, Subjects};
use tokio::sync::Mutex;

pub use pages::{Access, router};

/// What is registered, read from the store whenever it is asked for.
pub struct Registry {
    store: ConnectOptions,
    /// One connection, opened again after it was lost.
    connection: Mutex<Option<PostgresStore>>,
}

impl Registry {
    /// A registry in this store. Connects when it is first asked.
    pub fn new(store: ConnectOptions) -> Self {
        Self { store, connection: Mutex::new(None) }
    }

    /// Everything that is registered.
    pub async fn read(&self) -> Result<Subjects, ApplyError> {
        let mut connection = self.connection.lock().await;
        let store = open(&mut connection, &self.store).await?;
        let found = store.subjects().await;
        if found.is_err() {
            *connection = None;
        }
        Ok(subjects(found?))
    }

    /// Changes what is registered; durable when this returns.
    pub async fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Subjects) -> Result<T, E>,
    ) -> Result<Result<T, E>, ApplyError> {
        let mut connection = self.connection.lock().await;
        let store = open(&mut connection, &self.store).await?;
        let changed = change_in(store, change).await;
        if changed.is_err() {
            *connection = None;
        }
        changed
    }
}

async fn open<'c>(
    connection: &'c mut Option<PostgresStore>,
    options: &ConnectOptions,
) -> Result<&'c mut PostgresStore, ApplyError> {
    Ok(match connection {
        Some(store) => store,
        None => connection.insert(PostgresStore::open_reader(options).await?),
    })
}

/// Registers the schemas of all entities, before anything is written by them.
///
/// # Errors
/// Definite when an entity has changed in a way that its subject's level does not allow.
pub async fn register_entities(
    store: &mut PostgresStore,
    entities: &Entities,
) -> Result<(), ApplyError> {
    let changed = change_in(store, |s| s.register_entities(entities.iter())).await?;
    changed.map_err(|refused| ApplyError::Definite {
        what: refused.iter().map(Refused::to_string).collect::<Vec<_>>().join("\n"),
        remedy: REMEDY.into(),
    })
}

/// Every entity that could not be registered as it is now, and what to do.
pub fn refused(stored: StoredSubjects, entities: &Entities) -> Vec<(String, String)> {
    let refused = subjects(stored).register_entities(entities.iter()).err().unwrap_or_default();
    refused.iter().map(|r| (r.to_string(), REMEDY.to_string())).collect()
}

const REMEDY: &str = "give the changed field another name, or allow the change: PUT /config/SUBJECT \
                      with {\"compatibility\": \"NONE\"}";

async fn change_in<T, E>(
    store: &mut PostgresStore,
    change: impl FnOnce(&mut Subjects) -> Result<T, E>,
) -> Result<Result<T, E>, ApplyError> {
    let changed = store.change_subjects(|stored| {
        let mut subjects = subjects(std::mem::take(stored));
        let result = change(&mut subjects);
        *stored = kept(&subjects);
        result
    });
    changed.await
}

/// What was kept, as subjects. A level whose word a later release wrote counts as not set.
fn subjects(stored: StoredSubjects) -> Subjects {
    let version = |v: StoredVersion| SubjectVersion {
        subject: v.subject,
        version: v.version,
        id: v.id,
        schema: v.schema,
    };
    let level = |(subject, word): (String, String)| {
        Compatibility::from_str(&word).ok().map(|level| (subject, level))
    };
    let versions = stored.versions.into_iter().map(version).collect();
    Subjects::new(versions, stored.levels.into_iter().filter_map(level))
}

fn kept(subjects: &Subjects) -> StoredSubjects {
    let version = |v: &SubjectVersion| StoredVersion {
        subject: v.subject.clone(),
        version: v.version,
        id: v.id,
        schema: v.schema.clone(),
    };
    let levels: BTreeMap<String, String> =
        subjects.levels().map(|(subject, level)| (subject.into(), level.to_string())).collect();
    let versions = subjects.names().flat_map(|name| subjects.versions(name)).map(version);
    StoredSubjects { versions: versions.collect(), levels }
}
