//! Metrics, and the dashboard that shows them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::*;

/// A metric without a sample is not shown, so that the names are those of the source text.
const NAMES: &str = include_str!("../metrics.rs");

fn exprs(json: &serde_json::Value, into: &mut Vec<String>) {
    match json {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "expr" || name == "query" => into.push(text.into()),
                    _ => exprs(value, into),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| exprs(item, into)),
        _ => {}
    }
}

/// S13, S14: the dashboard has a row for each question, and asks for nothing that there is not.
#[test]
fn the_dashboard_names_metrics_that_there_are() {
    let text = include_str!("../../../deploy/grafana/crossdock.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let rows: Vec<&str> = panels
        .filter(|panel| panel["type"] == "row")
        .filter_map(|panel| panel["title"].as_str())
        .collect();
    assert_eq!(rows, ["Latency", "Failed events", "Stuck workflows", "Regions"]);
    let mut asked = Vec::new();
    exprs(&dashboard, &mut asked);
    let words = asked
        .iter()
        .flat_map(|expr| expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let names: Vec<&str> = words.filter_map(|word| word.strip_prefix("crossdock_")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(NAMES.contains(&format!("\"{name}\",")), "there is no crossdock_{name}");
    }
}

#[test]
fn regions_are_labels_of_their_own_metrics() {
    let metrics = Metrics::new().unwrap();
    metrics.source_region("shop", "us");
    metrics.target_region("portal", "");
    let mut text = Vec::new();
    TextEncoder::new().encode(&metrics.registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("crossdock_source_info{region=\"us\",source=\"shop\"} 1"), "{text}");
    assert!(text.contains("crossdock_target_info{region=\"\",target=\"portal\"} 1"), "{text}");
}
