//! What polling asks of MySQL and MariaDB. Rows come by the same statement and the same decoding as
//! a snapshot's.

use std::collections::HashMap;
use std::sync::Arc;

use crossdock_model::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::catalog::{self, Table};
use super::connect::{self, Server, ident, literal, server_error, table_ident};
use super::{select, spans, text};
use crate::poll::{CHECK_SECONDS, Described, From, PAGE_BYTES_MAX, Page, Wanted};
use crate::{CaptureError, SourceOptions};

/// Errors of a statement that took too long: MariaDB's and MySQL's.
const TOO_LONG: [u16; 2] = [1969, 3024];
/// Errors that say that the login may not read a table, or a column of it.
const NOT_GRANTED: [u16; 3] = [1044, 1142, 1143];

/// A connection that polls.
pub(crate) struct PollLink {
    options: SourceOptions,
    conn: Conn,
    server: Server,
    /// Tables that were described.
    tables: HashMap<TableName, Arc<Table>>,
}

impl PollLink {
    pub(crate) async fn connect(options: &SourceOptions) -> Result<Self, CaptureError> {
        let mut conn = connect::connect(options).await?;
        let server = connect::server(options, &mut conn).await?;
        Ok(Self { options: options.clone(), conn, server, tables: HashMap::new() })
    }

    fn failed(&self, doing: &str, error: mysql_async::Error) -> CaptureError {
        server_error(&self.options, doing, error)
    }

    fn table(&self, name: &TableName) -> Result<Arc<Table>, CaptureError> {
        let table = self.tables.get(name).cloned();
        table.ok_or_else(|| crate::poll::missing(&self.options, name))
    }

    pub(crate) async fn version(&mut self) -> Result<String, CaptureError> {
        Ok(format!("version is {}", self.server.version))
    }

    pub(crate) async fn now_micros(&mut self) -> Result<i64, CaptureError> {
        let now: Result<Option<String>, _> = self.conn.query_first("SELECT NOW(6)").await;
        let now = now.map_err(|e| self.failed("asking for the time", e))?;
        Ok(now.and_then(|now| text::now_micros(&now)).unwrap_or(0))
    }

    pub(crate) async fn describe(
        &mut self,
        name: &TableName,
    ) -> Result<Option<Described>, CaptureError> {
        let table = catalog::table(&self.options, &self.server, &mut self.conn, name).await?;
        let Some(table) = table else { return Ok(None) };
        let readable = format!("{} LIMIT 0", select::select(name, &table, &[]));
        let readable = match self.conn.query_drop(readable).await {
            Ok(()) => true,
            Err(mysql_async::Error::Server(e)) if NOT_GRANTED.contains(&e.code) => false,
            Err(error) => return Err(self.failed(&format!("reading {name}"), error)),
        };
        const KIND: &str = "SELECT table_type FROM information_schema.tables \
            WHERE table_schema = ? AND table_name = ?";
        let of = (name.schema.to_string(), name.table.to_string());
        let kind: Result<Option<String>, _> = self.conn.exec_first(KIND, of).await;
        let kind = kind.map_err(|e| self.failed(&format!("looking up {name}"), e))?;
        let described = Described {
            schema: table.schema.clone(),
            ordered: table.codecs.iter().map(|codec| select::has_literals(&codec.kind)).collect(),
            readable,
            view: kind.is_some_and(|kind| kind.contains("VIEW")),
        };
        self.tables.insert(name.clone(), table);
        Ok(Some(described))
    }

    pub(crate) async fn page(
        &mut self,
        name: &TableName,
        wanted: &Wanted<'_>,
    ) -> Result<Page, CaptureError> {
        let table = self.table(name)?;
        let sql = format!(
            "{}{} LIMIT {}",
            select::select(name, &table, &conditions(&table, wanted)),
            select::order_by(&table, wanted.order),
            wanted.rows_max
        );
        let (options, doing) = (&self.options, format!("reading {name}"));
        let fail = |error| server_error(options, &doing, error);
        let mut result = self.conn.query_iter(sql).await.map_err(fail)?;
        let mut page = Page { rows: Vec::new(), last: None, more: false, bytes: 0 };
        let mut last = None;
        while let Some(row) = result.next().await.map_err(fail)? {
            page.bytes += select::size(&row);
            page.rows.push(select::values(&table, &row)?);
            last = Some(row);
            page.more = page.bytes >= PAGE_BYTES_MAX || page.rows.len() >= wanted.rows_max;
            if page.more {
                break;
            }
        }
        page.last = last.map(|row| place(&table, wanted.order, &row)).transpose()?;
        result.drop_result().await.map_err(fail)?;
        Ok(page)
    }

