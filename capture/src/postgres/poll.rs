//! What polling asks of PostgreSQL. Values come through the same texts and the same decoding as a
//! snapshot's.

use std::collections::HashMap;
use std::pin::pin;

use crossdock_model::{TableName, Value};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::image::Table;
use super::{catalog, errors, prepare, ranges, sql};
use crate::poll::{CHECK_SECONDS, Described, PAGE_BYTES_MAX, Page, Place, Wanted};
use crate::{CaptureError, SourceOptions};

/// SQLSTATE: ended by `statement_timeout`.
const TOO_LONG: &str = "57014";

/// A connection that polls.
pub(crate) struct PollLink {
    options: SourceOptions,
    client: Client,
    /// Tables that were described.
    tables: HashMap<TableName, (u32, Table)>,
}

impl PollLink {
    pub(crate) async fn connect(options: &SourceOptions) -> Result<Self, CaptureError> {
        let client = sql::connect(options).await?;
        Ok(Self { options: options.clone(), client, tables: HashMap::new() })
    }

    fn failed(&self, doing: &str, error: tokio_postgres::Error) -> CaptureError {
        errors::sql(&self.options, doing, error)
    }

    fn table(&self, name: &TableName) -> Result<&(u32, Table), CaptureError> {
        self.tables.get(name).ok_or_else(|| crate::poll::missing(&self.options, name))
    }

    fn column(&self, name: &TableName, column: usize) -> Result<String, CaptureError> {
        let (_, table) = self.table(name)?;
        let column = table.schema.columns.get(column).map_or("", |column| &*column.name);
        Ok(sql::identifier(column))
    }

    fn columns(&self, name: &TableName, columns: &[usize]) -> Result<Vec<String>, CaptureError> {
        columns.iter().map(|column| self.column(name, *column)).collect()
    }

    pub(crate) async fn version(&mut self) -> Result<String, CaptureError> {
        let version = prepare::version(&self.client, &self.options).await?;
        Ok(format!("PostgreSQL {}.{}", version / 10_000, version % 10_000))
    }

