//! The row that is in a target now, for people who must decide about a refused write.

use crossdock_model::canonical::{Name, RowWrite};
use crossdock_model::{TableName, Value};
use mysql_async::prelude::Queryable;
use serde_json::{Map, Value as Json};
use tokio_postgres::types::ToSql;

use super::mysql_values::given;
use super::postgres_text::text;
use super::{AnyTarget, MysqlTarget, PostgresTarget, mysql, postgres};
use crate::{ApplyError, classify};

const DOING: &str = "reading a row";

impl AnyTarget {
    /// The columns of a write as the target has them now, as texts; `None` when there is no such
    /// row, or no way to look.
    pub async fn current(&mut self, write: &RowWrite) -> Result<Option<Json>, ApplyError> {
        let columns: Vec<&Name> =
            write.key.iter().chain(&write.columns).map(|(name, _)| name).collect();
        if write.key.is_empty() {
            return Ok(None);
        }
        let texts = match self {
            Self::Postgres(target) => target.current(&write.table, &write.key, &columns).await?,
            Self::Mysql(target) => target.current(&write.table, &write.key, &columns).await?,
            Self::Http(_) | Self::File(_) => None,
        };
        let row = |texts: Vec<Option<String>>| {
            let named = columns.iter().zip(texts);
            let named = named.map(|(name, text)| (name.to_string(), Json::from(text)));
            Json::Object(named.collect::<Map<_, _>>())
        };
        Ok(texts.map(row))
    }
}

type Key = [(Name, Value<'static>)];

impl PostgresTarget {
    async fn current(
        &mut self,
        table: &TableName,
        key: &Key,
        columns: &[&Name],
    ) -> Result<Option<Vec<Option<String>>>, ApplyError> {
        let known = self.columns(table).await?;
        let names: Vec<&Name> = key.iter().map(|(name, _)| name).collect();
        let types = self.types_of(table, &known, &names)?;
        let texts: Vec<Option<String>> =
            key.iter().zip(&types).map(|((_, value), column)| text(value, column)).collect();
        let same = names.iter().zip(&types).enumerate();
        let same: Vec<String> = same
            .map(|(at, (name, column))| {
                format!("{} = ${}::text::{}", postgres::quoted(name), at + 1, column.sql)
            })
            .collect();
        let wanted: Vec<String> =
            columns.iter().map(|c| format!("{}::text", postgres::quoted(c))).collect();
        let sql = format!(
            "SELECT {} FROM {}.{} WHERE {} LIMIT 1",
            wanted.join(", "),
            postgres::quoted(&table.schema),
            postgres::quoted(&table.table),
            same.join(" AND ")
        );
        let params: Vec<&(dyn ToSql + Sync)> =
            texts.iter().map(|t| t as &(dyn ToSql + Sync)).collect();
        let row = self.client.query_opt(&sql, &params).await;
        let row = row.map_err(|e| self.failed(DOING, e))?;
        let cells = |row: tokio_postgres::Row| (0..row.len()).map(|at| row.get(at)).collect();
        Ok(row.map(cells))
    }
}

impl MysqlTarget {
    async fn current(
        &mut self,
        table: &TableName,
        key: &Key,
        columns: &[&Name],
    ) -> Result<Option<Vec<Option<String>>>, ApplyError> {
        let wanted: Vec<String> =
            columns.iter().map(|c| format!("CAST({} AS CHAR)", mysql::quoted(c))).collect();
        let same: Vec<String> =
            key.iter().map(|(name, _)| format!("{} = ?", mysql::quoted(name))).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} LIMIT 1",
            wanted.join(", "),
            mysql::table_sql(table),
            same.join(" AND ")
        );
        let params: Vec<mysql_async::Value> = key.iter().map(|(_, value)| given(value)).collect();
        let row: Result<Option<mysql_async::Row>, _> = self.conn.exec_first(sql, params).await;
        let row = row.map_err(|e| classify::mysql(&self.name, DOING, e))?;
        let cells = |row: mysql_async::Row| {
            (0..row.len())
                .map(|at| match row.as_ref(at) {
                    Some(mysql_async::Value::Bytes(bytes)) => {
                        Some(String::from_utf8_lossy(bytes).into_owned())
                    }
                    _ => None,
                })
                .collect()
        };
        Ok(row.map(cells))
    }
}
