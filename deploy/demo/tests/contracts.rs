//! What each connector makes of its system's rows: `contracts/SOURCE/rows.sql` on a real server
//! becomes `contracts/SOURCE/expected.jsonl`, whether the rows come through the stream or through
//! a snapshot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossdock_canonical::{Rules, Scratch, Workspace};
use crossdock_capture::{LogReader, Memory, Reader, SourceOptions, Start, open};
use crossdock_demo::systems::{Systems, TmsKind};
use crossdock_harness::MySql;
use crossdock_model::canonical::Name;
use crossdock_model::time::instant_text;
use crossdock_model::{Block, SnapshotPart, block};
use serde_json::{Value as Json, json};

use crate::files::config;
use crate::grants::sources;

const LIMIT: Duration = Duration::from_secs(60);

fn folder(source: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts").join(source)
}

/// Loads a connector's rows.
fn fill(systems: &Systems, source: &str) {
    let rows = std::fs::read_to_string(folder(source).join("rows.sql")).unwrap();
    let said = match source {
        "erp" => systems.erp.sql("erp", &rows),
        "wms_us" => systems.wms_us.sql("wms_us", &rows),
        "wms_eu" => systems.wms_eu.sql("wms", &rows),
        _ => systems.tms.sql("tms", &rows),
    };
    said.unwrap();
}

/// What has been judged of a source so far.
struct Judged<'r> {
    rules: &'r Rules,
    source: Name,
    store: Scratch,
}

impl Judged<'_> {
    /// The transactions of these rows are small: none is spread over blocks.
    fn take(&mut self, block: &Block) {
        let mut workspace = Workspace::new(self.rules, "contract", 1_800_000_000_000_000);
        for fragment in block::decode(&block.bytes).unwrap() {
            assert!(fragment.first && fragment.last);
            workspace.take_in(&self.source, &fragment.header, fragment.events);
        }
        loop {
            let needs = workspace.needs();
            if needs.is_empty() {
                return self.store.apply(workspace.finish());
            }
            workspace.provide(self.store.load(&needs));
        }
    }

    /// One line for each contribution and each piece of evidence, sorted.
    fn lines(&self) -> Vec<String> {
        let row = |key: &crossdock_model::canonical::RowKey| format!("{} {}", key.table, key.pk);
        let mut lines = Vec::new();
        for c in self.store.contributions.values() {
            let fields = c.fields.iter().map(|(name, value)| (name.to_string(), value.to_json()));
            let fields: serde_json::Map<String, Json> = fields.collect();
            let mut line = json!({"record": *c.record.key, "row": row(&c.row), "fields": fields});
            if !c.links.is_empty() {
                let links = c.links.iter().map(|(n, to)| (n.to_string(), json!(*to.key)));
                line["links"] = Json::Object(links.collect());
            }
            lines.push(line.to_string());
        }
        for e in self.store.evidence.values().filter(|e| !e.withdrawn) {
            let line = json!({
                "record": *e.record.key, "row": row(&e.row), "evidence": *e.kind,
                "at": instant_text(e.event_micros), "authority": e.authority,
            });
            lines.push(line.to_string());
        }
        lines.sort();
        lines
    }
}

fn expected(source: &str) -> Vec<String> {
    let file = std::fs::read_to_string(folder(source).join("expected.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str::<Json>(line).unwrap().to_string();
    let mut lines: Vec<String> = file.lines().map(line).collect();
    lines.sort();
    lines
}

/// Reads until what was read is what is expected, or nothing more comes.
async fn read_until(reader: &mut Reader, judged: &mut Judged<'_>, expected: &[String]) {
    let all = async {
        while judged.lines() != expected {
            judged.take(&reader.next().await.unwrap());
        }
    };
    if tokio::time::timeout(LIMIT, all).await.is_err() {
        let found = judged.lines();
        let missing = expected.iter().filter(|line| !found.contains(line));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        let surplus = found.iter().filter(|line| !expected.contains(line));
        let surplus: Vec<&str> = surplus.map(String::as_str).collect();
        let source = &judged.source;
        panic!("{source} lacks\n{}\nand has\n{}", missing.join("\n"), surplus.join("\n"));
    }
}

async fn snapshot_of_nothing(reader: &mut Reader) {
    loop {
        let block = reader.next().await.unwrap();
        if block.snapshot == SnapshotPart::Last {
            return;
        }
    }
}

async fn honours_its_contract(rules: &Rules, systems: &Systems, options: &SourceOptions) {
    let source = options.name.as_str();
    let judged = || Judged { rules, source: source.into(), store: Scratch::default() };
    let expected = expected(source);
    let mut reader = open(options, Start::Snapshot, Memory::default()).await.unwrap();
    snapshot_of_nothing(&mut reader).await;
    fill(systems, source);
    read_until(&mut reader, &mut judged(), &expected).await;
    drop(reader);
    let mut reader = open(options, Start::SnapshotOnly, Memory::default()).await.unwrap();
    read_until(&mut reader, &mut judged(), &expected).await;
}

#[test]
fn each_connector_honours_its_contract() {
    let kind = if MySql::installed() { TmsKind::Mysql } else { TmsKind::Mariadb };
    let systems = Systems::start(kind).expect("servers start");
    let rules = config().rules;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for options in sources(&systems) {
        runtime.block_on(honours_its_contract(&rules, &systems, &options));
    }
}
