//! Noticing that a table of a source has changed under the files that map it. A column that they
//! read and that is gone, or whose values are of another kind now, would be taken for NULL or be
//! misread: the source's changes wait in its journal from there on, and the others go on.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crossdock_canonical::Rules;
use crossdock_model::canonical::Name;
use crossdock_model::{TableName, TableSchema, TxHeader};
use crossdock_schema_registry::{Observed, Retyped, SourceSchemas};
use crossdock_state::checkpoints::saved::{drift_key, load, save, schemas_key};
use crossdock_state::{CheckpointError, Checkpoints, SledCheckpoints};
use serde::{Deserialize, Serialize};

use super::journals::Run;

/// The tables of all sources as they were seen, and what was accepted.
pub struct DriftWatch {
    rules: Arc<Rules>,
    checkpoints: Arc<SledCheckpoints>,
    /// The schema that each table's last event had, by source and table: nothing is compared
    /// while it stays the same.
    last: HashMap<(Name, TableName), Arc<TableSchema>>,
}

/// A change of a table for which a source's changes wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drift {
    /// Source.
    pub source: Name,
    /// The table as it is now.
    pub schema: TableSchema,
    /// Where in the log that was seen.
    pub position: String,
    /// What has changed: `column weight is gone`.
    pub changes: Vec<String>,
    /// Files and lines that read what has changed.
    pub places: Vec<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, schema, position, changes, places } = self;
        let (table, changes, places) = (&schema.name, changes.join(", "), places.join(", "));
        write!(
            f,
            "table {table} of source {source} has changed at {position}: {changes}; read by \
             {places}. Mend these files and start again, or, when they are right as they are: \
             crossdock schema accept --source {source} --table {table}"
        )
    }
}

impl DriftWatch {
    /// Looks at what these rules read. What was seen before is in `checkpoints`.
    pub fn new(rules: Arc<Rules>, checkpoints: Arc<SledCheckpoints>) -> Self {
        Self { rules, checkpoints, last: HashMap::new() }
    }

    /// Looks at the tables of a run. New tables, and changes that hit nothing, are noted; with a
    /// drift nothing of the run may be judged.
    pub fn look(&mut self, run: &Run) -> Result<Option<Drift>, CheckpointError> {
        let mut previous: Option<&Arc<TableSchema>> = None;
        for (header, events) in &run.transactions {
            for schema in events.iter().filter_map(|event| event.table.as_ref()) {
                // Events of a block share the schemas of their tables.
                if previous.replace(schema).is_some_and(|p| Arc::ptr_eq(p, schema)) {
                    continue;
                }
                if let Some(drift) = self.meet(&run.source, header, schema)? {
                    save(&*self.checkpoints, &drift_key(&run.source), &drift)?;
                    return Ok(Some(drift));
                }
            }
        }
        Ok(None)
    }

    fn meet(
        &mut self,
        source: &Name,
        header: &TxHeader,
        schema: &Arc<TableSchema>,
    ) -> Result<Option<Drift>, CheckpointError> {
        let table = (source.clone(), schema.name.clone());
        if self.last.get(&table).is_some_and(|last| Arc::ptr_eq(last, schema) || last == schema) {
            return Ok(None);
        }
        let mut known = known(&self.checkpoints, source, &schema.name)?;
        let observed = known.compare(schema);
        let position = header.commit.to_string();
        if let Observed::Changed { removed, retyped, .. } = &observed
            && let Some((changes, places)) = self.hit(source, schema, removed, retyped)
        {
            let (source, schema) = (source.clone(), (**schema).clone());
            return Ok(Some(Drift { source, schema, position, changes, places }));
        }
        if observed != Observed::Known {
            known.accept(schema, &position);
            note(&self.checkpoints, source, &schema.name, &known)?;
            // What the source waited for has been mended in the files.
            self.checkpoints.remove(&drift_key(source))?;
        }
        self.last.insert(table, schema.clone());
        Ok(None)
    }

    /// What has changed of what files read, and where they do.
    fn hit(
        &self,
        source: &str,
        schema: &TableSchema,
        removed: &[Name],
        retyped: &[Retyped],
    ) -> Option<(Vec<String>, Vec<String>)> {
        let mut changes = Vec::new();
        let mut places = BTreeSet::new();
        let mut look = |column: &Name, change: String| {
            let uses = self.rules.uses(source, schema, std::slice::from_ref(column));
            if !uses.is_empty() {
                changes.push(change);
                places.extend(uses.iter().map(|place| format!("{}:{}", place.file, place.line)));
            }
        };
        for column in removed {
            look(column, format!("column {column} is gone"));
        }
        for Retyped { column, from, to, .. } in retyped.iter().filter(|r| r.is_other_kind) {
            look(column, format!("column {column} was {from} and is {to}"));
        }
        (!changes.is_empty()).then(|| (changes, places.into_iter().collect()))
    }
}

/// Takes a changed table for what is meant: its source's changes go on. Gives what had changed;
/// `None` when the source does not wait for this table.
pub fn accept(
    checkpoints: &SledCheckpoints,
    source: &str,
    table: &TableName,
) -> Result<Option<Drift>, CheckpointError> {
    let drift: Option<Drift> = load(checkpoints, &drift_key(source))?;
    let Some(drift) = drift.filter(|drift| drift.schema.name == *table) else { return Ok(None) };
    let mut known = known(checkpoints, source, table)?;
    known.accept(&drift.schema, &drift.position);
    note(checkpoints, source, table, &known)?;
    checkpoints.remove(&drift_key(source))?;
    Ok(Some(drift))
}

fn known(
    checkpoints: &SledCheckpoints,
    source: &str,
    table: &TableName,
) -> Result<SourceSchemas, CheckpointError> {
    match load(checkpoints, &schemas_key(source, &table.to_string())) {
        // What is seen next is taken for what it always was.
        Err(error @ CheckpointError::Unreadable { .. }) => {
            tracing::warn!(source, %table, %error, "the versions of a table are lost");
            Ok(SourceSchemas::default())
        }
        found => Ok(found?.unwrap_or_default()),
    }
}

/// Keeps the versions of a table: the latest ones when all are too large.
fn note(
    checkpoints: &SledCheckpoints,
    source: &str,
    table: &TableName,
    known: &SourceSchemas,
) -> Result<(), CheckpointError> {
    let key = schemas_key(source, &table.to_string());
    match save(checkpoints, &key, known) {
        Err(CheckpointError::Refused { .. }) => {
            let mut latest = SourceSchemas::default();
            known.versions(table).last().iter().for_each(|v| latest.accept(&v.schema, &v.position));
            match save(checkpoints, &key, &latest) {
                Err(CheckpointError::Refused { .. }) => {
                    tracing::warn!(source, %table, "too many columns to keep: a change of them \
                                   while crossdock is stopped is not noticed");
                    Ok(())
                }
                saved => saved,
            }
        }
        saved => saved,
    }
}
