//! `crossdock rules`: what the rule files mean, before and while they run.

mod diff;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use crossdock_apply::PostgresStore;
use crossdock_apply::store::LastChange;
use crossdock_canonical::{Ownership, State};
use crossdock_config::Config;
use crossdock_model::canonical::{RecordKey, RecordState};
use crossdock_model::time::instant_text;

use super::ConfigFile;
use crate::control::Client;
use crate::operator::{Moved, ReleaseRequest, ReloadRequest};
use crate::wiring;

#[derive(Subcommand)]
pub enum RulesCommand {
    /// Read all files and say everything that is wrong with them, and what is doubtful.
    ///
    /// Looks at no database. Exits with 2 when something must be mended; doubts stop nothing.
    Check(ConfigFile),
    /// Run the [[test]] blocks of the rule files.
    ///
    /// Looks at no database. Exits with 1 when one of them came otherwise than expected.
    Test(ConfigFile),
    /// Print who owns each field, who writes it, and who is told of it.
    Matrix {
        #[command(flatten)]
        config: ConfigFile,
        /// How it is printed.
        #[arg(long, value_enum, default_value = "markdown")]
        format: Format,
    },
    /// Put the rule files in force as they are now, in the running process.
    ///
    /// They are read, checked against the databases and tested first; when anything is wrong, all
    /// of it is said and the old rules stay in force (exit code 1). Changes are judged by the old
    /// rules or the new ones, none by both, and none is lost. A SIGHUP does the same.
    Reload(ConfigFile),
    /// Let the changes go on that a rate guard has stopped.
    ///
    /// `crossdock status` says which guards have. Works on a running process and on a stopped one.
    Release {
        #[command(flatten)]
        config: ConfigFile,
        /// Name of the [[quarantine]] block.
        guard: String,
    },
    /// Say which records other files would change, before anyone puts them in force.
    ///
    /// Replays the journals of the last hours under the files as they are and under the others, in
    /// memory, and compares the records field by field. Nothing is written. What a record was made
    /// of before that comes from the canonical store. Exits with 1 when something differs.
    #[command(
        after_help = "Examples:\n  crossdock rules diff --rules ../next/rules --replay 24h\n  \
        crossdock rules diff --mappings ../next/mappings --replay 2h --json"
    )]
    Diff {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        arguments: diff::DiffArguments,
    },
    /// Say where the value of a field comes from, and what others say.
    #[command(after_help = "Example:\n  crossdock rules explain shp:EU:SHP-000812 status")]
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        /// Key of the record: shp:EU:SHP-000812.
        key: String,
        /// Field.
        field: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Markdown,
    Html,
}

/// Does what was asked.
pub async fn rules(command: RulesCommand) -> ExitCode {
    match command {
        RulesCommand::Check(file) => with(&file.config, check),
        RulesCommand::Test(file) => with(&file.config, test),
        RulesCommand::Matrix { config, format } => {
            with(&config.config, |config| matrix(config, format))
        }
        RulesCommand::Reload(file) => reload(&file.config).await,
        RulesCommand::Release { config, guard } => release(&config.config, guard).await,
        RulesCommand::Diff { config, arguments } => diff::diff(&config.config, &arguments).await,
        RulesCommand::Explain { config, key, field } => explain(&config.config, &key, &field).await,
    }
}

fn with(path: &Path, then: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match super::load(path) {
        Ok(config) => then(&config),
        Err(code) => code,
    }
}

fn check(config: &Config) -> ExitCode {
    let doubts = config.rules.doubts();
    for doubt in &doubts {
        say!("doubt: {doubt}");
    }
    for ruleset in config.rules.rulesets() {
        let locked = if ruleset.locked { ", locked" } else { "" };
        let region = ruleset.region.as_ref().map_or(String::new(), |r| format!(", region {r}"));
        say!("{} version {}{locked}{region}: {}", ruleset.name, ruleset.version, ruleset.file);
    }
    config.rules.additions().iter().for_each(|added| say!("{added}"));
    say!("rules {} can be loaded, {} doubts", config.rules.hash(), doubts.len());
    ExitCode::SUCCESS
}

fn test(config: &Config) -> ExitCode {
    let results = config.rules.run_tests();
    for result in &results {
        let word = if result.failures.is_empty() { "ok    " } else { "FAILED" };
        say!("{word} {} ({})", result.name, result.rule);
        for failure in &result.failures {
            say!("         {}: expected {}", failure.what, failure.expected);
            say!("         {:width$}  got {}", "", failure.got, width = failure.what.len());
        }
    }
    let failed = results.iter().filter(|r| !r.failures.is_empty()).count();
    say!("{} passed, {failed} failed", results.len() - failed);
    ExitCode::from(if failed == 0 { 0 } else { 1 })
}

const FIELD_HEADS: [&str; 7] =
    ["field", "owner", "when", "others' values", "written by", "read by", "rule"];
const STATE_HEADS: [&str; 4] = ["state", "region", "reached by", "limits"];

fn matrix(config: &Config, format: Format) -> ExitCode {
    let (rows, states) = (config.rules.matrix(), config.rules.states());
    let entities: BTreeSet<&str> =
        rows.iter().map(|r| &*r.entity).chain(states.iter().map(|s| &*s.entity)).collect();
    if matches!(format, Format::Html) {
        say!("<!doctype html><meta charset=\"utf-8\"><title>Who owns what</title>");
    }
    for entity in entities {
        match format {
            Format::Markdown => say!("## {entity}\n"),
            Format::Html => say!("<h2>{}</h2>", escaped(entity)),
        }
        let fields = rows.iter().filter(|r| &*r.entity == entity).map(cells);
        table(&FIELD_HEADS, fields.collect(), format);
        let of: Vec<_> = states.iter().filter(|s| &*s.entity == entity).map(state_cells).collect();
        if !of.is_empty() {
            table(&STATE_HEADS, of, format);
        }
    }
    ExitCode::SUCCESS
}

