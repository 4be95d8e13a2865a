//! What `crossdock check` looks at on a PostgreSQL source. Changes nothing.

use tokio_postgres::Client;

use super::catalog::{self, Found};
use super::{errors, prepare, slot_check, sql};
use crate::{CaptureError, Finding, Severity, SourceOptions};

/// Looks at everything that capture needs. Fails only when the server can't be asked.
pub(super) async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    let client = sql::connect(options).await?;
    let mut findings = Findings(Vec::new());
    let version = prepare::version(&client, options).await?;
    findings.ok(format!("PostgreSQL {}.{}", version / 10_000, version % 10_000));
    settings(&client, options, &mut findings).await?;
    role(&client, options, &mut findings).await?;
    let found = catalog::find(&client, options, &options.tables).await?;
    tables(options, &found, &mut findings);
    publication(&client, options, &found, &mut findings).await?;
    slot_check::slot(&client, options, &mut findings).await?;
    slot_check::standbys(&client, options, version, &mut findings).await?;
    Ok(findings.0)
}

/// What has been found so far.
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, severity: Severity, what: String, remedy: String) {
        self.0.push(Finding { severity, what, remedy });
    }

    pub(super) fn ok(&mut self, what: String) {
        self.add(Severity::Ok, what, String::new());
    }
}

async fn number(client: &Client, options: &SourceOptions, name: &str) -> Result<i64, CaptureError> {
    let text = prepare::setting(client, options, name).await?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

async fn settings(
    client: &Client,
    options: &SourceOptions,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let level = prepare::setting(client, options, "wal_level").await?.unwrap_or_default();
    match &*level {
        "logical" => findings.ok("wal_level is logical".to_string()),
        _ => findings.add(
            Severity::Error,
            format!("wal_level is {level}, must be logical"),
            "ALTER SYSTEM SET wal_level = 'logical'; then restart the server".to_string(),
        ),
    }
    head_room(client, options, findings).await?;
    let kept = number(client, options, "max_slot_wal_keep_size").await?;
    if kept < 0 {
        findings.add(
            Severity::Warning,
            "max_slot_wal_keep_size is unlimited: while Crossdock is away, the server's disk can \
             fill up"
                .to_string(),
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); with a \
             size that the disk has room for and that lasts for the longest outage"
                .to_string(),
        );
    } else {
        findings.ok(format!("max_slot_wal_keep_size is {kept} MB"));
    }
    let timeout = number(client, options, "wal_sender_timeout").await?;
    if timeout == 0 || timeout >= 3_000 {
        findings.ok(format!("wal_sender_timeout is {timeout} ms"));
    } else {
        findings.add(
            Severity::Warning,
            format!("wal_sender_timeout is {timeout} ms: a short pause breaks the connection"),
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();".to_string(),
        );
    }
    let encoding = prepare::setting(client, options, "server_encoding").await?.unwrap_or_default();
    match &*encoding {
        "SQL_ASCII" => findings.add(
            Severity::Warning,
            "the database's encoding is SQL_ASCII: text that is not UTF-8 stops the source"
                .to_string(),
            "make sure that every text is UTF-8, or move to a database with encoding UTF8"
                .to_string(),
        ),
        _ => findings.ok(format!("encoding {encoding}")),
    }
    findings.ok(
        "time zone: instants (timestamptz) are read in UTC whatever the server's zone; times \
         without zone need the source's zone in the rules"
            .to_string(),
    );
    Ok(())
}

/// Room for one more slot and one more walsender, unless ours exist already.
async fn head_room(
    client: &Client,
    options: &SourceOptions,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name <> $1),
                    (SELECT count(*) FROM pg_stat_replication r
                     WHERE r.pid NOT IN (SELECT active_pid FROM pg_replication_slots
                                         WHERE slot_name = $1 AND active_pid IS NOT NULL))",
            &[&options.slot],
        )
        .await
        .map_err(|e| errors::sql(options, "counting slots", e))?;
    for (name, used) in [("max_replication_slots", 0), ("max_wal_senders", 1)] {
        let used: i64 = row.get(used);
        let limit = number(client, options, name).await?;
        if used < limit {
            findings.ok(format!("{name} is {limit}, others use {used}"));
        } else {
            findings.add(
                Severity::Error,
                format!("{name} is {limit}, and others use all of them"),
                format!("ALTER SYSTEM SET {name} = {}; then restart the server", limit.max(0) + 10),
            );
        }
    }
    Ok(())
}

