//! What is kept with the image of a row that is parked.

use std::sync::Arc;

use crossdock_model::Value;
use crossdock_model::canonical::{Fields, RecordKey, SourceRow};

/// When the source committed it, so that its evidence has the right time once it is mapped.
const COMMITTED: &str = "crossdock.committed_micros";
/// The records of which it spoke before: what it said of them stands until it is mapped again.
const SPOKEN: &str = "crossdock.spoken_of";

/// What was kept with a parked row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parked {
    /// When the source committed it, microseconds since the Unix epoch; 0 when it was not parked.
    pub committed: i64,
    /// Records of which it may have spoken before.
    pub spoken_of: Vec<RecordKey>,
}

impl Parked {
    /// Keeps it with the image.
    pub fn put(mut self, image: &mut Fields) {
        image.insert(COMMITTED.into(), Value::Int(self.committed));
        self.spoken_of.sort();
        self.spoken_of.dedup();
        if !self.spoken_of.is_empty()
            && let Ok(text) = serde_json::to_string(&self.spoken_of)
        {
            image.insert(SPOKEN.into(), Value::Json(text.into()));
        }
    }

    /// Takes it away from the image.
    pub fn take(image: &mut Arc<Fields>) -> Self {
        if !image.contains_key(COMMITTED) {
            return Self::default();
        }
        let image = Arc::make_mut(image);
        let committed = match image.remove(COMMITTED) {
            Some(Value::Int(micros)) => micros,
            Some(Value::Text(text)) => text.parse().unwrap_or_default(),
            _ => 0,
        };
        let spoken_of = image.remove(SPOKEN).and_then(|kept| match kept {
            Value::Json(text) | Value::Text(text) => serde_json::from_str(&text).ok(),
            _ => None,
        });
        Self { committed, spoken_of: spoken_of.unwrap_or_default() }
    }

    /// The same for a shared row.
    pub fn take_from(row: &mut Arc<SourceRow>) -> Self {
        match row.image.contains_key(COMMITTED) {
            true => Self::take(&mut Arc::make_mut(row).image),
            false => Self::default(),
        }
    }
}
