//! Crossdock's side of a run: reads a source's log into a durable journal until a number of row
//! changes is there, and prints what it took.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use crossdock_capture::{DatabaseKind, LogReader, Memory, Reader, SourceOptions, Start, Tls};
use crossdock_model::{Block, Position, TableName};
use crossdock_state::journal::SnapshotFlag;
use crossdock_state::{BlockMeta, Journal, JournalOptions, LocalJournal};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

/// As `ingest` has it: blocks that are appended with one sync, at most.
const BLOCKS_PER_SYNC: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Postgres,
    Mariadb,
}

/// What to drain.
#[derive(Args)]
pub struct Task {
    #[arg(long)]
    kind: Kind,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    user: String,
    #[arg(long)]
    database: String,
    #[arg(long, default_value = "bench")]
    slot: String,
    #[arg(long)]
    from: Position,
    #[arg(long)]
    changes: u64,
    #[arg(long)]
    journal: PathBuf,
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
    let journal = LocalJournal::open(JournalOptions {
        dir: task.journal.clone(),
        segment_bytes: 128 << 20,
        retain: Duration::from_secs(86_400),
        retain_bytes: u64::MAX,
        first_seq: 1,
    })?;
    let started = Instant::now();
    let mut reader =
        crossdock_capture::open(&options(task), Start::After(task.from.clone()), Memory::default())
            .await?;
    let (mut changes, mut journal_bytes) = (0, 0);
    while changes < task.changes {
        let blocks = next_blocks(&mut reader).await?;
        tokio::task::block_in_place(|| {
            for block in &blocks {
                journal.append(meta(block)?, &block.bytes)?;
            }
            anyhow::Ok(journal.sync()?)
        })?;
        for block in &blocks {
            changes += events(block);
            journal_bytes += block.bytes.len() as u64;
        }
        if let Some(block) = blocks.last().filter(|block| block.boundary) {
            reader.acknowledge(&block.end);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    if changes != task.changes {
        bail!("{changes} row changes came, {} were expected", task.changes);
    }
    Ok(Measure { seconds, cpu_seconds: cpu_seconds()?, memory_mib: peak_memory()?, journal_bytes })
}

/// As `ingest` does: waits for a block, then takes what else is there, to be made durable with
/// one sync.
async fn next_blocks(reader: &mut Reader) -> Result<Vec<Block>> {
    let mut blocks = vec![reader.next().await?];
    while blocks.len() < BLOCKS_PER_SYNC {
        match reader.next().now_or_never() {
            Some(block) => blocks.push(block?),
            None => break,
        }
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
        snapshot: SnapshotFlag::Stream,
        commit_micros: block.commit_micros,
        appended_micros: 0,
        events: u32::try_from(events(block))?,
    })
}

fn options(task: &Task) -> SourceOptions {
    SourceOptions {
        name: "bench".to_string(),
        kind: match task.kind {
            Kind::Postgres => DatabaseKind::Postgres,
            Kind::Mariadb => DatabaseKind::Mariadb,
        },
        host: "127.0.0.1".to_string(),
        port: task.port,
        user: task.user.clone(),
        password: String::new().into(),
        database: task.database.clone(),
        tls: Tls::Disable,
        tables: vec![TableName::new("sales", "order_line")],
        slot: task.slot.clone(),
        slot_failover: true,
        publication: "bench".to_string(),
        server_id: 7_001,
        block_bytes_max: 256 << 10,
        spill_dir: None,
        snapshot: Default::default(),
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

fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).context("VmHWM")?;
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    Ok(kib.context("VmHWM")? / 1024.0)
}
