//! Debezium's change event envelope, read and written, for consumers and producers that speak it.
//!
//! Written in its default handling modes: decimals as base64 of the unscaled integer, times as
//! integers by their declared precision, instants as text in UTC. Where Debezium would lose data,
//! the value is kept instead:
//!
//! | case | Debezium | here |
//! | --- | --- | --- |
//! | unsigned integer beyond 64 bits signed | wraps to a negative number | the number |
//! | date `infinity` | an arbitrary day | largest or smallest 32-bit integer |
//! | array of arrays | nulls | nested arrays |
//! | types without a mapping (`line`, composite, …) | column left out | their text |
//! | unchanged column of a type that cannot hold the placeholder | null or left out | left out |
//! | `source.lsn` | place of the row | place of its transaction's commit |
//!
//! A change of the key is one update here; whoever writes to keyed topics must send a delete of
//! the old key and a create of the new one.

mod value;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{ChangeEvent, Op, Position, RowImage, TableSchema, TxHeader};

/// What stands for a text that the log did not carry because it had not changed.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A change event as Debezium writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The row before, by column.
    #[serde(default)]
    pub before: Option<Map<String, Json>>,
    /// The row after, by column.
    #[serde(default)]
    pub after: Option<Map<String, Json>>,
    /// Where the change comes from.
    pub source: Source,
    /// The transaction and the place in it, where the producer was told to say so.
    #[serde(default)]
    pub transaction: Option<TransactionBlock>,
    /// `r`, `c`, `u`, `d`, `t` or `m`; see [`Op::letter`].
    pub op: String,
    /// When the connector handled it, milliseconds since the Unix epoch.
    #[serde(default)]
    pub ts_ms: Option<i64>,
    /// The same in microseconds.
    #[serde(default)]
    pub ts_us: Option<i64>,
    /// The same in nanoseconds.
    #[serde(default)]
    pub ts_ns: Option<i64>,
    /// A logical message (`op` is `m`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

/// The `source` block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Version of the connector.
    pub version: String,
    /// `postgresql`, `mysql`, `mariadb`.
    pub connector: String,
    /// The topic prefix.
    pub name: String,
    /// Commit time at the source, milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// `true`, `first`, `last`, `false`, `incremental` …; old versions wrote a boolean.
    #[serde(default)]
    pub snapshot: Json,
    /// Database.
    pub db: String,
    /// A JSON list as text, which orders events of one source.
    #[serde(default)]
    pub sequence: Option<String>,
    /// Commit time in microseconds.
    #[serde(default)]
    pub ts_us: Option<i64>,
    /// Commit time in nanoseconds.
    #[serde(default)]
    pub ts_ns: Option<i64>,
    /// What only this kind of source says: `schema`, `table`, `lsn`, `gtid`, `file`, `pos` …
    #[serde(flatten)]
    pub place: Map<String, Json>,
}

/// The `transaction` block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionBlock {
    /// The transaction.
    pub id: String,
    /// Place of the event among all of the transaction, from 1.
    pub total_order: i64,
    /// Place of the event among those of its table, from 1.
    pub data_collection_order: i64,
}

/// A logical message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its prefix.
    pub prefix: String,
    /// Its content in base64.
    pub content: String,
}

/// JSON that is not a change event.
#[derive(Debug, thiserror::Error)]
#[error("not a change event: expected an envelope with `source` and `op`, or one inside `payload`")]
pub struct EnvelopeError(#[source] serde_json::Error);

impl Envelope {
    /// Reads an envelope, bare or inside `{"schema": …, "payload": …}`.
    pub fn read(json: &Json) -> Result<Envelope, EnvelopeError> {
        let payload = match (json.get("payload"), json.get("op")) {
            (Some(payload), None) => payload,
            _ => json,
        };
        Envelope::deserialize(payload).map_err(EnvelopeError)
    }

    /// The operation; `None` for a letter that is not one.
    pub fn op(&self) -> Option<Op> {
        let ops = [Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate, Op::Message];
        ops.into_iter().find(|op| op.letter().eq_ignore_ascii_case(&self.op))
    }

    /// The envelope as it is sent. Messages and truncates carry no images at all.
    pub fn to_json(&self) -> Json {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let (Some(Op::Message | Op::Truncate), Json::Object(fields)) = (self.op(), &mut json) {
            fields.shift_remove("before");
            fields.shift_remove("after");
        }
        json
    }
}

/// What the `source` block says of every event of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Version of Crossdock.
    pub version: String,
    /// Kind of database.
    pub connector: Connector,
    /// The topic prefix.
    pub name: String,
    /// PostgreSQL's database; for MySQL and MariaDB the table's database is written instead.
    pub db: String,
    /// Server id of the source, for MySQL and MariaDB.
    pub server_id: i64,
}

