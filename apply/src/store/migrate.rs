//! The schema of the canonical store, made and brought up to date.

use tokio_postgres::Client;

use crate::sql_text::{literal, quoted};
use crate::{ApplyError, ConnectOptions, classify};

/// Every version of the schema, in order; never edited once released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_subjects.sql"),
    include_str!("migrations/0003_deadlines.sql"),
    include_str!("migrations/0004_ruleset_change.sql"),
    include_str!("migrations/0005_rate_guards.sql"),
    include_str!("migrations/0006_parked.sql"),
    include_str!("migrations/0007_history_by_month.sql"),
    include_str!("migrations/0008_evidence_recorded.sql"),
    include_str!("migrations/0009_origins_together.sql"),
    include_str!("migrations/0010_history_first_key.sql"),
    include_str!("migrations/0011_workers.sql"),
    include_str!("migrations/0012_said_together.sql"),
];
/// Two processes that start at once take turns. The number is arbitrary, but stays.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7218413560112)";

/// Makes the schema or brings it up to date, and takes the fencing epoch: from now on every other
/// writer's commit fails. Returns the epoch.
pub(super) async fn take_over(
    client: &mut Client,
    options: &ConnectOptions,
    installation: &str,
) -> Result<i64, ApplyError> {
    let failed = |e| classify::postgres(&options.name, "setting up schema crossdock", e);
    let tx = client.transaction().await.map_err(failed)?;
    tx.batch_execute(LOCK).await.map_err(failed)?;
    let schema = "SELECT to_regnamespace('crossdock') IS NOT NULL, to_regclass('crossdock.meta') \
                  IS NOT NULL";
    let row = tx.query_one(schema, &[]).await.map_err(failed)?;
    let (has_schema, has_meta): (bool, bool) = (row.get(0), row.get(1));
    if !has_schema {
        let made = tx.batch_execute("CREATE SCHEMA crossdock").await;
        made.map_err(|e| may_not_create(options, failed(e)))?;
    }
    let version = match has_meta {
        true => {
            let sql = "SELECT schema_version, installation FROM crossdock.meta";
            let row = tx.query_one(sql, &[]).await.map_err(failed)?;
            belongs(options, installation, row.get(1))?;
            row.get::<_, i32>(0)
        }
        false => 0,
    };
    let known = known_version();
    if version > known {
        return Err(newer(options, version));
    }
    let missing = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0));
    for migration in missing {
        tx.batch_execute(migration).await.map_err(failed)?;
    }
    let stamp =
        "INSERT INTO crossdock.meta (schema_version, epoch, installation) VALUES ($1, 1, $2)
                 ON CONFLICT (one) DO UPDATE SET schema_version = excluded.schema_version,
                 epoch = meta.epoch + 1, opened_at = now()
                 RETURNING epoch";
    let row = tx.query_one(stamp, &[&known, &installation]).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let epoch = row.get(0);
    if version < known {
        tracing::info!(store = %options.name, from = version, to = known, "store schema updated");
    }
    Ok(epoch)
}

/// For a reader: the schema must be there, in a version that this build knows.
pub(super) async fn verify(client: &Client, options: &ConnectOptions) -> Result<(), ApplyError> {
    let failed = |e| classify::postgres(&options.name, "looking for schema crossdock", e);
    let sql = "SELECT to_regclass('crossdock.meta') IS NOT NULL";
    let there: bool = client.query_one(sql, &[]).await.map_err(failed)?.get(0);
    let not_yet = || ApplyError::Transient {
        what: format!(
            "{}: the canonical store has not been set up by this version yet; \
                       `crossdock run` does it",
            options.name
        ),
        source: None,
    };
    if !there {
        return Err(not_yet());
    }
    let sql = "SELECT schema_version FROM crossdock.meta";
    let version: i32 = client.query_one(sql, &[]).await.map_err(failed)?.get(0);
    match version.cmp(&known_version()) {
        std::cmp::Ordering::Less => Err(not_yet()),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(newer(options, version)),
    }
}

/// Version of the schema that this build works with.
pub(super) fn known_version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

fn newer(options: &ConnectOptions, version: i32) -> ApplyError {
    ApplyError::Definite {
        what: format!(
            "{}: schema crossdock has version {version}, this build knows {}",
            options.name,
            known_version()
        ),
        remedy: "run the crossdock that made it, or a later one".into(),
    }
}

fn belongs(options: &ConnectOptions, ours: &str, theirs: &str) -> Result<(), ApplyError> {
    if ours == theirs {
        return Ok(());
    }
    Err(ApplyError::Definite {
        what: format!(
            "{}: the canonical store belongs to installation `{theirs}`, not `{ours}`",
            options.name
        ),
        remedy: format!(
            "name another database for the store, or, to rename the installation, run: \
             UPDATE crossdock.meta SET installation = {}",
            literal(ours)
        ),
    })
}

/// Says what to run when the login may not make the schema itself.
fn may_not_create(options: &ConnectOptions, error: ApplyError) -> ApplyError {
    match error {
        ApplyError::Definite { what, .. } => ApplyError::Definite {
            what,
            remedy: format!(
                "run as superuser in database {}: CREATE SCHEMA crossdock AUTHORIZATION {}",
                options.database,
                quoted(&options.user)
            ),
        },
        other => other,
    }
}
