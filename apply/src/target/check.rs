//! What `crossdock check` looks at in a target.

use std::collections::BTreeSet;

use crossdock_model::TableName;
use crossdock_model::canonical::{Name, WriteKind};
use crossdock_model::mark::PROGRESS_TABLE;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_postgres::Client;

use super::{FileTarget, HttpTarget, mysql, postgres};
use crate::options::{found, unseen};
use crate::sql_text::literal;
use crate::{
    ApplyError, ConnectOptions, DatabaseKind, Finding, Severity, TargetOptions, classify, connect,
};

/// How rules write to a table of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// The table.
    pub table: TableName,
    /// Columns that identify a row.
    pub key: Vec<Name>,
    /// Further columns that are set.
    pub columns: Vec<Name>,
    /// How rows are written.
    pub kinds: Vec<WriteKind>,
}

impl TableUse {
    /// Insert and upsert find an existing row by a unique index.
    fn needs_unique_key(&self) -> bool {
        self.kinds.iter().any(|k| matches!(k, WriteKind::Insert | WriteKind::Upsert))
    }

    /// Privileges needed, in the words of GRANT.
    fn privileges(&self) -> BTreeSet<&'static str> {
        let of = |kind: &WriteKind| -> &[&'static str] {
            match kind {
                // An insert that may meet an existing row is an update for MySQL's grants.
                WriteKind::Insert => &["SELECT", "INSERT"],
                WriteKind::Upsert => &["SELECT", "INSERT", "UPDATE"],
                WriteKind::Update => &["SELECT", "UPDATE"],
                WriteKind::Delete => &["SELECT", "DELETE"],
            }
        };
        self.kinds.iter().flat_map(of).copied().collect()
    }
}

/// Looks at a target of any kind; see [`check`].
pub async fn check_any(options: &TargetOptions, tables: &[TableUse]) -> Vec<Finding> {
    let (looked, fine) = match options {
        TargetOptions::Database(options) => return check(options, tables).await,
        TargetOptions::Http(http) => (HttpTarget::probe(http).await, "the service can be reached"),
        TargetOptions::File(file) => (FileTarget::probe(file), "the folder can be written to"),
    };
    match looked {
        Ok(()) => vec![found(Severity::Ok, fine.to_string(), "")],
        Err(error) => vec![unseen(error)],
    }
}

/// Looks at a target without changing anything. Each finding that is not [`Severity::Ok`] comes
/// with the statement that mends it.
pub async fn check(options: &ConnectOptions, tables: &[TableUse]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looked = match options.kind {
        DatabaseKind::Postgres => look_postgres(options, tables, &mut findings).await,
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            look_mysql(options, tables, &mut findings).await
        }
    };
    if let Err(error) = looked {
        findings.push(unseen(error));
    }
    findings
}

async fn look_postgres(
    options: &ConnectOptions,
    tables: &[TableUse],
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let client = connect::postgres(options).await?;
    let failed = |e| classify::postgres(&options.name, "checking the target", e);
    let sql = format!(
        "SELECT to_regnamespace('crossdock') IS NOT NULL,
                has_database_privilege(current_database(), 'CREATE'),
                coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace
                          WHERE nspname = 'crossdock'), false),
                coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace
                          WHERE nspname = 'crossdock'), false),
                (SELECT bool_and(has_table_privilege(c.oid, p)) FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace,
                      unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p
                 WHERE n.nspname = 'crossdock' AND c.relname = '{PROGRESS_TABLE}')"
    );
    let row = client.query_one(&sql, &[]).await.map_err(failed)?;
    let (has_schema, may_create, usage, may_extend): (bool, bool, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let granted: Option<bool> = row.get(4);
    let user = postgres::quoted(&options.user);
    let grants = format!(
        "GRANT USAGE ON SCHEMA crossdock TO {user}; \
         GRANT SELECT, INSERT, UPDATE ON crossdock.{PROGRESS_TABLE} TO {user}"
    );
    let [schema, table] = postgres::progress_ddl();
    let name = &options.name;
    findings.push(match granted {
        Some(true) if usage => found(Severity::Ok, format!("{name}: progress table is there"), ""),
        Some(_) => {
            let what = format!("{name}: {} may not write the progress table", options.user);
            found(Severity::Error, what, &grants)
        }
        None if may_extend || (!has_schema && may_create) => {
            found(Severity::Ok, format!("{name}: progress table will be made at the start"), "")
        }
        None => {
            let made = if has_schema { table } else { format!("{schema}; {table}") };
            let what = format!("{name}: there is no progress table");
            found(Severity::Error, what, &format!("{made}; {grants}"))
        }
    });
    for used in tables {
        look_postgres_table(&client, options, used, findings).await?;
    }
    Ok(())
}

