//! Deleting the rows of a table that were not seen: what is left to do for plain replication
//! after a gap. The keys that were seen go into a temporary table of the target, so that their
//! number does not matter here.

use crossdock_model::canonical::Name;
use crossdock_model::{TableName, Value};
use mysql_async::Value as Given;

use super::any::no_database;
use super::{AnyTarget, MysqlTarget, PostgresTarget, mysql, mysql_values, postgres};
use crate::ApplyError;

/// Keys that go into the temporary table with one statement.
const KEYS_MAX: usize = 1_000;

/// A table of which some rows were seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Table.
    pub table: TableName,
    /// Its key columns; none when no row was seen.
    pub key: Vec<Name>,
}

impl Seen {
    /// Name of the temporary table of the `at`th.
    fn temporary(at: usize) -> String {
        format!("crossdock_seen_{at}")
    }
}

impl AnyTarget {
    /// Makes room for the keys that were seen of the `at`th table.
    pub async fn begin_seen(&mut self, at: usize, seen: &Seen) -> Result<(), ApplyError> {
        match self {
            Self::Postgres(target) => target.begin_seen(at, seen).await,
            Self::Mysql(target) => target.begin_seen(at, seen).await,
            Self::Http(_) | Self::File(_) => Err(no_database(seen)),
        }
    }

    /// Notes keys that were seen of the `at`th table; each may come several times.
    pub async fn note_seen(
        &mut self,
        at: usize,
        seen: &Seen,
        keys: &[Vec<Value<'static>>],
    ) -> Result<(), ApplyError> {
        for keys in keys.chunks(KEYS_MAX) {
            match self {
                Self::Postgres(target) => target.note_seen(at, seen, keys).await?,
                Self::Mysql(target) => target.note_seen(at, seen, keys).await?,
                Self::Http(_) | Self::File(_) => return Err(no_database(seen)),
            }
        }
        Ok(())
    }

    /// Deletes the rows whose keys were not noted, in a transaction of its own: done again it
    /// does nothing more. Returns the number of rows deleted.
    pub async fn delete_others(&mut self, at: usize, seen: &Seen) -> Result<u64, ApplyError> {
        let doing = "deleting rows that a resync did not find";
        match self {
            Self::Postgres(target) => target.execute(&postgres_delete(at, seen), doing).await,
            Self::Mysql(target) => target.execute(&mysql_delete(at, seen), Vec::new(), doing).await,
            Self::Http(_) | Self::File(_) => Err(no_database(seen)),
        }
    }
}

fn postgres_table(table: &TableName) -> String {
    format!("{}.{}", postgres::quoted(&table.schema), postgres::quoted(&table.table))
}

fn postgres_delete(at: usize, seen: &Seen) -> String {
    let table = postgres_table(&seen.table);
    if seen.key.is_empty() {
        return format!("DELETE FROM {table}");
    }
    let same = |key: &Name| format!("s.{0} = t.{0}", postgres::quoted(key));
    let same: Vec<String> = seen.key.iter().map(same).collect();
    format!(
        "DELETE FROM {table} AS t WHERE NOT EXISTS (SELECT FROM pg_temp.{} AS s WHERE {})",
        Seen::temporary(at),
        same.join(" AND ")
    )
}

fn mysql_temporary(at: usize, seen: &Seen) -> String {
    mysql::table_sql(&TableName::new(&seen.table.schema, &Seen::temporary(at)))
}

fn mysql_delete(at: usize, seen: &Seen) -> String {
    let table = mysql::table_sql(&seen.table);
    let Some(first) = seen.key.first() else { return format!("DELETE FROM {table}") };
    let same = |key: &Name| format!("s.{0} = t.{0}", mysql::quoted(key));
    let same: Vec<String> = seen.key.iter().map(same).collect();
    format!(
        "DELETE t FROM {table} AS t LEFT JOIN {} AS s ON {} WHERE s.{} IS NULL",
        mysql_temporary(at, seen),
        same.join(" AND "),
        mysql::quoted(first)
    )
}

impl PostgresTarget {
    async fn begin_seen(&mut self, at: usize, seen: &Seen) -> Result<(), ApplyError> {
        let temporary = Seen::temporary(at);
        let key: Vec<String> = seen.key.iter().map(|key| postgres::quoted(key)).collect();
        let sql = format!(
            "DROP TABLE IF EXISTS pg_temp.{temporary}; \
             CREATE TEMPORARY TABLE {temporary} AS SELECT {} FROM {} WITH NO DATA",
            key.join(", "),
            postgres_table(&seen.table)
        );
        self.run_script(&sql, "making a temporary table").await
    }

