//! `crossdock status`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value as Json;

use crate::control::Client;
use crate::wiring;

/// Asks the running process how it is. Exits with 1 when none runs or it is not ready.
pub async fn status(path: &Path, json: bool) -> ExitCode {
    let config = match super::load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let socket = wiring::control_socket(&config);
    let answer = async {
        match Client::connect(&socket).await? {
            Some(mut client) => client.get::<Json>("/status").await.map(Some),
            None => Ok(None),
        }
    };
    let status = match answer.await {
        Ok(Some(status)) => status,
        Ok(None) => {
            eprintln!("no crossdock is running on {}", config.state_dir.display());
            return ExitCode::from(1);
        }
        Err(error) => return super::fail(&error),
    };
    match json {
        true => say!("{status:#}"),
        false => print(&status),
    }
    ExitCode::from(if status["ready"] == true { 0 } else { 1 })
}

fn print(status: &Json) {
    let text = |v: &Json| v.as_str().unwrap_or("-").to_string();
    say!(
        "{:<24} {:<9} {:>9} {:>12} {:>9}  position",
        "source",
        "state",
        "lag s",
        "behind",
        "events/s"
    );
    for s in status["sources"].as_array().into_iter().flatten() {
        say!(
            "{:<24} {:<9} {:>9.1} {:>12} {:>9}  {}",
            text(&s["name"]),
            text(&s["state"]),
            s["lag_seconds"].as_f64().unwrap_or(0.0),
            s["behind_bytes"],
            s["events_per_second"],
            text(&s["position"]),
        );
        print_error(s);
        print_source(s);
    }
    let integrate = &status["integrate"];
    say!(
        "{:<24} {:<9} {} blocks behind",
        "integrate",
        text(&integrate["state"]),
        integrate["behind_blocks"]
    );
    print_error(integrate);
    if let Some(why) = status["rules"]["refused"].as_str() {
        say!(
            "    rules {} stay in force; new ones were refused: {why}",
            text(&status["rules"]["hash"])
        );
    }
    for stopped in status["rules"]["stopped"].as_array().into_iter().flatten() {
        say!("    stopped by rate guard {}", text(stopped));
    }
    for t in status["targets"].as_array().into_iter().flatten() {
        let name = format!("target {}", text(&t["name"]));
        let lag = t["lag_seconds"].as_f64().unwrap_or(0.0);
        say!("{name:<24} {:<9} {lag:>9.1} {:>12} pending", text(&t["state"]), t["pending"]);
        print_error(t);
    }
    say!(
        "{} exceptions open, {} holds, {} changes withheld, {} echoes dropped",
        status["exceptions_open"],
        status["holds"],
        status["withheld_total"],
        status["echo_dropped_total"]
    );
}

/// What is going on beside the stream.
fn print_source(source: &Json) {
    if source["capture"] == "poll" {
        say!("    polled, at least once, deletes by reconcile");
    }
    let snapshots = source["snapshots"].as_array().into_iter().flatten();
    for line in snapshots.filter_map(|line| serde_json::from_value(line.clone()).ok()) {
        say!("    snapshot {}", super::snapshot::sentence(&line));
    }
    if let Some(hours) = source["hours_until_loss"].as_f64() {
        let limit = match source["keep_limit_bytes"].as_u64() {
            Some(limit) => format!("{} of at most {limit} bytes of log", source["retained_bytes"]),
            None => "its log for a limited time".to_string(),
        };
        say!(
            "    the server keeps {limit}: unread changes are lost in {hours:.1} hours if this \
             goes on"
        );
    }
    if let Some(why) = source["drift"].as_str() {
        say!("    its changes wait in the journal: {why}");
    }
    if source["gap_open"] == true {
        say!("    its log has a gap: crossdock gaps list");
    }
}

fn print_error(stage: &Json) {
    if let Some(error) = stage["error"].as_str() {
        say!("    {error}");
    }
}
