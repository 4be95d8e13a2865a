//! A private PostgreSQL server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{
    Watched, command_as, free_port, give_to, is_worked_in, run, wait_until, work_folder,
};

const USER: &str = "postgres";

/// How a server is started. `Default` is right for tests.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Folder with `initdb` and `postgres`; default: `CROSSDOCK_PG_BIN`, then the newest of the
    /// distribution's.
    pub bin_dir: Option<PathBuf>,
    /// Further settings for `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// Lines of `pg_hba.conf` that come before the usual ones.
    pub hba: Vec<String>,
    /// Really write to disk (benchmarks). Without it, data survives a killed process, not a
    /// power cut.
    pub durable: bool,
}

/// A running private server: superuser `postgres` without password, others by SCRAM.
/// `wal_level` is `logical`. Stopped, and its data removed, on drop.
pub struct Postgres {
    folder: PathBuf,
    bin_dir: PathBuf,
    port: u16,
    process: Option<Watched>,
}

impl Postgres {
    /// Starts a server with default options.
    pub fn start() -> Result<Self> {
        Self::start_with(&PostgresOptions::default())
    }

    /// Makes a new data directory and starts a server on it.
    pub fn start_with(options: &PostgresOptions) -> Result<Self> {
        let bin_dir = match &options.bin_dir {
            Some(dir) => dir.clone(),
            None => default_bin_dir()?,
        };
        let folder = work_folder("crossdock-pg-")?;
        let mut server = Self { folder, bin_dir, port: free_port()?, process: None };
        server.init(options)?;
        server.launch()?;
        Ok(server)
    }

    /// A copy of a server, not started: as a backup or a snapshot of the disk would give it, its
    /// slots included. The server itself is stopped for that moment.
    pub fn copy_of(server: &mut Self) -> Result<Self> {
        let folder = work_folder("crossdock-pg-")?;
        let copy =
            Self { folder, bin_dir: server.bin_dir.clone(), port: free_port()?, process: None };
        server.stop();
        let (from, to) = (server.data(), copy.data());
        run(Command::new("cp").arg("-a").arg(&from).arg(&to), None)?;
        server.start_again()?;
        copy.configure(&[
            ("port", &copy.port.to_string()),
            ("unix_socket_directories", &copy.data().display().to_string()),
        ])?;
        Ok(copy)
    }

    /// A standby that follows `primary` through a physical slot, `standby`. It has no slots of its
    /// own at first.
    pub fn standby_of(primary: &mut Self, settings: &[(&str, &str)]) -> Result<Self> {
        primary.sql("postgres", "SELECT pg_create_physical_replication_slot('standby', true)")?;
        let mut standby = Self::copy_of(primary)?;
        let slots = standby.data().join("pg_replslot");
        for slot in fs::read_dir(&slots)? {
            fs::remove_dir_all(slot?.path())?;
        }
        let primary = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", primary.port);
        standby.configure(&[
            ("primary_conninfo", &primary),
            ("primary_slot_name", "standby"),
            ("hot_standby_feedback", "on"),
            ("wal_receiver_status_interval", "1s"),
        ])?;
        standby.configure(settings)?;
        standby.begin_as("standby.signal")?;
        Ok(standby)
    }

    /// Starts a stopped server at the end of its log on a new timeline, as after a recovery.
    pub fn start_on_new_timeline(&mut self) -> Result<()> {
        self.configure(&[("restore_command", "false")])?;
        self.begin_as("recovery.signal")?;
        let up = wait_until(Duration::from_secs(60), || {
            self.sql("postgres", "SELECT pg_is_in_recovery()").is_ok_and(|text| text == "f")
        });
        if !up {
            bail!("PostgreSQL did not end its recovery: {}", self.log());
        }
        Ok(())
    }

    fn begin_as(&mut self, signal: &str) -> Result<()> {
        let file = self.data().join(signal);
        fs::write(&file, "")?;
        give_to(USER, &file)?;
        self.launch()
    }

