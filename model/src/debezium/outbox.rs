//! Rows of an outbox table become messages, as Debezium's outbox event router does; so do logical
//! messages of one prefix, which are an outbox without a table.

use std::collections::{HashSet, VecDeque};
use std::str::FromStr;

use regex::Regex;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::TableSchema;
use crate::debezium::Record;

/// What the router does. [`Default`] is Debezium's.
#[derive(Clone, Debug)]
pub struct OutboxOptions {
    /// `table.field.event.id`: goes into the header `id`.
    pub id: String,
    /// `table.field.event.key`: becomes the key.
    pub key: String,
    /// `table.field.event.payload`: becomes the value.
    pub payload: String,
    /// `route.by.field`: says which topic.
    pub route_by: String,
    /// `route.topic.regex` and `route.topic.replacement`.
    pub topic: TopicRule,
    /// `route.tombstone.on.empty.payload`: the value of an event without payload is null even
    /// where further columns would make an envelope.
    pub tombstone_on_empty_payload: bool,
    /// `table.expand.json.payload`: a payload that is a JSON text is sent as JSON.
    pub expand_json_payload: bool,
    /// `table.fields.additional.placement`.
    pub additional: Vec<Placement>,
    /// `table.field.additional.missing = ignore`: columns of `additional` that are not there are
    /// left out.
    pub ignore_missing: bool,
    /// Logical messages of this prefix are events too: JSON objects with the fields that a row of
    /// an outbox table has.
    pub message_prefix: Option<String>,
    /// An event whose id is among this many that came last is dropped. 0: none is.
    pub remembered_ids: usize,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            id: "id".into(),
            key: "aggregateid".into(),
            payload: "payload".into(),
            route_by: "aggregatetype".into(),
            topic: TopicRule::default(),
            tombstone_on_empty_payload: false,
            expand_json_payload: false,
            additional: Vec::new(),
            ignore_missing: false,
            message_prefix: None,
            remembered_ids: 100_000,
        }
    }
}

/// How the topic is made: a value that the expression matches whole is replaced, any other stays.
#[derive(Clone, Debug)]
pub struct TopicRule {
    regex: Option<Regex>,
    replacement: String,
}

impl Default for TopicRule {
    /// `outbox.event.VALUE`.
    fn default() -> Self {
        Self { regex: None, replacement: "outbox.event.${routedByValue}".into() }
    }
}

/// An expression that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a regular expression that can be used here: {1}")]
pub struct TopicError(String, String);

impl TopicRule {
    /// Without an expression, the whole value is `${routedByValue}`.
    ///
    /// # Errors
    /// An expression that is wrong, or takes what linear time can't do (look-around,
    /// back-references).
    pub fn new(regex: Option<&str>, replacement: Option<&str>) -> Result<Self, TopicError> {
        let regex = regex
            .map(|text| {
                Regex::new(&format!("^(?:{text})$"))
                    .map_err(|e| TopicError(text.to_string(), e.to_string()))
            })
            .transpose()?;
        let default = Self::default();
        let replacement = replacement.map_or(default.replacement, braced);
        Ok(Self { regex, replacement })
    }

    fn topic(&self, value: &str) -> String {
        match &self.regex {
            None => self.replacement.replace("${routedByValue}", value),
            Some(regex) => regex.replace(value, self.replacement.as_str()).into_owned(),
        }
    }
}

/// Java takes `$1x` for group 1 and an `x`; here that is written `${1}x`.
fn braced(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '$'
            && let Some(digit) = rest.next_if(char::is_ascii_digit)
        {
            out.extend(['{', digit, '}']);
        }
    }
    out
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
    /// It is sent: an event, or what is not of an outbox.
    Sent(Box<Record>),
    /// Nothing: outbox rows are deleted once they are sent.
    Dropped,
    /// Nothing: an event with this id came before.
    Duplicate,
    /// Nothing, and the outbox is not used as one: a row of it was updated
    /// (`table.op.invalid.behavior`).
    Updated,
    /// A logical message of the outbox's prefix is no event: it is sent as the message it is.
    Unreadable(Box<Record>),
    /// The column of an additional placement is not there.
    Missing(String),
}

/// The router. It remembers the ids of events that came last.
pub struct OutboxRouter {
    options: OutboxOptions,
    recent: Recent,
}

