//! A private MariaDB server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Watched, command_as, free_port, give_to, run, wait_until, work_folder};

const USER: &str = "mysql";

/// How a server is started. `Default` is right for tests.
#[derive(Clone, Debug, Default)]
pub struct MariaDbOptions {
    /// Further settings for the `[mariadbd]` section.
    pub settings: Vec<(String, String)>,
    /// Really write to disk (benchmarks).
    pub durable: bool,
}

/// A running private server: user `root` without password over TCP. Row binlog with full images
/// and GTIDs. Stopped, and its data removed, on drop.
pub struct MariaDb {
    folder: PathBuf,
    port: u16,
    process: Option<Watched>,
}

impl MariaDb {
    /// Starts a server with default options.
    pub fn start() -> Result<Self> {
        Self::start_with(&MariaDbOptions::default())
    }

    /// Makes a new data directory and starts a server on it.
    pub fn start_with(options: &MariaDbOptions) -> Result<Self> {
        let folder = work_folder("crossdock-ma-")?;
        let mut server = Self { folder, port: free_port()?, process: None };
        server.init(options)?;
        server.launch()?;
        Ok(server)
    }

    fn init(&self, options: &MariaDbOptions) -> Result<()> {
        let data = self.folder.join("data");
        fs::create_dir(&data)?;
        give_to(USER, &data)?;
        give_to(USER, &self.folder)?;
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut conf = format!(
            "[mariadbd]\ndatadir = {}\nport = {}\nbind-address = 127.0.0.1\nsocket = {}\n\
             pid-file = {}\ntmpdir = {}\nserver-id = {}\nlog_bin = {}/binlog\n\
             binlog_format = ROW\nbinlog_row_image = FULL\nbinlog_row_metadata = FULL\n\
             log_slave_updates = ON\ninnodb_buffer_pool_size = 64M\ninnodb_log_file_size = 64M\n\
             character-set-server = utf8mb4\nskip-name-resolve\nskip-networking = OFF\n\
             local_infile = ON\ndefault_time_zone = +00:00\nplugin_dir = /usr/lib/mysql/plugin\n\
             performance_schema = OFF\n",
            at("data"),
            self.port,
            at("socket"),
            at("pid"),
            at("data"),
            u32::from(self.port),
            at("data"),
        );
        if !options.durable {
            conf.push_str("sync_binlog = 0\ninnodb_flush_log_at_trx_commit = 2\n");
        }
        for (name, value) in &options.settings {
            conf.push_str(&format!("{name} = {value}\n"));
        }
        fs::write(self.folder.join("my.cnf"), conf)?;
        let mut install = command_as(USER, "mariadb-install-db")?;
        install.arg(format!("--defaults-file={}", at("my.cnf")));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.current_dir(&self.folder);
        run(&mut install, None)?;
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = command_as(USER, "/usr/sbin/mariadbd")?;
        command.arg(format!("--defaults-file={}", self.folder.join("my.cnf").display()));
        command.current_dir(&self.folder);
        let log = self.folder.join("server.log");
        let process = Watched::start(&command, "TERM", &self.folder, &log, Some(&self.folder))?;
        self.process = Some(process);
        let up = wait_until(Duration::from_secs(60), || self.sql("", "SELECT 1").is_ok());
        if !up {
            bail!("MariaDB did not come up: {}", self.log());
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
        let mut client = Command::new("mariadb");
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

impl Drop for MariaDb {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}
