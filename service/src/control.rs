//! The control socket: operators' commands for a running process, over HTTP on a Unix socket in
//! the state folder. Only who may enter that folder can use it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use crate::board::Board;
use crate::operator::{
    Operator, ReleaseRequest, ReloadRequest, SnapshotRequest, SourceRequest, TableRequest, Which,
};

/// Answers are small; a larger one is not ours.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks for a rewind.
#[derive(Debug, Serialize, Deserialize)]
pub struct RewindRequest {
    /// Which progress.
    pub which: Which,
    /// Savepoint, position, time or number.
    pub to: String,
}

/// Asks for a savepoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct SaveRequest {
    /// Its name.
    pub name: String,
}

#[derive(Clone)]
struct Shared {
    operator: Arc<Operator>,
    board: Arc<Board>,
}

/// Listens on the socket until the process ends. A socket left by a process that was killed is
/// replaced.
pub async fn serve(path: &Path, operator: Arc<Operator>, board: Arc<Board>) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::remove_file(path);
    let listener =
        UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let router = Router::new()
        .route("/status", get(|State(s): State<Shared>| async move { Json(s.board.to_json()) }))
        .route("/checkpoints", get(list))
        .route("/savepoints", post(save))
        .route("/rewind", post(rewind))
        .route("/snapshots", get(copies).post(snapshot))
        .route("/tables", post(add_table))
        .route("/accept", post(accept_table))
        .route("/rules/reload", post(reload))
        .route("/rules/release", post(release))
        .route("/gaps", get(gaps))
        .route("/resync", post(resync))
        .with_state(Shared { operator, board });
    Ok(axum::serve(listener, router).await?)
}

async fn list(State(shared): State<Shared>) -> Response {
    answer(shared.operator.list().await)
}

async fn save(State(shared): State<Shared>, Json(request): Json<SaveRequest>) -> Response {
    answer(shared.operator.save(&request.name).await)
}

async fn rewind(State(shared): State<Shared>, Json(request): Json<RewindRequest>) -> Response {
    answer(shared.operator.rewind(&request.which, &request.to).await)
}

async fn copies(State(shared): State<Shared>) -> Response {
    answer(shared.operator.copies())
}

async fn snapshot(State(shared): State<Shared>, Json(request): Json<SnapshotRequest>) -> Response {
    answer(shared.operator.snapshot(request).await)
}

async fn add_table(State(shared): State<Shared>, Json(request): Json<TableRequest>) -> Response {
    answer(shared.operator.add_table(request).await)
}

async fn accept_table(State(shared): State<Shared>, Json(request): Json<TableRequest>) -> Response {
    answer(shared.operator.accept_table(request).await)
}

async fn reload(State(shared): State<Shared>, Json(request): Json<ReloadRequest>) -> Response {
    answer(shared.operator.reload(&request).await)
}

async fn release(State(shared): State<Shared>, Json(request): Json<ReleaseRequest>) -> Response {
    answer(shared.operator.release(&request).await)
}

async fn gaps(State(shared): State<Shared>) -> Response {
    answer(shared.operator.gaps())
}

async fn resync(State(shared): State<Shared>, Json(request): Json<SourceRequest>) -> Response {
    answer(shared.operator.resync(&request.source).await)
}

fn answer<T: Serialize>(result: anyhow::Result<T>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")).into_response(),
    }
}

/// A connection to a running process.
pub struct Client(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Client {
    /// Connects; `None` when no process listens.
    pub async fn connect(path: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(path).await else { return Ok(None) };
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Some(Self(sender)))
    }

    /// Reads a page.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// Sends a command.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request, serde_json::to_vec(body)?.into()).await
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let request = request.header("host", "crossdock").body(Full::new(body))?;
        let response = self.0.send_request(request).await.context("ask the running process")?;
        let ok = response.status().is_success();
        let limited = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = limited.collect().await.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
        if !ok {
            bail!("{}", String::from_utf8_lossy(&bytes));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}
