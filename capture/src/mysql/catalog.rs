//! What information_schema says of the captured tables.

use std::collections::HashMap;
use std::sync::Arc;

use crossdock_model::database::ZeroDates;
use crossdock_model::{Column, TableName, TableSchema, Value};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::charset::Charset;
use super::connect::{Server, server_error};
use super::kind::{Codec, Declared, Kind};
use super::table_map::{Collations, TableMap, WireColumn};
use crate::{CaptureError, SourceOptions};

/// A table with everything that is needed to decode its rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// As it is written into blocks.
    pub(super) schema: Arc<TableSchema>,
    /// One for each column.
    pub(super) codecs: Vec<Codec>,
    /// Whether the column belongs to the key, by column.
    pub(super) in_key: Vec<bool>,
    /// What an insert stores in a column that it does not name, where that is a constant. Needed
    /// because `binlog_row_image=MINIMAL` leaves such columns out.
    pub(super) defaults: Vec<Option<Value<'static>>>,
    /// Why the index of the key does not have the rows in the order of its columns, if so; as far
    /// as the catalog was asked.
    pub(super) unordered: Option<&'static str>,
}

/// Data type, column type, nullable, default, charset, octets, precision, scale, digits follow the
/// name.
type ColumnRow = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
);

/// Column, its place from 1, whether only its beginning is in the index, `A`scending or
/// `D`escending.
type KeyRow = (String, u16, bool, Option<String>);

const COLUMNS: &str = "SELECT column_name, data_type, column_type, is_nullable, \
    column_default, character_set_name, character_octet_length, numeric_precision, numeric_scale, \
    datetime_precision FROM information_schema.columns \
    WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position";
const KEY: &str = "SELECT column_name, seq_in_index, sub_part IS NOT NULL, collation \
    FROM information_schema.statistics \
    WHERE table_schema = ? AND table_name = ? AND index_name = 'PRIMARY'";
const CHECKS: &str = "SELECT check_clause FROM information_schema.check_constraints \
    WHERE constraint_schema = ? AND table_name = ?";

/// Reads one table; `None` when it does not exist or may not be seen.
pub(super) async fn table(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    name: &TableName,
) -> Result<Option<Arc<Table>>, CaptureError> {
    let fail = |error| server_error(options, &format!("reading the columns of {name}"), error);
    let of = || (name.schema.to_string(), name.table.to_string());
    let columns: Vec<ColumnRow> = conn.exec(COLUMNS, of()).await.map_err(fail)?;
    if columns.is_empty() {
        return Ok(None);
    }
    let key: Vec<KeyRow> = conn.exec(KEY, of()).await.map_err(fail)?;
    let checks: Vec<String> = match server.mariadb {
        true => conn.exec(CHECKS, of()).await.map_err(fail)?,
        false => Vec::new(),
    };
    let zero_dates = options.zero_dates;
    Ok(Some(Arc::new(build((server, zero_dates), name, columns, &key, &checks))))
}

fn build(
    (server, zero_dates): (&Server, ZeroDates),
    name: &TableName,
    rows: Vec<ColumnRow>,
    key: &[KeyRow],
    checks: &[String],
) -> Table {
    let mut columns = Vec::with_capacity(rows.len());
    let mut codecs = Vec::with_capacity(rows.len());
    let mut defaults = Vec::with_capacity(rows.len());
    for row in rows {
        let (column, data_type, column_type, nullable, default, charset, ..) = row;
        let (.., octets, precision, scale, digits) = row;
        let declared = Declared {
            data_type: &data_type.to_ascii_lowercase(),
            column_type: &column_type,
            charset: charset.as_deref(),
            octets,
            precision,
            scale,
            digits,
        };
        let valid = format!("json_valid(`{}`)", column.replace('`', "``"));
        let nullable = nullable == "YES";
        let codec = Codec::new(declared.kind(), checks.contains(&valid), nullable, zero_dates);
        defaults.push(constant(server, &codec, nullable, default.as_deref()));
        codecs.push(codec);
        // MySQL does not quote, so a text can't be told from an expression.
        let quoted = default.filter(|text| server.mariadb && text != "NULL");
        columns.push(Column {
            base_type: None,
            default: quoted.map(Into::into),
            key: key.iter().find(|row| row.0 == column).map(|row| row.1.saturating_sub(1)),
            name: column.into(),
            type_name: column_type.into(),
            nullable,
        });
    }
    let unordered = if key.iter().any(|row| row.2) {
        Some("its primary key holds only the beginning of a column")
    } else if key.iter().any(|row| key.first().is_some_and(|first| row.3 != first.3)) {
        Some("its primary key has ascending and descending columns")
    } else {
        None
    };
    let schema = TableSchema { name: name.clone(), columns };
    Table { unordered, ..Table::new(schema, codecs, defaults) }
}

