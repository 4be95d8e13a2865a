//! A real `crossdock` process between private servers: one source, the canonical store.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crossdock_harness::{Postgres, free_port};
use crossdock_tests::Crossdock;
use tempfile::TempDir;

use crate::drain::{peak_memory, ticks};
use crate::postgres;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Servers, files and the process.
pub struct World {
    /// The ERP's database, `bench`.
    pub source: Postgres,
    /// The canonical store and the copy that targets have, also in `bench`.
    pub store: Postgres,
    /// The process.
    pub crossdock: Crossdock,
    _folder: TempDir,
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From the start of the process to the last change being visible in the store.
    pub seconds: f64,
    /// CPU seconds of the process.
    pub cpu_seconds: f64,
    /// CPU seconds of the canonical store's server.
    pub store_cpu_seconds: f64,
    /// Its peak memory.
    pub memory_mib: f64,
}

impl World {
    /// Two servers that write to disk for real, and config, mapping and rule files.
    pub fn new(mapping: &str, rules: &str, entities: &str) -> Result<Self> {
        let source = postgres::server(&[("track_commit_timestamp", "on")])?;
        let store = postgres::server(&[("track_commit_timestamp", "on")])?;
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let write = |name: &str, text: &str| -> Result<()> {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            Ok(fs::write(path, text)?)
        };
        write("crossdock.toml", &config(port, &source, &store))?;
        write("mappings/erp.toml", mapping)?;
        write("rules/rules.toml", rules)?;
        write("entities/bench.toml", entities)?;
        let crossdock =
            Crossdock::new(&folder.path().join("crossdock.toml"), &[], port, folder.path());
        Ok(Self { source, store, crossdock, _folder: folder })
    }

    /// Starts the process and waits until a question to the store is answered with true. It is
    /// asked every so often.
    pub fn run_until(&mut self, question: &str, every: Duration) -> Result<Took> {
        let store_cpu = family_cpu(self.store.pid())?;
        let started = Instant::now();
        self.crossdock.start()?;
        let pid = self.crossdock.pid().context("the process has ended")?;
        postgres::ask_until(&self.store, question, every, || {
            ensure!(started.elapsed() < LIMIT, "not done yet: {}", self.crossdock.log_tail());
            let alive = Path::new(&format!("/proc/{pid}/status")).exists();
            ensure!(alive, "it ended: {}", self.crossdock.log_tail());
            Ok(())
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let cpu_seconds = ticks(&stat, 11).context("/proc/PID/stat")?;
        let store_cpu_seconds = family_cpu(self.store.pid())? - store_cpu;
        Ok(Took {
            seconds,
            cpu_seconds,
            store_cpu_seconds,
            memory_mib: peak_memory(&pid.to_string())?,
        })
    }
}

fn config(port: u16, source: &Postgres, store: &Postgres) -> String {
    let login = |server: &Postgres| {
        format!(
            "host = \"127.0.0.1\"\nport = {}\nuser = \"postgres\"\ndatabase = \"bench\"\n",
            server.port()
        )
    };
    format!(
        "[crossdock]\nname = \"bench\"\nlisten = \"127.0.0.1:{port}\"\n\n[store]\n{}\n\
         [source.erp]\nkind = \"postgres\"\n{}\n[target.copy]\nkind = \"postgres\"\n{}",
        login(store),
        login(source),
        login(store)
    )
}

/// CPU seconds of a server's processes, those that have ended included.
fn family_cpu(pid: i32) -> Result<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let own = path.file_name().is_some_and(|name| *name == *pid.to_string());
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if own {
            sum += ticks(&stat, 11).unwrap_or(0.0) + ticks(&stat, 13).unwrap_or(0.0);
        } else if parent.is_some_and(|parent| *parent == *pid.to_string()) {
            sum += ticks(&stat, 11).unwrap_or(0.0);
        }
    }
    Ok(sum)
}