    pub(crate) async fn now_micros(&mut self) -> Result<i64, CaptureError> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let row = self.client.query_one(sql, &[]).await;
        Ok(row.map_err(|e| self.failed("asking for the time", e))?.get(0))
    }

    pub(crate) async fn describe(
        &mut self,
        name: &TableName,
    ) -> Result<Option<Described>, CaptureError> {
        let found = self
            .client
            .query_opt(
                "SELECT c.oid, c.relkind IN ('v', 'm'),
                        has_schema_privilege(n.oid, 'USAGE')
                            AND NOT EXISTS (
                                SELECT FROM pg_attribute a
                                WHERE a.attrelid = c.oid AND a.attnum > 0
                                  AND NOT a.attisdropped AND a.attgenerated = ''
                                  AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT'))
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname = $2
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
                &[&&*name.schema, &&*name.table],
            )
            .await
            .map_err(|e| self.failed(&format!("looking up {name}"), e))?;
        let Some(found) = found else { return Ok(None) };
        let oid: u32 = found.get(0);
        let columns = catalog::columns(&self.client, &self.options, oid).await?;
        if columns.is_empty() {
            // It was dropped since it was found; what has its name now is found the next time.
            return Ok(None);
        }
        let table =
            catalog::table(&self.client, &self.options, oid, name.clone(), &columns).await?;
        let types: Vec<u32> = columns.iter().map(|column| column.type_oid).collect();
        let ordered = self.ordered(&types).await?;
        let schema = table.schema.clone();
        self.tables.insert(name.clone(), (oid, table));
        Ok(Some(Described { schema, ordered, readable: found.get(2), view: found.get(1) }))
    }

    /// Built-in types with an order of their own, and enums. Operators of an extension's type are
    /// not found without its schema, and its values would be compared as something else.
    async fn ordered(&self, types: &[u32]) -> Result<Vec<bool>, CaptureError> {
        const ORDERED: [&str; 19] = [
            "bool",
            "int2",
            "int4",
            "int8",
            "oid",
            "numeric",
            "float4",
            "float8",
            "text",
            "varchar",
            "bpchar",
            "name",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "interval",
            "bytea",
        ];
        let rows = self
            .client
            .query(
                "WITH RECURSIVE base(of, oid) AS (
                     SELECT DISTINCT t, t FROM unnest($1::oid[]) AS t
                     UNION ALL
                     SELECT b.of, t.typbasetype FROM base b
                     JOIN pg_type t ON t.oid = b.oid AND t.typtype = 'd')
                 SELECT b.of FROM base b JOIN pg_type t ON t.oid = b.oid
                 WHERE t.typtype = 'e'
                    OR t.typnamespace = 'pg_catalog'::regnamespace AND t.typname = ANY ($2)",
                &[&types, &&ORDERED[..]],
            )
            .await
            .map_err(|e| self.failed("looking up types", e))?;
        let found: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        Ok(types.iter().map(|oid| found.contains(oid)).collect())
    }

    pub(crate) async fn page(
        &mut self,
        name: &TableName,
        wanted: &Wanted<'_>,
    ) -> Result<Page, CaptureError> {
        let (_, table) = self.table(name)?;
        let order = self.columns(name, wanted.order)?;
        let condition = condition(&order, &wanted.from, wanted.filter);
        let statement = format!(
            "SELECT {} FROM {}{condition} ORDER BY {} LIMIT {}",
            ranges::column_list(table),
            sql::qualified(name),
            order.join(", "),
            wanted.rows_max
        );
        let doing = format!("reading {name}");
        let rows = self.client.simple_query_raw(&statement).await;
        let mut messages = pin!(rows.map_err(|e| self.failed(&doing, e))?);
        let mut page = Page { rows: Vec::new(), last: None, more: false, bytes: 0 };
        let mut last = None;
        while let Some(message) = messages.try_next().await.map_err(|e| self.failed(&doing, e))? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            page.rows.push(values(table, &row, &mut page.bytes)?);
            last = Some(row);
            page.more = page.bytes >= PAGE_BYTES_MAX || page.rows.len() >= wanted.rows_max;
            if page.more {
                // What follows is thrown away as it arrives.
                break;
            }
        }
        page.last = last.and_then(|row| {
            wanted.order.iter().map(|at| row.get(*at).map(str::to_string)).collect()
        });
        Ok(page)
    }

    pub(crate) async fn greatest(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<Option<Vec<String>>, CaptureError> {
        let columns = self.columns(name, columns)?;
        let descending: Vec<String> =
            columns.iter().map(|column| format!("{column} DESC")).collect();
        let statement = format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT 1",
            columns.join(", "),
            sql::qualified(name),
            condition(&columns, &Place::Start, None),
            descending.join(", ")
        );
        let row = self.first(&format!("looking for the end of {name}"), &statement).await?;
        let texts = |row: SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).map(str::to_string)).collect()
        };
        Ok(row.and_then(texts))
    }

    async fn first(
        &self,
        doing: &str,
        statement: &str,
    ) -> Result<Option<SimpleQueryRow>, CaptureError> {
        let messages = self.client.simple_query(statement).await;
        let messages = messages.map_err(|e| self.failed(doing, e))?;
        Ok(messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        }))
    }

    pub(crate) async fn has_null(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<bool, CaptureError> {
        let columns = self.columns(name, columns)?;
        let nulls: Vec<String> = columns.iter().map(|column| format!("{column} IS NULL")).collect();
        let statement =
            format!("SELECT 1 FROM {} WHERE {} LIMIT 1", sql::qualified(name), nulls.join(" OR "));
        Ok(self.first(&format!("looking for NULLs in {name}"), &statement).await?.is_some())
    }

    pub(crate) async fn try_filter(
        &mut self,
        name: &TableName,
        filter: &str,
    ) -> Result<Result<(), String>, CaptureError> {
        // As a single statement, whatever the condition says.
        let statement = format!("SELECT FROM {} WHERE ({filter}\n)", sql::qualified(name));
        match self.client.prepare(&statement).await {
            Ok(_) => Ok(Ok(())),
            Err(error) => match error.as_db_error() {
                Some(db) => Ok(Err(format!(
                    "the filter is not accepted: {} (SQLSTATE {})",
                    db.message(),
                    db.code().code()
                ))),
                None => Err(self.failed("trying the filter", error)),
            },
        }
    }

    pub(crate) async fn estimate(&mut self, name: &TableName) -> Result<u64, CaptureError> {
        let (oid, _) = self.table(name)?;
        let sql = "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = $1";
        let row = self.client.query_opt(sql, &[oid]).await;
        let row = row.map_err(|e| self.failed(&format!("estimating the rows of {name}"), e))?;
        Ok(row.and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or(0))
    }

    pub(crate) async fn is_unique(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<bool, CaptureError> {
        self.has_index(
            name,
            "i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
             AND (SELECT array_agg(a.attname::text)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n_th)
                  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.n_th <= i.indnkeyatts) <@ $2::text[]",
            columns,
        )
        .await
    }

    pub(crate) async fn is_indexed(
        &mut self,
        name: &TableName,
        column: &str,
    ) -> Result<bool, CaptureError> {
        self.has_index(
            name,
            "i.indisvalid AND i.indpred IS NULL
             AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid
                         AND a.attnum = i.indkey[0] AND ARRAY[a.attname::text] = $2::text[])",
            &[column.to_string()],
        )
        .await
    }

    async fn has_index(
        &self,
        name: &TableName,
        condition: &str,
        columns: &[String],
    ) -> Result<bool, CaptureError> {
        let (oid, _) = self.table(name)?;
        let sql =
            format!("SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND {condition})");
        let row = self.client.query_one(&sql, &[oid, &columns]).await;
        Ok(row.map_err(|e| self.failed(&format!("looking at the indexes of {name}"), e))?.get(0))
    }

    pub(crate) async fn has_twins(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<Option<bool>, CaptureError> {
        let list: Vec<String> = columns.iter().map(|column| sql::identifier(column)).collect();
        let list = list.join(", ");
        let statement = format!(
            "SELECT 1 FROM {} GROUP BY {list} HAVING count(*) > 1 LIMIT 1",
            sql::qualified(name)
        );
        let doing = format!("looking for rows of {name} with the same key");
        let limit = format!("SET statement_timeout = '{CHECK_SECONDS}s'");
        self.client.batch_execute(&limit).await.map_err(|e| self.failed(&doing, e))?;
        let found = self.client.query_opt(&statement, &[]).await;
        let reset = self.client.batch_execute("SET statement_timeout = 0").await;
        reset.map_err(|e| self.failed(&doing, e))?;
        match found {
            Ok(row) => Ok(Some(row.is_some())),
            Err(e) if e.code().is_some_and(|code| code.code() == TOO_LONG) => Ok(None),
            Err(e) => Err(self.failed(&doing, e)),
        }
    }

    pub(crate) fn grant(&self, name: &TableName) -> String {
        prepare::grant_select(&self.options, name)
    }
}