/// The value of a declared default; `None` when it is an expression or there is none.
fn constant(
    server: &Server,
    codec: &Codec,
    nullable: bool,
    declared: Option<&str>,
) -> Option<Value<'static>> {
    let text = match declared {
        None => return nullable.then_some(Value::Null),
        Some("NULL") if server.mariadb => return Some(Value::Null),
        Some(text) if server.mariadb => text,
        // MySQL does not quote, so a text can't be told from an expression.
        Some(_) => return None,
    };
    let plain = match text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(quoted) if quoted.contains('\\') => return None,
        Some(quoted) => quoted.replace("''", "'"),
        None if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.to_string(),
        None => return None,
    };
    codec.parse(plain.as_bytes()).ok().map(Value::into_owned)
}

/// Reads all collations of the server.
pub(super) async fn collations(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
) -> Result<Collations, CaptureError> {
    // Only here has MariaDB the ids of collations that fit several character sets.
    let sql = match server.mariadb {
        true => {
            "SELECT id, character_set_name \
             FROM information_schema.collation_character_set_applicability WHERE id IS NOT NULL"
        }
        false => "SELECT id, character_set_name FROM information_schema.collations",
    };
    let mut rows: Result<Vec<(u64, String)>, _> = conn.query(sql).await;
    if rows.is_err() {
        rows = conn
            .query(
                "SELECT id, character_set_name FROM information_schema.collations \
                    WHERE id IS NOT NULL AND character_set_name IS NOT NULL",
            )
            .await;
    }
    let rows = rows.map_err(|error| server_error(options, "reading the collations", error))?;
    let charsets = rows.into_iter().map(|(id, name)| (id, Charset::by_name(&name))).collect();
    Ok(Collations { charsets, geometries_counted: server.mariadb })
}

impl Table {
    fn new(schema: TableSchema, codecs: Vec<Codec>, defaults: Vec<Option<Value<'static>>>) -> Self {
        let in_key = schema.columns.iter().map(|column| column.key.is_some()).collect();
        Self { schema: Arc::new(schema), codecs, in_key, defaults, unordered: None }
    }

    /// A table with columns of these types.
    #[cfg(feature = "fuzzing")]
    pub(super) fn declared(types: &[&str]) -> Arc<Self> {
        let mut columns = Vec::new();
        let mut codecs = Vec::new();
        for (at, column_type) in types.iter().enumerate() {
            let data_type = column_type.split(['(', ' ']).next().unwrap_or_default();
            let declared = Declared {
                data_type,
                column_type,
                charset: (data_type == "varchar").then_some("utf8mb4"),
                octets: Some(36),
                precision: Some(9),
                scale: Some(3),
                digits: Some(3),
            };
            codecs.push(Codec::new(declared.kind(), false, true, ZeroDates::default()));
            columns.push(Column {
                name: format!("c{at}").into(),
                type_name: (*column_type).into(),
                nullable: true,
                base_type: None,
                default: None,
                key: u16::try_from(at).ok(),
            });
        }
        let name = TableName::new("wms", "t");
        let defaults = vec![None; codecs.len()];
        Arc::new(Self::new(TableSchema { name, columns }, codecs, defaults))
    }

    /// A table of which nothing is known but its name.
    pub(super) fn bare(name: &TableName) -> Arc<Self> {
        let schema = TableSchema { name: name.clone(), columns: Vec::new() };
        Arc::new(Self::new(schema, Vec::new(), Vec::new()))
    }