/// Kinds of source databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connector {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Connector {
    /// Debezium's name of the connector.
    pub fn name(self) -> &'static str {
        match self {
            Connector::Postgres => "postgresql",
            Connector::Mysql => "mysql",
            Connector::Mariadb => "mariadb",
        }
    }
}

/// An event in Debezium's form. `now_micros` is when it is handled, since the Unix epoch.
pub fn encode(
    event: &ChangeEvent,
    header: &TxHeader,
    source: &SourceInfo,
    now_micros: i64,
) -> Json {
    let image = |image: &Option<RowImage<'static>>| {
        let table = event.table.as_deref()?;
        image.as_ref().map(|image| row(table, image, source.connector))
    };
    let message = event.message.as_ref().map(|(prefix, content)| Message {
        prefix: prefix.clone(),
        content: value::base64(content),
    });
    let envelope = Envelope {
        before: image(&event.before),
        after: image(&event.after),
        source: source_block(event, header, source),
        transaction: None,
        op: event.op.letter().to_string(),
        ts_ms: Some(now_micros.div_euclid(1_000)),
        ts_us: Some(now_micros),
        ts_ns: Some(now_micros.saturating_mul(1_000)),
        message,
    };
    envelope.to_json()
}

/// The key of the event's row in Debezium's form; `None` for a table without key and for events
/// without row.
pub fn encode_key(event: &ChangeEvent, source: &SourceInfo) -> Option<Json> {
    let table = event.table.as_deref()?;
    let image = event.after.as_ref().or(event.before.as_ref())?;
    let keys = table.key_columns();
    let mut key = Map::new();
    for column in &keys {
        let (of, value) = (table.columns.get(*column)?, image.get(*column)?);
        let json = value::encode(value, &of.type_name, source.connector);
        key.insert(of.name.to_string(), json);
    }
    (!keys.is_empty()).then_some(Json::Object(key))
}

fn row(table: &TableSchema, image: &RowImage<'_>, connector: Connector) -> Map<String, Json> {
    let mut row = Map::with_capacity(table.columns.len());
    for (i, column) in table.columns.iter().enumerate() {
        let json = match (image.get(i), image) {
            (Some(value), _) => Some(value::encode(value, &column.type_name, connector)),
            // Of a key image Debezium fills the rest with nulls.
            (None, RowImage::Key(_)) => Some(Json::Null),
            (None, _) => value::unavailable(&column.type_name),
        };
        if let Some(json) = json {
            row.insert(column.name.to_string(), json);
        }
    }
    row
}

fn source_block(event: &ChangeEvent, header: &TxHeader, source: &SourceInfo) -> Source {
    let (schema, table) =
        event.table.as_ref().map_or(("", ""), |t| (&*t.name.schema, &*t.name.table));
    let mut place = Map::new();
    let mut put = |name: &str, json: Json| drop(place.insert(name.to_string(), json));
    let mut sequence = None;
    let mut db = source.db.as_str();
    match &header.commit {
        Position::Postgres { lsn } => {
            // Both are the commit's: that is what orders transactions.
            sequence = Some(format!("[\"{lsn}\",\"{lsn}\"]"));
            put("schema", schema.into());
            put("table", table.into());
            put("txId", header.id.parse::<i64>().ok().into());
            put("lsn", i64::try_from(*lsn).ok().into());
            put("xmin", Json::Null);
            put("origin", header.origin.clone().into());
            put("origin_lsn", Json::Null);
        }
        Position::Binlog { file, offset, .. } => {
            db = schema;
            let server_id = header.origin.as_ref().and_then(|origin| origin.parse::<i64>().ok());
            let gtid = header.id.contains(['-', ':']).then(|| header.id.clone());
            put("table", table.into());
            put("server_id", server_id.unwrap_or(source.server_id).into());
            put("gtid", gtid.into());
            put("file", file.as_str().into());
            put("pos", i64::try_from(*offset).ok().into());
            put("row", event.ordinal.into());
            put("thread", Json::Null);
            put("query", Json::Null);
        }
    }
    Source {
        version: source.version.clone(),
        connector: source.connector.name().to_string(),
        name: source.name.clone(),
        ts_ms: header.commit_micros.div_euclid(1_000),
        snapshot: if header.snapshot { "true" } else { "false" }.into(),
        db: db.to_string(),
        sequence,
        ts_us: Some(header.commit_micros),
        ts_ns: Some(header.commit_micros.saturating_mul(1_000)),
        place,
    }
}

#[cfg(test)]
mod tests;
