//! What the catalog says about tables: type names, nullability, keys, and how texts are read.
//!
//! `describe`, the snapshot and the stream all come through [`table`], so that a table has one
//! schema whichever of them speaks of it.

use std::collections::HashMap;
use std::sync::Arc;

use crossdock_model::{Column, TableName, TableSchema};
use tokio_postgres::Client;

use super::declared::{self, Declared};
use super::image::Table;
use super::pgoutput::RelationMessage;
use super::value::{Kind, Scalar};
use super::{errors, sql};
use crate::{CaptureError, SourceOptions};

/// A table that exists.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub oid: u32,
    pub name: TableName,
    /// A partitioned table: its rows are in its partitions.
    pub partitioned: bool,
    /// Replica identity setting: `d`, `f`, `i` or `n`.
    pub identity: String,
    pub has_primary_key: bool,
    /// The login may SELECT from it.
    pub readable: bool,
    /// The login owns it, as adding it to a publication asks.
    pub owned: bool,
}

/// A column as the log describes it.
#[derive(Clone, Debug)]
pub(super) struct LogColumn {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
    pub identity: bool,
}

impl LogColumn {
    /// The columns of a relation message.
    pub(super) fn of(relation: &RelationMessage<'_>) -> Vec<Self> {
        let column = |column: &super::pgoutput::RelationColumn<'_>| Self {
            name: column.name.to_string(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            identity: column.identity,
        };
        relation.columns.iter().map(column).collect()
    }
}

/// Looks the tables up; one that does not exist is left out.
pub(super) async fn find(
    client: &Client,
    options: &SourceOptions,
    names: &[TableName],
) -> Result<Vec<Found>, CaptureError> {
    let schemas: Vec<&str> = names.iter().map(|name| &*name.schema).collect();
    let tables: Vec<&str> = names.iter().map(|name| &*name.table).collect();
    let rows = client
        .query(
            "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relreplident::text,
                    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
                    has_schema_privilege(n.oid, 'USAGE')
                        AND (has_table_privilege(c.oid, 'SELECT')
                             OR has_any_column_privilege(c.oid, 'SELECT')),
                    pg_has_role(c.relowner, 'USAGE')
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(nsp, rel, n_th)
             JOIN pg_namespace n ON n.nspname = w.nsp
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.rel
             WHERE c.relkind IN ('r', 'p')
             ORDER BY w.n_th",
            &[&schemas, &tables],
        )
        .await
        .map_err(|e| errors::sql(options, "looking up the captured tables", e))?;
    let found = |row: &tokio_postgres::Row| Found {
        oid: row.get(0),
        name: TableName::new(row.get(1), row.get(2)),
        partitioned: row.get(3),
        identity: row.get(4),
        has_primary_key: row.get(5),
        readable: row.get(6),
        owned: row.get(7),
    };
    Ok(rows.iter().map(found).collect())
}

/// The columns that the log carries, in its order. Generated columns are not in it.
pub(super) async fn columns(
    client: &Client,
    options: &SourceOptions,
    oid: u32,
) -> Result<Vec<LogColumn>, CaptureError> {
    let rows = client
        .query(
            "SELECT attname, atttypid, atttypmod FROM pg_attribute
             WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
             ORDER BY attnum",
            &[&oid],
        )
        .await
        .map_err(|e| errors::sql(options, "reading the columns of the captured tables", e))?;
    let column = |row: &tokio_postgres::Row| LogColumn {
        name: row.get(0),
        type_oid: row.get(1),
        type_modifier: row.get(2),
        identity: false,
    };
    Ok(rows.iter().map(column).collect())
}

