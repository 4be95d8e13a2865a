//! Before reading: tables, publication and slot as they have to be.

use std::time::Duration;

use crossdock_model::TableName;
use tokio_postgres::Client;

use super::catalog::{self, Found};
use super::image::Table;
use super::{errors, identity, slot, sql};
use crate::{CaptureError, ServerIdentity, SourceOptions};

/// Standbys decode from here on.
const STANDBY_VERSION: i32 = 160_000;
/// SQLSTATE: can't be written to.
const READ_ONLY: &str = "25006";

/// What the server was found to be, and the tables to capture.
pub(super) struct Prepared {
    /// `server_version_num`: 150010.
    pub version: i32,
    /// The server ends connections that are silent for this long; zero means never.
    pub sender_timeout: Duration,
    /// The server follows another one: nothing can be written to it.
    pub standby: bool,
    /// The slot exists and is not kept on standbys.
    pub slot_lacks_failover: bool,
    pub tables: Vec<(Found, Table)>,
}

impl Prepared {
    /// Whether slots are to be, and can be, kept on standbys.
    pub(super) fn keeps_failover_slots(&self, options: &SourceOptions) -> bool {
        options.slot_failover && self.version >= slot::FAILOVER_VERSION && !self.standby
    }
}

/// What a publication publishes.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub all_tables: bool,
    /// Inserts, updates and deletes, all three.
    pub all_changes: bool,
    pub via_root: bool,
    /// Tables named one by one.
    pub named: Vec<TableName>,
    /// Tables published, also through a schema.
    pub published: Vec<TableName>,
}

/// Makes the server ready. Creates and alters the publication where it is not as it should be;
/// drops a slot that a snapshot which did not finish has left. `known` is the server that was
/// read last, where reading goes on at `from`. Without `publish`, nothing is to be streamed and
/// there is no need of a publication.
pub(super) async fn prepare(
    options: &SourceOptions,
    from: Option<u64>,
    known: Option<&ServerIdentity>,
    publish: bool,
) -> Result<Prepared, CaptureError> {
    let client = sql::connect(options).await?;
    let version = version(&client, options).await?;
    if from.is_some() {
        identity::verify_system(&client, options, known).await?;
    }
    let standby = is_standby(&client, options, version).await?;
    let found = catalog::find(&client, options, &options.tables).await?;
    check_tables(options, &found)?;
    if publish {
        publish_tables(&client, options, &found).await?;
    }
    let slot = slot::slot(&client, options).await?;
    match from {
        Some(from) => slot::check(options, slot.as_ref(), from, standby)?,
        None => slot::clear(&client, options, slot.as_ref()).await?,
    }
    let mut tables = Vec::new();
    for found in found {
        let columns = catalog::columns(&client, options, found.oid).await?;
        let table =
            catalog::table(&client, options, found.oid, found.name.clone(), &columns).await?;
        tables.push((found, table));
    }
    Ok(Prepared {
        version,
        sender_timeout: sender_timeout(&client, options).await?,
        standby,
        slot_lacks_failover: from.is_some() && slot.is_some_and(|slot| !slot.failover),
        tables,
    })
}

