//! The rules in force: which they are, since who said so, and how they change while the process
//! runs.

use std::sync::Arc;

use crossdock_config::Config;
use crossdock_config::Rules;
use crossdock_model::canonical::Name;
use tokio::sync::watch;

/// A set of rules and who put it in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The rules.
    pub rules: Arc<Rules>,
    /// `start`, or the operator who had them loaded: `operator anna`, `SIGHUP`.
    pub by: Name,
}

/// The rules in force; `integrate` looks here whenever it opens the store.
pub type Switch = watch::Sender<InForce>;

/// The rules with which a process starts.
pub fn at_start(config: &Config) -> Switch {
    watch::Sender::new(InForce { rules: config.rules.clone(), by: "start".into() })
}

/// What differs between two configs and cannot be changed while the process runs, each with its
/// remedy. Secrets are not compared.
pub fn needs_restart(running: &Config, new: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |what: &str, old: String, new: String| {
        if old != new {
            all.push(format!("{what} has changed: restart crossdock to use it"));
        }
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    differ("crossdock.name", running.name.clone(), new.name.clone());
    differ("crossdock.state_dir", text(&running.state_dir), text(&new.state_dir));
    differ("crossdock.listen", text(&running.listen), text(&new.listen));
    differ("[journal]", text(&running.journal), text(&new.journal));
    let store = |config: &Config| text(&(&config.store, config.history_retain));
    differ("[store]", store(running), store(new));
    all.extend(sections(
        "source",
        running.sources.iter().map(|s| (s.name.to_string(), text(s))),
        new.sources.iter().map(|s| (s.name.to_string(), text(s))),
    ));
    all.extend(sections(
        "target",
        running.targets.iter().map(|t| (t.name.to_string(), text(t))),
        new.targets.iter().map(|t| (t.name.to_string(), text(t))),
    ));
    all.extend(sections(
        "mirror",
        running.mirrors.iter().map(|m| (m.name.to_string(), text(m))),
        new.mirrors.iter().map(|m| (m.name.to_string(), text(m))),
    ));
    all
}

/// Sections that are new, gone or changed.
fn sections(
    kind: &str,
    old: impl Iterator<Item = (String, String)>,
    new: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let old: Vec<_> = old.collect();
    let new: Vec<_> = new.collect();
    let of = |all: &[(String, String)], name: &str| {
        all.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone())
    };
    let mut all = Vec::new();
    for (name, text) in &new {
        let what = match of(&old, name) {
            None => "is new",
            Some(before) if before != *text => "has changed",
            Some(_) => continue,
        };
        all.push(format!("[{kind}.{name}] {what}: restart crossdock to use it"));
    }
    for (name, _) in old.iter().filter(|(name, _)| of(&new, name).is_none()) {
        all.push(format!("[{kind}.{name}] is gone: restart crossdock to leave it"));
    }
    all
}
