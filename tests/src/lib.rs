//! Drives the process `crossdock` for the suites: start, kill, ask, wait.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossdock_harness::wait_until;
use serde_json::Value as Json;

/// A `crossdock` with its config, its environment and a log file of its own.
pub struct Crossdock {
    config: PathBuf,
    env: Vec<(String, String)>,
    port: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Crossdock {
    /// Not started yet. `port` is where the config lets it listen; its log goes into `folder`.
    pub fn new(config: &Path, env: &[(String, String)], port: u16, folder: &Path) -> Self {
        let (config, env) = (config.to_path_buf(), env.to_vec());
        Self { config, env, port, log: folder.join("crossdock.log"), child: None }
    }

    /// Starts `crossdock run`.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts `crossdock run` with more variables.
    pub fn start_with(&mut self, env: &[(&str, &str)]) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command(&["run"])?;
        command.envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Runs another command to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments)?.output()?)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--config").arg(&self.config);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until it ends by itself; false when it still runs then.
    pub fn wait_ended(&mut self, limit: Duration) -> bool {
        let Some(child) = &mut self.child else { return true };
        let ended = wait_until(limit, || matches!(child.try_wait(), Ok(Some(_))));
        if ended {
            self.child = None;
        }
        ended
    }

    /// Whether it stands still, as a signal or a point of a test has told it to.
    pub fn is_stopped(&self) -> bool {
        let state = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        state.is_some_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
    }

    /// Lets it go on that stands still.
    pub fn go_on(&self) -> Result<()> {
        self.signal(nix::sys::signal::Signal::SIGCONT)
    }

    fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
        Ok(nix::sys::signal::kill(pid, signal)?)
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop, as Ctrl-C does, and returns whether it ended well.
    pub fn stop(&mut self) -> Result<bool> {
        self.signal(nix::sys::signal::Signal::SIGINT)?;
        let Some(mut child) = self.child.take() else { return Ok(true) };
        Ok(child.wait()?.success())
    }

    /// The JSON of `/status`.
    pub fn status(&self) -> Result<Json> {
        Ok(serde_json::from_str(&self.page("/status")?)?)
    }

    /// The body of a page.
    pub fn page(&self, path: &str) -> Result<String> {
        Ok(self.ask(&format!("GET {path}"), &[], "")?.1)
    }

    /// Status and body of the answer to a request: method and path, header lines, body.
    pub fn ask(&self, what: &str, headers: &[&str], body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        write!(
            stream,
            "{what} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        let status = head.split(' ').nth(1).context("a status line")?;
        Ok((status.parse()?, body.to_string()))
    }

    /// Waits until nothing is on its way, several looks in a row: what Crossdock writes comes back
    /// through the systems' logs.
    pub fn wait_caught_up(&mut self, limit: Duration) -> Result<()> {
        let mut calm = 0;
        let done = wait_until(limit, || {
            std::thread::sleep(Duration::from_millis(250));
            let caught_up = self.status().is_ok_and(|s| s["caught_up"] == true);
            calm = if caught_up { calm + 1 } else { 0 };
            calm >= 8
        });
        if done {
            return Ok(());
        }
        let status = self.status().map_or_else(|e| e.to_string(), |s| format!("{s:#}"));
        bail!("not caught up after {limit:?}: {status}\n{}", self.log_tail())
    }

    /// The last lines it logged.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Crossdock {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, in the target folder where this one is; those of tests are one folder further down.
pub fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("the target folder")?;
    let profile = match folder.ends_with("deps") {
        true => folder.parent().context("the target folder")?,
        false => folder,
    };
    let binary = profile.join("crossdock");
    if !binary.exists() {
        bail!("{} is missing: run `make build` first", binary.display());
    }
    Ok(binary)
}