/// Completes what the log says of a table with what only the catalog knows. The key is the
/// primary key, or else the replica identity's index.
pub(super) async fn table(
    client: &Client,
    options: &SourceOptions,
    oid: u32,
    name: TableName,
    columns: &[LogColumn],
) -> Result<Table, CaptureError> {
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let types: Vec<u32> = columns.iter().map(|column| column.type_oid).collect();
    let modifiers: Vec<i32> = columns.iter().map(|column| column.type_modifier).collect();
    let rows = client
        .query(
            "WITH key AS (
                 SELECT i.indkey::int2[] AS attnums, i.indnkeyatts FROM pg_index i
                 WHERE i.indrelid = $1 AND (i.indisprimary OR i.indisreplident)
                 ORDER BY i.indisprimary DESC LIMIT 1)
             SELECT format_type(c.type, c.modifier), coalesce(a.attnotnull, false), k.n_th
             FROM unnest($2::text[], $3::oid[], $4::int4[]) WITH ORDINALITY
                  AS c(name, type, modifier, n_th)
             LEFT JOIN pg_attribute a
                  ON a.attrelid = $1 AND a.attname = c.name AND a.attnum > 0
             LEFT JOIN (SELECT u.attnum, u.n_th
                        FROM key, unnest(key.attnums) WITH ORDINALITY AS u(attnum, n_th)
                        WHERE u.n_th <= key.indnkeyatts) k ON k.attnum = a.attnum
             ORDER BY c.n_th",
            &[&oid, &names, &types, &modifiers],
        )
        .await
        .map_err(|e| errors::sql(options, &format!("reading the schema of {name}"), e))?;
    let kinds = kinds(client, options, &types).await?;
    let mut declared = declared::declared(client, options, oid, columns).await?.into_iter();
    let described = columns.iter().zip(&rows).map(|(column, row)| {
        let Declared { base_type, default } = declared.next().unwrap_or_default();
        let type_name: Option<String> = row.get(0);
        let key: Option<i64> = row.get(2);
        Column {
            name: column.name.as_str().into(),
            type_name: type_name.unwrap_or_else(|| "unknown".to_string()).into(),
            nullable: !row.get::<_, bool>(1),
            key: key.and_then(|n_th| u16::try_from(n_th - 1).ok()),
            base_type: base_type.map(Into::into),
            default: default.map(Into::into),
        }
    });
    Ok(Table {
        schema: Arc::new(TableSchema { name, columns: described.collect() }),
        kinds,
        identity: columns.iter().map(|column| column.identity).collect(),
    })
}

/// A type after domains have been taken off.
struct BaseType {
    oid: u32,
    /// Type of the elements, for an array.
    element: Option<u32>,
    delimiter: u8,
}

/// How the texts of these types are read.
async fn kinds(
    client: &Client,
    options: &SourceOptions,
    types: &[u32],
) -> Result<Vec<Kind>, CaptureError> {
    let bases = base_types(client, options, types.to_vec()).await?;
    let elements: Vec<u32> = bases.values().filter_map(|base| base.element).collect();
    let elements = base_types(client, options, elements).await?;
    let kind = |oid: &u32| match bases.get(oid) {
        None => Kind::scalar(Scalar::Text),
        Some(base) => match base.element.and_then(|element| elements.get(&element)) {
            None => Kind::scalar(Scalar::of(base.oid)),
            Some(element) => {
                // The delimiter is that of the element's own type; only `box` has another.
                Kind { scalar: Scalar::of(element.oid), delimiter: Some(element.delimiter) }
            }
        },
    };
    Ok(types.iter().map(kind).collect())
}

async fn base_types(
    client: &Client,
    options: &SourceOptions,
    mut types: Vec<u32>,
) -> Result<HashMap<u32, BaseType>, CaptureError> {
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = client
        .query(
            "WITH RECURSIVE base(of, oid) AS (
                 SELECT t, t FROM unnest($1::oid[]) AS t
                 UNION ALL
                 SELECT b.of, t.typbasetype FROM base b
                 JOIN pg_type t ON t.oid = b.oid AND t.typtype = 'd')
             SELECT b.of, t.oid, t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0
                                 AND t.typname NOT IN ('int2vector', 'oidvector'),
                    t.typelem, t.typdelim::text
             FROM base b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype <> 'd'",
            &[&types],
        )
        .await
        .map_err(|e| errors::sql(options, "looking up types", e))?;
    let base = |row: &tokio_postgres::Row| {
        let is_array: bool = row.get(2);
        let delimiter: &str = row.get(4);
        let base = BaseType {
            oid: row.get(1),
            element: is_array.then(|| row.get(3)),
            delimiter: delimiter.bytes().next().unwrap_or(b','),
        };
        (row.get::<_, u32>(0), base)
    };
    Ok(rows.iter().map(base).collect())
}

/// Schemas of the captured tables as they are now.
pub(super) async fn describe(options: &SourceOptions) -> Result<Vec<TableSchema>, CaptureError> {
    let client = sql::connect(options).await?;
    let mut schemas = Vec::new();
    for found in find(&client, options, &options.tables).await? {
        let columns = columns(&client, options, found.oid).await?;
        let table = table(&client, options, found.oid, found.name, &columns).await?;
        schemas.push(TableSchema::clone(&table.schema));
    }
    Ok(schemas)
}
