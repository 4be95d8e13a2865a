//! What the canonical store needs besides batches: parts for its history, and views of entities.

use std::time::{Duration, Instant};

use crossdock_apply::PostgresStore;
use crossdock_apply::store::{ColumnKind, EntityView};
use crossdock_schema_registry::{Entities, FieldType};

use super::StageError;

/// Parts are made months ahead and dropped by the month.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Looks after the history.
#[derive(Debug)]
pub struct Upkeep {
    /// How long history is kept; `None` for ever.
    pub history_retain: Option<Duration>,
    looked: Option<Instant>,
}

impl Upkeep {
    /// Nothing has been looked at yet.
    pub fn new(history_retain: Option<Duration>) -> Self {
        Self { history_retain, looked: None }
    }

    /// Whether it is time to look again.
    pub fn is_due(&self) -> bool {
        self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY)
    }

    /// Makes and drops parts of the history, when it is time to look again.
    pub async fn keep_history(&mut self, store: &mut PostgresStore) -> Result<(), StageError> {
        if !self.is_due() {
            return Ok(());
        }
        store.keep_history(self.history_retain).await?;
        self.looked = Some(Instant::now());
        Ok(())
    }
}

/// Makes the views by which people see entities.
pub async fn show_entities(
    store: &mut PostgresStore,
    entities: &Entities,
) -> Result<(), StageError> {
    let views: Vec<EntityView> = entities
        .iter()
        .map(|entity| EntityView {
            entity: entity.name.clone(),
            fields: entity
                .fields
                .iter()
                .map(|(name, kind)| (name.clone(), column(*kind)))
                .collect(),
        })
        .collect();
    for entity in store.show_entities(&views).await? {
        tracing::warn!(
            view = %format!("crossdock.e_{entity}"),
            "the entity has changed and its view has not: something that is not Crossdock's \
             depends on it; drop that, restart, and make it anew"
        );
    }
    Ok(())
}

fn column(kind: FieldType) -> ColumnKind {
    match kind {
        FieldType::Text => ColumnKind::Text,
        FieldType::Integer | FieldType::Decimal => ColumnKind::Number,
        FieldType::Boolean => ColumnKind::Boolean,
        FieldType::Date => ColumnKind::Date,
        FieldType::Instant => ColumnKind::Instant,
        FieldType::Json => ColumnKind::Json,
    }
}
