//! Looks at every database before anything is touched: is it reachable, set up and granted as it
//! must be, and do the tables and columns that the files name exist?

use crossdock_apply::{ConnectOptions, TableUse};
use crossdock_capture::{CaptureError, SourceOptions};
use crossdock_config::Config;
use futures_util::future::join_all;

use crate::wiring;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but will hurt; or could not be looked at now and will be retried while running.
    Warning,
    /// `run` refuses to start.
    Error,
}

/// One finding.
pub struct Finding {
    /// `source erp`, `target erp`, `store`.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What mends it.
    pub remedy: String,
}

/// Looks at all databases at the same time.
pub async fn look(config: &Config) -> Vec<Finding> {
    let sources = wiring::source_options(config);
    let sources = sources.iter().map(|options| look_at_source(config, options));
    let mut findings: Vec<Finding> = join_all(sources).await.into_iter().flatten().collect();
    let store = wiring::connect_options(&config.store);
    findings.extend(written("store", crossdock_apply::store::check(&store).await));
    for target in &config.targets {
        let options = wiring::connect_options(&target.connection);
        findings.extend(look_at_target(config, &target.name, &options).await);
    }
    findings
}

async fn look_at_source(config: &Config, options: &SourceOptions) -> Vec<Finding> {
    let subject = format!("source {}", options.name);
    let finding = |severity, what: String, remedy: String| Finding {
        subject: subject.clone(),
        severity,
        what,
        remedy,
    };
    let failed = |error: CaptureError| match error {
        CaptureError::Definite { what, remedy } => finding(Severity::Error, what, remedy),
        CaptureError::Transient { .. } => finding(
            Severity::Warning,
            format!("cannot be reached now: {}", chain(&error)),
            "start the server, or correct host and port; `run` keeps trying".into(),
        ),
        gap => finding(Severity::Error, gap.to_string(), String::new()),
    };
    let mut findings = Vec::new();
    match crossdock_capture::describe(options).await {
        // A table that a file names and the database does not have is said with file and line.
        Ok(schemas) => {
            for problem in config.rules.verify(&options.name, &schemas) {
                let at = format!("{}:{}: {}", problem.file, problem.line, problem.what);
                findings.push(finding(Severity::Error, at, problem.remedy));
            }
        }
        Err(error) => return vec![failed(error)],
    }
    match crossdock_capture::check(options).await {
        Ok(found) => findings.extend(found.into_iter().map(|f| {
            let severity = match f.severity {
                crossdock_capture::Severity::Ok => Severity::Ok,
                crossdock_capture::Severity::Warning => Severity::Warning,
                crossdock_capture::Severity::Error => Severity::Error,
            };
            finding(severity, f.what, f.remedy)
        })),
        Err(error) => findings.push(failed(error)),
    }
    findings
}

async fn look_at_target(config: &Config, name: &str, options: &ConnectOptions) -> Vec<Finding> {
    let writes = config.rules.writes();
    let uses: Vec<TableUse> = writes
        .into_iter()
        .filter(|w| *w.target == *name)
        .map(|w| TableUse { table: w.table, key: w.key, columns: w.columns, kinds: vec![w.kind] })
        .collect();
    written(&format!("target {name}"), crossdock_apply::target::check(options, &uses).await)
}

/// Findings of `apply` about one database.
fn written(subject: &str, found: Vec<crossdock_apply::Finding>) -> Vec<Finding> {
    let finding = |f: crossdock_apply::Finding| Finding {
        subject: subject.to_string(),
        severity: match f.severity {
            crossdock_apply::Severity::Ok => Severity::Ok,
            crossdock_apply::Severity::Warning => Severity::Warning,
            crossdock_apply::Severity::Error => Severity::Error,
        },
        what: f.what,
        remedy: f.remedy,
    };
    found.into_iter().map(finding).collect()
}

/// An error and what is underneath it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Prints findings, worst last within a subject.
pub fn print(findings: &[Finding], least: Severity) {
    for finding in findings.iter().filter(|f| f.severity >= least) {
        let mark = match finding.severity {
            Severity::Ok => "ok     ",
            Severity::Warning => "warning",
            Severity::Error => "ERROR  ",
        };
        eprintln!("{mark} {}: {}", finding.subject, finding.what);
        if finding.severity != Severity::Ok && !finding.remedy.is_empty() {
            for line in finding.remedy.lines() {
                eprintln!("            {line}");
            }
        }
    }
}
