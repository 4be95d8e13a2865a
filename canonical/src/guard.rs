//! `[[quarantine]]` with `rate`: a flood of changes stops the stream that it comes from.

use crossdock_model::canonical::Name;
use crossdock_schema_registry::Entities;

use crate::document::Section;
use crate::problems::{Report, Spot, did_you_mean};
use crate::span;

/// Most changes that a rate may name.
const CHANGES_MAX: i64 = 1_000_000_000;

/// A guard against floods of changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RateGuard {
    /// Name.
    pub name: Name,
    /// Entity.
    pub entity: Name,
    /// Field whose changes are counted; `None` for changes of any.
    pub field: Option<Name>,
    /// Source whose changes are counted.
    pub source: Name,
    /// More than so many ...
    pub changes: u64,
    /// ... in so many microseconds, by the clock of the source's commits.
    pub window_micros: i64,
    /// The exception that is raised.
    pub exception: Name,
    /// Team that looks after it.
    pub team: Name,
    /// Where it stands.
    pub spot: Spot,
}

/// Reads a `[[quarantine]]` block that has `rate`.
pub(crate) fn read(
    block: &Section<'_>,
    entities: &Entities,
    sources: &[Name],
    report: &Report,
) -> Option<RateGuard> {
    let name = block.required("name");
    let on = block.required("on")?;
    let exception = block.required("exception");
    let team = block.text("owner_team").unwrap_or_default().into();
    if let Some(item) = block.get("scope").filter(|i| i.as_text() != Some("stream")) {
        item.problem("a rate stops a stream", "write scope = \"stream\"");
    }
    let Some(entity) = entities.entity(on) else {
        let remedy = did_you_mean(on, entities.iter().map(|e| &*e.name));
        block.get("on")?.problem(format!("there is no entity `{on}`"), remedy);
        return None;
    };
    let rate = block.table("rate")?;
    for key in ["changes", "window", "source"] {
        if rate.get(key).is_none() {
            let what = format!("`rate` lacks `{key}`");
            report.at(
                &rate.spot(),
                what,
                "like { changes = 500, window = \"1m\", source = \"erp\" }",
            );
        }
    }
    let changes = rate.get("changes").and_then(|item| {
        let changes = item.as_integer().filter(|n| (1..=CHANGES_MAX).contains(n));
        if changes.is_none() {
            item.wrong("a whole number from 1 to 1000000000");
        }
        changes
    });
    let window = rate.get("window").and_then(|i| span::micros(&i));
    let source = rate.get("source").and_then(|item| {
        let name = item.text()?;
        let found = sources.iter().find(|s| &***s == name);
        if found.is_none() {
            let remedy = did_you_mean(name, sources.iter().map(|s| &**s));
            item.problem(format!("there is no source `{name}` in the configuration"), remedy);
        }
        found.cloned()
    });
    let field = rate.get("column").and_then(|item| {
        let name = item.text()?;
        if entity.field(name).is_none() {
            let what = format!("{} has no field `{name}`", entity.name);
            item.problem(what, did_you_mean(name, entity.fields.keys().map(|f| &**f)));
        }
        Some(Name::from(name))
    });
    rate.done();
    block.done();
    Some(RateGuard {
        name: name?.into(),
        entity: entity.name.clone(),
        field,
        source: source?,
        changes: u64::try_from(changes?).ok()?,
        window_micros: window?,
        exception: exception?.into(),
        team,
        spot: block.spot(),
    })
}
