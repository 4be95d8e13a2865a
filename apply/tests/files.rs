//! Files of lines: what a crash leaves, and when a file is closed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crossdock_apply::target::FileTarget;
use crossdock_apply::{ApplyError, ColumnKind, FileFormat, FileOptions, Target, TargetBatch, Told};
use crossdock_model::canonical::{RecordKey, RowWrite, WriteKind};
use crossdock_model::{TableName, Value};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
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

/// The rows of a folder's Parquet files, in order: columns by name, NULLs left out.
pub fn rows(folder: &Path) -> Vec<BTreeMap<String, Field>> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
    names.sort();
    let mut rows = Vec::new();
    for path in names {
        let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let cells = row.get_column_iter().filter(|(_, value)| **value != Field::Null);
            rows.push(cells.map(|(name, value)| (name.clone(), value.clone())).collect());
        }
    }
    rows
}

/// The events of a folder of Parquet files, and of the lines that are still open.
pub fn all_events(folder: &Path) -> Vec<u64> {
    let closed = rows(folder).into_iter().map(|row| match &row["_event_id"] {
        Field::Str(id) => u64::try_from(id.parse::<Uuid>().unwrap().as_u128()).unwrap(),
        other => panic!("{other}"),
    });
    closed.chain(lines(folder).iter().map(event)).collect()
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
        format: FileFormat::Lines,
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

fn parquet_options(folder: &Path) -> FileOptions {
    let kinds = [
        ("pieces", ColumnKind::Integer),
        ("urgent", ColumnKind::Boolean),
        ("day", ColumnKind::Date),
        ("left_at", ColumnKind::Instant),
        ("odd", ColumnKind::Integer),
    ];
    let kinds = kinds.map(|(name, kind)| (name.to_string(), kind));
    FileOptions { format: FileFormat::Parquet(kinds.into()), ..options(folder) }
}

/// A delivery that writes one row; every third one says less.
fn typed_batch(seq: u64) -> TargetBatch {
    let mut batch = batch(seq);
    let number = i64::try_from(seq).unwrap();
    let mut columns: Vec<(_, Value<'static>)> = vec![
        ("pieces".into(), Value::Int(number)),
        ("weight".into(), Value::Decimal("12.50".into())),
        ("left_at".into(), Value::TimestampTz(1_795_414_530_500_000)),
        ("day".into(), Value::Date(20_000)),
        ("odd".into(), Value::Text("three".into())),
    ];
    if seq.is_multiple_of(3) {
        columns.truncate(1);
    }
    columns.push(("urgent".into(), Value::Bool(seq.is_multiple_of(2))));
    let write = RowWrite {
        table: TableName::new("lake", "shipments"),
        kind: WriteKind::Insert,
        key: vec![("no".into(), Value::Text(format!("S-{seq}").into()))],
        columns,
    };
    batch.writes.push((Uuid::from_u128(u128::from(seq)), write));
    batch.told[0].writes = 1;
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_files_are_parquet_with_typed_columns() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut target = FileTarget::open(&parquet_options(folder), "plant").unwrap();
    for seq in 1..=12 {
        target.apply(&typed_batch(seq)).await.unwrap();
    }
    let rows = rows(folder);
    assert!(rows.len() >= 6 && rows.len() < 12, "{} rows in closed files", rows.len());
    assert_eq!(all_events(folder), (1..=12).collect::<Vec<_>>());
    let text = |text: &str| Field::Str(text.to_string());
    let second = &rows[1];
    let expected = [
        ("_installation", text("plant")),
        ("_delivery", Field::Long(2)),
        ("_entity", text("shipment")),
        ("_key", text("shp:1")),
        ("_owed_at", Field::TimestampMicros(1_795_414_530_500_000)),
        ("_table", text("lake.shipments")),
        ("_write", text("insert")),
        ("no", text("S-2")),
        ("pieces", Field::Long(2)),
        ("weight", text("12.5")),
        ("left_at", Field::TimestampMicros(1_795_414_530_500_000)),
        ("day", Field::Date(20_000)),
        // What is not of its type makes the column a text, and nothing is lost.
        ("odd", text("three")),
        ("urgent", Field::Bool(true)),
    ];
    for (name, value) in expected {
        assert_eq!(second.get(name), Some(&value), "{name}");
    }
    assert_eq!(rows[2].get("left_at"), None, "NULL where nothing was said");
    assert_eq!(rows[2].get("pieces"), Some(&Field::Long(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_file_is_made_parquet_leaves_no_half_and_no_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The lines of the first file, as they were before it was closed.
    let mut target = FileTarget::open(&parquet_options(folder), "plant").unwrap();
    let open = folder.join("lines-00000001.jsonl.open");
    let mut before = Vec::new();
    let mut seq = 0;
    while open.exists() {
        before = fs::read(&open).unwrap();
        seq += 1;
        target.apply(&typed_batch(seq)).await.unwrap();
    }
    drop(target);
    let whole = folder.join("lines-00000001.parquet");
    let part = folder.join("lines-00000001.parquet.part");
    let once = fs::read(&whole).unwrap();
    // Killed while it was written: half of it is there, under a name that nobody reads.
    fs::rename(&whole, &part).unwrap();
    fs::write(&part, &once[..once.len() / 2]).unwrap();
    fs::write(&open, &before).unwrap();
    assert_eq!(rows(folder).len(), 0);
    FileTarget::open(&parquet_options(folder), "plant").unwrap();
    assert!(whole.exists() && !open.exists() && !part.exists());
    assert_eq!(fs::read(&whole).unwrap(), once, "the same again");
    // Killed after it had its name, and before the lines were gone.
    fs::write(&open, &before).unwrap();
    let mut target = FileTarget::open(&parquet_options(folder), "plant").unwrap();
    assert!(!open.exists());
    assert_eq!(all_events(folder), (1..=seq).collect::<Vec<_>>());
    target.apply(&typed_batch(seq + 1)).await.unwrap();
    assert_eq!(all_events(folder), (1..=seq + 1).collect::<Vec<_>>());
}