async fn look_postgres_table(
    client: &Client,
    options: &ConnectOptions,
    used: &TableUse,
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&options.name, "checking the target", e);
    let wanted: Vec<&str> = used.privileges().into_iter().collect();
    let sql = "SELECT
        (SELECT array_agg(attname::text) FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
        (SELECT coalesce(array_agg(p), '{}') FROM unnest($3::text[]) AS p
         WHERE NOT has_table_privilege(c.oid, p)),
        has_schema_privilege(n.oid, 'USAGE'),
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
                AND i.indpred IS NULL AND i.indexprs IS NULL
                AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text)
                     FROM pg_attribute a
                     WHERE a.attrelid = c.oid
                       AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
                    = (SELECT array_agg(k ORDER BY k) FROM unnest($4::text[]) AS k))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2";
    let key: Vec<&str> = used.key.iter().map(|k| &**k).collect();
    let row = client
        .query_opt(sql, &[&&*used.table.schema, &&*used.table.table, &wanted, &key])
        .await
        .map_err(failed)?;
    let Some(row) = row else {
        findings.push(no_table(options, &used.table));
        return Ok(());
    };
    let present: Vec<String> = row.get(0);
    let missing: Vec<String> = row.get(1);
    let table =
        format!("{}.{}", postgres::quoted(&used.table.schema), postgres::quoted(&used.table.table));
    let before = findings.len();
    no_columns(options, used, &present, findings);
    let user = postgres::quoted(&options.user);
    let name = &options.name;
    if !row.get::<_, bool>(2) {
        let what = format!("{name}: {} may not use schema {}", options.user, used.table.schema);
        let schema = postgres::quoted(&used.table.schema);
        let remedy = format!("GRANT USAGE ON SCHEMA {schema} TO {user}");
        findings.push(found(Severity::Error, what, &remedy));
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let what = format!("{name}: {} lacks {missing} on {}", options.user, used.table);
        findings.push(found(
            Severity::Error,
            what,
            &format!("GRANT {missing} ON {table} TO {user}"),
        ));
    }
    if used.needs_unique_key() && !row.get::<_, bool>(3) {
        let keys: Vec<String> = key.iter().map(|k| postgres::quoted(k)).collect();
        let remedy = format!("CREATE UNIQUE INDEX ON {table} ({})", keys.join(", "));
        findings.push(no_unique_key(options, used, &remedy));
    }
    if findings.len() == before {
        findings.push(found(Severity::Ok, format!("{name}: {} can be written", used.table), ""));
    }
    Ok(())
}

async fn look_mysql(
    options: &ConnectOptions,
    tables: &[TableUse],
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let mut conn = connect::mysql(options).await?;
    let progress = TableName::new(&options.database, PROGRESS_TABLE);
    let name = &options.name;
    match mysql_columns(&mut conn, options, &progress).await?.is_empty() {
        false => {
            findings.push(found(Severity::Ok, format!("{name}: progress table is there"), ""));
        }
        true => findings.push(found(
            Severity::Warning,
            format!(
                "{name}: there is no progress table yet; it is made at the start when {} \
                     may create tables",
                options.user
            ),
            &format!(
                "{}; {}",
                mysql::progress_ddl(&options.database),
                mysql_grant(&mut conn, options, "SELECT, INSERT, UPDATE", &progress).await
            ),
        )),
    }
    for used in tables {
        look_mysql_table(&mut conn, options, used, findings).await?;
    }
    Ok(())
}

