//! The `source` block, and names made of a source's.

use serde_json::{Map, Value as Json};

use crate::position::split_epoch;
use crate::{ChangeEvent, Position, TxHeader};

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
    /// Server id of the source, for MySQL and MariaDB, where the log's GTIDs do not say it.
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

/// `PREFIX.SCHEMA.TABLE` with `_` for what a topic's name cannot have.
pub(super) fn topic(parts: &[&str]) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    parts.join(".").chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// Debezium's name of a transaction.
pub(super) fn transaction_id(header: &TxHeader) -> String {
    match &header.commit {
        Position::Postgres { lsn } => format!("{}:{lsn}", header.id),
        Position::Binlog { file, offset, .. } => match gtid(header) {
            Some(gtid) => gtid.to_string(),
            None => format!("file={file},pos={offset}"),
        },
        Position::Poll { .. } => format!("{}:{}", header.id, header.commit),
    }
}

/// The GTID, where the source has them.
fn gtid(header: &TxHeader) -> Option<&str> {
    // Without them the transaction is called FILE:OFFSET, and files have a dot.
    let named = !header.id.contains('.') && header.id.contains(['-', ':']);
    named.then_some(header.id.as_str())
}

/// The server's id: what the log says when it is another's, the middle of MariaDB's GTID.
fn server_id(header: &TxHeader, source: &SourceInfo) -> i64 {
    let named = header.origin.as_ref().and_then(|origin| origin.parse().ok());
    let middle = || gtid(header)?.split('-').nth(1)?.parse().ok();
    match source.connector {
        Connector::Mariadb => named.or_else(middle),
        _ => named,
    }
    .unwrap_or(source.server_id)
}

/// The `source` block of an event.
pub(super) fn block(event: &ChangeEvent, header: &TxHeader, source: &SourceInfo) -> Json {
    let (schema, table) =
        event.table.as_ref().map_or(("", ""), |t| (&*t.name.schema, &*t.name.table));
    let (db, sequence) = match &header.commit {
        // Both are the commit's: that is what orders transactions.
        Position::Postgres { lsn } => {
            (source.db.as_str(), Json::from(format!("[\"{lsn}\",\"{lsn}\"]")))
        }
        Position::Binlog { .. } => (schema, Json::Null),
        Position::Poll { .. } if source.connector == Connector::Postgres => {
            (source.db.as_str(), Json::Null)
        }
        Position::Poll { .. } => (schema, Json::Null),
    };
    let incremental = header.snapshot && header.id == TxHeader::BACKFILL;
    let snapshot = match (header.snapshot, incremental) {
        (false, _) => "false",
        (true, false) => "true",
        (true, true) => "incremental",
    };
    let mut block = Map::new();
    let mut put = |name: &str, json: Json| drop(block.insert(name.to_string(), json));
    put("version", source.version.as_str().into());
    put("connector", source.connector.name().into());
    put("name", source.name.as_str().into());
    put("ts_ms", header.commit_micros.div_euclid(1_000).into());
    put("snapshot", snapshot.into());
    put("db", db.into());
    put("sequence", sequence);
    put("ts_us", header.commit_micros.into());
    put("ts_ns", header.commit_micros.saturating_mul(1_000).into());
    match &header.commit {
        Position::Postgres { lsn } => {
            put("schema", schema.into());
            put("table", table.into());
            put("txId", header.id.parse::<i64>().ok().into());
            // Rows that were read beside the stream have no place in the log of their own.
            put("lsn", i64::try_from(*lsn).ok().filter(|_| !incremental).into());
            put("xmin", Json::Null);
            put("origin", header.origin.clone().into());
            put("origin_lsn", Json::Null);
        }
        Position::Binlog { file, offset, .. } => {
            put("table", table.into());
            put("server_id", server_id(header, source).into());
            put("gtid", gtid(header).into());
            put("file", split_epoch(file).1.into());
            put("pos", i64::try_from(*offset).ok().into());
            put("row", event.ordinal.into());
            put("thread", Json::Null);
            put("query", Json::Null);
        }
        Position::Poll { .. } => {
            for (name, json) in without_log(event, schema, table, source) {
                put(name, json);
            }
        }
    }
    Json::Object(block)
}

/// What is said of a row that was read without a log: the fields of its kind of database, which
/// name no place in any log.
fn without_log(
    event: &ChangeEvent,
    schema: &str,
    table: &str,
    source: &SourceInfo,
) -> Vec<(&'static str, Json)> {
    match source.connector {
        Connector::Postgres => vec![
            ("schema", schema.into()),
            ("table", table.into()),
            ("txId", Json::Null),
            ("lsn", Json::Null),
            ("xmin", Json::Null),
            ("origin", Json::Null),
            ("origin_lsn", Json::Null),
        ],
        // File and place may not be absent.
        Connector::Mysql | Connector::Mariadb => vec![
            ("table", table.into()),
            ("server_id", source.server_id.into()),
            ("gtid", Json::Null),
            ("file", "".into()),
            ("pos", 0.into()),
            ("row", event.ordinal.into()),
            ("thread", Json::Null),
            ("query", Json::Null),
        ],
    }
}
