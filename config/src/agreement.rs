//! What no section can see by itself: settings that are good, but not together.

use std::fs;
use std::path::PathBuf;

use crossdock_model::TableName;

use crate::rules::Rules;
use crate::section::{Found, Section, Source};
use crate::settings::{MirrorConfig, SourceConfig, TargetConfig};

/// A folder that serves two purposes would have its files read as both.
pub(crate) fn folders(section: &Section<'_>, folders: &[(&str, Vec<Found<PathBuf>>)]) {
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (key, found) in folders.iter().flat_map(|(key, all)| all.iter().map(move |f| (key, f))) {
        let Ok(real) = fs::canonicalize(&found.value) else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, path)| *path == real) {
            let (what, remedy) = match other == key {
                true => (format!("`{key}` names a folder twice"), "name it once"),
                false => (
                    format!("`{key}` and `{other}` name the same folder"),
                    "keep each kind of file in a folder of its own",
                ),
            };
            section.problem(found.line, what, remedy);
        }
        seen.push((key, real));
    }
}

/// Two readers cannot share a slot, nor two replicas of a server an id.
pub(crate) fn sources(source: Source<'_>, sources: &[SourceConfig]) {
    for (i, one) in sources.iter().enumerate() {
        for other in sources.iter().take(i) {
            if !one.connection.same_server(&other.connection) {
                continue;
            }
            let shared = if !one.slot.is_empty() && one.slot == other.slot {
                "slot"
            } else if one.server_id != 0 && one.server_id == other.server_id {
                "server_id"
            } else {
                continue;
            };
            let names = format!("`{}` and `{}`", other.name, one.name);
            let what = format!("sources {names} use the same {shared}");
            source.problem(one.at.1, what, format!("give each its own `{shared}`"));
        }
    }
}

/// What is owed to a source goes through the target of its name: that must be the same database.
pub(crate) fn targets(source: Source<'_>, sources: &[SourceConfig], targets: &[TargetConfig]) {
    for target in targets {
        let Some(twin) = sources.iter().find(|s| s.name == target.name) else { continue };
        if !target.database().is_some_and(|own| twin.connection.same_database(own)) {
            let what = format!(
                "target `{}` is another database than the source of that name",
                target.name
            );
            let remedy = format!(
                "values are written back to a source through the target of its name: write \
                 `source = \"{}\"`, or choose another name",
                target.name
            );
            source.problem(target.at.1, what, remedy);
        }
    }
}

/// Progress is kept by name, and a table has one writer.
pub(crate) fn mirrors(source: Source<'_>, targets: &[TargetConfig], mirrors: &[MirrorConfig]) {
    for (i, one) in mirrors.iter().enumerate() {
        if targets.iter().any(|t| t.name == one.name) {
            let what = format!("mirror `{}` has the name of a target", one.name);
            source.problem(one.at.1, what, "progress is kept by name: choose another name");
        }
        for other in mirrors.iter().take(i).filter(|other| other.target == one.target) {
            for table in one.tables.iter().filter(|table| other.tables.contains(table)) {
                let what = format!(
                    "mirrors `{}` and `{}` both write `{table}` of target `{}`",
                    other.name, one.name, one.target
                );
                source.problem(one.at.1, what, "take the table out of one of them");
            }
        }
    }
}

/// What is wanted of a source without a log must be polled, and what is written there is not known
/// again.
pub(crate) fn polled(
    source: Source<'_>,
    sources: &[SourceConfig],
    targets: &[TargetConfig],
    mirrors: &[MirrorConfig],
    rules: Option<&Rules>,
) {
    for polled in sources.iter().filter(|source| source.is_polled()) {
        let name = &polled.name;
        let lacks = |table: &TableName| !polled.poll.iter().any(|poll| poll.table == *table);
        let add = |table: &TableName| {
            format!("add `[source.{name}.poll.\"{table}\"]` with `key` and `cursor`")
        };
        for mirror in mirrors.iter().filter(|mirror| mirror.source == *name) {
            for table in mirror.tables.iter().filter(|table| lacks(table)) {
                let what = format!(
                    "mirror `{}` copies `{table}` of source `{name}`, which is not polled",
                    mirror.name
                );
                source.problem(mirror.at.1, what, add(table));
            }
        }
        for table in rules.map(|rules| rules.tables(name)).unwrap_or_default() {
            if lacks(&table) {
                let what = format!(
                    "mapping or rule files name `{table}` of source `{name}`, which is not polled"
                );
                source.problem(polled.at.1, what, add(&table));
            }
        }
        let written = |target: &&TargetConfig| {
            target.name == *name || target.source.as_ref().is_some_and(|source| source == name)
        };
        if let Some(target) = targets.iter().find(written) {
            let what = format!(
                "target `{}` writes into source `{name}`, which is polled: what Crossdock writes \
                 into a polled table comes back as the source's own change",
                target.name
            );
            let remedy = "let it write into tables only that are not polled, or into columns that \
                          the polled view leaves out";
            source.warning(target.at.1, what, remedy);
        }
    }
}
