//! Everything that capture needs of a server, looked at before it is needed.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{self, Server, databases, grants, ident, server_error, table_ident};
use super::retention::Retention;
use super::select::ordered_key;
use super::{catalog, place};
use crate::{CaptureError, Finding, Severity, SourceOptions};

/// Logs kept for less than this many seconds do not outlive a long weekend.
const EXPIRE_SECONDS_MIN: u64 = 3 * 86_400;

/// Looks at everything that capture needs on the server. Changes nothing.
pub async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    let mut conn = connect::connect(options).await?;
    let server = connect::server(options, &mut conn).await?;
    let mut found = Vec::new();
    version(&server, &mut found);
    settings(options, &mut conn, &mut found).await?;
    ids(options, &server, &mut found);
    retention(options, &mut conn, &mut found).await?;
    privileges(options, &server, &mut conn, &mut found).await?;
    tables(options, &server, &mut conn, &mut found).await?;
    conn.disconnect().await.ok();
    Ok(found)
}

fn finding(severity: Severity, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity, what: what.into(), remedy: remedy.into() }
}

fn version(server: &Server, found: &mut Vec<Finding>) {
    let mut numbers = server.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let least = if server.mariadb { (10, 6) } else { (5, 7) };
    let severity = if version >= least { Severity::Ok } else { Severity::Error };
    let remedy = match severity {
        Severity::Ok => String::new(),
        _ => format!("upgrade the server to {}.{} or newer", least.0, least.1),
    };
    found.push(finding(severity, format!("version is {}", server.version), remedy));
    if !server.gtids {
        found.push(finding(
            Severity::Warning,
            "gtid_mode is not ON: reading can't go on after a failover",
            "SET GLOBAL enforce_gtid_consistency = ON; then step by step to \
             SET GLOBAL gtid_mode = ON",
        ));
    }
}

async fn variable(conn: &mut Conn, name: &str) -> Option<String> {
    let sql = format!("SHOW GLOBAL VARIABLES LIKE '{name}'");
    let row: Option<(String, String)> = conn.query_first(sql).await.ok().flatten();
    row.map(|(_, value)| value)
}

async fn settings(
    options: &SourceOptions,
    conn: &mut Conn,
    found: &mut Vec<Finding>,
) -> Result<(), CaptureError> {
    let wanted = [
        (
            "log_bin",
            "ON",
            Severity::Error,
            "set `log_bin = binlog` in the server's configuration \
          and restart it",
        ),
        (
            "binlog_format",
            "ROW",
            Severity::Error,
            "SET GLOBAL binlog_format = 'ROW'; then \
          reconnect all writers",
        ),
        (
            "binlog_row_image",
            "FULL",
            Severity::Warning,
            "SET GLOBAL binlog_row_image = 'FULL'; \
          otherwise inserts and before images lack columns",
        ),
        (
            "binlog_row_metadata",
            "FULL",
            Severity::Warning,
            "SET GLOBAL binlog_row_metadata = \
          'FULL'; otherwise changed tables can't be read from the log",
        ),
        ("binlog_checksum", "CRC32", Severity::Warning, "SET GLOBAL binlog_checksum = 'CRC32'"),
    ];
    for (name, value, severity, remedy) in wanted {
        let Some(is) = variable(conn, name).await else { continue };
        found.push(match is.eq_ignore_ascii_case(value) {
            true => finding(Severity::Ok, format!("{name} is {is}"), ""),
            false => finding(severity, format!("{name} is {is}, should be {value}"), remedy),
        });
    }
    for name in ["log_bin_compress", "binlog_annotate_row_events", "time_zone"] {
        if let Some(is) = variable(conn, name).await {
            found.push(finding(Severity::Ok, format!("{name} is {is}"), ""));
        }
    }
    let partial = variable(conn, "binlog_row_value_options").await.filter(|v| !v.is_empty());
    let image = variable(conn, "binlog_row_image").await.unwrap_or_default();
    if let Some(is) = partial.filter(|_| !image.eq_ignore_ascii_case("FULL")) {
        found.push(finding(
            Severity::Error,
            format!(
                "binlog_row_value_options is {is} and binlog_row_image {image}: JSON updates would \
                 be differences to documents that are not logged"
            ),
            "SET GLOBAL binlog_row_image = 'FULL'; then reconnect all writers",
        ));
    }
    for name in ["binlog_do_db", "binlog_ignore_db"] {
        let Some(is) = variable(conn, name).await.filter(|v| !v.is_empty()) else { continue };
        found.push(finding(
            Severity::Warning,
            format!("{name} is {is}: {} must be logged", databases(options).join(", ")),
            format!("remove {name} from the server's configuration and restart it"),
        ));
    }
    Ok(())
}

fn ids(options: &SourceOptions, server: &Server, found: &mut Vec<Finding>) {
    if server.server_id == 0 {
        found.push(finding(
            Severity::Error,
            "the server's server_id is 0: it refuses replicas",
            "SET GLOBAL server_id = 1; and the same in the server's configuration",
        ));
    }
    found.push(match options.server_id {
        0 => finding(
            Severity::Error,
            "server_id of this source is 0",
            "give the source a `server_id` that no server or replica uses",
        ),
        id if id == server.server_id => finding(
            Severity::Error,
            format!("server_id {id} of this source is the server's own"),
            "give the source a `server_id` that no server or replica uses",
        ),
        id => finding(Severity::Ok, format!("server_id {id} is not the server's"), ""),
    });
}

