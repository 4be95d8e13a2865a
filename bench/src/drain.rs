//! Crossdock's side of a run: reads a source's log into a durable journal until a number of row
//! changes is there, and prints what it took. In a process of its own, so that its memory can be
//! told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use crossdock_capture::{BLOCK_BYTES, DatabaseKind, LogReader, Memory, Reader, SourceOptions, Tls};
use crossdock_model::{Block, Position, SnapshotPart, TableName};
use crossdock_state::journal::{BLOCKS_PER_SYNC, SnapshotFlag};
use crossdock_state::{BlockMeta, Journal, JournalOptions, LocalJournal};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

/// Which kind of server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

/// What to read. What has a default is the same in all benchmarks.
#[derive(Args)]
pub struct Task {
    /// Kind of server.
    #[arg(long)]
    pub kind: Kind,
    /// Its port on this machine.
    #[arg(long)]
    pub port: u16,
    /// Where the log is read from; a snapshot of the table when absent.
    #[arg(long)]
    pub from: Option<Position>,
    /// How many row changes are expected.
    #[arg(long)]
    pub changes: u64,
    /// Folder of the journal.
    #[arg(long)]
    pub journal: PathBuf,
    /// Table that is captured.
    #[arg(long, default_value = "sales.order_line")]
    pub table: String,
    /// Size of a block.
    #[arg(long, default_value_t = BLOCK_BYTES)]
    pub block_bytes: usize,
}

/// What a benchmark asks of Crossdock.
pub struct Ask<'a> {
    /// Kind of server.
    pub kind: Kind,
    /// Its port on this machine.
    pub port: u16,
    /// Where the log is read from; a snapshot when absent.
    pub from: Option<&'a str>,
    /// How many row changes are expected.
    pub changes: u64,
    /// Size of a block.
    pub block_bytes: usize,
}

impl Ask<'_> {
    /// Runs Crossdock's side in a new process, on a new journal.
    pub fn run(&self) -> Result<Measure> {
        let journal = tempfile::tempdir()?;
        let mut child = Command::new(std::env::current_exe()?);
        let kind = match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mariadb",
            Kind::Mysql => "mysql",
        };
        child.args(["drain", "--kind", kind, "--port", &self.port.to_string()]);
        child.args(["--changes", &self.changes.to_string()]);
        child.args(["--block-bytes", &self.block_bytes.to_string(), "--journal"]);
        child.arg(journal.path());
        if let Some(from) = self.from {
            child.args(["--from", from]);
        }
        let output = child.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("what the run took")
    }
}

/// What it took.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Seconds from opening the log to the last change being durable.
    pub seconds: f64,
    /// CPU seconds of the process.
    pub cpu_seconds: f64,
    /// Peak resident memory of the process, MiB.
    pub memory_mib: f64,
    /// Bytes in the journal.
    pub journal_bytes: u64,
}

/// Drains, and prints a [`Measure`] as JSON.
pub fn run(task: &Task) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measure = runtime.block_on(drain(task))?;
    println!("{}", serde_json::to_string(&measure)?);
    Ok(())
}

async fn drain(task: &Task) -> Result<Measure> {
    let journal = journal(&task.journal)?;
    let started = Instant::now();
    let mut reader =
        crossdock_capture::open(&options(task), task.from.as_ref().into(), Memory::default())
            .await?;
    let (mut changes, mut journal_bytes, mut done) = (0, 0, false);
    while !done {
        let blocks = next_durable(&mut reader, &journal).await?;
        for block in &blocks {
            changes += events(block);
            journal_bytes += block.bytes.len() as u64;
            done |= match task.from {
                Some(_) => changes >= task.changes,
                None => block.snapshot == SnapshotPart::Last,
            };
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    if changes != task.changes {
        bail!("{changes} row changes came, {} were expected", task.changes);
    }
    Ok(Measure {
        seconds,
        cpu_seconds: cpu_seconds()?,
        memory_mib: peak_memory("self")?,
        journal_bytes,
    })
}

/// An empty journal as a running `crossdock` has it.
pub fn journal(dir: &Path) -> Result<LocalJournal> {
    Ok(LocalJournal::open(JournalOptions {
        dir: dir.to_path_buf(),
        segment_bytes: 128 << 20,
        retain: Duration::from_secs(86_400),
        retain_bytes: u64::MAX,
        first_seq: 1,
    })?)
}

/// As `ingest` does: waits for a block, takes what else is there, makes all of it durable with one
/// sync, and acknowledges it.
pub async fn next_durable(reader: &mut Reader, journal: &LocalJournal) -> Result<Vec<Block>> {
    let mut blocks = vec![reader.next().await?];
    while blocks.len() < BLOCKS_PER_SYNC {
        match reader.next().now_or_never() {
            Some(block) => blocks.push(block?),
            None => break,
        }
    }
    tokio::task::block_in_place(|| {
        for block in &blocks {
            journal.append(meta(block)?, &block.bytes)?;
        }
        anyhow::Ok(journal.sync()?)
    })?;
    if let Some(block) = blocks.last().filter(|block| block.boundary) {
        reader.acknowledge(&block.end);
    }
    Ok(blocks)
}

fn events(block: &Block) -> u64 {
    block.counts.iter().map(|(.., n)| n).sum()
}

fn meta(block: &Block) -> Result<BlockMeta> {
    Ok(BlockMeta {
        position: block.end.to_string(),
        boundary: block.boundary,
        snapshot: match block.snapshot {
            SnapshotPart::Stream => SnapshotFlag::Stream,
            SnapshotPart::First => SnapshotFlag::First,
            SnapshotPart::Middle => SnapshotFlag::Middle,
            SnapshotPart::Last => SnapshotFlag::Last,
        },
        commit_micros: block.commit_micros,
        appended_micros: 0,
        events: u32::try_from(events(block))?,
    })
}

/// How a benchmark's server is reached.
pub fn options(task: &Task) -> SourceOptions {
    let (kind, user, database) = match task.kind {
        Kind::Postgres => (DatabaseKind::Postgres, "postgres", "bench"),
        Kind::Mariadb => (DatabaseKind::Mariadb, "root", "sales"),
        Kind::Mysql => (DatabaseKind::Mysql, "root", "sales"),
    };
    let (schema, table) = task.table.split_once('.').unwrap_or(("sales", &task.table));
    SourceOptions {
        name: "bench".to_string(),
        kind,
        host: "127.0.0.1".to_string(),
        port: task.port,
        user: user.to_string(),
        password: String::new().into(),
        database: database.to_string(),
        tls: Tls::Disable,
        tables: vec![TableName::new(schema, table)],
        slot: "bench".to_string(),
        slot_failover: true,
        publication: "bench".to_string(),
        server_id: 7_001,
        zero_dates: Default::default(),
        block_bytes_max: task.block_bytes,
        spill_dir: None,
        snapshot: Default::default(),
        poll: None,
    }
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64> {
    ticks(&std::fs::read_to_string("/proc/self/stat")?, 11).context("/proc/self/stat")
}

/// Sum of two fields of a `/proc/PID/stat`, counted from the state on, as seconds: the kernel's
/// clock has 100 ticks a second on Linux.
pub fn ticks(stat: &str, first: usize) -> Option<f64> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(first);
    let mut tick = || fields.next()?.parse::<f64>().ok();
    Some((tick()? + tick()?) / 100.0)
}

/// Peak resident memory of a process, MiB; `self` or its number.
pub fn peak_memory(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).context("VmHWM")?;
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    Ok(kib.context("VmHWM")? / 1024.0)
}
