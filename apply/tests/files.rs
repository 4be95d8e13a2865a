//! Files of lines: what a crash leaves, and when a file is closed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crossdock_apply::target::FileTarget;
use crossdock_apply::{ApplyError, FileOptions, Target, TargetBatch, Told};
use crossdock_model::canonical::RecordKey;
use serde_json::Value as Json;
use uuid::Uuid;

/// Every line of a folder, in order.
pub fn lines(folder: &Path) -> Vec<Json> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.to_string_lossy().contains(".jsonl"));
    names.sort();
    let text: String = names.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(text.is_empty() || text.ends_with('\n'), "a half line");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The number in an event's identity.
pub fn event(line: &Json) -> u64 {
    let id: Uuid = line["event_id"].as_str().unwrap().parse().unwrap();
    u64::try_from(id.as_u128()).unwrap()
}

fn options(folder: &Path) -> FileOptions {
    FileOptions {
        name: "lines".into(),
        folder: folder.to_path_buf(),
        rotate_bytes: 1_500,
        rotate_every: Duration::from_secs(3_600),
    }
}

fn batch(seq: u64) -> TargetBatch {
    let told = Told {
        place: seq,
        seq,
        event_id: Uuid::from_u128(u128::from(seq)),
        rule: "rule".into(),
        record: RecordKey { entity: "shipment".into(), key: "shp:1".into() },
        owed_micros: 1_795_414_530_500_000,
        writes: 0,
    };
    TargetBatch { stream: "deliver".into(), upto: seq, told: vec![told], ..TargetBatch::default() }
}

fn events(folder: &Path) -> Vec<u64> {
    lines(folder).iter().map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_finished_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let open = folder.join("lines-00000001.jsonl.open");
    for round in 0..3 {
        let mut target = FileTarget::open(&options(folder), "plant").unwrap();
        let done = target.progress("deliver").await.unwrap().map_or(0, |p| p.seq);
        assert_eq!(done, round);
        target.apply(&batch(round + 1)).await.unwrap();
        // Killed within the next write, after a whole line and a half.
        let whole = fs::read_to_string(&open).unwrap();
        let line = whole.lines().last().unwrap().to_string() + "\n";
        let mut file = fs::OpenOptions::new().append(true).open(&open).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        file.write_all(&line.as_bytes()[..line.len() / 2]).unwrap();
    }
    FileTarget::open(&options(folder), "plant").unwrap();
    assert_eq!(events(folder), [1, 2, 3]);
    // Somebody has cut the file: nothing is taken for granted.
    fs::write(&open, "").unwrap();
    let error = FileTarget::open(&options(folder), "plant").unwrap_err();
    assert!(matches!(error, ApplyError::Definite { .. }), "{error}");
    fs::remove_file(folder.join("lines.progress.json")).unwrap();
    fs::write(&open, "{}\n").unwrap();
    let error = FileTarget::open(&options(folder), "plant").unwrap_err();
    assert!(error.to_string().contains("missing or damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_is_closed_and_the_next_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut target = FileTarget::open(&options(folder), "plant").unwrap();
    for seq in 1..=20 {
        target.apply(&batch(seq)).await.unwrap();
    }
    let closed = |n: u64| folder.join(format!("lines-{n:08}.jsonl"));
    assert!(closed(1).exists() && closed(2).exists());
    assert!(fs::metadata(closed(1)).unwrap().len() >= 1_500);
    assert_eq!(events(folder), (1..=20).collect::<Vec<_>>());
    // Killed after the new file counted, and before the old one had its name.
    drop(target);
    fs::rename(closed(1), folder.join("lines-00000001.jsonl.open")).unwrap();
    let text = fs::read_to_string(folder.join("lines.progress.json")).unwrap();
    let mut state: Json = serde_json::from_str(&text).unwrap();
    let last = state["file"].as_u64().unwrap();
    assert!(last >= 3);
    fs::rename(folder.join("lines-00000001.jsonl.open"), closed(1)).unwrap();
    fs::rename(closed(last - 1), folder.join(format!("lines-{:08}.jsonl.open", last - 1))).unwrap();
    let mut target = FileTarget::open(&options(folder), "plant").unwrap();
    assert!(closed(last - 1).exists());
    // An old file is closed, too.
    state["begun_micros"] = 1.into();
    drop(target);
    fs::write(folder.join("lines.progress.json"), state.to_string()).unwrap();
    target = FileTarget::open(&options(folder), "plant").unwrap();
    target.apply(&batch(21)).await.unwrap();
    assert!(closed(last).exists());
    assert_eq!(events(folder), (1..=21).collect::<Vec<_>>());
}
