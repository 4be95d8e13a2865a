//! `capture = "poll"` and `[source.NAME.poll."SCHEMA.TABLE"]`: a source without a log.

use std::time::Duration;

use crossdock_model::TableName;
use crossdock_model::database::DatabaseKind;

use crate::quantity;
use crate::section::{Section, quoted};
use crate::settings::PollConfig;

/// What has a meaning only where a log is read.
const LOG_KEYS: [&str; 7] =
    ["slot", "slot_failover", "publication", "server_id", "tables", "snapshot_workers", "on_gap"];
const CAPTURE: [(&str, bool); 2] = [("log", false), ("poll", true)];

/// Whether the source is polled.
pub(crate) fn is_polled(section: &Section<'_>) -> Option<bool> {
    section.choice("capture", &CAPTURE, Some(false))
}

/// How the tables of a source are polled; empty when its log is read. `None` after a problem.
pub(crate) fn poll(
    polled: bool,
    kind: Option<DatabaseKind>,
    section: &Section<'_>,
) -> Option<Vec<PollConfig>> {
    let blocks = section.named_sections("poll");
    if !polled {
        if !section.has("poll") {
            return Some(Vec::new());
        }
        for (_, block) in &blocks {
            settings(block);
        }
        let remedy = "add `capture = \"poll\"`, or remove the section";
        section.problem(
            section.line_of("poll"),
            format!("[{}.poll] has no meaning where the log is read", section.title),
            remedy,
        );
        return None;
    }
    let mut good = true;
    for key in LOG_KEYS.into_iter().filter(|key| section.has(key)) {
        let what = format!("`{key}` has no meaning with `capture = \"poll\"`");
        section.problem(section.line_of(key), what, "remove it: no log is read");
        good = false;
    }
    if blocks.is_empty() {
        let what = format!("[{}] has nothing to poll", section.title);
        let remedy =
            format!("add `[{}.poll.\"{}\"]` with `key` and `cursor`", section.title, example(kind));
        section.problem(section.line, what, remedy);
        return None;
    }
    let tables: Vec<_> = blocks.iter().map(|(name, block)| table(name, kind, block)).collect();
    tables.into_iter().collect::<Option<Vec<_>>>().filter(|_| good)
}

fn example(kind: Option<DatabaseKind>) -> &'static str {
    match kind {
        Some(DatabaseKind::Mysql | DatabaseKind::Mariadb) => "database.orders",
        _ => "public.orders",
    }
}

fn table(name: &str, kind: Option<DatabaseKind>, section: &Section<'_>) -> Option<PollConfig> {
    let table = TableName::parse(name);
    if table.is_none() {
        let what = format!("{} is not the name of a table or view", quoted(name));
        let remedy =
            format!("write schema and table in quotes: [source.NAME.poll.\"{}\"]", example(kind));
        section.problem(section.line, what, remedy);
    }
    let settings = settings(section);
    Some(PollConfig { table: table?, ..settings? })
}

fn settings(section: &Section<'_>) -> Option<PollConfig> {
    let key = columns(section, "key", "id");
    let cursor = columns(section, "cursor", "changed_at");
    let every = section.quantity("every", "10s", ("1s", "1d"), quantity::duration);
    let overlap = section.quantity("overlap", "30s", ("0s", "1d"), quantity::duration);
    let reconcile = reconcile(section);
    section.finish();
    Some(PollConfig {
        table: TableName::new("", ""),
        key: key?,
        cursor: cursor?,
        every: every?,
        overlap: overlap?,
        reconcile: reconcile?,
    })
}

/// One column, or a list of some.
fn columns(section: &Section<'_>, key: &'static str, example: &str) -> Option<Vec<String>> {
    if !section.has(key) {
        let what = format!("[{}] has no `{key}`", section.title);
        section.problem(section.line, what, format!("add `{key} = [\"{example}\"]`"));
        return None;
    }
    let found = section.texts(key)?;
    let line = section.line_of(key);
    if found.is_empty() || found.iter().any(|column| column.value.is_empty()) {
        let what = format!("`{key}` names no column");
        section.problem(line, what, format!("write `{key} = [\"{example}\"]`"));
        return None;
    }
    let columns: Vec<String> = found.into_iter().map(|column| column.value).collect();
    for (at, column) in columns.iter().enumerate() {
        if columns.iter().take(at).any(|other| other == column) {
            let what = format!("`{key}` names {} twice", quoted(column));
            section.problem(line, what, "remove one of them");
            return None;
        }
    }
    Some(columns)
}

/// `never` is `Some(None)`.
fn reconcile(section: &Section<'_>) -> Option<Option<Duration>> {
    if section.is_text("reconcile", "never") {
        return Some(None);
    }
    section.quantity("reconcile", "6h", ("1s", "365d"), quantity::duration).map(Some)
}