    /// The table as the log describes it, completed from the catalog. `None` when the log alone
    /// does not say enough and the catalog describes another version of the table.
    pub(super) fn from_log(
        map: TableMap,
        known: Option<&Table>,
        zero_dates: ZeroDates,
    ) -> Option<Self> {
        let name = TableName::new(&map.database, &map.table);
        let by_name: HashMap<&str, usize> = known
            .map(|t| t.schema.columns.iter().enumerate().map(|(i, c)| (&*c.name, i)).collect())
            .unwrap_or_default();
        let named = map.columns.iter().all(|column| column.name.is_some());
        if !named && known.is_none_or(|t| t.codecs.len() != map.columns.len()) {
            return None;
        }
        let mut columns = Vec::with_capacity(map.columns.len());
        let mut codecs = Vec::with_capacity(map.columns.len());
        let mut defaults = Vec::with_capacity(map.columns.len());
        for (i, wire) in map.columns.into_iter().enumerate() {
            let at = match &wire.name {
                Some(name) => by_name.get(name.as_str()).copied(),
                None => Some(i),
            };
            let cataloged = known.zip(at).and_then(|(table, at)| {
                Some((table.schema.columns.get(at)?, table.codecs.get(at)?))
            });
            let agreeing = cataloged.filter(|(_, codec)| wire.kind.agrees(&codec.kind));
            if !named && agreeing.is_none() {
                return None;
            }
            let default = known.zip(at).filter(|_| agreeing.is_some());
            defaults.push(default.and_then(|(table, at)| table.defaults.get(at)?.clone()));
            let codec = complete(&wire, agreeing.map(|(_, codec)| codec), zero_dates)?;
            let name = match (wire.name, agreeing) {
                (Some(name), _) => name.into(),
                (None, Some((column, _))) => column.name.clone(),
                (None, None) => return None,
            };
            columns.push(Column {
                name,
                type_name: agreeing.map_or_else(
                    || codec.kind.name().into(),
                    |(column, _)| column.type_name.clone(),
                ),
                nullable: wire.nullable,
                base_type: None,
                default: agreeing.and_then(|(column, _)| column.default.clone()),
                key: match &map.key {
                    Some(key) => key.get(i).copied().flatten(),
                    None => cataloged.and_then(|(column, _)| column.key),
                },
            });
            codecs.push(codec);
        }
        Some(Self::new(TableSchema { name, columns }, codecs, defaults))
    }
}

/// Adds what the log left out: sign, character set, members, and types that the log writes as
/// plain strings. `None` when nobody knows.
fn complete(wire: &WireColumn, known: Option<&Codec>, zero_dates: ZeroDates) -> Option<Codec> {
    let json = known.is_some_and(|codec| codec.json);
    let declared = known.map(|codec| &codec.kind);
    let kind = match (wire.kind.clone(), declared) {
        (Kind::Int { width, .. }, Some(Kind::Int { unsigned, .. })) if !wire.signed_known => {
            Kind::Int { width, unsigned: *unsigned }
        }
        (Kind::Int { .. }, _) if !wire.signed_known => return None,
        (Kind::Char { .. }, Some(special @ (Kind::Uuid | Kind::Inet { .. }))) => special.clone(),
        (Kind::Char { bytes, .. }, Some(Kind::Char { charset, .. })) if !wire.charset_known => {
            Kind::Char { bytes, charset: charset.clone() }
        }
        (Kind::Varchar { bytes, .. }, Some(Kind::Varchar { charset, .. }))
            if !wire.charset_known =>
        {
            Kind::Varchar { bytes, charset: charset.clone() }
        }
        (Kind::Blob { prefix, .. }, Some(Kind::Blob { charset, .. })) if !wire.charset_known => {
            Kind::Blob { prefix, charset: charset.clone() }
        }
        (Kind::Char { .. } | Kind::Varchar { .. } | Kind::Blob { .. }, _)
            if !wire.charset_known =>
        {
            return None;
        }
        (Kind::Enum { width, .. }, Some(Kind::Enum { members, .. })) if !wire.members_known => {
            Kind::Enum { width, members: members.clone() }
        }
        (Kind::Set { width, .. }, Some(Kind::Set { members, .. })) if !wire.members_known => {
            Kind::Set { width, members: members.clone() }
        }
        (Kind::Enum { .. } | Kind::Set { .. }, _) if !wire.members_known => return None,
        (kind, _) => kind,
    };
    let codec = Codec::new(kind, json, wire.nullable, zero_dates);
    Some(Codec { compressed: wire.is_compressed(), ..codec })
}
