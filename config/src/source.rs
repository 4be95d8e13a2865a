//! `[source.NAME]`: a database that is captured.

use crossdock_model::TableName;
use sha2::{Digest, Sha256};

use crate::database::{KINDS, connection};
use crate::installation::{NAME_RULE, is_name};
use crate::poll::{is_polled, poll};
use crate::section::{Found, Section, quoted};
use crate::settings::{OnGap, SnapshotConfig, SnapshotMode, SourceConfig};
use crossdock_model::database::{DatabaseKind, ZeroDates};

/// PostgreSQL keeps 63 bytes of a name.
const POSTGRES_NAME_BYTES_MAX: usize = 63;
/// Derived server ids start here: people number their servers from 1 upwards.
const SERVER_ID_FIRST: u32 = 1_000_000_000;
const ON_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
const ZERO_DATES: [(&str, ZeroDates); 4] = [
    ("text", ZeroDates::Text),
    ("null", ZeroDates::Null),
    ("epoch", ZeroDates::Epoch),
    ("error", ZeroDates::Error),
];
/// Connections that read a snapshot when the file does not say how many.
const SNAPSHOT_WORKERS: u64 = 2;

/// Reads a source. `installation` is empty when its name is itself a problem.
pub(crate) fn source(
    name: &str,
    installation: &str,
    section: &Section<'_>,
) -> Option<SourceConfig> {
    let good_name = checked_name("source", name, section);
    let kind = section.choice("kind", &KINDS, None);
    let connection = connection(section, name, kind);
    let polled = is_polled(section);
    let poll = polled.and_then(|polled| poll(polled, kind, section));
    // Names derived from a bad name would be further problems with the same cause.
    let log = match polled {
        Some(true) => Some(Log::default()),
        _ => kind.and_then(|kind| log(good_name.unwrap_or("x"), installation, kind, section)),
    };
    let zero_dates = zero_dates(kind, section);
    let tables = tables(section);
    let region = region(section);
    let snapshot = snapshot(section);
    // What a wrong mode would contradict is not known.
    let mode = snapshot.map_or(SnapshotMode::Initial, |snapshot| snapshot.mode);
    let on_gap = on_gap(section, mode);
    if kind.is_none() {
        // Known keys all the same: the problem is the kind.
        let _ = ["slot", "slot_failover", "publication", "server_id"].map(|key| section.has(key));
    }
    section.finish();
    let Log { slot, slot_failover, publication, server_id } = log?;
    Some(SourceConfig {
        name: good_name?.into(),
        region: region?,
        at: section.at(),
        connection: connection?,
        slot,
        slot_failover,
        publication,
        server_id,
        zero_dates: zero_dates?,
        tables: tables?,
        snapshot: snapshot?,
        on_gap: on_gap?,
        poll: poll?,
    })
}

/// `region`: empty when it is not there.
pub(crate) fn region(section: &Section<'_>) -> Option<String> {
    if !section.has("region") {
        return Some(String::new());
    }
    let region = section.text("region")?;
    if is_name(&region.value) {
        return Some(region.value);
    }
    let what = format!("{} cannot be the name of a region", quoted(&region.written));
    section.problem(region.line, what, NAME_RULE);
    None
}

/// A name out of a section's title.
pub(crate) fn checked_name<'n>(
    what: &str,
    name: &'n str,
    section: &Section<'_>,
) -> Option<&'n str> {
    if !is_name(name) {
        let problem = format!("{} cannot be the name of a {what}", quoted(name));
        section.problem(section.line, problem, NAME_RULE);
        return None;
    }
    if name == "crossdock" {
        let problem = format!("a {what} cannot be called `crossdock`");
        section.problem(section.line, problem, "rule files use that word for computed fields");
        return None;
    }
    Some(name)
}

/// How the log is read. What is not for this kind of database is empty or 0.
#[derive(Default)]
struct Log {
    slot: String,
    slot_failover: bool,
    publication: String,
    server_id: u32,
}

fn log(name: &str, installation: &str, kind: DatabaseKind, section: &Section<'_>) -> Option<Log> {
    match kind {
        DatabaseKind::Postgres => {
            let fits = refuse(&["server_id"], "mysql and mariadb", kind, section);
            let default = format!("crossdock_{installation}_{name}");
            let slot = postgres_name("slot", &default, section);
            let publication = postgres_name("publication", &default, section);
            let failover = section.choice("slot_failover", &ON_OFF, Some(true));
            fits.then_some(Log {
                slot: slot?,
                slot_failover: failover?,
                publication: publication?,
                server_id: 0,
            })
        }
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            let fits = refuse(&["slot", "slot_failover", "publication"], "postgres", kind, section);
            let default = derived_server_id(installation, name);
            let id = section.number("server_id", 1..=u64::from(u32::MAX), default.into())?;
            fits.then_some(Log { server_id: u32::try_from(id).ok()?, ..Log::default() })
        }
    }
}