fn table<const N: usize>(heads: &[&str; N], rows: Vec<[String; N]>, format: Format) {
    match format {
        Format::Markdown => {
            say!("| {} |", heads.join(" | "));
            say!("|{}", " --- |".repeat(N));
            for row in rows {
                say!("| {} |", row.map(|cell| cell.replace('|', "\\|")).join(" | "));
            }
            say!();
        }
        Format::Html => {
            say!(
                "<table border=\"1\">\n<tr><th>{}</th></tr>",
                heads.map(escaped).join("</th><th>")
            );
            for row in rows {
                let row = row.map(|cell| escaped(&cell)).join("</td><td>");
                say!("<tr><td>{row}</td></tr>");
            }
            say!("</table>");
        }
    }
}

fn state_cells(row: &State) -> [String; 4] {
    let beside = if row.beside { " (beside the others)" } else { "" };
    [
        format!("{}{beside}", row.state),
        row.region.as_ref().map_or(String::new(), |region| region.to_string()),
        row.ways.join("; "),
        row.limits.join("; "),
    ]
}

fn cells(row: &Ownership) -> [String; 7] {
    let written: Vec<&str> = row.written_by.iter().map(|s| &**s).collect();
    let read: Vec<&str> = row.read_by.iter().map(String::as_str).collect();
    [
        row.field.to_string(),
        row.owner.to_string(),
        row.when.clone(),
        row.on_violation.to_string(),
        written.join(", "),
        read.join(", "),
        row.rule.to_string(),
    ]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The state folder is all that must be known of the config: the process reads the rest itself.
async fn reload(path: &Path) -> ExitCode {
    let answer = async {
        let socket = crossdock_config::state_dir(path, &|name| std::env::var(name).ok())
            .map(|dir| wiring::socket_in(&dir))
            .map_err(|problem| anyhow::anyhow!("{problem}"))?;
        match Client::connect(&socket).await? {
            Some(mut client) => {
                let by = format!("operator {}", login());
                client.post::<Moved>("/rules/reload", &ReloadRequest { by }).await
            }
            None => anyhow::bail!(
                "no crossdock is running on {}: the files are read when it starts",
                socket.parent().unwrap_or(&socket).display()
            ),
        }
    };
    super::moved(answer.await)
}

async fn release(path: &Path, guard: String) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let request = ReleaseRequest { guard, by: format!("operator {}", login()) };
    let released = async {
        match Client::connect(&wiring::control_socket(&config)).await? {
            Some(mut client) => client.post("/rules/release", &request).await,
            None => super::checkpoints::offline(&config)?.release(&request).await,
        }
    };
    super::moved(released.await)
}

/// Who runs this command.
fn login() -> String {
    let uid = nix::unistd::Uid::current();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

async fn explain(path: &Path, key: &str, field: &str) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(entity) = config.rules.entities().of_key(key) else {
        eprintln!("error: no entity has keys like `{key}`");
        return ExitCode::from(2);
    };
    if entity.field(field).is_none() {
        eprintln!("error: {} has no field `{field}`", entity.name);
        return ExitCode::from(2);
    }
    let record = RecordKey { entity: entity.name.clone(), key: key.into() };
    let answer = async {
        let mut store = PostgresStore::open_reader(&wiring::connect_options(&config.store)).await?;
        let loaded = store.record_state(&record).await?;
        let change = store.last_change(&record, field).await?;
        Ok::<_, crossdock_apply::ApplyError>((loaded, change))
    };
    match answer.await {
        Ok((loaded, change)) => match loaded.records.into_iter().next() {
            Some((_, state)) => tell(&record, field, &state, change.as_ref()),
            None => {
                eprintln!("error: the store has no record {key}");
                return ExitCode::from(1);
            }
        },
        Err(error) => return super::fail(&anyhow::Error::new(error)),
    }
    ExitCode::SUCCESS
}

/// The value, who says so and since when, and what others say.
fn tell(key: &RecordKey, field: &str, state: &RecordState, change: Option<&LastChange>) {
    let record = state.record.as_ref();
    let text = |v: &crossdock_model::Value<'_>| v.to_text().unwrap_or_else(|| "NULL".to_string());
    let value = record.and_then(|r| r.fields.get(field)).map_or("NULL".to_string(), text);
    say!("{} {} = {value}", key.key, field);
    if let Some(origin) = record.and_then(|r| r.origins.get(field)) {
        say!("  owner     {}, by rule {}", origin.source, origin.rule);
        if !origin.inferred.is_empty() {
            say!(
                "  inferred  {}: nobody reported it, what came later implies it",
                origin.inferred.join(", ")
            );
        }
    }
    if let Some(change) = change {
        let at = instant_text(change.commit_micros);
        say!("  since     version {}, committed {at} by {}", change.version, change.source);
        say!("  position  {} (transaction {})", change.position, change.transaction);
        say!("  rules     {}", change.ruleset);
        say!("  change    {}", change.values);
    }
    for contribution in &state.contributions {
        if let Some(said) = contribution.fields.get(field) {
            let row = &contribution.row;
            let pk = row.pk.replace('\u{1f}', ",");
            say!("  {} says {} ({} row {pk})", row.source, text(said), row.table);
        }
    }
    for evidence in state.evidence.iter().filter(|e| !e.withdrawn) {
        let at = instant_text(evidence.event_micros);
        let weight = evidence.authority;
        say!(
            "  evidence  {} at {at} by {} (authority {weight})",
            evidence.kind,
            evidence.row.source
        );
    }
}
