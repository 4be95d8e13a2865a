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

    /// Reads `sales.order_line` through slot and publication `bench` until there are so many
    /// events. `snapshot_mode` as Debezium has it.
    pub fn read(&self, port: u16, snapshot_mode: &str, events: u64) -> Result<Measure> {
        let folder = tempfile::tempdir()?;
        let file: PathBuf = folder.path().join("engine.properties");
        std::fs::write(&file, properties(port, snapshot_mode))?;
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

/// Debezium's defaults, with events as slim as ours: no schemas, no tombstones.
fn properties(port: u16, snapshot_mode: &str) -> String {
    format!(
        "name=bench\nconnector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         offset.storage=org.apache.kafka.connect.storage.MemoryOffsetBackingStore\n\
         offset.flush.interval.ms=5000\ntopic.prefix=bench\n\
         database.hostname=127.0.0.1\ndatabase.port={port}\ndatabase.user=postgres\n\
         database.password=none\ndatabase.dbname=bench\nplugin.name=pgoutput\n\
         slot.name=bench\npublication.name=bench\npublication.autocreate.mode=disabled\n\
         snapshot.mode={snapshot_mode}\ntable.include.list=sales.order_line\n\
         tombstones.on.delete=false\nkey.converter.schemas.enable=false\n\
         value.converter.schemas.enable=false\nconverter.schemas.enable=false\n"
    )
}