/// How values are read, by log or without.
fn zero_dates(kind: Option<DatabaseKind>, section: &Section<'_>) -> Option<ZeroDates> {
    match kind {
        Some(kind @ DatabaseKind::Postgres) => {
            refuse(&["zero_dates"], "mysql and mariadb", kind, section).then_some(ZeroDates::Text)
        }
        Some(DatabaseKind::Mysql | DatabaseKind::Mariadb) => {
            section.choice("zero_dates", &ZERO_DATES, Some(ZeroDates::Text))
        }
        None => {
            // A known key all the same: the problem is the kind.
            section.has("zero_dates");
            None
        }
    }
}

/// Reports keys that are for another kind of database; true when there are none.
fn refuse(keys: &[&'static str], wanted: &str, kind: DatabaseKind, section: &Section<'_>) -> bool {
    let mut fits = true;
    for key in keys {
        if section.has(key) {
            let what = format!("`{key}` has no meaning for kind `{}`", kind.as_str());
            let remedy = format!("remove it; it is for {wanted}");
            section.problem(section.line_of(key), what, remedy);
            fits = false;
        }
    }
    fits
}

/// Slots allow these letters only; for publications the same rule saves quoting.
fn postgres_name(key: &'static str, default: &str, section: &Section<'_>) -> Option<String> {
    let found = if section.has(key) { section.text(key)? } else { defaulted(default, section) };
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let length = 1..=POSTGRES_NAME_BYTES_MAX;
    if !length.contains(&found.value.len()) || !found.value.bytes().all(letters) {
        let what = format!("{} cannot be the name of a {key}", quoted(&found.written));
        let remedy = format!("`{key}` takes 1 to 63 small letters, digits and `_`");
        section.problem(found.line, what, remedy);
        return None;
    }
    Some(found.value)
}

fn defaulted(default: &str, section: &Section<'_>) -> Found<String> {
    Found { value: default.to_string(), written: default.to_string(), line: section.line }
}

/// The same on every start, and most likely different for every source of every installation.
fn derived_server_id(installation: &str, name: &str) -> u32 {
    let digest = Sha256::digest(format!("{installation}\0{name}"));
    let number = digest.iter().take(4).fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
    SERVER_ID_FIRST + number % 1_000_000_000
}

/// The list `tables`; `None` after a problem in it.
pub(crate) fn tables(section: &Section<'_>) -> Option<Vec<TableName>> {
    let mut good = true;
    let mut tables = Vec::new();
    for found in section.list("tables") {
        let Some(table) = TableName::parse(&found.value) else {
            let what = format!("{} is not the name of a table", quoted(&found.written));
            let remedy = "write schema and table: \"public.orders\" (MySQL, MariaDB: \
                          \"database.orders\")";
            section.problem(found.line, what, remedy);
            good = false;
            continue;
        };
        if tables.contains(&table) {
            section.problem(found.line, format!("`{table}` is listed twice"), "remove one of them");
            good = false;
        }
        tables.push(table);
    }
    good.then_some(tables)
}

fn snapshot(section: &Section<'_>) -> Option<SnapshotConfig> {
    let words = [
        ("initial", SnapshotMode::Initial),
        ("never", SnapshotMode::Never),
        ("only", SnapshotMode::Only),
        ("when-needed", SnapshotMode::WhenNeeded),
    ];
    let mode = section.choice("snapshot", &words, Some(SnapshotMode::Initial));
    let workers = section.number("snapshot_workers", 1..=64, SNAPSHOT_WORKERS);
    let limited = section.has("snapshot_rows_per_second");
    let rows = section.number("snapshot_rows_per_second", 1..=1_000_000_000, 1);
    Some(SnapshotConfig {
        mode: mode?,
        workers: usize::try_from(workers?).ok()?,
        rows_per_second: Some(rows?).filter(|_| limited),
    })
}

/// `when-needed` speaks about gaps too: what `on_gap` says must not contradict it.
fn on_gap(section: &Section<'_>, mode: SnapshotMode) -> Option<OnGap> {
    let default = if mode == SnapshotMode::WhenNeeded { OnGap::Resync } else { OnGap::Halt };
    let words = [("halt", OnGap::Halt), ("resync", OnGap::Resync)];
    let chosen = section.choice("on_gap", &words, Some(default))?;
    let line = section.line_of("on_gap");
    match (mode, chosen) {
        (SnapshotMode::WhenNeeded, OnGap::Halt) => {
            let what = "`on_gap = \"halt\"` contradicts `snapshot = \"when-needed\"`";
            let remedy = "remove `on_gap`, or write `snapshot = \"initial\"`";
            section.problem(line, what, remedy);
            None
        }
        (SnapshotMode::Only, OnGap::Resync) => {
            let what = "`on_gap` has no meaning with `snapshot = \"only\"`";
            section.problem(line, what, "remove it: the log is not read");
            None
        }
        _ => Some(chosen),
    }
}
