//! `crossdock epcis`: what has happened, as EPCIS 2.0 events.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use crossdock_apply::PostgresStore;
use crossdock_canonical::Epcis;
use crossdock_config::Config;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::clock::now_micros;
use crate::operator::span_micros;
use crate::wiring;

/// Events that are read at once.
const PAGE: usize = 500;

/// Command-line arguments.
#[derive(Args)]
pub struct EpcisArguments {
    /// Only what was recorded since: a time (RFC 3339) or a time ago (24h).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events about records of one entity, such as shipment.
    #[arg(long, value_name = "ENTITY")]
    entity: Option<String>,
    /// What stands before the keys of records in identifiers: https://id.example.org/
    ///
    /// Without it: urn:crossdock:NAME:, with the name of the installation.
    #[arg(long, value_name = "URI")]
    id_base: Option<String>,
    /// Print one event a line, instead of one document.
    #[arg(long)]
    lines: bool,
}

/// Prints the events.
pub async fn epcis(path: &Path, arguments: &EpcisArguments) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match print(&config, arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn print(config: &Config, arguments: &EpcisArguments) -> anyhow::Result<()> {
    let now = now_micros();
    let since = arguments.since.as_deref().map_or(Ok(i64::MIN), |text| since(text, now))?;
    let entity = arguments.entity.as_deref();
    if entity.is_some_and(|name| config.rules.entities().entity(name).is_none()) {
        bail!("there is no entity `{}`", entity.unwrap_or_default());
    }
    let base = arguments.id_base.clone();
    let epcis = Epcis::new(&base.unwrap_or_else(|| format!("urn:crossdock:{}:", config.name)));
    let mut store = PostgresStore::open_reader(&wiring::connect_options(&config.store)).await?;
    // The document is printed around its events, so that their number does not matter.
    let document = format!("{:#}", Epcis::document(now));
    let (head, tail) = document.split_once("[]").context("an empty list of events")?;
    if !arguments.lines {
        say!("{head}[");
    }
    let mut after = (since, Uuid::nil());
    let mut waiting: Option<Json> = None;
    loop {
        let page = store.events(entity, after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = (last.recorded_micros, last.id);
        for (evidence, links) in &page {
            let event = epcis.event(evidence, links, now);
            match arguments.lines {
                true => say!("{event}"),
                false => {
                    if let Some(before) = waiting.replace(event) {
                        say!("{before},");
                    }
                }
            }
        }
    }
    if !arguments.lines {
        if let Some(last) = waiting {
            say!("{last}");
        }
        say!("]{tail}");
    }
    Ok(())
}

/// Reads a time, or how long ago it was.
fn since(text: &str, now: i64) -> anyhow::Result<i64> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.as_microsecond()),
        Err(_) => Ok(now.saturating_sub(span_micros(text)?)),
    }
}
