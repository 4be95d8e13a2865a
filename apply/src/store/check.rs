//! What `crossdock check` looks at in the canonical store's database.

use tokio_postgres::Client;

use super::migrate;
use crate::options::{found, unseen};
use crate::sql_text::quoted;
use crate::{ApplyError, ConnectOptions, Finding, Severity, classify, connect};

/// Oldest PostgreSQL that the store works with, as `server_version_num`.
const VERSION_MIN: i32 = 130_000;

/// Looks at the database of the canonical store without changing anything. Each finding that is
/// not [`Severity::Ok`] comes with the statement that mends it.
pub async fn check(options: &ConnectOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let looked = match connect::postgres(options).await {
        Ok(client) => look(&client, options, &mut findings).await,
        Err(error) => Err(error),
    };
    if let Err(error) = looked {
        findings.push(unseen(error));
    }
    findings
}

async fn look(
    client: &Client,
    options: &ConnectOptions,
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&options.name, "checking the store", e);
    let name = &options.name;
    let sql = "SELECT current_setting('server_version_num')::int,
                      pg_is_in_recovery(),
                      to_regnamespace('crossdock') IS NOT NULL,
                      has_database_privilege(current_database(), 'CREATE'),
                      coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace
                                WHERE nspname = 'crossdock'), false),
                      to_regclass('crossdock.meta') IS NOT NULL";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let version: i32 = row.get(0);
    findings.push(match version >= VERSION_MIN {
        true => found(Severity::Ok, format!("{name}: PostgreSQL {}", version / 10_000), ""),
        false => found(
            Severity::Error,
            format!("{name}: PostgreSQL {} is too old for the store", version / 10_000),
            "upgrade the server to PostgreSQL 13 or later",
        ),
    });
    if row.get(1) {
        let what = format!("{name}: the server is a standby and takes no writes");
        findings.push(found(Severity::Error, what, "name the primary in the config"));
    }
    let (has_schema, may_create, may_extend): (bool, bool, bool) =
        (row.get(2), row.get(3), row.get(4));
    let user = quoted(&options.user);
    findings.push(match (has_schema, may_create, may_extend) {
        (true, _, true) => found(Severity::Ok, format!("{name}: schema crossdock is there"), ""),
        (true, _, false) => found(
            Severity::Error,
            format!("{name}: {} may not make tables in schema crossdock", options.user),
            &format!("ALTER SCHEMA crossdock OWNER TO {user}"),
        ),
        (false, true, _) => {
            found(Severity::Ok, format!("{name}: schema crossdock will be made at the start"), "")
        }
        (false, false, _) => found(
            Severity::Error,
            format!("{name}: {} may not make schema crossdock", options.user),
            &format!("CREATE SCHEMA crossdock AUTHORIZATION {user}"),
        ),
    });
    if row.get(5) {
        schema_version(client, options, findings).await?;
    }
    Ok(())
}

async fn schema_version(
    client: &Client,
    options: &ConnectOptions,
    findings: &mut Vec<Finding>,
) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&options.name, "checking the store", e);
    let sql = "SELECT schema_version FROM crossdock.meta";
    let version: i32 = client.query_one(sql, &[]).await.map_err(failed)?.get(0);
    let known = migrate::known_version();
    let name = &options.name;
    findings.push(match version.cmp(&known) {
        std::cmp::Ordering::Equal => {
            found(Severity::Ok, format!("{name}: store schema version {version}"), "")
        }
        std::cmp::Ordering::Less => found(
            Severity::Ok,
            format!("{name}: store schema {version} will be brought to {known} at the start"),
            "",
        ),
        std::cmp::Ordering::Greater => found(
            Severity::Error,
            format!("{name}: store schema {version} is newer than this build's {known}"),
            "run the crossdock that made it, or a later one",
        ),
    });
    Ok(())
}
