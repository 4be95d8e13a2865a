//! What a column's declaration says beyond the name of its type: what a domain or an enum is made
//! of, and the default.

use tokio_postgres::Client;

use super::catalog::LogColumn;
use super::errors;
use crate::{CaptureError, SourceOptions};

/// Of one column.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// See `Column::base_type`.
    pub base_type: Option<String>,
    /// See `Column::default`.
    pub default: Option<String>,
}

/// Domains are taken off; labels of an enum stand in their own order. The log names the types; of
/// columns that are gone from the catalog there is no default.
const DECLARED: &str = "WITH RECURSIVE
    given AS (
        SELECT * FROM unnest($2::text[], $3::oid[], $4::int4[]) WITH ORDINALITY
            AS c(name, type, modifier, n_th)),
    base(n_th, type, modifier, depth) AS (
        SELECT n_th, type, modifier, 0 FROM given
        UNION ALL
        SELECT b.n_th, t.typbasetype, t.typtypmod, b.depth + 1
        FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype = 'd'),
    whole AS (
        SELECT b.*, t.typcategory = 'A' AS is_array,
               CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE b.type END AS scalar
        FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd')
    SELECT CASE WHEN labels.list IS NOT NULL
                THEN 'enum(' || labels.list || ')' || CASE WHEN w.is_array THEN '[]' ELSE '' END
                WHEN w.depth > 0 THEN format_type(w.type, w.modifier) END,
           pg_get_expr(d.adbin, d.adrelid)
    FROM given g
    LEFT JOIN whole w ON w.n_th = g.n_th
    LEFT JOIN LATERAL (
        SELECT string_agg('''' || replace(enumlabel, '''', '''''') || '''', ','
                          ORDER BY enumsortorder) AS list
        FROM pg_enum WHERE enumtypid = w.scalar) labels ON true
    LEFT JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = g.name AND a.attnum > 0
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    ORDER BY g.n_th";

/// One for each of `columns`.
pub(super) async fn declared(
    client: &Client,
    options: &SourceOptions,
    table: u32,
    columns: &[LogColumn],
) -> Result<Vec<Declared>, CaptureError> {
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let types: Vec<u32> = columns.iter().map(|column| column.type_oid).collect();
    let modifiers: Vec<i32> = columns.iter().map(|column| column.type_modifier).collect();
    let rows = client
        .query(DECLARED, &[&table, &names, &types, &modifiers])
        .await
        .map_err(|e| errors::sql(options, "reading what columns are declared as", e))?;
    let declared =
        |row: &tokio_postgres::Row| Declared { base_type: row.get(0), default: row.get(1) };
    Ok(rows.iter().map(declared).collect())
}