/// Whether the server is a standby, and able to decode as what it is.
async fn is_standby(
    client: &Client,
    options: &SourceOptions,
    version: i32,
) -> Result<bool, CaptureError> {
    let row = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(|e| errors::sql(options, "asking whether it is a standby", e))?;
    let standby: bool = row.get(0);
    if standby && version < STANDBY_VERSION {
        return Err(CaptureError::definite(
            format!(
                "source {}: the server is a standby, which can be read from PostgreSQL 16 on",
                options.name
            ),
            "read the primary",
        ));
    }
    // A standby's own setting says nothing: its primary's counts.
    let level = setting(client, options, "wal_level").await?.unwrap_or_default();
    if !standby && level != "logical" {
        return Err(CaptureError::definite(
            format!("source {}: wal_level is {level}, must be logical", options.name),
            "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        ));
    }
    Ok(standby)
}

async fn publish_tables(
    client: &Client,
    options: &SourceOptions,
    tables: &[Found],
) -> Result<(), CaptureError> {
    let present = publication(client, options).await?;
    for statement in publication_statements(options, present.as_ref(), tables) {
        tracing::info!(source = options.name, statement, "changing the publication");
        alter(client, options, &statement).await?;
    }
    Ok(())
}

/// `server_version_num`.
pub(super) async fn version(client: &Client, options: &SourceOptions) -> Result<i32, CaptureError> {
    let setting = setting(client, options, "server_version_num").await?;
    let version = setting.and_then(|text| text.parse().ok()).unwrap_or(0);
    if version < 130_000 {
        return Err(CaptureError::definite(
            format!("source {}: PostgreSQL is older than 13", options.name),
            "upgrade the server; 13 is the oldest version that is supported",
        ));
    }
    Ok(version)
}

/// A setting as `pg_settings` has it: in the unit of the setting.
pub(super) async fn setting(
    client: &Client,
    options: &SourceOptions,
    name: &str,
) -> Result<Option<String>, CaptureError> {
    let row = client
        .query_opt("SELECT setting FROM pg_settings WHERE name = $1", &[&name])
        .await
        .map_err(|e| errors::sql(options, &format!("reading setting {name}"), e))?;
    Ok(row.and_then(|row| row.get(0)))
}

async fn sender_timeout(
    client: &Client,
    options: &SourceOptions,
) -> Result<Duration, CaptureError> {
    let text = setting(client, options, "wal_sender_timeout").await?;
    let millis = text.and_then(|text| text.parse().ok()).unwrap_or(60_000);
    Ok(Duration::from_millis(millis))
}

fn check_tables(options: &SourceOptions, found: &[Found]) -> Result<(), CaptureError> {
    let missing = options.tables.iter().find(|name| !found.iter().any(|f| f.name == **name));
    if let Some(name) = missing {
        return Err(CaptureError::definite(
            format!("source {}: table {name} does not exist", options.name),
            "correct the list of tables, or create the table",
        ));
    }
    if let Some(table) = found.iter().find(|table| !table.readable) {
        return Err(CaptureError::definite(
            format!("source {}: user {} may not read {}", options.name, options.user, table.name),
            grant_select(options, &table.name),
        ));
    }
    Ok(())
}

/// The statement that lets the login read a table.
pub(super) fn grant_select(options: &SourceOptions, name: &TableName) -> String {
    let user = sql::identifier(&options.user);
    format!(
        "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {} TO {user};",
        sql::identifier(&name.schema),
        sql::qualified(name)
    )
}

/// The publication, if it exists.
pub(super) async fn publication(
    client: &Client,
    options: &SourceOptions,
) -> Result<Option<Publication>, CaptureError> {
    let failed = |e| errors::sql(options, "looking up the publication", e);
    let row = client
        .query_opt(
            "SELECT puballtables, pubinsert AND pubupdate AND pubdelete, pubviaroot
             FROM pg_publication WHERE pubname = $1",
            &[&options.publication],
        )
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let name = |row: &tokio_postgres::Row| TableName::new(row.get(0), row.get(1));
    let named = client
        .query(
            "SELECT n.nspname, c.relname FROM pg_publication p
             JOIN pg_publication_rel r ON r.prpubid = p.oid
             JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = $1",
            &[&options.publication],
        )
        .await
        .map_err(failed)?;
    let published = client
        .query(
            "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1",
            &[&options.publication],
        )
        .await
        .map_err(failed)?;
    Ok(Some(Publication {
        all_tables: row.get(0),
        all_changes: row.get(1),
        via_root: row.get(2),
        named: named.iter().map(name).collect(),
        published: published.iter().map(name).collect(),
    }))
}

/// What has to be run so that the publication has the captured tables, and those only. Nothing
/// when it is as it should be: altering a publication takes locks.
pub(super) fn publication_statements(
    options: &SourceOptions,
    publication: Option<&Publication>,
    tables: &[Found],
) -> Vec<String> {
    let name = sql::identifier(&options.publication);
    // Children of an inherited table are tables of their own; partitions always belong to theirs.
    let clause = |table: &Found| {
        let only = if table.partitioned { "" } else { "ONLY " };
        format!("{only}{}", sql::qualified(&table.name))
    };
    let list = |tables: &[&Found]| tables.iter().map(|t| clause(t)).collect::<Vec<_>>().join(", ");
    let Some(publication) = publication else {
        let all: Vec<&Found> = tables.iter().collect();
        return vec![format!(
            "CREATE PUBLICATION {name} FOR TABLE {} WITH (publish_via_partition_root = true)",
            list(&all)
        )];
    };
    let mut statements = Vec::new();
    if !publication.via_root && tables.iter().any(|table| table.partitioned) {
        statements
            .push(format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"));
    }
    if publication.all_tables {
        return statements;
    }
    let missing: Vec<&Found> = tables
        .iter()
        .filter(|t| !publication.named.contains(&t.name))
        .filter(|t| !publication.published.contains(&t.name))
        .collect();
    if !missing.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", list(&missing)));
    }
    let foreign: Vec<String> = publication
        .named
        .iter()
        .filter(|named| !tables.iter().any(|table| table.name == **named))
        .map(sql::qualified)
        .collect();
    if !foreign.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} DROP TABLE {}", foreign.join(", ")));
    }
    statements
}

