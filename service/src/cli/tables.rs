//! `crossdock tables add`: the config file, and the running process at once.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use crossdock_config::{Config, SourceConfig};
use crossdock_model::TableName;
use crossdock_model::database::Severity;

use super::ConfigFile;
use crate::control::Client;
use crate::operator::{Moved, TableRequest};
use crate::{preflight, wiring};

/// What to do about tables.
#[derive(Subcommand)]
pub enum TablesCommand {
    /// Capture one more table: config file, publication, the rows it has, and all later changes.
    ///
    /// The file's comments and layout stay. A running process does it at once, beside its stream;
    /// a stopped one when it starts. Nothing is changed when the table can't be captured.
    Add {
        #[command(flatten)]
        config: ConfigFile,
        /// The source.
        #[arg(long, value_name = "NAME")]
        source: String,
        /// The table, SCHEMA.TABLE.
        #[arg(value_name = "TABLE", value_parser = super::table)]
        table: TableName,
    },
}

/// Runs the command.
pub async fn tables(command: TablesCommand) -> ExitCode {
    let TablesCommand::Add { config: file, source, table } = command;
    let config = match super::load(&file.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    super::moved(add(&file.config, &config, source, table).await)
}

async fn add(
    path: &Path,
    config: &Config,
    source: String,
    table: TableName,
) -> anyhow::Result<Moved> {
    if config.source(&source).is_none() {
        let known: Vec<&str> = config.sources.iter().map(|s| &*s.name).collect();
        bail!("there is no source {source}; there are: {}", known.join(", "));
    }
    if config.source(&source).is_some_and(SourceConfig::is_polled) {
        bail!(
            "source {source} is polled: add [source.{source}.poll.\"{table}\"] with `key` and \
             `cursor` to the config, and restart"
        );
    }
    let running = Client::connect(&wiring::control_socket(config)).await?;
    let listed = config.tables_of(&source).contains(&table);
    let request = TableRequest { source, table };
    match (running, listed) {
        // The file was edited by hand, perhaps: the process says whether it is news.
        (Some(mut client), true) => client.post("/tables", &request).await,
        (None, true) => {
            bail!("table {} is captured from source {} already", request.table, request.source)
        }
        (running, false) => {
            let edit = Edit::prepare(path, &request)?;
            edit.check(&request.source).await?;
            edit.put()?;
            let Some(mut client) = running else {
                let line = format!(
                    "{} is captured from source {} from the next start on",
                    request.table, request.source
                );
                return Ok(Moved { lines: vec![line] });
            };
            match client.post("/tables", &request).await {
                Ok(moved) => Ok(moved),
                Err(error) => {
                    edit.take_back()?;
                    Err(error)
                }
            }
        }
    }
}

/// A changed config file, beside the one that it is to replace.
struct Edit {
    path: PathBuf,
    before: String,
    after: String,
    beside: PathBuf,
}

impl Edit {
    /// Makes the new text and checks it as if it were in place.
    fn prepare(path: &Path, request: &TableRequest) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("crossdock.toml");
        let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let before =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let after = crossdock_config::with_table(&before, &request.source, &request.table)
            .map_err(|what| anyhow!("{}: {what}; add the table by hand", path.display()))?;
        Ok(Self { path, before, after, beside })
    }

    /// Checks the new file and the database for it: whatever would stop the source from starting
    /// is said now, and nothing is changed.
    async fn check(&self, source: &str) -> anyhow::Result<()> {
        self.write_beside(&self.after)?;
        let loaded = crossdock_config::load(&self.beside, &|name| std::env::var(name).ok());
        // A file left behind would do no harm, but it would surprise.
        let _ = fs::remove_file(&self.beside);
        let config = loaded.map_err(|problems| anyhow!("nothing was changed:\n{problems}"))?;
        let looked = preflight::look_at(&config, source).await;
        let bad = looked.findings.iter().filter(|f| f.severity == Severity::Error);
        let lines: Vec<String> = bad.map(|f| format!("{}\n    {}", f.what, f.remedy)).collect();
        match lines.is_empty() {
            true => Ok(()),
            false => bail!("nothing was changed; source {source}: {}", lines.join("\n")),
        }
    }

    fn put(&self) -> anyhow::Result<()> {
        self.replace(&self.after)
    }

    /// Puts the old text back, unless somebody has changed the file since.
    fn take_back(&self) -> anyhow::Result<()> {
        match fs::read_to_string(&self.path)? == self.after {
            true => self.replace(&self.before),
            false => Ok(()),
        }
    }

    /// Puts a text in the file's place, whole or not at all.
    fn replace(&self, text: &str) -> anyhow::Result<()> {
        self.write_beside(text)?;
        fs::rename(&self.beside, &self.path)
            .with_context(|| format!("replace {}", self.path.display()))?;
        if let Some(folder) = self.path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn write_beside(&self, text: &str) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let was = fs::metadata(&self.path)?;
            fs::write(&self.beside, text)?;
            fs::set_permissions(&self.beside, was.permissions())?;
            let is = fs::metadata(&self.beside)?;
            if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
                chown(&self.beside, Some(was.uid()), Some(was.gid()))?;
            }
            fs::File::open(&self.beside)?.sync_all()
        };
        write().with_context(|| format!("write {}", self.beside.display()))
    }
}
