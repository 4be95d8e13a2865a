//! `crossdock exceptions`: what a person must look at, and what can be done about it.
//!
//! Everything is done in the canonical store, so that it works on a running process, which sees
//! it a moment later, and on a stopped one.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use crossdock_apply::PostgresStore;
use crossdock_apply::store::{Action, ExceptionLine, Filter};
use crossdock_config::Config;
use crossdock_model::time::instant_text;
use serde_json::{Value as Json, json};

use super::ConfigFile;
use crate::wiring;

/// Characters of an id that must be given at least.
const ID_CHARS_MIN: usize = 4;

#[derive(Subcommand)]
pub enum ExceptionsCommand {
    /// List exceptions that nobody has closed, latest first.
    List {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        which: WhichExceptions,
        /// Closed ones, too.
        #[arg(long)]
        all: bool,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one exception, values of rows included, and what was done about it.
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or how that begins.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Try a refused delivery again, and then, in order, what waits behind it.
    Retry {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or how that begins.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All refused deliveries, or those that `--kind` and `--source` name.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        which: WhichExceptions,
        #[command(flatten)]
        person: Person,
    },
    /// Close an exception for good. A refused delivery is not made; what waits behind it is.
    Discard {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or how that begins.
        id: String,
        /// Why; kept on record.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        person: Person,
    },
}

#[derive(Args)]
pub struct WhichExceptions {
    /// Of this kind alone: delivery_refused, missing_parent, ownership_violation …
    #[arg(long)]
    kind: Option<String>,
    /// Caused by this source, or refused by this target, alone.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

#[derive(Args)]
pub struct Person {
    /// Who does it; kept on record.
    #[arg(long, value_name = "NAME", env = "USER", default_value = "unknown")]
    by: String,
}

/// Runs the command.
pub async fn exceptions(command: ExceptionsCommand) -> ExitCode {
    let file = match &command {
        ExceptionsCommand::List { config, .. }
        | ExceptionsCommand::Show { config, .. }
        | ExceptionsCommand::Retry { config, .. }
        | ExceptionsCommand::Discard { config, .. } => config,
    };
    let config = match super::load(&file.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match run(&config, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error),
    }
}

async fn run(config: &Config, command: ExceptionsCommand) -> anyhow::Result<()> {
    let mut store = PostgresStore::open_reader(&wiring::connect_options(&config.store)).await?;
    match command {
        ExceptionsCommand::List { which, all, limit, json, .. } => {
            let found = store.exceptions(&which.filter(all, limit)).await?;
            match json {
                true => say!("{}", serde_json::to_string_pretty(&found)?),
                false => list(&found),
            }
        }
        ExceptionsCommand::Show { id, json, .. } => {
            let found = the_one(&mut store, &id).await?;
            let actions = store.exception_actions(found.id).await?;
            match json {
                true => say!("{:#}", json!({ "exception": found, "actions": actions })),
                false => show(&found, &actions),
            }
        }
        ExceptionsCommand::Retry { id, which, person, .. } => {
            let chosen = match id {
                Some(id) => vec![the_one(&mut store, &id).await?],
                None => store.exceptions(&which.filter(false, usize::MAX)).await?,
            };
            if let [one] = &chosen[..]
                && !one.is_delivery()
            {
                bail!(
                    "{} is no refused delivery: mend its cause, and it is closed by the next \
                     change of its record, or close it: crossdock exceptions discard",
                    one.id
                );
            }
            let mut many = 0;
            for exception in chosen.iter().filter(|e| e.is_delivery()) {
                many += store.retry_exception(exception, &person.by).await?;
            }
            say!("{many} deliveries are tried again");
        }
        ExceptionsCommand::Discard { id, reason, person, .. } => {
            if reason.trim().is_empty() {
                bail!("say why: --reason \"...\"");
            }
            let found = the_one(&mut store, &id).await?;
            match store.discard_exception(&found, &reason, &person.by).await? {
                true => say!("discarded {}: {}", found.id, found.text),
                false => bail!("{} is closed, or about to be tried again", found.id),
            }
        }
    }
    Ok(())
}

impl WhichExceptions {
    fn filter(self, closed: bool, limit: usize) -> Filter {
        Filter { kind: self.kind, source: self.source, closed, limit }
    }
}

async fn the_one(store: &mut PostgresStore, id: &str) -> anyhow::Result<ExceptionLine> {
    let id = id.trim().to_lowercase();
    if id.len() < ID_CHARS_MIN {
        bail!("give at least {ID_CHARS_MIN} characters of the id");
    }
    let mut found = store.exceptions_like(&id).await?;
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => bail!("more than one exception's id begins with {id}: write more"),
        (None, _) => bail!("there is no exception {id}: see `crossdock exceptions list --all`"),
    }
}

fn list(found: &[ExceptionLine]) {
    say!(
        "{:<8} {:<20} {:<12} {:<28} {:>5} {:>7}  last",
        "id",
        "kind",
        "source",
        "record",
        "count",
        "waiting"
    );
    for e in found {
        let id = e.id.to_string();
        let (id, _) = id.split_at_checked(8).unwrap_or((&id, ""));
        let closed = if e.open { "" } else { "  (closed)" };
        let last = instant_text(e.last_micros);
        say!(
            "{id:<8} {:<20} {:<12} {:<28} {:>5} {:>7}  {last}{closed}",
            e.kind,
            e.source,
            e.key,
            e.count,
            e.waiting
        );
        say!("    {}", e.text);
    }
    say!("{} exceptions", found.len());
}

fn show(e: &ExceptionLine, actions: &[Action]) {
    say!("{}  {}", e.id, if e.open { "open" } else { "closed" });
    say!("{} of {}, rule {}", e.kind, e.source, e.rule);
    say!("{}", e.text);
    say!("record   {}", e.key);
    say!("first    {}", instant_text(e.first_micros));
    say!("last     {}, {} times", instant_text(e.last_micros), e.count);
    say!("waiting  {} deliveries", e.waiting);
    for (name, value) in e.context.as_object().into_iter().flatten() {
        match value {
            Json::Array(items) => items.iter().for_each(|item| say!("{name:<8} {item}")),
            Json::String(text) => say!("{name:<8} {text}"),
            other => say!("{name:<8} {other}"),
        }
    }
    for action in actions {
        let at = instant_text(action.at_micros);
        let Action { action, reason, by_person, by_login, .. } = action;
        say!("{at}  {action} by {by_person} (login {by_login}) {reason}");
    }
}