async fn alter(
    client: &Client,
    options: &SourceOptions,
    statement: &str,
) -> Result<(), CaptureError> {
    // A table that somebody holds locked must not let writers queue up behind us.
    let done = client.batch_execute(&format!("SET lock_timeout = '10s'; {statement}")).await;
    done.map_err(|error| match error.as_db_error() {
        Some(db) if db.code().code() == "42501" => CaptureError::definite(
            format!(
                "source {}: user {} may not change publication {}: {}",
                options.name,
                options.user,
                options.publication,
                db.message()
            ),
            format!("let the owner of the tables run: {statement};"),
        ),
        Some(db) if db.code().code() == READ_ONLY => CaptureError::definite(
            format!(
                "source {}: publication {} is not as it should be, and a standby can't change it",
                options.name, options.publication
            ),
            format!("let the owner of the tables run on the primary: {statement};"),
        ),
        _ => errors::sql(options, "changing the publication", error),
    })
}

#[cfg(test)]
mod tests {
    use super::super::slot::tests::options;
    use super::*;

    fn found(table: &str, partitioned: bool) -> Found {
        Found {
            oid: 1,
            name: TableName::new("s", table),
            partitioned,
            identity: "d".into(),
            has_primary_key: true,
            readable: true,
            owned: true,
        }
    }

    #[test]
    fn only_the_difference_is_altered() {
        let tables = [found("a", false), found("b", true)];
        fn statements(publication: Option<&Publication>, tables: &[Found]) -> Vec<String> {
            publication_statements(&options(), publication, tables)
        }
        assert_eq!(
            statements(None, &tables),
            [
                r#"CREATE PUBLICATION "crossdock" FOR TABLE ONLY "s"."a", "s"."b" WITH (publish_via_partition_root = true)"#
            ]
        );
        let mut publication = Publication {
            all_tables: false,
            all_changes: true,
            via_root: true,
            named: vec![TableName::new("s", "a"), TableName::new("s", "b")],
            published: vec![],
        };
        assert!(statements(Some(&publication), &tables).is_empty());
        publication.named = vec![TableName::new("s", "a"), TableName::new("s", "z")];
        publication.via_root = false;
        assert_eq!(
            statements(Some(&publication), &tables),
            [
                r#"ALTER PUBLICATION "crossdock" SET (publish_via_partition_root = true)"#,
                r#"ALTER PUBLICATION "crossdock" ADD TABLE "s"."b""#,
                r#"ALTER PUBLICATION "crossdock" DROP TABLE "s"."z""#,
            ]
        );
    }
}
