//! `crossdock import-offsets`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use crossdock_config::Config;

use super::checkpoints::offline;
use crate::control::Client;
use crate::operator::Moved;
use crate::takeover::{FILE_BYTES_MAX, Offsets, position, read};
use crate::wiring;

/// Command-line arguments.
#[derive(Args)]
pub struct ImportArguments {
    /// The source that takes over.
    #[arg(long, value_name = "NAME")]
    source: String,
    /// Whose offsets: connector, topic prefix or whole key; when the files hold several.
    #[arg(long)]
    key: Option<String>,
    /// Offset files of Debezium Server or Kafka Connect, or dumps of Kafka Connect's offset topic.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Lets a source begin where Debezium has ended.
pub async fn import(path: &Path, arguments: ImportArguments) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    super::moved(take_over(&config, &arguments).await)
}

async fn take_over(config: &Config, arguments: &ImportArguments) -> anyhow::Result<Moved> {
    let name = &arguments.source;
    let source = config.source(name).ok_or_else(|| {
        let known: Vec<&str> = config.sources.iter().map(|s| &*s.name).collect();
        anyhow!("there is no source {name}; there are: {}", known.join(", "))
    })?;
    if Client::connect(&wiring::control_socket(config)).await?.is_some() {
        bail!("crossdock is running; stop it first, then import the offsets and start it again");
    }
    let mut offsets = Offsets::new();
    for file in &arguments.files {
        let bytes = bounded(file).with_context(|| format!("read {}", file.display()))?;
        read(&bytes, &mut offsets).map_err(|what| anyhow!("{}: {what}", file.display()))?;
    }
    let position = position(&offsets, source.connection.kind, arguments.key.as_deref())
        .map_err(|what| anyhow!(what))?;
    offline(config)?.begin_after(name, position)
}

fn bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(std::io::Error::other("the file is too large to be an offset file")),
        false => Ok(bytes),
    }
}
