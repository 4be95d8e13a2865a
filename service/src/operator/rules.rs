//! New rules for a running process: read, checked and tested before anything changes, then put in
//! force between two batches.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, anyhow, bail};
use crossdock_apply::PostgresStore;
use crossdock_apply::store::RulesetChange;
use crossdock_config::Config;
use crossdock_model::canonical::Name;
use crossdock_model::database::Severity;
use serde::{Deserialize, Serialize};

use super::{Moved, Operator};
use crate::board::lock;
use crate::in_force::{InForce, Switch, needs_restart};
use crate::preflight;

/// Asks for the rule files to be read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// Who asks, for the record: `operator anna`, `SIGHUP`.
    pub by: String,
}

/// Asks for the changes that a rate guard has stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Name of the guard's rule.
    pub guard: String,
    /// Who asks.
    pub by: String,
}

/// What reloading needs to know of the running process.
pub struct Reloading {
    /// The config file.
    pub path: PathBuf,
    /// The config with which the process runs.
    pub running: Config,
    /// The rules in force.
    pub switch: Switch,
}

impl Operator {
    /// Reads the config and all files again and puts the rules in force, unless something is wrong
    /// with them: then the old ones stay, and the error has everything that is to be mended.
    pub async fn reload(&self, request: &ReloadRequest) -> anyhow::Result<Moved> {
        let reloading = self.reloading.as_ref().context("no process is running")?;
        let old: Name = reloading.switch.borrow().rules.hash().into();
        match self.acceptable(reloading).await {
            Ok(new) if *new.rules.hash() == *old => {
                self.refused(None);
                Ok(Moved { lines: vec![format!("rules {old} are in force already")] })
            }
            Ok(new) => self.put_in_force(reloading, new, request, &old).await,
            Err((hash, problems)) => {
                let by = &request.by;
                tracing::error!(by, problems, "new rules refused; rules {old} stay in force");
                self.refused(Some(problems.clone()));
                self.record(RulesetChange {
                    by: by.as_str().into(),
                    old: Some(old.clone()),
                    new: hash,
                    problems: Some(problems.clone()),
                })
                .await;
                Err(anyhow!("{problems}\nnothing was changed: rules {old} stay in force"))
            }
        }
    }

    /// Lets the changes go on that a rate guard has stopped.
    pub async fn release(&self, request: &ReleaseRequest) -> anyhow::Result<Moved> {
        let (store, rule) = (self.store.clone(), request.guard.clone());
        let released = self.standing_still("integrate", move || async move {
            let mut store = PostgresStore::open_reader(&store).await?;
            Ok(store.release_guard(&rule).await?)
        });
        let ReleaseRequest { guard, by } = request;
        if !released.await? {
            bail!("no rate guard {guard} has stopped anything: crossdock status shows which have");
        }
        tracing::info!(by, guard, "changes that a rate guard had stopped are released");
        let line = format!("{guard}: what it has stopped is taken now, and it counts anew");
        Ok(Moved { lines: vec![line] })
    }

    /// The config as it is in the files now; or the hash of its rules, as far as they can be read,
    /// and why it cannot be used.
    async fn acceptable(&self, reloading: &Reloading) -> Result<Config, (Option<Name>, String)> {
        let new = load(&reloading.path).map_err(|problems| (None, problems))?;
        let mut problems = needs_restart(&reloading.running, &new);
        problems.extend(self.uncaptured(&new));
        problems.extend(failed_tests(&new));
        if problems.is_empty() {
            let looked = preflight::look(&new).await;
            for found in looked {
                let errors = found.findings.iter().filter(|f| f.severity == Severity::Error);
                problems.extend(
                    errors.map(|f| format!("{}: {}\n    {}", found.subject, f.what, f.remedy)),
                );
            }
        }
        if problems.is_empty() {
            return Ok(new);
        }
        Err((Some(new.rules.hash().into()), problems.join("\n")))
    }

    /// Tables that the new rules read and that are not captured.
    fn uncaptured(&self, new: &Config) -> Vec<String> {
        let mut all = Vec::new();
        for (source, captured) in &self.sources {
            let known = lock(&captured.tables);
            for table in new.tables_of(source).iter().filter(|t| !known.contains(t)) {
                all.push(format!(
                    "table {table} of source {source} is not captured yet: crossdock tables add \
                     --source {source} {table}, then reload; or restart crossdock"
                ));
            }
        }
        all
    }

    async fn put_in_force(
        &self,
        reloading: &Reloading,
        new: Config,
        request: &ReloadRequest,
        old: &str,
    ) -> anyhow::Result<Moved> {
        let hash = new.rules.hash().to_string();
        let (switch, next) = (
            reloading.switch.clone(),
            InForce { rules: new.rules, by: request.by.as_str().into() },
        );
        // Between two batches: what is being judged is committed whole, or judged again.
        self.standing_still("integrate", move || async move {
            switch.send_replace(next);
            Ok(())
        })
        .await?;
        self.refused(None);
        tracing::info!(by = request.by, from = old, to = hash, "rules reloaded");
        let line = format!("rules {hash} are in force (before: {old})");
        Ok(Moved { lines: vec![line] })
    }

    /// Notes on the board why the last reload was refused, or that it was not.
    fn refused(&self, problems: Option<String>) {
        let Some(board) = &self.board else { return };
        if problems.is_some() {
            board.reload_failures.fetch_add(1, Ordering::Relaxed);
        }
        *lock(&board.rules_refused) = problems;
    }

    /// Keeps a refused attempt on record. That the store is away must not hide the reason.
    async fn record(&self, change: RulesetChange) {
        let kept = async {
            let mut store = PostgresStore::open_reader(&self.store).await?;
            store.note_ruleset(&change).await
        };
        if let Err(error) = kept.await {
            tracing::warn!(%error, "the refused rules are not on record in the store");
        }
    }
}

fn load(path: &Path) -> Result<Config, String> {
    tokio::task::block_in_place(|| {
        crossdock_config::load(path, &|name| std::env::var(name).ok()).map_err(|e| e.to_string())
    })
}

/// Tests of the rule files that fail, as problems.
fn failed_tests(new: &Config) -> Vec<String> {
    let results = tokio::task::block_in_place(|| new.rules.run_tests());
    let failed = results.into_iter().flat_map(|result| {
        result.failures.into_iter().map(move |failure| {
            format!(
                "{}: test \"{}\" fails: {}: expected {}, got {}",
                result.rule, result.name, failure.what, failure.expected, failure.got
            )
        })
    });
    failed.collect()
}
