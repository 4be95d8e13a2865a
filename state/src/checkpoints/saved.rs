//! What is kept in the checkpoints, as JSON.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoints::{CheckpointError, Checkpoints};

/// How far a source has been read and acknowledged: key `source/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCheckpoint {
    /// Where reading goes on, as the source writes positions.
    pub position: String,
    /// Last journal block before it.
    pub seq: u64,
    /// Commit time of the last transaction before it, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// When this was saved.
    pub saved_micros: i64,
}

/// How far a stage has come: key `integrate/SOURCE` (journal block) or `target/NAME` (delivery).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCheckpoint {
    /// Last block or delivery that is done.
    pub seq: u64,
    /// Commit time of the last change in it, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// When this was saved.
    pub saved_micros: i64,
}

/// A named set of checkpoints to which one can rewind: key `savepoint/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savepoint {
    /// Name, as the user gave it.
    pub name: String,
    /// When it was taken, microseconds since the Unix epoch.
    pub saved_micros: i64,
    /// By source.
    pub sources: BTreeMap<String, SourceCheckpoint>,
    /// By source.
    pub integrate: BTreeMap<String, StageCheckpoint>,
    /// By target.
    pub targets: BTreeMap<String, StageCheckpoint>,
}

/// Key of a source's checkpoint.
pub fn source_key(source: &str) -> String {
    format!("source/{source}")
}

/// Key of a source's progress in `integrate`.
pub fn integrate_key(source: &str) -> String {
    format!("integrate/{source}")
}

/// Key of a target's progress.
pub fn target_key(target: &str) -> String {
    format!("target/{target}")
}

/// Key of what a source's reader remembers.
pub fn memory_key(source: &str) -> String {
    format!("memory/{source}")
}

/// Key of how a source is to be begun the next time, when somebody has said so.
pub fn start_key(source: &str) -> String {
    format!("start/{source}")
}

/// Key of the gaps that were met in a source's log.
pub fn gaps_key(source: &str) -> String {
    format!("gaps/{source}")
}

/// Key of the versions of a source's table.
pub fn schemas_key(source: &str, table: &str) -> String {
    format!("schemas/{source}/{table}")
}

/// Key of the change of a table for which a source's changes wait.
pub fn drift_key(source: &str) -> String {
    format!("drift/{source}")
}

/// Key of a savepoint.
pub fn savepoint_key(name: &str) -> String {
    format!("savepoint/{name}")
}

/// Reads one value.
pub fn load<T: DeserializeOwned>(
    store: &dyn Checkpoints,
    key: &str,
) -> Result<Option<T>, CheckpointError> {
    store.get(key)?.map(|bytes| parse(key, &bytes)).transpose()
}

/// Writes one value.
pub fn save<T: Serialize>(
    store: &dyn Checkpoints,
    key: &str,
    value: &T,
) -> Result<(), CheckpointError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| CheckpointError::Unreadable { key: key.to_string(), source })?;
    store.put(key, &bytes)
}

/// Reads all values whose keys begin with `prefix`; the names are what follows it.
pub fn load_all<T: DeserializeOwned>(
    store: &dyn Checkpoints,
    prefix: &str,
) -> Result<BTreeMap<String, T>, CheckpointError> {
    let mut all = BTreeMap::new();
    for (key, bytes) in store.list(prefix)? {
        let name = key.strip_prefix(prefix).unwrap_or(&key).to_string();
        all.insert(name, parse(&key, &bytes)?);
    }
    Ok(all)
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes)
        .map_err(|source| CheckpointError::Unreadable { key: key.to_string(), source })
}
