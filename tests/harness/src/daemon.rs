//! What MariaDB and MySQL servers have in common: a data folder, a free port, a socket, and a
//! command-line client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Watched, command_as, free_port, give_to, run, wait_until, work_folder};

/// The user that both packages make.
pub(crate) const USER: &str = "mysql";

/// How a server is started. `Default` is right for tests.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Further settings for the server's section of its configuration.
    pub settings: Vec<(String, String)>,
    /// Really write to disk (benchmarks).
    pub durable: bool,
}

impl DaemonOptions {
    /// Options with further settings.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Self { settings, durable: false }
    }
}

/// What one kind of server needs of its own.
pub(crate) struct Programs {
    /// Name in messages.
    pub(crate) name: &'static str,
    /// The server, with the arguments before all others.
    pub(crate) server: Vec<PathBuf>,
    /// The command-line client, likewise.
    pub(crate) client: Vec<PathBuf>,
}

/// A running private server: user `root` without password over TCP and socket. Row binlog with
/// full images and GTIDs. Stopped, and its data removed, on drop.
pub struct Daemon {
    programs: Programs,
    folder: PathBuf,
    port: u16,
    process: Option<Watched>,
}

impl Daemon {
    /// A server that is not running yet, with a configuration and an empty data folder.
    pub(crate) fn new(
        programs: Programs,
        prefix: &str,
        section: &str,
        options: &DaemonOptions,
    ) -> Result<Self> {
        let daemon =
            Self { programs, folder: work_folder(prefix)?, port: free_port()?, process: None };
        let data = daemon.data();
        fs::create_dir(&data)?;
        give_to(USER, &data)?;
        give_to(USER, &daemon.folder)?;
        let mut conf = daemon.common();
        conf.push_str(section);
        if !options.durable {
            conf.push_str("sync_binlog = 0\ninnodb_flush_log_at_trx_commit = 2\n");
        }
        for (name, value) in &options.settings {
            conf.push_str(&format!("{name} = {value}\n"));
        }
        fs::write(daemon.configuration(), conf)?;
        Ok(daemon)
    }

    fn common(&self) -> String {
        let (at, port) = (self.folder.display(), self.port);
        format!(
            "[mysqld]\ndatadir = {at}/data\nport = {port}\nbind-address = 127.0.0.1\n\
             socket = {at}/socket\npid-file = {at}/pid\ntmpdir = {at}/data\n\
             server-id = {port}\nlog_bin = {at}/data/binlog\n\
             binlog_format = ROW\nbinlog_row_image = FULL\nbinlog_row_metadata = FULL\n\
             innodb_buffer_pool_size = 64M\ncharacter-set-server = utf8mb4\nskip-name-resolve\n\
             local_infile = ON\ndefault_time_zone = +00:00\nperformance_schema = OFF\n"
        )
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.join("my.cnf")
    }

    /// The server's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program of the server, as its user, with its configuration.
    pub(crate) fn command(&self, program: &[PathBuf]) -> Result<Command> {
        let mut parts = program.iter();
        let Some(first) = parts.next() else { bail!("no program of {}", self.programs.name) };
        let mut command = command_as(USER, first)?;
        command.args(parts);
        command.arg(format!("--defaults-file={}", self.configuration().display()));
        command.current_dir(&self.folder);
        Ok(command)
    }

    /// The server itself with further arguments, run to its end.
    pub(crate) fn run_server(&self, arguments: &[&str]) -> Result<()> {
        run(self.command(&self.programs.server)?.args(arguments), None).map(drop)
    }

    pub(crate) fn launch(&mut self) -> Result<()> {
        let command = self.command(&self.programs.server)?;
        let log = self.folder.join("server.log");
        let process = Watched::start(&command, "TERM", &self.folder, &log, Some(&self.folder))?;
        self.process = Some(process);
        let up = wait_until(Duration::from_secs(60), || self.sql("", "SELECT 1").is_ok());
        if !up {
            bail!("{} did not come up: {}", self.programs.name, self.log());
        }
        Ok(())
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's socket; `root` without password.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Process id of the server; 0 while stopped.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Watched::pid)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    /// Runs a script with the command-line client as root; returns tab-separated rows without
    /// header. `database` may be empty.
    pub fn sql(&self, database: &str, script: &str) -> Result<String> {
        let mut parts = self.programs.client.iter();
        let Some(first) = parts.next() else { bail!("no client of {}", self.programs.name) };
        let mut client = Command::new(first);
        client.args(parts);
        client.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        client.args(["-uroot", "-N", "-B", "--default-character-set=utf8mb4"]);
        if !database.is_empty() {
            client.arg(database);
        }
        run(&mut client, Some(script))
    }

    /// Stops the server; its data stays.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Kills the server without warning; its data stays.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(process) = self.process.take() {
            process.signal(signal);
            process.detach(&self.folder);
        }
    }

    /// Starts a stopped or killed server again, on the same port and data.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.launch()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}
