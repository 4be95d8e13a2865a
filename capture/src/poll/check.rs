//! What `crossdock check` looks at on a polled source. Changes nothing, and needs nothing but the
//! right to SELECT.

use super::link::{Described, Link};
use super::polled;
use super::table::{Layout, unreadable};
use crate::{CaptureError, Finding, PollTable, Severity, SourceOptions};

/// Looks at everything that polling needs. Fails only when the server can't be asked.
pub(crate) async fn check(options: &SourceOptions) -> Result<Vec<Finding>, CaptureError> {
    let mut link = Link::connect(options).await?;
    let mut findings = Findings(Vec::new());
    findings.ok(link.version().await?);
    findings.ok(
        "polled: at least once, what a row held between two rounds is not seen, deletes are found \
         by reconcile; no right but SELECT is needed"
            .to_string(),
    );
    for settings in polled(options) {
        table(options, &mut link, settings, &mut findings).await?;
    }
    Ok(findings.0)
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, what: String, remedy: impl Into<String>) {
        self.0.push(Finding { severity, what, remedy: remedy.into() });
    }

    fn ok(&mut self, what: String) {
        self.add(Severity::Ok, what, "");
    }

    /// What would stop reading; what can't be asked is no finding.
    fn stop(&mut self, error: CaptureError) -> Result<(), CaptureError> {
        match error {
            CaptureError::Definite { what, remedy } => self.add(Severity::Error, what, remedy),
            other => return Err(other),
        }
        Ok(())
    }
}

async fn table(
    options: &SourceOptions,
    link: &mut Link,
    settings: &PollTable,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let name = &settings.table;
    let Some(described) = link.describe(name).await? else {
        findings.add(
            Severity::Error,
            format!("{name} does not exist, or the user may not see it"),
            format!("create it, or run: {}", link.grant(name)),
        );
        return Ok(());
    };
    if !described.readable {
        return findings.stop(unreadable(options, link, settings));
    }
    let layout = match Layout::of(options, settings, &described) {
        Ok(layout) => layout,
        Err(error) => return findings.stop(error),
    };
    let kind = if described.view { "view" } else { "table" };
    findings.ok(format!("{kind} {name} can be polled"));
    key(link, settings, &layout, findings).await?;
    cursor(link, settings, &layout, &described, findings).await?;
    if settings.reconcile.is_none() {
        findings.add(
            Severity::Warning,
            format!("{name} is never reconciled: what is deleted from it is never seen"),
            "set `reconcile` to how long a deleted row may stay",
        );
    }
    Ok(())
}

async fn key(
    link: &mut Link,
    settings: &PollTable,
    layout: &Layout,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let (name, key) = (&settings.table, settings.key.join(", "));
    if link.has_null(name, &layout.key).await? {
        findings.add(
            Severity::Error,
            format!("{name} has a row with NULL in its key ({key})"),
            "name columns that are never NULL, or leave such rows out in a view",
        );
    }
    if link.is_unique(name, &settings.key).await? {
        findings.ok(format!("the key of {name} ({key}) is unique by an index"));
        return Ok(());
    }
    match link.has_twins(name, &settings.key).await? {
        Some(false) => findings.ok(format!(
            "the key of {name} ({key}) is unique among the rows that it has now; no index keeps \
             it so"
        )),
        Some(true) => findings.add(
            Severity::Error,
            format!("{name} has rows with the same key ({key})"),
            "name columns that tell its rows apart",
        ),
        None => findings.add(
            Severity::Warning,
            format!("whether the key of {name} ({key}) is unique could not be found out in time"),
            "make sure that it is: rows with the same key are taken for one",
        ),
    }
    Ok(())
}

async fn cursor(
    link: &mut Link,
    settings: &PollTable,
    layout: &Layout,
    described: &Described,
    findings: &mut Findings,
) -> Result<(), CaptureError> {
    let name = &settings.table;
    let nullable = layout
        .cursor
        .iter()
        .any(|at| described.schema.columns.get(*at).is_some_and(|column| column.nullable));
    let cursor = settings.cursor.join(", ");
    if nullable && link.has_null(name, &layout.cursor).await? {
        findings.add(
            Severity::Warning,
            format!(
                "{name} has rows with NULL in its cursor ({cursor}): rounds do not see them, \
                 reconcile does"
            ),
            "let the column be NOT NULL, or choose another; coalesce(…) in a view does it too",
        );
    } else {
        findings.ok(format!("the cursor of {name} ({cursor}) has no NULLs"));
    }
    let Some(first) = settings.cursor.first() else { return Ok(()) };
    if described.view {
        findings.ok(format!(
            "whether the cursor of view {name} ({cursor}) has an index can't be known; every \
             round asks by it"
        ));
    } else if link.is_indexed(name, first).await? {
        findings.ok(format!("the cursor of {name} ({cursor}) has an index"));
    } else {
        findings.add(
            Severity::Warning,
            format!("no index of {name} begins with {first}: every round reads the whole table"),
            format!("CREATE INDEX ON {name} ({cursor});"),
        );
    }
    Ok(())
}
