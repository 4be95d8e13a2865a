//! pgvector's vectors, which are captured as texts.

use serde_json::{Value as Json, json};

use crate::debezium::value::float;

/// `[1,2.5,-3]`.
pub(super) fn dense(text: &str) -> Json {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let numbers = inner.map(|inner| inner.split(',').map(number).collect::<Option<Vec<Json>>>());
    numbers.flatten().map_or_else(|| Json::from(text), Json::Array)
}

/// `{1:1.5,3:2}/5`. The converter writes a map whose keys are no texts as pairs.
pub(super) fn sparse(text: &str) -> Json {
    let read = || {
        let (elements, dimensions) = text.split_once('/')?;
        let inner = elements.strip_prefix('{')?.strip_suffix('}')?;
        let elements = inner.split(',').filter(|element| !element.is_empty()).map(|element| {
            let (index, value) = element.split_once(':')?;
            Some(json!([index.trim().parse::<i64>().ok()?, number(value)?]))
        });
        let elements: Vec<Json> = elements.collect::<Option<_>>()?;
        Some(json!({"dimensions": dimensions.parse::<i64>().ok()?, "vector": elements}))
    };
    read().unwrap_or_else(|| Json::from(text))
}

fn number(text: &str) -> Option<Json> {
    text.trim().parse().ok().map(float)
}
