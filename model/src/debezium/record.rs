//! Change events become the records that Debezium would send.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::debezium::kind::{self, Kind};
use crate::debezium::options::Options;
use crate::debezium::schema;
use crate::debezium::source::{self, SourceInfo};
use crate::debezium::value::Encoding;
use crate::{ChangeEvent, Column, Fragment, Op, RowImage, TableName, TableSchema, TxHeader, Value};

/// Header of a delete whose row lives on under another key.
const NEW_KEY: &str = "__debezium.newkey";
/// Header of a create whose row had another key before.
const OLD_KEY: &str = "__debezium.oldkey";
/// A logical message outside a transaction is journaled under this id.
const LONE_MESSAGE: &str = "message";
/// What logical messages are counted under in a transaction.
const MESSAGES: &str = "message";

/// One record, as it is sent to a topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The topic.
    pub destination: String,
    /// Key; null for a table without one.
    pub key: Json,
    /// Value; null for a tombstone.
    pub value: Json,
    /// Headers by name.
    pub headers: Map<String, Json>,
    /// The table that it speaks of; not sent.
    #[serde(skip)]
    pub table: Option<Arc<TableSchema>>,
    /// Prefix and content of the logical message that it carries; not sent.
    #[serde(skip)]
    pub message: Option<(String, Vec<u8>)>,
}

/// Turns the change events of one source into records, in the order of its log.
///
/// A change of the key becomes a delete of the old row and a create of the new one; a delete is
/// followed by a tombstone. With transaction metadata, begin and end come around the events.
pub struct Encoder {
    source: SourceInfo,
    options: Options,
    context: Map<String, Json>,
    tables: BTreeMap<TableName, Arc<Table>>,
    open: Option<Open>,
}

/// The transaction that is being written.
struct Open {
    id: String,
    events: i64,
    by_table: BTreeMap<String, i64>,
}

/// A change, as far as the records that it becomes share it.
struct Change {
    table: Arc<Table>,
    source: Json,
    now_micros: i64,
}

/// What is worked out once for a table.
struct Table {
    schema: Arc<TableSchema>,
    topic: String,
    kinds: Vec<Kind>,
    defaults: Vec<Option<Json>>,
    keys: Vec<usize>,
    /// Of key and value; where schemas are asked for.
    schemas: Option<[Json; 2]>,
}

impl Encoder {
    /// `run` tells one run from another, in a header.
    pub fn new(source: SourceInfo, options: Options, run: &str) -> Self {
        let context = [
            ("connectorLogicalName", source.name.as_str()),
            ("taskId", "0"),
            ("connectorName", source.connector.name()),
            ("runId", run),
        ];
        let header = |text: &str| match options.schemas {
            true => schema::with_schema(&schema::text(), text.into()),
            false => Json::from(text),
        };
        let context = context.iter().map(|(name, text)| {
            let name = format!("__debezium.context.{name}");
            (name, header(text))
        });
        Self { context: context.collect(), source, options, tables: BTreeMap::new(), open: None }
    }

    /// Records of a transaction, or of the part of one that a block has. `wanted` chooses the
    /// tables; `now_micros` is when this happens, since the Unix epoch.
    pub fn fragment(
        &mut self,
        fragment: &Fragment,
        wanted: &dyn Fn(&TableName) -> bool,
        now_micros: i64,
    ) -> Vec<Record> {
        let header = &fragment.header;
        let mut records = Vec::with_capacity(fragment.events.len());
        let told =
            self.options.transaction_metadata && !header.snapshot && header.id != LONE_MESSAGE;
        // A reader may start in the middle of a transaction.
        if told && (fragment.first || self.open.is_none()) {
            let id = source::transaction_id(header);
            self.open = Some(Open { id, events: 0, by_table: BTreeMap::new() });
        }
        if told && fragment.first {
            records.push(self.boundary(header, None));
        }
        for event in &fragment.events {
            if event.table.as_ref().is_none_or(|table| wanted(&table.name)) {
                self.event(event, header, now_micros, &mut records);
            }
        }
        if fragment.last
            && let Some(counts) = self.open.take()
        {
            records.push(self.boundary(header, Some(counts)));
        }
        records
    }

