//! `crossdock init`: reads a database's catalog, writes a first config and mapping to edit.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use crossdock_capture::{SnapshotOptions, SourceOptions};
use crossdock_model::database::{DatabaseKind, Tls, ZeroDates};
use crossdock_schema_registry::Entities;
use secrecy::SecretString;

use crate::init::{Draft, Place, Words, draft, files};

/// Command-line arguments.
#[derive(Args)]
pub struct InitArguments {
    /// The database: postgres://user@host:5432/database, mariadb://… or mysql://…
    ///
    /// A password in it is used now and not written; better, put it in the variable that the config
    /// will name (NAME_PASSWORD).
    #[arg(long, value_name = "URL")]
    url: String,
    /// The kind of database, where the URL's scheme does not say it.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Name of the source [default: the database's].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only tables of this schema.
    #[arg(long, value_name = "SCHEMA")]
    schema: Option<String>,
    /// Where the canonical records will be kept, a PostgreSQL database.
    #[arg(
        long,
        value_name = "URL",
        default_value = "postgres://crossdock@127.0.0.1:5432/canonical"
    )]
    store_url: String,
    /// Folder for the files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Postgres,
    Mysql,
    Mariadb,
}

/// Reads the catalog and writes the files; none of them is there before.
pub async fn init(arguments: InitArguments) -> ExitCode {
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn run(arguments: &InitArguments) -> anyhow::Result<()> {
    let kind = arguments.kind.map(|kind| match kind {
        Kind::Postgres => DatabaseKind::Postgres,
        Kind::Mysql => DatabaseKind::Mysql,
        Kind::Mariadb => DatabaseKind::Mariadb,
    });
    let mut source = Place::parse(&arguments.url, kind, "").context("--url")?;
    let name = name_of(arguments.name.as_deref().unwrap_or(&source.database));
    source.password_env = format!("{}_PASSWORD", name.to_uppercase());
    let store =
        Place::parse(&arguments.store_url, None, "STORE_PASSWORD").context("--store-url")?;
    let options = options(&name, &source);
    let listing = crossdock_capture::list(&options, arguments.schema.as_deref()).await?;
    if listing.tables.is_empty() {
        bail!(
            "database {} has no table that {} may read: grant it SELECT, or name another --schema",
            source.database,
            source.user
        );
    }
    let drafted = draft(&listing, &Entities::shipped(), &Words::shipped()?);
    write_all(&arguments.dir, &files(&name, &source, &store, &drafted))?;
    tell(&drafted, listing.tables.len(), &source, &arguments.dir);
    Ok(())
}

fn options(name: &str, source: &Place) -> SourceOptions {
    let password = source.password.clone().or_else(|| {
        let found = std::env::var(&source.password_env).ok();
        found.map(SecretString::from)
    });
    SourceOptions {
        name: name.to_string(),
        kind: source.kind,
        host: source.host.clone(),
        port: source.port,
        user: source.user.clone(),
        password: password.unwrap_or_default(),
        database: source.database.clone(),
        tls: if source.is_local() { Tls::Disable } else { verified() },
        tables: Vec::new(),
        slot: String::new(),
        slot_failover: false,
        publication: String::new(),
        server_id: 0,
        zero_dates: ZeroDates::default(),
        block_bytes_max: crossdock_capture::BLOCK_BYTES,
        spill_dir: None,
        snapshot: SnapshotOptions::default(),
        poll: None,
    }
}

/// As a config without `tls` has it.
fn verified() -> Tls {
    Tls::VerifyFull { ca_file: None, client: None }
}

/// A name as sources have them: small letters, digits and `_`, a letter first.
fn name_of(text: &str) -> String {
    let small = text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let name: String = small.chars().skip_while(|c| !c.is_ascii_lowercase()).take(30).collect();
    if name.is_empty() { "source".to_string() } else { name }
}

/// Writes all files, or none when one of them is there already.
fn write_all(dir: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    let there = files.iter().map(|(name, _)| dir.join(name)).filter(|path| path.exists());
    let there: Vec<String> = there.map(|path| path.display().to_string()).collect();
    if !there.is_empty() {
        bail!(
            "{} exists already, and nothing is overwritten: name another --dir",
            there.join(", ")
        );
    }
    for (name, text) in files {
        let path = dir.join(name);
        let doing = || format!("write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(doing)?;
        }
        let mut file = File::create_new(&path).with_context(doing)?;
        file.write_all(text.as_bytes()).with_context(doing)?;
        say!("wrote {}", path.display());
    }
    Ok(())
}

fn tell(drafted: &Draft, tables: usize, source: &Place, dir: &Path) {
    for mapped in &drafted.mapped {
        let (fields, columns) = (mapped.fields.len(), mapped.left.len());
        say!(
            "{} may be {}: {fields} fields mapped, {columns} columns not",
            mapped.table,
            mapped.entity
        );
    }
    say!("{} of {tables} tables recognised; look the files over, then:", drafted.mapped.len());
    say!(
        "  {}=… STORE_PASSWORD=… crossdock check --config {}",
        source.password_env,
        dir.join("crossdock.toml").display()
    );
}
