//! The envelope as others write it, read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::Op;

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
}
