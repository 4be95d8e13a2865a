//! Looks at every database before anything is touched: is it reachable, set up and granted as it
//! must be, and do the tables and columns that the files name exist?

use crossdock_apply::{ConnectOptions, PostgresStore, TableUse, TargetOptions};
use crossdock_capture::{CaptureError, SourceOptions};
use crossdock_config::Config;
use crossdock_model::database::{Finding, Severity};
use futures_util::future::join_all;

use crate::{registry, wiring};

/// What was found about one database.
pub struct Looked {
    /// `source erp`, `target erp`, `store`.
    pub subject: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Looks at all databases.
pub async fn look(config: &Config) -> Vec<Looked> {
    let sources = wiring::source_options(config);
    let sources = sources.iter().map(|options| look_at_source(config, options));
    let mut looked = join_all(sources).await;
    let store = wiring::connect_options(&config.store);
    let mut findings = crossdock_apply::store::check(&store).await;
    findings.extend(refused_schemas(config, &store).await);
    looked.push(Looked { subject: "store".into(), findings });
    for target in &config.targets {
        let options = wiring::target_options(config, target);
        looked.push(look_at_target(config, &target.name, &options).await);
    }
    looked
}

/// Entities that have changed in a way that readers of their records would not survive. Nothing is
/// found when the store is not there yet, or can't be read: that is said elsewhere.
async fn refused_schemas(config: &Config, store: &ConnectOptions) -> Vec<Finding> {
    let Ok(mut store) = PostgresStore::open_reader(store).await else { return Vec::new() };
    let Ok(stored) = store.subjects().await else { return Vec::new() };
    let finding = |(what, remedy)| Finding { severity: Severity::Error, what, remedy };
    registry::refused(stored, config.rules.entities()).into_iter().map(finding).collect()
}

/// Looks at one source.
pub async fn look_at(config: &Config, source: &str) -> Looked {
    let options = wiring::source_options(config).into_iter().find(|o| o.name == source);
    match options {
        Some(options) => look_at_source(config, &options).await,
        None => Looked { subject: format!("source {source}"), findings: Vec::new() },
    }
}

async fn look_at_source(config: &Config, options: &SourceOptions) -> Looked {
    let mut findings = Vec::new();
    match crossdock_capture::describe(options).await {
        // A table that a file names and the database does not have is said with file and line.
        Ok(schemas) => {
            for problem in config.rules.verify(&options.name, &schemas) {
                let what = format!("{}:{}: {}", problem.file, problem.line, problem.what);
                let remedy = problem.remedy;
                findings.push(Finding { severity: Severity::Error, what, remedy });
            }
            match crossdock_capture::check(options).await {
                Ok(found) => findings.extend(found),
                Err(error) => findings.push(unseen(error)),
            }
        }
        Err(error) => findings.push(unseen(error)),
    }
    Looked { subject: format!("source {}", options.name), findings }
}

/// A server that is away for now is no reason not to start: its stage keeps trying.
fn unseen(error: CaptureError) -> Finding {
    match error {
        CaptureError::Definite { what, remedy } => {
            Finding { severity: Severity::Error, what, remedy }
        }
        CaptureError::Transient { .. } => Finding {
            severity: Severity::Warning,
            what: format!("cannot be looked at now: {:#}", anyhow::Error::new(error)),
            remedy: "start the server, or correct host and port; `crossdock run` keeps trying"
                .into(),
        },
        gap => Finding { severity: Severity::Error, what: gap.to_string(), remedy: String::new() },
    }
}

async fn look_at_target(config: &Config, name: &str, options: &TargetOptions) -> Looked {
    let writes = config.rules.writes().into_iter().filter(|w| *w.target == *name);
    let uses: Vec<TableUse> = writes
        .map(|w| TableUse { table: w.table, key: w.key, columns: w.columns, kinds: vec![w.kind] })
        .collect();
    let findings = crossdock_apply::target::check_any(options, &uses).await;
    Looked { subject: format!("target {name}"), findings }
}

/// How many findings are of a severity.
pub fn count(looked: &[Looked], severity: Severity) -> usize {
    looked.iter().flat_map(|l| &l.findings).filter(|f| f.severity == severity).count()
}

/// Prints findings that are at least so bad.
pub fn print(looked: &[Looked], least: Severity) {
    for Looked { subject, findings } in looked {
        for finding in findings.iter().filter(|f| f.severity >= least) {
            let mark = match finding.severity {
                Severity::Ok => "ok     ",
                Severity::Warning => "warning",
                Severity::Error => "ERROR  ",
            };
            eprintln!("{mark} {subject}: {}", finding.what);
            let mends = finding.severity != Severity::Ok;
            finding.remedy.lines().filter(|_| mends).for_each(|l| eprintln!("            {l}"));
        }
    }
}