    pub(crate) async fn greatest(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<Option<Vec<String>>, CaptureError> {
        let table = self.table(name)?;
        let wanted = Wanted { order: columns, from: From::Start, filter: None, rows_max: 1 };
        let descending: Vec<String> =
            names(&table, columns).map(|column| format!("{column} DESC")).collect();
        let sql = format!(
            "{} ORDER BY {} LIMIT 1",
            select::select(name, &table, &conditions(&table, &wanted)),
            descending.join(", ")
        );
        let row: Result<Option<Row>, _> = self.conn.query_first(sql).await;
        let row = row.map_err(|e| self.failed(&format!("looking for the end of {name}"), e))?;
        row.map(|row| place(&table, columns, &row)).transpose()
    }

    async fn any(&mut self, doing: &str, sql: String) -> Result<bool, CaptureError> {
        let found: Result<Option<Row>, _> = self.conn.query_first(sql).await;
        Ok(found.map_err(|e| self.failed(doing, e))?.is_some())
    }

    pub(crate) async fn has_null(
        &mut self,
        name: &TableName,
        columns: &[usize],
    ) -> Result<bool, CaptureError> {
        let table = self.table(name)?;
        let nulls: Vec<String> =
            names(&table, columns).map(|column| format!("{column} IS NULL")).collect();
        let (table, nulls) = (table_ident(name), nulls.join(" OR "));
        let sql = format!("SELECT 1 FROM {table} WHERE {nulls} LIMIT 1");
        self.any(&format!("looking for NULLs in {name}"), sql).await
    }

    pub(crate) async fn try_filter(
        &mut self,
        name: &TableName,
        filter: &str,
    ) -> Result<Result<(), String>, CaptureError> {
        // As a single statement, whatever the condition says.
        let sql = format!("SELECT 1 FROM {} WHERE ({filter}\n)", table_ident(name));
        match self.conn.prep(sql).await {
            Ok(statement) => {
                let closed = self.conn.close(statement).await;
                closed.map_err(|e| self.failed("trying the filter", e))?;
                Ok(Ok(()))
            }
            Err(mysql_async::Error::Server(e)) => {
                Ok(Err(format!("the filter is not accepted: {} (error {})", e.message, e.code)))
            }
            Err(error) => Err(self.failed("trying the filter", error)),
        }
    }

    pub(crate) async fn estimate(&mut self, name: &TableName) -> Result<u64, CaptureError> {
        Ok(spans::size(&self.options, &mut self.conn, name).await?.rows)
    }

    pub(crate) async fn is_unique(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<bool, CaptureError> {
        const UNIQUE: &str = "SELECT index_name, column_name, sub_part IS NULL \
            FROM information_schema.statistics \
            WHERE table_schema = ? AND table_name = ? AND non_unique = 0";
        let of = (name.schema.to_string(), name.table.to_string());
        let rows: Result<Vec<(String, Option<String>, bool)>, _> = self.conn.exec(UNIQUE, of).await;
        let rows =
            rows.map_err(|e| self.failed(&format!("looking at the indexes of {name}"), e))?;
        let mut fits: HashMap<String, bool> = HashMap::new();
        for (index, column, whole) in rows {
            let among = column.is_some_and(|column| columns.contains(&column));
            let all = fits.entry(index).or_insert(true);
            *all = *all && among && whole;
        }
        Ok(fits.into_values().any(|fits| fits))
    }

    pub(crate) async fn is_indexed(
        &mut self,
        name: &TableName,
        column: &str,
    ) -> Result<bool, CaptureError> {
        const FIRST: &str = "SELECT 1 FROM information_schema.statistics WHERE table_schema = ? \
            AND table_name = ? AND seq_in_index = 1 AND column_name = ? LIMIT 1";
        let of = (name.schema.to_string(), name.table.to_string(), column.to_string());
        let row: Result<Option<u8>, _> = self.conn.exec_first(FIRST, of).await;
        let row = row.map_err(|e| self.failed(&format!("looking at the indexes of {name}"), e))?;
        Ok(row.is_some())
    }

    pub(crate) async fn has_twins(
        &mut self,
        name: &TableName,
        columns: &[String],
    ) -> Result<Option<bool>, CaptureError> {
        let list: Vec<String> = columns.iter().map(|column| ident(column)).collect();
        let rest = format!(
            "1 FROM {} GROUP BY {} HAVING count(*) > 1 LIMIT 1",
            table_ident(name),
            list.join(", ")
        );
        let sql = match self.server.mariadb {
            true => format!("SET STATEMENT max_statement_time = {CHECK_SECONDS} FOR SELECT {rest}"),
            false => format!("SELECT /*+ MAX_EXECUTION_TIME({CHECK_SECONDS}000) */ {rest}"),
        };
        let found: Result<Option<Row>, _> = self.conn.query_first(sql).await;
        match found {
            Ok(row) => Ok(Some(row.is_some())),
            Err(mysql_async::Error::Server(e)) if TOO_LONG.contains(&e.code) => Ok(None),
            Err(error) => {
                Err(self.failed(&format!("looking for rows of {name} with the same key"), error))
            }
        }
    }

    pub(crate) fn grant(&self, name: &TableName) -> String {
        format!("GRANT SELECT ON {} TO {}@'%';", table_ident(name), literal(&self.options.user))
    }
}

/// The quoted names of columns.
fn names<'t>(table: &'t Table, columns: &'t [usize]) -> impl Iterator<Item = String> + 't {
    columns.iter().map(|column| select::column_ident(table, *column))
}

/// Where a row stands, as SQL.
fn place(table: &Table, order: &[usize], row: &Row) -> Result<Vec<String>, CaptureError> {
    select::literals(table, order, |at| select::sent(row, at)).ok_or_else(|| {
        CaptureError::definite(
            format!("{}: a value of its key or cursor can't be written down", table.schema.name),
            "choose other columns as `key` and `cursor`, or cast them in a view",
        )
    })
}

fn conditions(table: &Table, wanted: &Wanted<'_>) -> Vec<String> {
    let mut conditions: Vec<String> = match wanted.from {
        From::Start => Vec::new(),
        From::At(values) => {
            let equal = names(table, wanted.order).zip(values);
            let equal: Vec<String> =
                equal.map(|(name, value)| format!("{name} = {value}")).collect();
            let beyond = select::beyond(table, wanted.order, values);
            vec![format!("({beyond} OR {})", equal.join(" AND "))]
        }
        From::Beyond(values) => vec![select::beyond(table, wanted.order, values)],
    };
    conditions.extend(names(table, wanted.order).map(|name| format!("{name} IS NOT NULL")));
    conditions.extend(wanted.filter.map(|filter| format!("({filter}\n)")));
    conditions
}
