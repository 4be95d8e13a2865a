//! `crossdock schema`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Subcommand, ValueEnum};
use crossdock_apply::PostgresStore;
use crossdock_config::Config;
use crossdock_model::TableName;
use crossdock_model::canonical::RecordKey;
use crossdock_schema_registry::{EntityDef, avro, json_schema, shaped, subject};
use serde_json::Value as Json;

use super::{ConfigFile, checkpoints, fail, load, moved};
use crate::control::Client;
use crate::operator::{Moved, TableRequest};
use crate::registry::Registry;
use crate::wiring;

#[derive(Subcommand)]
pub enum SchemaCommand {
    /// List the subjects of the registry, with their versions and compatibility levels.
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print the schema of an entity's records, as the files have it now.
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Entity, such as shipment.
        entity: String,
        /// In which language.
        #[arg(long, value_enum, default_value = "avro")]
        format: SchemaFormat,
        /// A version that is registered, in Avro, instead of what the files have now.
        #[arg(long, value_name = "N", conflicts_with = "format")]
        version: Option<u32>,
    },
    /// Print a record as readers of a version of its schema know it.
    ///
    /// Fields that have been renamed since have the names of that version, those that have come
    /// since are left out.
    Record {
        #[command(flatten)]
        config: ConfigFile,
        /// Key of the record: shp:EU:SHP-000812.
        key: String,
        /// The version [default: the latest].
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Say whether what the files have now may be registered, and why not.
    ///
    /// Changes nothing. Exits with 2 when an entity has changed in a way that its subject's
    /// compatibility level does not allow: `crossdock run` would refuse it.
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Take a table of a source that has changed for what is meant.
    ///
    /// When a column that files read is gone, or its values are of another kind, the source's
    /// changes wait in its journal (`crossdock status` says so). Mend the files and start again;
    /// or, when they are right as they are, let the changes go on with this.
    Accept {
        #[command(flatten)]
        config: ConfigFile,
        /// The source.
        #[arg(long, value_name = "NAME")]
        source: String,
        /// The table.
        #[arg(long, value_name = "SCHEMA.TABLE", value_parser = super::table)]
        table: TableName,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SchemaFormat {
    Avro,
    JsonSchema,
}

/// Runs the command.
pub async fn schema(command: SchemaCommand) -> ExitCode {
    match command {
        SchemaCommand::List { config } => match load(&config.config) {
            Ok(config) => list(&config).await,
            Err(code) => code,
        },
        SchemaCommand::Show { config, entity, version: Some(version), .. } => {
            match load(&config.config) {
                Ok(config) => printed(registered(&config, &entity, Some(version)).await),
                Err(code) => code,
            }
        }
        SchemaCommand::Show { config, entity, format, .. } => show(&config.config, &entity, format),
        SchemaCommand::Record { config, key, version } => match load(&config.config) {
            Ok(config) => printed(record(&config, &key, version).await),
            Err(code) => code,
        },
        SchemaCommand::Check { config } => match load(&config.config) {
            Ok(config) => check(&config).await,
            Err(code) => code,
        },
        SchemaCommand::Accept { config, source, table } => match load(&config.config) {
            Ok(config) => moved(accept(&config, TableRequest { source, table }).await),
            Err(code) => code,
        },
    }
}

fn printed(json: anyhow::Result<Json>) -> ExitCode {
    match json {
        Ok(json) => {
            say!("{json:#}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// A registered version of an entity's schema; the latest, when none is named.
async fn registered(config: &Config, name: &str, version: Option<u32>) -> anyhow::Result<Json> {
    let entity = config.rules.entities().entity(name);
    let entity = entity.with_context(|| format!("there is no entity `{name}`"))?;
    let subjects = Registry::new(wiring::connect_options(&config.store)).read().await?;
    let known = subjects.versions(&subject(entity));
    let found = match version {
        Some(version) => known.iter().find(|v| v.version == version),
        None => known.last(),
    };
    let all: Vec<String> = known.iter().map(|v| v.version.to_string()).collect();
    let found = found.with_context(|| match all.is_empty() {
        true => format!("no schema of {name} is registered yet: crossdock run does it"),
        false => format!("{name} has no such version; there are: {}", all.join(", ")),
    })?;
    Ok(serde_json::from_str(&found.schema)?)
}

async fn record(config: &Config, key: &str, version: Option<u32>) -> anyhow::Result<Json> {
    let entity = config.rules.entities().of_key(key);
    let entity = entity.with_context(|| format!("no entity has keys like `{key}`"))?;
    let schema = registered(config, &entity.name, version).await?;
    let mut store = PostgresStore::open_reader(&wiring::connect_options(&config.store)).await?;
    let asked = RecordKey { entity: entity.name.clone(), key: key.into() };
    let loaded = store.record_state(&asked).await?;
    let record = loaded.records.into_iter().next().and_then(|(_, state)| state.record);
    let record = record.with_context(|| format!("the store has no record {key}"))?;
    let fields = record.fields.iter().map(|(name, value)| (name.clone(), value.to_json()));
    let earlier = config.rules.earlier_fields(&asked, &record.fields);
    let earlier = earlier.map_err(|what| anyhow!("what {key} was cannot be computed: {what}"))?;
    let mut known: BTreeMap<&str, Json> =
        earlier.iter().map(|(name, value)| (&**name, value.to_json())).collect();
    known.extend([
        ("_key", Json::from(key)),
        ("_version", Json::from(record.version)),
        ("_deleted", Json::from(record.deleted)),
    ]);
    shaped(entity, &schema, &fields.collect(), &known).context("the schema is not that of a record")
}

async fn accept(config: &Config, request: TableRequest) -> anyhow::Result<Moved> {
    match Client::connect(&wiring::control_socket(config)).await? {
        Some(mut client) => client.post("/accept", &request).await,
        None => checkpoints::offline(config)?.accept_table(request).await,
    }
}

async fn list(config: &Config) -> ExitCode {
    let registry = Registry::new(wiring::connect_options(&config.store));
    let subjects = match registry.read().await {
        Ok(subjects) => subjects,
        Err(error) => return fail(&error.into()),
    };
    say!("{:<40} {:>8} {:>6}  LEVEL", "SUBJECT", "VERSIONS", "ID");
    for name in subjects.names() {
        let versions = subjects.versions(name);
        let id = versions.last().map_or(0, |v| v.id);
        say!("{name:<40} {:>8} {id:>6}  {}", versions.len(), subjects.level(name));
    }
    ExitCode::SUCCESS
}

fn show(path: &Path, name: &str, format: SchemaFormat) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let entities = config.rules.entities();
    let Some(entity) = entities.entity(name) else {
        let names: Vec<&str> = entities.iter().map(|e| &*e.name).collect();
        eprintln!("error: there is no entity `{name}`; there are: {}", names.join(", "));
        return ExitCode::from(2);
    };
    let schema = match format {
        SchemaFormat::Avro => avro(entity),
        SchemaFormat::JsonSchema => json_schema(entity),
    };
    say!("{}", serde_json::to_string_pretty(&schema).unwrap_or_default());
    ExitCode::SUCCESS
}

async fn check(config: &Config) -> ExitCode {
    let registry = Registry::new(wiring::connect_options(&config.store));
    let mut subjects = match registry.read().await {
        Ok(subjects) => subjects,
        Err(error) => return fail(&error.into()),
    };
    let entities = config.rules.entities();
    let is_new = |entity: &&EntityDef| {
        let known = subjects.find(&subject(entity), &avro(entity).to_string());
        !matches!(known, Ok(Some(_)))
    };
    let new: Vec<String> = entities.iter().filter(is_new).map(subject).collect();
    match subjects.register_entities(entities.iter()) {
        Ok(()) => {
            new.iter().for_each(|name| say!("{name}: a new version"));
            say!("{} entities, {} to be registered", entities.iter().count(), new.len());
            ExitCode::SUCCESS
        }
        Err(refused) => {
            refused.iter().for_each(|refused| eprintln!("error: {refused}"));
            ExitCode::from(2)
        }
    }
}
