//! `crossdock contract`: whether the sources' tables are still as the files read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use crossdock_canonical::CodedColumn;
use crossdock_capture::SourceOptions;
use crossdock_config::Config;
use crossdock_model::TableSchema;

use super::ConfigFile;
use crate::contract::{Contract, Difference};
use crate::wiring;

/// More values than this are no codes.
const CODES_MAX: usize = 1000;
/// A server looks for codes at most so long, in each column.
const CODES_SECONDS: u64 = 30;
/// Of a code that nobody knows, so much is shown.
const CODE_SHOWN: usize = 40;

#[derive(Subcommand)]
pub enum ContractCommand {
    /// Compare the sources' tables with what the files read of them and with what is on record.
    ///
    /// Says which column is gone, is of another type or may be NULL now, which code no code table
    /// knows, and the file and line that it hits. Only reads: the catalogue, and the values of
    /// columns that are read through a code table. Exits with 1 when something is broken.
    Verify {
        #[command(flatten)]
        which: Which,
        /// Look at the catalogue only, not at the codes that rows hold.
        #[arg(long)]
        no_codes: bool,
    },
    /// Put on record what the files read of the sources' tables, as they are now.
    Record {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args)]
pub struct Which {
    #[command(flatten)]
    config: ConfigFile,
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Folder with SOURCE/tables.toml [default: `contracts` beside the config].
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Runs the command.
pub async fn contract(command: ContractCommand) -> ExitCode {
    let (ContractCommand::Verify { which, .. } | ContractCommand::Record { which }) = &command;
    let config = match super::load(&which.config.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let beside = || which.config.config.with_file_name("contracts");
    let folder = which.folder.clone().unwrap_or_else(beside);
    let mut sources = wiring::source_options(&config);
    if let Some(name) = &which.source {
        sources.retain(|source| source.name == *name);
        if sources.is_empty() {
            let known: Vec<&str> = config.sources.iter().map(|s| &*s.name).collect();
            eprintln!("error: there is no source {name}; there are: {}", known.join(", "));
            return ExitCode::from(2);
        }
    }
    let mut sound = true;
    for options in &sources {
        let done = match &command {
            ContractCommand::Verify { no_codes, .. } => {
                verify(&config, options, &folder, !no_codes).await
            }
            ContractCommand::Record { .. } => record(&config, options, &folder).await,
        };
        match done {
            Ok(as_recorded) => sound &= as_recorded,
            Err(error) => {
                eprintln!("error: source {}: {error:#}", options.name);
                sound = false;
            }
        }
    }
    ExitCode::from(if sound { 0 } else { 1 })
}

fn file_of(folder: &Path, source: &str) -> PathBuf {
    folder.join(source).join("tables.toml")
}

async fn record(config: &Config, options: &SourceOptions, folder: &Path) -> anyhow::Result<bool> {
    let schemas = crossdock_capture::describe(options).await?;
    let contract = Contract::of(&options.name, &config.rules, &schemas);
    let path = file_of(folder, &options.name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make folder {}", parent.display()))?;
    }
    fs::write(&path, contract.to_toml()).with_context(|| format!("write {}", path.display()))?;
    let (columns, tables) = contract.size();
    let (name, path) = (&options.name, path.display());
    say!("source {name}: {columns} columns of {tables} tables are on record in {path}");
    Ok(true)
}

/// Prints what differs; whether nothing is broken.
async fn verify(
    config: &Config,
    options: &SourceOptions,
    folder: &Path,
    with_codes: bool,
) -> anyhow::Result<bool> {
    let schemas = crossdock_capture::describe(options).await?;
    let mut found = Vec::new();
    match read(folder, &options.name)? {
        Some(contract) => found.extend(contract.compare(&config.rules, &schemas)),
        None => found.push(Difference {
            what: format!(
                "nothing is on record: crossdock contract record --source {}",
                options.name
            ),
            places: Vec::new(),
            breaks: false,
        }),
    }
    // What the files name and the database never had, or has no more; said once.
    for problem in config.rules.verify(&options.name, &schemas) {
        let place = format!("{}:{}:", problem.file, problem.line);
        let mut places = found.iter().flat_map(|d| &d.places);
        if !places.any(|known| known.starts_with(&place)) {
            let places = vec![format!("{place} {}", problem.what), problem.remedy];
            let what = "what a file reads is not there".to_owned();
            found.push(Difference { what, places, breaks: true });
        }
    }
    if with_codes {
        for coded in config.rules.coded_columns(&options.name) {
            found.extend(unknown_codes(options, &schemas, &coded).await);
        }
    }
    print(&options.name, &found, &schemas);
    Ok(found.iter().all(|difference| !difference.breaks))
}

fn read(folder: &Path, source: &str) -> anyhow::Result<Option<Contract>> {
    let path = file_of(folder, source);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let contract: Contract = toml::from_str(&text)
        .map_err(|error| anyhow!("{}: {error}; record it anew", path.display()))?;
    if contract.source != source {
        let (path, of) = (path.display(), contract.source);
        return Err(anyhow!("{path} is about source {of}, not {source}; record it anew"));
    }
    Ok(Some(contract))
}

/// Codes in a column's rows that its code table does not know.
async fn unknown_codes(
    options: &SourceOptions,
    schemas: &[TableSchema],
    coded: &CodedColumn,
) -> Option<Difference> {
    let CodedColumn { table, column, place, codes, .. } = coded;
    // A table or column that is gone has been told of.
    schemas.iter().find(|s| s.name == *table)?.column(column)?;
    let places = vec![format!("{place}: reads column `{column}` by code table `{codes}`")];
    let values =
        crossdock_capture::distinct(options, table, column, CODES_MAX, CODES_SECONDS).await;
    let values = match values {
        Ok(values) => values,
        Err(error) => {
            let what = format!("the codes in {table}.{column} were not read: {error}");
            return Some(Difference { what, places, breaks: false });
        }
    };
    let mut unknown: Vec<String> = values.into_iter().filter(|value| !coded.knows(value)).collect();
    unknown.sort();
    let shown: Vec<String> = unknown.iter().take(10).map(|code| shown(code)).collect();
    let more = if unknown.len() > shown.len() { ", …" } else { "" };
    let shown = shown.join(", ");
    let what = format!("column {table}.{column} holds codes that are not mapped: {shown}{more}");
    (!unknown.is_empty()).then_some(Difference { what, places, breaks: true })
}

fn shown(code: &str) -> String {
    let short: String = code.chars().take(CODE_SHOWN).collect();
    let end = if short.len() < code.len() { "…" } else { "" };
    format!("`{short}{end}`")
}

fn print(source: &str, found: &[Difference], schemas: &[TableSchema]) {
    for Difference { what, places, breaks } in found {
        say!("{} source {source}: {what}", if *breaks { "BROKEN " } else { "note   " });
        places.iter().filter(|place| !place.is_empty()).for_each(|place| say!("    {place}"));
    }
    if found.is_empty() {
        say!("ok      source {source}: {} tables are as they are read", schemas.len());
    }
}