async fn role(
    client: &Client,
    options: &SourceOptions,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let row = client
        .query_one(
            "SELECT rolreplication OR rolsuper,
                    EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication'
                            AND pg_has_role(r.oid, 'MEMBER')),
                    has_database_privilege(current_database(), 'CONNECT')
             FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(|e| errors::sql(options, "looking up the role", e))?;
    let user = sql::identifier(&options.user);
    let (replication, hosted, connect): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if replication || hosted {
        findings.ok(format!("user {} may replicate", options.user));
    } else {
        findings.add(
            Severity::Error,
            format!("user {} may not replicate", options.user),
            format!("ALTER ROLE {user} REPLICATION;"),
        );
    }
    if !connect {
        findings.add(
            Severity::Error,
            format!("user {} may not connect to {}", options.user, options.database),
            format!("GRANT CONNECT ON DATABASE {} TO {user};", sql::identifier(&options.database)),
        );
    }
    Ok(())
}

fn tables(options: &SourceOptions, found: &[Found], findings: &mut Findings) {
    for name in &options.tables {
        let Some(table) = found.iter().find(|table| table.name == *name) else {
            findings.add(
                Severity::Error,
                format!("table {name} does not exist"),
                "correct the list of tables, or create the table".to_string(),
            );
            continue;
        };
        if !table.readable {
            findings.add(
                Severity::Error,
                format!("user {} may not read {name}", options.user),
                prepare::grant_select(options, name),
            );
        }
        let alter = format!("ALTER TABLE {} REPLICA IDENTITY", sql::qualified(name));
        match &*table.identity {
            "n" => findings.add(
                Severity::Warning,
                format!(
                    "{name} has REPLICA IDENTITY NOTHING: once it is published, UPDATE and \
                     DELETE fail at the source"
                ),
                match table.has_primary_key {
                    true => format!("{alter} DEFAULT;"),
                    false => format!("{alter} FULL;"),
                },
            ),
            "d" if !table.has_primary_key => findings.add(
                Severity::Warning,
                format!(
                    "{name} has no primary key: once it is published, UPDATE and DELETE fail at \
                     the source"
                ),
                format!("{alter} FULL;"),
            ),
            _ => findings.ok(format!("{name} can be captured")),
        }
    }
}

async fn publication(
    client: &Client,
    options: &SourceOptions,
    found: &[Found],
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let name = &options.publication;
    let publication = prepare::publication(client, options).await?;
    let statements = prepare::publication_statements(options, publication.as_ref(), found);
    match &publication {
        Some(publication) if !publication.all_changes => findings.add(
            Severity::Error,
            format!("publication {name} leaves out inserts, updates or deletes"),
            format!(
                "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
                sql::identifier(name)
            ),
        ),
        _ => {}
    }
    if statements.is_empty() {
        findings.ok(format!("publication {name} has the captured tables"));
        return Ok(());
    }
    let allowed = may_publish(client, options, publication.is_some(), found).await?;
    let script = format!("{};", statements.join("; "));
    match (allowed, publication.is_some()) {
        (true, false) => findings.ok(format!("publication {name} will be created")),
        (true, true) => findings.ok(format!("publication {name} will be changed: {script}")),
        (false, _) => findings.add(
            Severity::Error,
            format!("user {} may not create or change publication {name}", options.user),
            format!("let the owner of the tables run: {script}"),
        ),
    }
    Ok(())
}

/// Creating asks for CREATE on the database, changing for ownership; both for ownership of the
/// tables that are added.
async fn may_publish(
    client: &Client,
    options: &SourceOptions,
    exists: bool,
    found: &[Found],
) -> Result<bool, CaptureError> {
    let row = client
        .query_one(
            "SELECT CASE WHEN $2 THEN EXISTS (SELECT FROM pg_publication
                                              WHERE pubname = $1 AND pg_has_role(pubowner, 'USAGE'))
                    ELSE has_database_privilege(current_database(), 'CREATE') END",
            &[&options.publication, &exists],
        )
        .await
        .map_err(|e| errors::sql(options, "looking up privileges", e))?;
    Ok(row.get::<_, bool>(0) && found.iter().all(|table| table.owned))
}