fn values(
    table: &Table,
    row: &SimpleQueryRow,
    bytes: &mut usize,
) -> Result<Vec<Value<'static>>, CaptureError> {
    let mut values = Vec::with_capacity(row.len());
    for column in 0..row.len() {
        values.push(match row.get(column) {
            None => Value::Null,
            Some(text) => {
                *bytes += text.len();
                table.decode(column, text.as_bytes())?.into_owned()
            }
        });
    }
    Ok(values)
}

/// What stands after the table's name. A comparison of rows is one range of an index.
fn condition(order: &[String], from: &Place<'_>, filter: Option<&str>) -> String {
    let compared = |operator: &str, values: &[String]| {
        let literals: Vec<String> = values.iter().map(|value| sql::literal(value)).collect();
        let columns: Vec<&str> = order.iter().take(values.len()).map(String::as_str).collect();
        format!("({}) {operator} ({})", columns.join(", "), literals.join(", "))
    };
    let mut conditions = match from {
        Place::Start => Vec::new(),
        Place::At(values) => vec![compared(">=", values)],
        Place::Beyond(values) => vec![compared(">", values)],
    };
    conditions.extend(order.iter().map(|column| format!("{column} IS NOT NULL")));
    conditions.extend(filter.map(|filter| format!("({filter}\n)")));
    format!(" WHERE {}", conditions.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_conditions() {
        let order = ["\"at\"".to_string(), "\"id\"".to_string()];
        let at = ["it's".to_string()];
        assert_eq!(
            condition(&order, &Place::At(&at), None),
            r#" WHERE ("at") >= ('it''s') AND "at" IS NOT NULL AND "id" IS NOT NULL"#
        );
        let after = ["2".to_string(), "3".to_string()];
        assert_eq!(
            condition(&order[1..], &Place::Beyond(&after[1..]), Some("x = 1 -- y")),
            " WHERE (\"id\") > ('3') AND \"id\" IS NOT NULL AND (x = 1 -- y\n)"
        );
    }
}