async fn look_mysql_table(
    conn: &mut Conn,
    options: &ConnectOptions,
    used: &TableUse,
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let present = mysql_columns(conn, options, &used.table).await?;
    if present.is_empty() {
        findings.push(no_table(options, &used.table));
        return Ok(());
    }
    let before = findings.len();
    no_columns(options, used, &present, findings);
    let sql = "SELECT index_name, lower(group_concat(column_name ORDER BY column_name)) \
               FROM information_schema.statistics \
               WHERE table_schema = ? AND table_name = ? AND non_unique = 0 GROUP BY index_name";
    let indexes: Vec<(String, String)> = conn
        .exec(sql, (&*used.table.schema, &*used.table.table))
        .await
        .map_err(|e| classify::mysql(&options.name, "checking the target", e))?;
    let mut key: Vec<String> = used.key.iter().map(|k| k.to_lowercase()).collect();
    key.sort_unstable();
    let (own, other): (Vec<_>, Vec<_>) =
        indexes.into_iter().partition(|(_, columns)| *columns == key.join(","));
    if used.needs_unique_key() && own.is_empty() {
        let keys: Vec<String> = used.key.iter().map(|k| mysql::quoted(k)).collect();
        let table = mysql::table_sql(&used.table);
        let remedy = format!("ALTER TABLE {table} ADD UNIQUE ({})", keys.join(", "));
        findings.push(no_unique_key(options, used, &remedy));
    }
    if let (true, Some((index, _))) = (used.needs_unique_key(), other.first()) {
        let what = format!(
            "{}: {} has a further unique index {index}; a row that meets another there is taken \
             for the same row",
            options.name, used.table
        );
        findings.push(found(
            Severity::Warning,
            what,
            "write to a table whose only unique index \
            is the key, such as an inbox table",
        ));
    }
    if let Some(finding) = mysql_privileges(conn, options, used).await {
        findings.push(finding);
    }
    if findings.len() == before {
        let what = format!("{}: {} can be written", options.name, used.table);
        findings.push(found(Severity::Ok, what, ""));
    }
    Ok(())
}

/// MySQL checks privileges when a statement is prepared, roles and column grants included; no
/// table of its information schema tells as much.
async fn mysql_privileges(
    conn: &mut Conn,
    options: &ConnectOptions,
    used: &TableUse,
) -> Option<Finding> {
    let table = mysql::table_sql(&used.table);
    let key = mysql::quoted(used.key.first()?);
    for kind in &used.kinds {
        let sql = match kind {
            WriteKind::Insert | WriteKind::Upsert => format!(
                "INSERT INTO {table} ({key}) VALUES (?) ON DUPLICATE KEY UPDATE {key} = {table}.{key}"
            ),
            WriteKind::Update => format!("UPDATE {table} SET {key} = {key} WHERE {key} = ?"),
            WriteKind::Delete => format!("DELETE FROM {table} WHERE {key} = ?"),
        };
        if let Err(error) = conn.prep(sql).await {
            let error = classify::mysql(&options.name, "preparing a write", error);
            let mut wanted = used.privileges();
            wanted.extend(used.needs_unique_key().then_some("UPDATE"));
            let wanted = wanted.into_iter().collect::<Vec<_>>().join(", ");
            let remedy = mysql_grant(conn, options, &wanted, &used.table).await;
            return Some(Finding { remedy, ..unseen(error) });
        }
    }
    None
}

async fn mysql_columns(
    conn: &mut Conn,
    options: &ConnectOptions,
    table: &TableName,
) -> Result<Vec<String>, ApplyError> {
    let sql = "SELECT column_name FROM information_schema.columns \
               WHERE table_schema = ? AND table_name = ?";
    conn.exec(sql, (&*table.schema, &*table.table))
        .await
        .map_err(|e| classify::mysql(&options.name, "checking the target", e))
}

/// The statement that grants; MySQL's accounts have a host, which the server knows.
async fn mysql_grant(
    conn: &mut Conn,
    options: &ConnectOptions,
    privileges: &str,
    table: &TableName,
) -> String {
    let account: Option<String> = conn.query_first("SELECT current_user()").await.ok().flatten();
    let account = account.unwrap_or_else(|| format!("{}@%", options.user));
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    let table = mysql::table_sql(table);
    format!("GRANT {privileges} ON {table} TO {}@{}", literal(user), literal(host))
}

fn no_table(options: &ConnectOptions, table: &TableName) -> Finding {
    let what = format!("{}: there is no table {table}, or no privilege on it", options.name);
    found(Severity::Error, what, "create it, or correct the name in the rule that writes it")
}

fn no_columns(
    options: &ConnectOptions,
    used: &TableUse,
    present: &[String],
    findings: &mut Vec<Finding>,
) {
    for column in used.key.iter().chain(&used.columns) {
        if !present.iter().any(|p| p == &**column) {
            let what = format!("{}: {} has no column {column}", options.name, used.table);
            let remedy = "add the column, or take it out of the rule that writes it";
            findings.push(found(Severity::Error, what, remedy));
        }
    }
}

fn no_unique_key(options: &ConnectOptions, used: &TableUse, remedy: &str) -> Finding {
    let key = used.key.join(", ");
    let what = format!("{}: {} has no unique index on {key}", options.name, used.table);
    found(Severity::Error, what, remedy)
}