    fn event(
        &mut self,
        event: &ChangeEvent,
        header: &TxHeader,
        now_micros: i64,
        records: &mut Vec<Record>,
    ) {
        if self.options.skipped.iter().any(|skipped| event.op.letter() == skipped.to_string()) {
            return;
        }
        let source = source::block(event, header, &self.source);
        let Some(schema) = &event.table else {
            records.extend(self.message(event, header, source, now_micros));
            return;
        };
        let table = self.table(schema);
        let encoding = self.encoding();
        let [before, after] = [&event.before, &event.after]
            .map(|image| image.as_ref().map(|image| table.row(image, encoding)));
        let old = event.before.as_ref().and_then(|image| table.key(image, None, encoding));
        let new = match (&event.after, &event.before) {
            (Some(after), before) => table.key(after, before.as_ref(), encoding),
            (None, _) => old.clone(),
        };
        let change = Change { table, source, now_micros };
        match (event.op, old, new) {
            (Op::Update, Some(old), Some(new)) if old != new => {
                let link = (NEW_KEY, &new);
                let delete = [before, None];
                records.push(self.record(&change, Op::Delete, delete, Some(&old), Some(link)));
                if self.options.tombstones {
                    records.push(self.sent(&change.table, Some(&old), Json::Null, Some(link)));
                }
                let link = (OLD_KEY, &old);
                let create = [None, after];
                records.push(self.record(&change, Op::Create, create, Some(&new), Some(link)));
            }
            (Op::Truncate, ..) => {
                records.push(self.record(&change, Op::Truncate, [None, None], None, None));
            }
            (op, _, key) => {
                records.push(self.record(&change, op, [before, after], key.as_ref(), None));
                if op == Op::Delete && self.options.tombstones {
                    records.push(self.sent(&change.table, key.as_ref(), Json::Null, None));
                }
            }
        }
    }

    /// A change with its envelope.
    fn record(
        &mut self,
        change: &Change,
        op: Op,
        [before, after]: [Option<Json>; 2],
        key: Option<&Json>,
        link: Option<(&str, &Json)>,
    ) -> Record {
        let table = &change.table;
        let value = json!({
            "before": before,
            "after": after,
            "source": change.source,
            "transaction": self.place(&table.schema.name.to_string()),
            "op": op.letter(),
            "ts_ms": change.now_micros.div_euclid(1_000),
            "ts_us": change.now_micros,
            "ts_ns": change.now_micros.saturating_mul(1_000),
        });
        let value = match &table.schemas {
            Some([_, schema]) => schema::with_schema(schema, value),
            None => value,
        };
        self.sent(table, key, value, link)
    }

    /// A record of a table; `link` names the row's other key.
    fn sent(
        &self,
        table: &Table,
        key: Option<&Json>,
        value: Json,
        link: Option<(&str, &Json)>,
    ) -> Record {
        let keyed = |key: &Json| match &table.schemas {
            Some([schema, _]) => schema::with_schema(schema, key.clone()),
            None => key.clone(),
        };
        let mut headers = Map::new();
        if let Some((name, other)) = link {
            headers.insert(name.to_string(), keyed(other));
        }
        headers.extend(self.context.clone());
        Record {
            destination: table.topic.clone(),
            key: key.map_or(Json::Null, keyed),
            value,
            headers,
            table: Some(table.schema.clone()),
            message: None,
        }
    }

    fn message(
        &mut self,
        event: &ChangeEvent,
        header: &TxHeader,
        source: Json,
        now_micros: i64,
    ) -> Option<Record> {
        let (prefix, content) = event.message.as_ref()?;
        let transaction = match header.id == LONE_MESSAGE {
            true => Json::Null,
            false => self.place(MESSAGES),
        };
        let value = json!({
            "op": event.op.letter(),
            "ts_ms": now_micros.div_euclid(1_000),
            "source": source,
            "transaction": transaction,
            "message": {"prefix": prefix, "content": self.encoding().content(content)},
        });
        let schemas = self.options.schemas.then(|| schema::message(&self.options));
        let record = self.bare("message", schemas, json!({"prefix": prefix}), value);
        Some(Record { message: event.message.clone(), ..record })
    }

    /// Begin of a transaction, or its end with what was in it.
    fn boundary(&self, header: &TxHeader, counts: Option<Open>) -> Record {
        let id = source::transaction_id(header);
        let value = json!({
            "status": if counts.is_some() { "END" } else { "BEGIN" },
            "id": id,
            "event_count": counts.as_ref().map(|counts| counts.events),
            "data_collections": counts.map(|counts| {
                let one = |(name, events)| json!({"data_collection": name, "event_count": events});
                counts.by_table.into_iter().map(one).collect::<Vec<_>>()
            }),
            "ts_ms": header.commit_micros.div_euclid(1_000),
        });
        let schemas = self.options.schemas.then(schema::transaction);
        self.bare("transaction", schemas, json!({"id": id}), value)
    }

