//! What may be read over HTTP: metrics, health, status, and the schema registry. Nothing else can
//! be changed here; operators' commands go through the control socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::board::{Board, lock};
use crate::metrics::Metrics;

/// What the pages are made from.
#[derive(Clone)]
pub struct Pages {
    /// How things stand.
    pub board: Arc<Board>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// `/metrics`, `/healthz`, `/readyz`, `/status`, and the pages of the schema registry.
pub fn router(pages: Pages, schemas: Router) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(pages)
        .merge(schemas)
}

async fn index() -> &'static str {
    "crossdock\n\n/metrics  for Prometheus\n/status   for people and scripts (JSON)\n\
     /healthz  the process is alive\n/readyz   every stage is at work\n\
     /subjects schemas of all records, like a schema registry\n"
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.metrics.render(&pages.board) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn readyz(State(pages): State<Pages>) -> Response {
    match pages.board.ready() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, not_ready(&pages.board)).into_response(),
    }
}

/// Names what is not at work, so that a probe's log already says where to look.
fn not_ready(board: &Board) -> String {
    let mut text = String::from("not ready\n");
    let mut line = |name: &str, stage: &crate::board::StageStatus| {
        if !stage.state().is_well() {
            text.push_str(&format!("{name}: {:?}", stage.state()).to_lowercase());
            text.push_str(&stage.error().map_or(String::new(), |e| format!(": {e}")));
            text.push('\n');
        }
    };
    board.sources.iter().for_each(|s| line(&format!("source {}", s.name), &s.stage));
    line("integrate", &board.integrate);
    board.targets.iter().for_each(|t| line(&format!("target {}", t.name), &t.stage));
    for source in &board.sources {
        if let Some(why) = &*lock(&source.drift) {
            text.push_str(&format!("source {}: {why}\n", source.name));
        }
    }
    text
}

async fn status(State(pages): State<Pages>) -> Response {
    axum::Json(pages.board.to_json()).into_response()
}