    async fn note_seen(
        &mut self,
        at: usize,
        seen: &Seen,
        keys: &[Vec<Value<'static>>],
    ) -> Result<(), ApplyError> {
        let rows: Vec<Vec<&Value<'static>>> = keys.iter().map(|k| k.iter().collect()).collect();
        let columns: Vec<&Name> = seen.key.iter().collect();
        let into = format!("pg_temp.{}", Seen::temporary(at));
        self.insert_texts(&into, &seen.table, &columns, &rows).await
    }
}

impl MysqlTarget {
    async fn begin_seen(&mut self, at: usize, seen: &Seen) -> Result<(), ApplyError> {
        let temporary = mysql_temporary(at, seen);
        let key: Vec<String> = seen.key.iter().map(|key| mysql::quoted(key)).collect();
        let key = key.join(", ");
        let doing = "making a temporary table";
        let drop = format!("DROP TEMPORARY TABLE IF EXISTS {temporary}");
        self.execute(&drop, Vec::new(), doing).await?;
        let table = mysql::table_sql(&seen.table);
        let make = format!(
            "CREATE TEMPORARY TABLE {temporary} (PRIMARY KEY ({key})) SELECT {key} FROM {table} \
             LIMIT 0"
        );
        self.execute(&make, Vec::new(), doing).await.map(|_| ())
    }

    async fn note_seen(
        &mut self,
        at: usize,
        seen: &Seen,
        keys: &[Vec<Value<'static>>],
    ) -> Result<(), ApplyError> {
        let columns: Vec<String> = seen.key.iter().map(|key| mysql::quoted(key)).collect();
        let marks = format!("({})", vec!["?"; columns.len()].join(", "));
        let Some(first) = columns.first() else { return Ok(()) };
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {} ON DUPLICATE KEY UPDATE {first} = VALUES({first})",
            mysql_temporary(at, seen),
            columns.join(", "),
            vec![marks.as_str(); keys.len()].join(", ")
        );
        let given: Vec<Given> = keys.iter().flatten().map(mysql_values::given).collect();
        self.execute(&sql, given, "noting keys").await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_deleted() {
        let table = TableName::new("shop", "lines");
        let seen = Seen { table, key: vec!["id".into(), "no".into()] };
        assert_eq!(
            postgres_delete(0, &seen),
            r#"DELETE FROM "shop"."lines" AS t WHERE NOT EXISTS (SELECT FROM pg_temp.crossdock_seen_0 AS s WHERE s."id" = t."id" AND s."no" = t."no")"#
        );
        assert_eq!(
            mysql_delete(1, &seen),
            "DELETE t FROM `shop`.`lines` AS t LEFT JOIN `shop`.`crossdock_seen_1` AS s ON \
             s.`id` = t.`id` AND s.`no` = t.`no` WHERE s.`id` IS NULL"
        );
        let nothing = Seen { key: Vec::new(), ..seen };
        assert_eq!(postgres_delete(0, &nothing), r#"DELETE FROM "shop"."lines""#);
        assert_eq!(mysql_delete(0, &nothing), "DELETE FROM `shop`.`lines`");
    }
}