    /// Makes a standby the primary.
    pub fn promote(&self) -> Result<()> {
        match self.sql("postgres", "SELECT pg_promote(true, 60)")?.as_str() {
            "t" => Ok(()),
            _ => bail!("PostgreSQL was not promoted: {}", self.log()),
        }
    }

    /// `server_version_num`: 150010.
    pub fn version(&self) -> Result<u32> {
        self.sql("postgres", "SHOW server_version_num")?.parse().context("read the version")
    }

    /// Adds settings to `postgresql.conf`; they count from the next start.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<()> {
        let lines = settings.iter().map(|(name, value)| format!("{name} = '{value}'\n"));
        append(&self.data().join("postgresql.conf"), &lines.collect::<String>())
    }

    fn init(&self, options: &PostgresOptions) -> Result<()> {
        let data = self.data();
        fs::create_dir(&data)?;
        give_to(USER, &data)?;
        let mut initdb = command_as(USER, self.bin_dir.join("initdb"))?;
        initdb.arg("-D").arg(&data).current_dir(&self.folder);
        initdb.args(["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        run(&mut initdb, None)?;
        let mut conf = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             wal_level = logical\nmax_wal_senders = 30\nmax_replication_slots = 30\n\
             max_connections = 100\nshared_buffers = 64MB\nmax_wal_size = 1GB\n\
             password_encryption = 'scram-sha-256'\n\
             log_min_messages = warning\n",
            self.port,
            data.display()
        );
        if !options.durable {
            conf.push_str("fsync = off\n");
        }
        for (name, value) in &options.settings {
            conf.push_str(&format!("{name} = '{value}'\n"));
        }
        append(&data.join("postgresql.conf"), &conf)?;
        let first: String = options.hba.iter().map(|line| format!("{line}\n")).collect();
        let usual = "local all all trust\n\
             host all postgres 127.0.0.1/32 trust\n\
             host replication postgres 127.0.0.1/32 trust\n\
             host all all 127.0.0.1/32 scram-sha-256\n\
             host replication all 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), first + usual)?;
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = command_as(USER, self.bin_dir.join("postgres"))?;
        command.arg("-D").arg(self.data()).current_dir(&self.folder);
        let log = self.folder.join("server.log");
        let process = Watched::start(&command, "INT", &self.folder, &log, Some(&self.folder))?;
        self.process = Some(process);
        let up = wait_until(Duration::from_secs(60), || self.sql("postgres", "SELECT 1").is_ok());
        if !up {
            bail!("PostgreSQL did not come up: {}", self.log());
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the postmaster; 0 while stopped.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Watched::pid)
    }

    /// Folder with the server's programs (`pg_recvlogical`, `pgbench`).
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    /// Runs a script with psql as superuser; returns unaligned tuples without header.
    pub fn sql(&self, database: &str, script: &str) -> Result<String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.port.to_string(), "-U", "postgres", "-d", database]);
        psql.env("PGCLIENTENCODING", "UTF8").env("PGCONNECT_TIMEOUT", "10");
        run(&mut psql, Some(script))
    }

    /// Stops the server (fast shutdown); its data stays.
    pub fn stop(&mut self) {
        self.end(Signal::SIGINT);
    }

    /// Kills the postmaster without warning; its data stays. Backends notice by themselves.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(process) = self.process.take() {
            process.signal(signal);
            process.detach(&self.folder);
            // Its children notice a little later, and no server starts beside them.
            wait_until(Duration::from_secs(60), || !is_worked_in(&self.data()));
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

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut content = fs::read_to_string(path)?;
    content.push_str(text);
    Ok(fs::write(path, content)?)
}

fn default_bin_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CROSSDOCK_PG_BIN") {
        return Ok(dir.into());
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, bin)| bin);
    newest
        .context("no PostgreSQL server found: apt-get install postgresql, or set CROSSDOCK_PG_BIN")
}
