//! `crossdock show`: where a record stands, why and since when, as somebody asks who has a customer
//! on the telephone.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use crossdock_apply::PostgresStore;
use crossdock_apply::store::{CanonicalStore, ExceptionLine, LastChange};
use crossdock_config::Config;
use crossdock_model::Value;
use crossdock_model::canonical::{Name, Needs, RecordKey, RecordState};
use crossdock_model::time::instant_text;
use serde_json::{Value as Json, json};

use crate::wiring;

/// Records that link to the one asked for, at most; an order with more is asked for by shipment.
const CHILDREN_MAX: usize = 100;

#[derive(Args)]
pub struct ShowArguments {
    /// Key of the record: ord:SO-1, shp:EU:SHP-000812.
    key: String,
    /// Every field, and not only those that say how far it has come.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A record with what is open about it.
struct Shown {
    key: RecordKey,
    state: RecordState,
    fields: Vec<(Name, Option<LastChange>)>,
    exceptions: Vec<ExceptionLine>,
}

/// Runs the command.
pub async fn show(path: &Path, arguments: &ShowArguments) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match found(&config, arguments).await {
        Ok(shown) if arguments.json => {
            let records: Vec<Json> = shown.iter().map(as_json).collect();
            say!("{:#}", Json::from(records));
            ExitCode::SUCCESS
        }
        Ok(shown) => {
            shown.iter().for_each(print);
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

/// The record and those that link to it and have a state of their own, the latter in the order of
/// their keys.
async fn found(config: &Config, arguments: &ShowArguments) -> anyhow::Result<Vec<Shown>> {
    let entities = config.rules.entities();
    let Some(entity) = entities.of_key(&arguments.key) else {
        let keys: Vec<String> = entities.iter().map(|e| format!("{}:…", e.prefix)).collect();
        bail!("no entity has keys like `{}`; there are: {}", arguments.key, keys.join(", "));
    };
    let key = RecordKey { entity: entity.name.clone(), key: arguments.key.as_str().into() };
    let mut store = PostgresStore::open_reader(&wiring::connect_options(&config.store)).await?;
    let asked = Needs { linking_to: vec![key.clone()], ..Needs::default() };
    let linking: BTreeSet<RecordKey> =
        store.load(&asked).await?.linking.into_iter().map(|(_, from)| from).collect();
    let with_state = |k: &RecordKey| config.rules.states().iter().any(|s| s.entity == k.entity);
    let children: Vec<RecordKey> = linking.into_iter().filter(with_state).collect();
    let left_out = children.len().saturating_sub(CHILDREN_MAX);
    let mut all = Vec::new();
    for key in std::iter::once(key.clone()).chain(children.into_iter().take(CHILDREN_MAX)) {
        let loaded = store.record_state(&key).await?;
        let state = loaded.records.into_iter().next().map(|(_, state)| state);
        let Some(state) = state.filter(|state| state.record.is_some()) else { continue };
        let record = state.record.as_ref().context("a record without a record")?;
        let names: Vec<Name> = match arguments.all {
            true => record.fields.keys().cloned().collect(),
            false => config.rules.computed_fields(&key.entity),
        };
        let mut fields = Vec::with_capacity(names.len());
        for name in names.into_iter().filter(|name| record.fields.contains_key(name)) {
            let change = store.last_change(&key, &name).await?;
            fields.push((name, change));
        }
        let exceptions = store.exceptions_about(&key).await?;
        all.push(Shown { key, state, fields, exceptions });
    }
    if all.first().is_none_or(|first| first.key != key) {
        bail!("the store has no record {}", key.key);
    }
    if left_out > 0 {
        eprintln!("warning: {left_out} more records link to it; ask for them by their keys");
    }
    Ok(all)
}

fn text(value: Option<&Value<'_>>) -> String {
    value.and_then(Value::to_text).unwrap_or_else(|| "NULL".to_string())
}

fn print(shown: &Shown) {
    let Some(record) = &shown.state.record else { return };
    let gone = if record.deleted { ", deleted" } else { "" };
    say!("{} ({}, version {}{gone})", shown.key.key, shown.key.entity, record.version);
    for (name, change) in &shown.fields {
        let value = text(record.fields.get(name));
        let since = change.as_ref().map_or(String::new(), |change| {
            format!(" since {}, by {}", instant_text(change.commit_micros), change.source)
        });
        let origin = record.origins.get(name);
        let rule = origin.map_or(String::new(), |origin| format!(" ({})", origin.rule));
        say!("  {name} = {value}{since}{rule}");
        let inferred = origin.map_or(&[][..], |origin| &origin.inferred);
        if !inferred.is_empty() {
            say!("    nobody reported {}: what came later implies it", inferred.join(", "));
        }
    }
    for evidence in shown.state.evidence.iter().filter(|e| !e.withdrawn) {
        let at = instant_text(evidence.event_micros);
        say!("  {at} {} said by {}", evidence.kind, evidence.row.source);
    }
    for release in shown.state.releases.iter().filter(|release| !release.released) {
        say!("  {} is held: waiting for {}", release.rule, release.unmet.join(", "));
    }
    for deadline in shown.state.deadlines.iter().filter(|d| !d.raised && !d.gone) {
        say!("  {} is due at {}", deadline.rule, instant_text(deadline.due_micros));
    }
    for exception in &shown.exceptions {
        let team = if exception.team.is_empty() { "nobody's" } else { &exception.team };
        let since = instant_text(exception.first_micros);
        say!("  exception {} ({team}) since {since}: {}", exception.kind, exception.text);
    }
}

fn as_json(shown: &Shown) -> Json {
    let record = shown.state.record.as_ref();
    let fields: serde_json::Map<String, Json> = shown
        .fields
        .iter()
        .map(|(name, change)| {
            let origin = record.and_then(|r| r.origins.get(name));
            let field = json!({
                "value": record.and_then(|r| r.fields.get(name)).map(Value::to_json),
                "since": change.as_ref().map(|c| instant_text(c.commit_micros)),
                "by": change.as_ref().map(|c| c.source.to_string()),
                "rule": origin.map(|o| o.rule.to_string()),
                "inferred": origin.map(|o| o.inferred.iter().map(|n| n.to_string()).collect::<Vec<_>>()),
            });
            (name.to_string(), field)
        })
        .collect();
    let evidence = shown.state.evidence.iter().filter(|e| !e.withdrawn).map(|e| {
        json!({
            "kind": e.kind.to_string(),
            "at": instant_text(e.event_micros),
            "by": e.row.source.to_string(),
            "authority": e.authority,
        })
    });
    let holds = shown.state.releases.iter().filter(|r| !r.released).map(|r| {
        let unmet: Vec<String> = r.unmet.iter().map(|n| n.to_string()).collect();
        json!({ "rule": r.rule.to_string(), "waits_for": unmet })
    });
    let due = shown
        .state
        .deadlines
        .iter()
        .filter(|d| !d.raised && !d.gone)
        .map(|d| json!({ "rule": d.rule.to_string(), "at": instant_text(d.due_micros) }));
    json!({
        "key": shown.key.key.to_string(),
        "entity": shown.key.entity.to_string(),
        "version": record.map(|r| r.version),
        "deleted": record.is_some_and(|r| r.deleted),
        "fields": fields,
        "evidence": evidence.collect::<Vec<_>>(),
        "holds": holds.collect::<Vec<_>>(),
        "deadlines": due.collect::<Vec<_>>(),
        "exceptions": shown.exceptions,
    })
}
