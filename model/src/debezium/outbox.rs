//! Rows of an outbox table become messages, as Debezium's outbox event router does.

use std::str::FromStr;

use serde_json::{Map, Value as Json};

use crate::TableSchema;
use crate::debezium::Record;

const ID: &str = "id";
const AGGREGATE_TYPE: &str = "aggregatetype";
const AGGREGATE_ID: &str = "aggregateid";
const PAYLOAD: &str = "payload";

/// The router. Columns and topics have Debezium's default names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRouter {
    /// `table.expand.json.payload`: a payload that is a JSON text is sent as JSON.
    pub expand_json_payload: bool,
    /// `table.fields.additional.placement`.
    pub additional: Vec<Placement>,
}

/// Where a further column of the outbox table goes: `COLUMN:header[:NAME]` or
/// `COLUMN:envelope[:NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    column: String,
    header: bool,
    name: String,
}

/// A text that is not a placement.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a placement: write COLUMN:header[:NAME] or COLUMN:envelope[:NAME]")]
pub struct PlacementError(String);

impl FromStr for Placement {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().splitn(3, ':');
        let (column, place) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let name = parts.next().unwrap_or(column);
        let header = match place {
            "header" => true,
            "envelope" => false,
            _ => return Err(PlacementError(text.to_string())),
        };
        if column.is_empty() || name.is_empty() {
            return Err(PlacementError(text.to_string()));
        }
        Ok(Self { column: column.to_string(), header, name: name.to_string() })
    }
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Routed {
    /// It is sent: a message, or what is not of an outbox table.
    Sent(Box<Record>),
    /// Nothing: outbox rows are deleted once they are sent.
    Dropped,
    /// Nothing, and the outbox is not used as one: a row of it was updated.
    Updated,
}

impl OutboxRouter {
    /// What becomes of a record. Records must be without schemas.
    pub fn apply(&self, record: Record) -> Routed {
        if !record.table.as_ref().is_some_and(|table| is_outbox(table)) {
            return Routed::Sent(Box::new(record));
        }
        let Record { key, mut value, mut headers, table, .. } = record;
        match value.get("op").and_then(Json::as_str) {
            Some("c" | "r") => {}
            Some("u") => return Routed::Updated,
            _ => return Routed::Dropped,
        }
        let mut row = value.get_mut("after").map(Json::take).unwrap_or_default();
        let mut take = |column: &str| row.get_mut(column).map(Json::take).unwrap_or_default();
        headers.insert(ID.to_string(), take(ID));
        let payload = match (take(PAYLOAD), self.expand_json_payload) {
            (Json::String(text), true) => expanded(text),
            (payload, _) => payload,
        };
        let routed_by = take(AGGREGATE_TYPE);
        let aggregate = take(AGGREGATE_ID);
        let mut wrapped = Map::new();
        for placement in &self.additional {
            let value = take(&placement.column);
            match placement.header {
                true => headers.insert(placement.name.clone(), value),
                false => wrapped.insert(placement.name.clone(), value),
            };
        }
        let value = match wrapped.is_empty() {
            true => payload,
            false => {
                let payload = (PAYLOAD.to_string(), payload);
                Json::Object(std::iter::once(payload).chain(wrapped).collect())
            }
        };
        let destination = format!("outbox.event.{}", routed_by.as_str().unwrap_or_default());
        let key = if aggregate.is_null() { key } else { aggregate };
        Routed::Sent(Box::new(Record { destination, key, value, headers, table }))
    }
}

fn is_outbox(table: &TableSchema) -> bool {
    [ID, AGGREGATE_TYPE, AGGREGATE_ID, PAYLOAD].iter().all(|name| table.column(name).is_some())
}

/// The payload as JSON, where it is an object or a list.
fn expanded(text: String) -> Json {
    match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::from_str(&text).unwrap_or(Json::String(text)),
        false => Json::String(text),
    }
}