    /// A record that belongs to no table.
    fn bare(&self, topic: &str, schemas: Option<[Json; 2]>, key: Json, value: Json) -> Record {
        let (key, value) = match schemas {
            Some([of_key, of_value]) => {
                (schema::with_schema(&of_key, key), schema::with_schema(&of_value, value))
            }
            None => (key, value),
        };
        let destination = source::topic(&[&self.source.name, topic]);
        Record { destination, key, value, headers: Map::new(), table: None, message: None }
    }

    /// Counts an event and gives the `transaction` block for it.
    fn place(&mut self, collection: &str) -> Json {
        let Some(open) = &mut self.open else { return Json::Null };
        open.events += 1;
        let of_table = open.by_table.entry(collection.to_string()).or_default();
        *of_table += 1;
        json!({
            "id": open.id.as_str(), "total_order": open.events, "data_collection_order": *of_table,
        })
    }

    fn encoding(&self) -> Encoding<'_> {
        Encoding { connector: self.source.connector, options: &self.options }
    }

    fn table(&mut self, schema: &Arc<TableSchema>) -> Arc<Table> {
        if let Some(table) = self.tables.get(&schema.name)
            && (Arc::ptr_eq(&table.schema, schema) || table.schema == *schema)
        {
            return table.clone();
        }
        let topic = source::topic(&[&self.source.name, &schema.name.schema, &schema.name.table]);
        let table = Arc::new(Table::new(schema, topic, self.encoding()));
        self.tables.insert(schema.name.clone(), table.clone());
        table
    }
}

impl Table {
    fn new(schema: &Arc<TableSchema>, topic: String, encoding: Encoding<'_>) -> Self {
        let columns = || schema.columns.iter();
        let kinds: Vec<Kind> =
            columns().map(|column| Kind::of(column, encoding.connector)).collect();
        let defaults: Vec<Option<Json>> =
            columns().zip(&kinds).map(|(column, kind)| default(column, kind, encoding)).collect();
        let keys = schema.key_columns();
        let schemas = encoding.options.schemas.then(|| {
            let field = |at: &usize| {
                let (column, kind) = (schema.columns.get(*at)?, kinds.get(*at)?);
                let default = defaults.get(*at).cloned().flatten();
                let optional = column.nullable;
                Some(schema::column(&column.name, kind, encoding.options, optional, default))
            };
            let all: Vec<usize> = (0..schema.columns.len()).collect();
            let row: Vec<Json> = all.iter().filter_map(field).collect();
            let key = schema::key(&topic, keys.iter().filter_map(field).collect());
            [key, schema::envelope(&topic, &row, encoding.connector)]
        });
        Self { schema: schema.clone(), topic, kinds, defaults, keys, schemas }
    }

    fn row(&self, image: &RowImage<'_>, encoding: Encoding<'_>) -> Json {
        let mut row = Map::with_capacity(self.kinds.len());
        for (at, (column, kind)) in self.schema.columns.iter().zip(&self.kinds).enumerate() {
            let default = || match (self.defaults.get(at).cloned().flatten(), column.nullable) {
                (Some(default), _) => default,
                (None, true) => Json::Null,
                (None, false) => encoding.zero(kind),
            };
            let json = match (image.get(at), image) {
                (Some(value), _) => Some(match (encoding.encode(value, kind), value) {
                    // A date that no calendar has.
                    (Json::Null, Value::Text(_)) if !column.nullable => encoding.zero(kind),
                    (json, _) => json,
                }),
                (None, RowImage::Key(_)) => Some(default()),
                (None, _) => encoding.unavailable(kind),
            };
            if let Some(json) = json {
                row.insert(column.name.to_string(), json);
            }
        }
        Json::Object(row)
    }

    /// The key of a row; a column that this image lacks has not changed since `other`.
    fn key(
        &self,
        image: &RowImage<'_>,
        other: Option<&RowImage<'_>>,
        encoding: Encoding<'_>,
    ) -> Option<Json> {
        let mut key = Map::with_capacity(self.keys.len());
        for at in &self.keys {
            let (column, kind) = (self.schema.columns.get(*at)?, self.kinds.get(*at)?);
            let value = image.get(*at).or_else(|| other?.get(*at))?;
            key.insert(column.name.to_string(), encoding.encode(value, kind));
        }
        (!key.is_empty()).then_some(Json::Object(key))
    }
}

/// The default that the schema tells of: a constant, or for a number that the database makes up
/// 0 (Debezium's placeholder).
fn default(column: &Column, kind: &Kind, encoding: Encoding<'_>) -> Option<Json> {
    let expression = column.default.as_deref()?;
    match kind::constant(expression) {
        Some(text) => encoding.constant(&text, kind),
        None if expression.starts_with("nextval(") => Some(encoding.zero(kind)),
        None => None,
    }
}
