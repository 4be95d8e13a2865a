//! `[mirror.NAME]`: plain replication of tables.

use crate::section::{Section, quoted};
use crate::settings::{MirrorConfig, TargetConfig};
use crate::source::{checked_name, tables};
use crate::target::{Sources, did_you_mean};
use crossdock_model::database::DatabaseKind;

/// The targets of the file: every name, and those whose settings are good.
pub(crate) struct Targets<'a> {
    pub names: &'a [String],
    pub good: &'a [TargetConfig],
}

pub(crate) fn mirror(
    name: &str,
    sources: &Sources<'_>,
    targets: &Targets<'_>,
    section: &Section<'_>,
) -> Option<MirrorConfig> {
    let good_name = checked_name("mirror", name, section);
    let source = section.required("source", "erp");
    let from = source.as_ref().and_then(|found| sources.named(found, section));
    let target = section.required("target", "copy");
    let to = target.as_ref().and_then(|found| {
        if !targets.names.contains(&found.value) {
            let what = format!("there is no target {}", quoted(&found.written));
            section.problem(found.line, what, did_you_mean(&found.value, targets.names, "target"));
        }
        targets.good.iter().find(|t| t.name == found.value)
    });
    let tables = tables(section);
    if tables.as_ref().is_some_and(Vec::is_empty) && !section.has("tables") {
        let what = format!("[{}] has no `tables`", section.title);
        section.problem(section.line, what, "add `tables = [\"public.orders\"]`");
    } else if tables.as_ref().is_some_and(Vec::is_empty) {
        section.problem(
            section.line_of("tables"),
            "`tables` is empty",
            "name a table, or remove the mirror",
        );
    }
    section.finish();
    let (from, to) = (from?, to?);
    let Some(other) = to.database() else {
        let what = format!("[{}] copies tables into a target that is no database", section.title);
        section.problem(section.line_of("target"), what, "choose a database");
        return None;
    };
    // A table of MySQL and MariaDB is named with its database: there, one server is enough.
    let one = &from.connection;
    let itself = match one.kind {
        DatabaseKind::Postgres => one.same_database(other),
        DatabaseKind::Mysql | DatabaseKind::Mariadb => one.same_server(other),
    };
    if itself {
        section.problem(
            section.line,
            format!("[{}] copies tables onto themselves: source and target are one", section.title),
            "choose a target on another server (or, on PostgreSQL, in another database)",
        );
        return None;
    }
    let tables = tables.filter(|t| !t.is_empty())?;
    let (source, target) = (from.name.clone(), to.name.clone());
    Some(MirrorConfig { name: good_name?.into(), at: section.at(), source, target, tables })
}
