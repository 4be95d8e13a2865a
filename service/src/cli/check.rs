//! `crossdock check`.

use std::path::Path;
use std::process::ExitCode;

use crossdock_model::database::Severity;

use crate::preflight;

/// Looks at everything and changes nothing.
pub async fn check(path: &Path) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let looked = preflight::look(&config).await;
    preflight::print(&looked, Severity::Ok);
    let count = |severity| preflight::count(&looked, severity);
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    eprintln!("{errors} to mend, {warnings} warnings, {} as they should be", count(Severity::Ok));
    ExitCode::from(if errors == 0 { 0 } else { 2 })
}
