//! The `crossdock` process under test, started like a user would start it, and its `/status`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossdock_harness::{Watched, free_port};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use crate::systems::Systems;

/// The port that the demo asks for first, so that its URLs are the same every time.
const PREFERRED_PORT: u16 = 9180;
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// A running `crossdock`. Stopped on drop.
pub struct Crossdock {
    process: Watched,
    work: PathBuf,
    port: u16,
}

impl Crossdock {
    /// Starts `program run --config config`; its state and its log go to the folder `work`.
    pub fn start(program: &Path, config: &Path, systems: &Systems, work: &Path) -> Result<Self> {
        if !program.is_file() {
            bail!(
                "there is no program {}: build it with `cargo build -p crossdock-service`, or \
                 name it with --crossdock",
                program.display()
            );
        }
        let port = match TcpListener::bind(("127.0.0.1", PREFERRED_PORT)) {
            Ok(_) => PREFERRED_PORT,
            Err(_) => free_port()?,
        };
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        command.envs(systems.environment());
        command.env("CROSSDOCK_STATE", work.join("state"));
        command.env("CROSSDOCK_LISTEN", format!("127.0.0.1:{port}"));
        let log = work.join("crossdock.log");
        let process = Watched::start(&command, "TERM", work, &log, None)
            .context("start the crossdock process")?;
        Ok(Self { process, work: work.to_owned(), port })
    }

    /// Where its pages are.
    pub fn url(&self, page: &str) -> String {
        format!("http://127.0.0.1:{}{page}", self.port)
    }

    /// True while the process runs.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Its log file.
    pub fn log_file(&self) -> PathBuf {
        self.work.join("crossdock.log")
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks it how it is.
    pub async fn status(&self) -> Result<Status> {
        tokio::time::timeout(STATUS_TIMEOUT, get(self.port, "/status"))
            .await
            .context("/status did not answer in time")?
    }
}

async fn get(port: u16, page: &str) -> Result<Status> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(page)
        .header(hyper::header::HOST, "127.0.0.1")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    serde_json::from_slice(&body).context("read the answer of /status")
}

/// The part of `/status` that the demo reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// One for each source.
    pub sources: Vec<SourceStatus>,
    /// The stage between journal and store.
    pub integrate: IntegrateStatus,
    /// One for each target.
    pub targets: Vec<TargetStatus>,
    /// Exceptions that nobody has closed.
    pub exceptions_open: u64,
    /// Releases that wait.
    pub holds: u64,
    /// Own writes recognised in a source's log.
    pub echo_dropped_total: u64,
    /// Own writes taken for somebody else's; must be 0.
    pub echo_leaked_total: u64,
    /// Nothing is on its way.
    pub caught_up: bool,
}

/// One source in `/status`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Name.
    pub name: String,
    /// What it does.
    pub state: String,
    /// Why it does not, if it does not.
    pub error: Option<String>,
    /// Seconds behind the server.
    pub lag_seconds: f64,
    /// Bytes of log behind the server.
    pub behind_bytes: u64,
    /// Row changes read.
    pub events_total: u64,
    /// Row changes a second.
    pub events_per_second: f64,
}

/// The stage `integrate` in `/status`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IntegrateStatus {
    /// What it does.
    pub state: String,
    /// Why it does not, if it does not.
    pub error: Option<String>,
    /// Journal blocks not yet integrated.
    pub behind_blocks: u64,
}

/// One target in `/status`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TargetStatus {
    /// Name.
    pub name: String,
    /// What it does.
    pub state: String,
    /// Why it does not, if it does not.
    pub error: Option<String>,
    /// Deliveries owed.
    pub pending: u64,
    /// Number of the last delivery made.
    pub delivered: u64,
}

impl Status {
    /// True when nothing has happened between two looks, and nothing is on its way.
    pub fn is_settled_since(&self, earlier: &Self) -> bool {
        let events = |status: &Self| -> Vec<u64> {
            status.sources.iter().map(|source| source.events_total).collect()
        };
        let delivered = |status: &Self| -> Vec<u64> {
            status.targets.iter().map(|target| target.delivered).collect()
        };
        self.caught_up
            && earlier.caught_up
            && events(self) == events(earlier)
            && delivered(self) == delivered(earlier)
    }

    /// What stands in the way of being caught up, in words.
    pub fn what_is_missing(&self) -> String {
        let mut missing = Vec::new();
        for source in &self.sources {
            if source.state != "running" || source.behind_bytes > 0 {
                let error = source.error.as_deref().unwrap_or("no error");
                let (name, state, behind) = (&source.name, &source.state, source.behind_bytes);
                missing.push(format!("source {name} is {state}, {behind} bytes behind ({error})"));
            }
        }
        if self.integrate.state != "running" || self.integrate.behind_blocks > 0 {
            let error = self.integrate.error.as_deref().unwrap_or("no error");
            let (state, behind) = (&self.integrate.state, self.integrate.behind_blocks);
            missing.push(format!("integrate is {state}, {behind} blocks behind ({error})"));
        }
        for target in &self.targets {
            if target.state != "running" || target.pending > 0 {
                let error = target.error.as_deref().unwrap_or("no error");
                let (name, state, pending) = (&target.name, &target.state, target.pending);
                missing.push(format!("target {name} is {state}, {pending} pending ({error})"));
            }
        }
        missing.join("; ")
    }
}
