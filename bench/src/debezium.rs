//! Debezium as a peer: its engine in a Java process of its own (`bench/debezium/Runner.java`),
//! events as JSON to /dev/null. `make bench-debezium` installs it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::report::target_dir;

/// Name in tables.
pub const NAME: &str = "Debezium, JSON to /dev/null";
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/debezium/Runner.java");

/// Debezium as it is installed here.
pub struct Debezium {
    class_path: String,
}

/// What a run took.
#[derive(Debug, Deserialize)]
pub struct Measure {
    events: u64,
    /// From the first event to the last: neither starting Java nor connecting counts.
    seconds: f64,
    /// Peak resident memory, MiB.
    pub memory_mib: f64,
}

impl Measure {
    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "debezium {:.2} s ({:.0} MiB)", self.seconds, self.memory_mib)
    }
}

impl Debezium {
    /// Compiles the runner against the jars below `target/debezium`; `None` without these.
    pub fn find() -> Result<Option<Self>> {
        let folder = target_dir().join("debezium");
        let jars = folder.join("jars");
        if !jars.is_dir() {
            eprintln!("Debezium is left out: `make bench-debezium` installs it");
            return Ok(None);
        }
        let classes = folder.join("classes");
        let jars = jars.join("*");
        let compiled = Command::new("javac")
            .args([Path::new("-cp"), &jars, Path::new("-d"), &classes, Path::new(RUNNER)])
            .output()
            .context("start javac: `make bench-debezium` installs it")?;
        ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Ok(Some(Self { class_path: format!("{}:{}", classes.display(), jars.display()) }))
    }

    /// Reads `sales.order_line` of a PostgreSQL server through slot and publication `bench` until
    /// there are so many events. `snapshot_mode` as Debezium has it.
    pub fn postgres(&self, port: u16, snapshot_mode: &str, events: u64) -> Result<Measure> {
        let folder = tempfile::tempdir()?;
        self.run(folder.path(), &postgres_properties(port, snapshot_mode), events)
    }

    /// Reads `sales.order_line` of a MySQL server until there are so many events; keeps in `folder`
    /// how far it has come, and goes on from there.
    pub fn mysql(
        &self,
        port: u16,
        snapshot_mode: &str,
        events: u64,
        folder: &Path,
    ) -> Result<Measure> {
        self.run(folder, &mysql_properties(port, snapshot_mode, folder), events)
    }

    fn run(&self, folder: &Path, properties: &str, events: u64) -> Result<Measure> {
        let file: PathBuf = folder.join("engine.properties");
        std::fs::write(&file, properties)?;
        let output = Command::new("java")
            .args(["-Xmx2g", "-cp", &self.class_path, "Runner"])
            .args([&file.display().to_string(), &events.to_string()])
            .output()
            .context("start java")?;
        ensure!(
            output.status.success(),
            "Debezium failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("what the run took")
    }
}

/// Events as slim as ours: no schemas, no tombstones; everything else is Debezium's default.
const SLIM: &str = "name=bench\ntopic.prefix=bench\ntable.include.list=sales.order_line\n\
    database.hostname=127.0.0.1\ntombstones.on.delete=false\n\
    key.converter.schemas.enable=false\nvalue.converter.schemas.enable=false\n\
    converter.schemas.enable=false\n";

fn postgres_properties(port: u16, snapshot_mode: &str) -> String {
    format!(
        "{SLIM}connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         offset.storage=org.apache.kafka.connect.storage.MemoryOffsetBackingStore\n\
         offset.flush.interval.ms=5000\ndatabase.port={port}\ndatabase.user=postgres\n\
         database.password=none\ndatabase.dbname=bench\nplugin.name=pgoutput\n\
         slot.name=bench\npublication.name=bench\npublication.autocreate.mode=disabled\n\
         snapshot.mode={snapshot_mode}\n"
    )
}

/// Offsets and the history of schemas are files: a run may go on where another has ended.
fn mysql_properties(port: u16, snapshot_mode: &str, folder: &Path) -> String {
    let folder = folder.display();
    // The runner ends with its last event: what it has read must be known by then.
    let flush = if snapshot_mode == "no_data" { 0 } else { 5000 };
    format!(
        "{SLIM}connector.class=io.debezium.connector.mysql.MySqlConnector\n\
         offset.storage=org.apache.kafka.connect.storage.FileOffsetBackingStore\n\
         offset.storage.file.filename={folder}/offsets\noffset.flush.interval.ms={flush}\n\
         schema.history.internal=io.debezium.storage.file.history.FileSchemaHistory\n\
         schema.history.internal.file.filename={folder}/history\n\
         include.schema.changes=false\ndatabase.port={port}\ndatabase.user=root\n\
         database.password=\ndatabase.server.id=7002\ndatabase.include.list=sales\n\
         database.ssl.mode=disabled\nsnapshot.mode={snapshot_mode}\n"
    )
}