async fn retention(
    options: &SourceOptions,
    conn: &mut Conn,
    found: &mut Vec<Finding>,
) -> Result<(), CaptureError> {
    let Retention { age, bytes } = Retention::read(conn)
        .await
        .map_err(|error| server_error(options, "asking how long binlogs are kept", error))?;
    found.push(match age.map(|age| age.as_secs()) {
        None => finding(Severity::Ok, "binlogs do not expire by age", ""),
        Some(s) if s < EXPIRE_SECONDS_MIN => finding(
            Severity::Warning,
            format!("binlogs expire after {} hours", s / 3600),
            "SET GLOBAL binlog_expire_logs_seconds = 604800",
        ),
        Some(s) => finding(Severity::Ok, format!("binlogs expire after {} days", s / 86_400), ""),
    });
    if let Some(bytes) = bytes {
        found.push(finding(
            Severity::Warning,
            format!("binlogs are purged beyond {} MiB, whether they were read or not", bytes >> 20),
            "make max_binlog_total_size (binlog_space_limit) larger than what is written during \
             the longest outage expected, or SET GLOBAL max_binlog_total_size = 0",
        ));
    }
    Ok(())
}

async fn privileges(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    found: &mut Vec<Finding>,
) -> Result<(), CaptureError> {
    let granted: Vec<String> = conn
        .query("SHOW GRANTS")
        .await
        .map_err(|error| server_error(options, "reading the grants", error))?;
    let global: Vec<_> =
        granted.iter().filter(|g| g.contains(" ON *.* ")).map(|g| g.to_uppercase()).collect();
    let all = global.iter().any(|g| g.contains("ALL PRIVILEGES"));
    let slave = ["REPLICATION SLAVE", "REPLICATION REPLICA"];
    let may_read = all || global.iter().any(|g| slave.iter().any(|word| has_word(g, word)));
    found.push(match may_read {
        true => finding(Severity::Ok, "the user may read the binlog", ""),
        false => finding(Severity::Error, "the user lacks REPLICATION SLAVE", grants(options)),
    });
    found.push(match place::head(options, conn).await {
        Ok(_) => finding(Severity::Ok, "the user may ask for the end of the binlog", ""),
        Err(_) => finding(
            Severity::Error,
            "the user may not ask for the end of the binlog (REPLICATION CLIENT, BINLOG MONITOR)",
            grants(options),
        ),
    });
    found.push(snapshot_lock(options, server, &granted));
    Ok(())
}

/// What the first snapshot has to lock for the moment in which it begins.
fn snapshot_lock(options: &SourceOptions, server: &Server, granted: &[String]) -> Finding {
    let ok = |what| finding(Severity::Ok, what, "");
    if server.mariadb {
        return ok("the first snapshot takes no lock");
    }
    let has = |place: &str, privilege: &str| {
        let place = format!(" ON {}.* ", place.to_uppercase());
        granted.iter().map(|grant| grant.to_uppercase()).any(|grant| {
            let right = has_word(&grant, privilege) || has_word(&grant, "ALL PRIVILEGES");
            grant.contains(&place) && right
        })
    };
    if has("*", "RELOAD") {
        return ok("the first snapshot takes a global read lock for a moment (RELOAD)");
    }
    let mut names = databases(options).into_iter();
    if has("*", "LOCK TABLES") || names.all(|name| has(&ident(&name), "LOCK TABLES")) {
        return ok("the first snapshot locks the captured tables for a moment (LOCK TABLES)");
    }
    finding(
        Severity::Warning,
        "the first snapshot can't begin: the user has neither RELOAD nor LOCK TABLES",
        grants(options),
    )
}

/// Whether a list of privileges has one, and not only a longer one such as
/// `REPLICATION SLAVE ADMIN`.
fn has_word(granted: &str, privilege: &str) -> bool {
    granted.split(" ON ").next().unwrap_or("").split(',').any(|part| {
        let part = part.trim().trim_start_matches("GRANT ");
        part == privilege
    })
}

async fn tables(
    options: &SourceOptions,
    server: &Server,
    conn: &mut Conn,
    found: &mut Vec<Finding>,
) -> Result<(), CaptureError> {
    for name in &options.tables {
        let Some(table) = catalog::table(options, server, conn, name).await? else {
            found.push(finding(
                Severity::Error,
                format!("table {name} does not exist, or the user may not see it"),
                format!("create it, or run: {}", grants(options)),
            ));
            continue;
        };
        let readable = format!("SELECT 1 FROM {} LIMIT 1", table_ident(name));
        if conn.query_drop(readable).await.is_err() {
            let what = format!("the user may not read {name}");
            found.push(finding(Severity::Error, what, grants(options)));
        }
        found.push(match table.in_key.contains(&true) {
            true => finding(Severity::Ok, format!("table {name} has a primary key"), ""),
            false => finding(
                Severity::Warning,
                format!("table {name} has no primary key"),
                format!("ALTER TABLE {} ADD PRIMARY KEY (...)", table_ident(name)),
            ),
        });
        if let (true, Err(why)) = (table.in_key.contains(&true), ordered_key(&table)) {
            found.push(finding(
                Severity::Warning,
                format!("only the first snapshot can read table {name}: {why}"),
                "leave it as it is, or give the table a key of whole numbers",
            ));
        }
    }
    Ok(())
}
