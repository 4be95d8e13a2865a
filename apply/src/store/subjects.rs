//! Subjects of the schema registry, kept in the canonical store.

use std::collections::BTreeMap;

use tokio_postgres::Transaction;

use super::PostgresStore;
use crate::{ApplyError, classify};

/// Those who register take turns, across all connections. The number is arbitrary, but stays.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7218413560113)";

/// One version of a subject, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Subject.
    pub subject: String,
    /// Number within the subject.
    pub version: u32,
    /// Number of the schema.
    pub id: u32,
    /// The schema's text.
    pub schema: String,
}

/// All that is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSubjects {
    /// Versions in the order of subject and number.
    pub versions: Vec<StoredVersion>,
    /// Words for the levels, by subject; that of all others is below the empty name.
    pub levels: BTreeMap<String, String>,
}

impl PostgresStore {
    /// Everything that is registered.
    pub async fn subjects(&mut self) -> Result<StoredSubjects, ApplyError> {
        let failed = classify_as(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        let read = read(&tx).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(read)
    }

    /// Adds to what is registered: `change` is given everything there is, and what it adds (or
    /// the levels that it sets) is durable when this returns. Nobody else registers meanwhile.
    /// With an error of `change` nothing is kept.
    pub async fn change_subjects<T, E>(
        &mut self,
        change: impl FnOnce(&mut StoredSubjects) -> Result<T, E>,
    ) -> Result<Result<T, E>, ApplyError> {
        let failed = classify_as(&self.name);
        let tx = self.client.transaction().await.map_err(&failed)?;
        tx.batch_execute(LOCK).await.map_err(&failed)?;
        let before = read(&tx).await.map_err(&failed)?;
        let mut after = before.clone();
        let result = change(&mut after);
        if result.is_ok() {
            write(&tx, &before, &after).await.map_err(&failed)?;
            tx.commit().await.map_err(&failed)?;
        }
        Ok(result)
    }
}

fn classify_as(store: &str) -> impl Fn(tokio_postgres::Error) -> ApplyError {
    let store = store.to_string();
    move |error| classify::postgres(&store, "reading or writing registered schemas", error)
}

async fn read(tx: &Transaction<'_>) -> Result<StoredSubjects, tokio_postgres::Error> {
    let versions = "SELECT subject, version, id, schema FROM crossdock.subject_version
                    ORDER BY subject, version";
    let versions = tx.query(versions, &[]).await?;
    let levels = tx.query("SELECT subject, level FROM crossdock.subject_level", &[]).await?;
    // The table's checks keep numbers above zero.
    let number = |n: i32| u32::try_from(n).unwrap_or(0);
    let version = |row: &tokio_postgres::Row| StoredVersion {
        subject: row.get(0),
        version: number(row.get(1)),
        id: number(row.get(2)),
        schema: row.get(3),
    };
    Ok(StoredSubjects {
        versions: versions.iter().map(version).collect(),
        levels: levels.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

async fn write(
    tx: &Transaction<'_>,
    before: &StoredSubjects,
    after: &StoredSubjects,
) -> Result<(), tokio_postgres::Error> {
    let insert = "INSERT INTO crossdock.subject_version (subject, version, id, schema)
                  VALUES ($1, $2::bigint, $3::bigint, $4)";
    for new in after.versions.iter().filter(|v| !before.versions.contains(v)) {
        let (version, id) = (i64::from(new.version), i64::from(new.id));
        tx.execute(insert, &[&new.subject, &version, &id, &new.schema]).await?;
    }
    let set = "INSERT INTO crossdock.subject_level (subject, level) VALUES ($1, $2)
               ON CONFLICT (subject) DO UPDATE SET level = excluded.level";
    for (subject, level) in &after.levels {
        if before.levels.get(subject) != Some(level) {
            tx.execute(set, &[subject, level]).await?;
        }
    }
    Ok(())
}