impl OutboxRouter {
    /// A router that has seen nothing yet.
    pub fn new(options: OutboxOptions) -> Self {
        let recent = Recent { limit: options.remembered_ids, ..Recent::default() };
        Self { options, recent }
    }

    /// What becomes of a record. Records must be without schemas.
    pub fn apply(&mut self, record: Record) -> Routed {
        if let Some((prefix, content)) = &record.message
            && Some(prefix) == self.options.message_prefix.as_ref()
        {
            return match self.event_of(content) {
                Some(event) => self.route(record, event),
                None => Routed::Unreadable(Box::new(record)),
            };
        }
        if !record.table.as_ref().is_some_and(|table| self.is_outbox(table)) {
            return Routed::Sent(Box::new(record));
        }
        match record.value.get("op").and_then(Json::as_str) {
            Some("c" | "r") => {}
            Some("u") => return Routed::Updated,
            _ => return Routed::Dropped,
        }
        let mut record = record;
        let row = record.value.get_mut("after").map(Json::take).unwrap_or_default();
        self.route(record, row)
    }

    fn fields(&self) -> [&String; 4] {
        [&self.options.id, &self.options.route_by, &self.options.key, &self.options.payload]
    }

    fn is_outbox(&self, table: &TableSchema) -> bool {
        self.fields().into_iter().all(|name| table.column(name).is_some())
    }

    /// The event in a logical message. A payload may be left out.
    fn event_of(&self, content: &[u8]) -> Option<Json> {
        let event: Json = serde_json::from_slice(content).ok()?;
        let [id, route_by, key, _] = self.fields();
        let named = [id, route_by, key].into_iter().all(|name| event.get(name).is_some());
        named.then_some(event)
    }

    fn route(&mut self, record: Record, mut row: Json) -> Routed {
        let options = &self.options;
        let Record { key, mut headers, table, .. } = record;
        let missing = options.additional.iter().find(|p| row.get(&p.column).is_none());
        if let Some(placement) = missing
            && !options.ignore_missing
        {
            return Routed::Missing(placement.column.clone());
        }
        let mut take = |column: &str| row.get_mut(column).map(Json::take).unwrap_or_default();
        let id = take(&options.id);
        if self.recent.is_known(&id) {
            return Routed::Duplicate;
        }
        headers.insert("id".to_string(), id);
        let payload = match (take(&options.payload), options.expand_json_payload) {
            (Json::String(text), true) => expanded(text),
            (payload, _) => payload,
        };
        // The columns may be one and the same: a key that routes.
        let routed_by = row.get(&options.route_by).cloned().unwrap_or_default();
        let aggregate = row.get(&options.key).cloned().unwrap_or_default();
        let mut wrapped = Map::new();
        for placement in &options.additional {
            let Some(value) = row.get(&placement.column).cloned() else { continue };
            match placement.header {
                true => headers.insert(placement.name.clone(), value),
                false => wrapped.insert(placement.name.clone(), value),
            };
        }
        let tombstone = payload.is_null() && options.tombstone_on_empty_payload;
        let value = match wrapped.is_empty() || tombstone {
            true => payload,
            false => {
                let payload = ("payload".to_string(), payload);
                Json::Object(std::iter::once(payload).chain(wrapped).collect())
            }
        };
        let destination = options.topic.topic(routed_by.as_str().unwrap_or_default());
        let key = if aggregate.is_null() { key } else { aggregate };
        Routed::Sent(Box::new(Record { destination, key, value, headers, table, message: None }))
    }
}

/// The payload as JSON, where it is an object or a list.
fn expanded(text: String) -> Json {
    match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::from_str(&text).unwrap_or(Json::String(text)),
        false => Json::String(text),
    }
}

/// Ids that came last, by the half of a digest: so many, whatever their length.
#[derive(Default)]
struct Recent {
    limit: usize,
    order: VecDeque<[u8; 16]>,
    known: HashSet<[u8; 16]>,
}

impl Recent {
    /// Whether the id came before; it has come now. An event without id is not known.
    fn is_known(&mut self, id: &Json) -> bool {
        if self.limit == 0 || id.is_null() {
            return false;
        }
        let digest = Sha256::digest(id.to_string());
        let mut short = [0; 16];
        short.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        if !self.known.insert(short) {
            return true;
        }
        self.order.push_back(short);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}
