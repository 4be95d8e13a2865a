//! Taking over from Debezium: its offset files say where reading goes on, so that no snapshot is
//! needed and no change is missed or read twice.

mod java;

use std::collections::BTreeMap;

use crossdock_model::Position;
use crossdock_model::database::DatabaseKind;
use serde_json::{Map, Value as Json};

/// Larger files are not offset files.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Characters of a key that a message shows.
const KEY_CHARS_MAX: usize = 200;

/// Offsets by key. The key says which connector they are of: `["connector",{"server":"prefix"}]`.
pub type Offsets = BTreeMap<String, Map<String, Json>>;

/// Reads a file: what Debezium Server and Kafka Connect standalone keep
/// (`offset.storage.file.filename`), or a dump of Kafka Connect's offset topic, one record a line:
/// key, tab, value, or JSON with `key` and `value` (or `payload`). Later records take the place of
/// earlier ones.
///
/// # Errors
/// What is wrong, with its place in the file.
pub fn read(bytes: &[u8], into: &mut Offsets) -> Result<(), String> {
    if java::is_stream(bytes) {
        for (key, value) in java::byte_map(bytes)? {
            let key = String::from_utf8(key).map_err(|_| "a key is not UTF-8")?;
            let value = String::from_utf8(value).map_err(|_| "an offset is not UTF-8")?;
            record(&key, &value, into)?;
        }
        return Ok(());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "neither an offset file of Java objects nor text")?;
    for (line, number) in text.lines().zip(1..) {
        if !line.trim().is_empty() {
            line_record(line, into).map_err(|what| format!("line {number}: {what}"))?;
        }
    }
    Ok(())
}

fn line_record(line: &str, into: &mut Offsets) -> Result<(), String> {
    if let Some((key, value)) = line.split_once('\t') {
        return record(key, value, into);
    }
    let wrong = "expected key, tab and value, or a JSON object with `key` and `value`";
    let Ok(Json::Object(fields)) = serde_json::from_str(line) else { return Err(wrong.into()) };
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    let key = fields.get("key").map(text).ok_or(wrong)?;
    let value = fields.get("value").or_else(|| fields.get("payload")).map_or(String::new(), text);
    record(&key, &value, into)
}

fn record(key: &str, value: &str, into: &mut Offsets) -> Result<(), String> {
    let key = key.trim().to_string();
    if value.trim().is_empty() || value.trim() == "null" {
        // A tombstone: the connector's offsets were removed.
        into.remove(&key);
        return Ok(());
    }
    match serde_json::from_str(value) {
        Ok(Json::Object(offset)) => {
            into.insert(key, offset);
            Ok(())
        }
        _ => Err(format!("the offset of {} is not a JSON object", short(&key))),
    }
}

/// The position from which a source goes on. `wanted` names the connector, its topic prefix, or
/// the whole key; needed when there are several.
///
/// # Errors
/// Why there is none, and the remedy.
pub fn position(
    offsets: &Offsets,
    kind: DatabaseKind,
    wanted: Option<&str>,
) -> Result<Position, String> {
    let fits = |key: &&String| wanted.is_none_or(|wanted| names(key).contains(&wanted.to_string()));
    let keys: Vec<&String> = offsets.keys().filter(fits).collect();
    let [key] = keys[..] else {
        let known: Vec<String> = offsets.keys().map(|key| short(key)).collect();
        return Err(match (keys.is_empty(), known.is_empty()) {
            (_, true) => "the files hold no offsets".to_string(),
            (true, _) => format!("no offsets are of that key; there are: {}", known.join(" ")),
            (false, _) => {
                format!(
                    "there are offsets of several connectors; choose one with --key: {}",
                    known.join(" ")
                )
            }
        });
    };
    let offset = offsets.get(key).ok_or("the files hold no offsets")?;
    finished_snapshot(offset)?;
    match kind {
        DatabaseKind::Postgres => postgres(offset),
        DatabaseKind::Mysql | DatabaseKind::Mariadb => binlog(offset),
    }
    .ok_or_else(|| {
        format!("the offsets of {} are not of a {} connector", short(key), kind.as_str())
    })
}

/// What a key may be called: the key, the connector's name, the topic prefix.
fn names(key: &str) -> Vec<String> {
    let mut names = vec![key.to_string()];
    if let Ok(Json::Array(parts)) = serde_json::from_str(key) {
        names.extend(parts.first().and_then(Json::as_str).map(str::to_string));
        let server = parts.get(1).and_then(|partition| partition.get("server"));
        names.extend(server.and_then(Json::as_str).map(str::to_string));
    }
    names
}

/// A snapshot that was not finished left rows unread: there is no place that all of them are at.
fn finished_snapshot(offset: &Map<String, Json>) -> Result<(), String> {
    let is_set = |key: &str| {
        offset.get(key).is_some_and(|value| !matches!(value, Json::Null | Json::Bool(false)))
    };
    if is_set("snapshot") && !is_set("last_snapshot_record") && !is_set("snapshot_completed") {
        return Err(
            "Debezium's snapshot was not finished, so rows are missing that no log holds; \
                    let it finish, or begin without the offsets: the first snapshot reads all"
                .into(),
        );
    }
    if is_set("incremental_snapshot_primary_key") {
        return Err(
            "an incremental snapshot of Debezium's is going on; let it finish, or stop it \
                    and read the tables with: crossdock snapshot start"
                .into(),
        );
    }
    Ok(())
}

/// The end of the last transaction that was handled whole. What Debezium sent of the one after it
/// is read again from its beginning.
fn postgres(offset: &Map<String, Json>) -> Option<Position> {
    let lsn = ["lsn_commit", "lsn_proc", "lsn"]
        .iter()
        .find_map(|key| offset.get(*key).and_then(Json::as_i64))?;
    Some(Position::Postgres { lsn: u64::try_from(lsn).ok().filter(|lsn| *lsn > 0)? })
}

/// `pos` is the beginning of the transaction that was being handled; `event` and `row`, which
/// count within it, are not needed to read it whole.
fn binlog(offset: &Map<String, Json>) -> Option<Position> {
    let file = offset.get("file")?.as_str()?.to_string();
    let gtid = offset.get("gtids").and_then(Json::as_str).unwrap_or("");
    let gtid = gtid.chars().filter(|c| !c.is_whitespace()).collect();
    Some(Position::Binlog { file, offset: offset.get("pos")?.as_u64()?, gtid })
}

fn short(key: &str) -> String {
    key.chars().take(KEY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVERAL: &[u8] = include_bytes!("golden/several.dat");

    fn from(bytes: &[u8]) -> Offsets {
        let mut offsets = Offsets::new();
        read(bytes, &mut offsets).unwrap();
        offsets
    }

    fn text(kind: DatabaseKind, wanted: Option<&str>, bytes: &[u8]) -> Result<String, String> {
        position(&from(bytes), kind, wanted).map(|position| position.to_string())
    }

    #[test]
    fn places_of_a_file() {
        use DatabaseKind::{Mariadb, Mysql, Postgres};
        let one = include_bytes!("golden/postgres.dat");
        assert_eq!(text(Postgres, None, one).unwrap(), "0/2255648");
        assert!(text(Mysql, None, one).unwrap_err().contains("not of a mysql connector"));
        let error = text(Postgres, None, SEVERAL).unwrap_err();
        assert!(error.contains("--key") && error.contains(r#"["two",{"server":"stock"}]"#));
        // The transaction that was being handled is read again: 90, not 100.
        assert_eq!(text(Postgres, Some("one"), SEVERAL).unwrap(), "0/5A");
        let gtid = "mysql-bin.000003:990 (3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5)";
        assert_eq!(text(Mariadb, Some("stock"), SEVERAL).unwrap(), gtid);
        assert!(text(Postgres, Some("gone"), SEVERAL).unwrap_err().contains("there are:"));
        let empty = include_bytes!("golden/empty.dat");
        assert_eq!(text(Postgres, None, empty).unwrap_err(), "the files hold no offsets");
    }

    #[test]
    fn places_of_a_dump() {
        let dump = "[\"c\",{\"server\":\"p\"}]\t{\"lsn\":16}\n\n\
                    {\"topic\":\"o\",\"key\":\"[\\\"c\\\",{\\\"server\\\":\\\"p\\\"}]\",\"payload\":\"{\\\"lsn\\\":32}\"}\n\
                    [\"old\",{\"server\":\"q\"}]\t{\"lsn\":99}\n[\"old\",{\"server\":\"q\"}]\tnull\n";
        assert_eq!(text(DatabaseKind::Postgres, None, dump.as_bytes()).unwrap(), "0/20");
        let mut offsets = Offsets::new();
        let error = read(b"\n[\"c\"]\t17", &mut offsets).unwrap_err();
        assert_eq!(error, "line 2: the offset of [\"c\"] is not a JSON object");
        assert!(read(b"what", &mut offsets).unwrap_err().starts_with("line 1: expected key"));
        assert!(read(&[0xff, 0xfe], &mut offsets).is_err());
    }

    #[test]
    fn a_snapshot_that_was_not_finished_is_refused() {
        let with = |offset: &str| {
            let line = format!("[\"c\"]\t{offset}");
            text(DatabaseKind::Postgres, None, line.as_bytes())
        };
        assert!(with(r#"{"lsn":16,"snapshot":true}"#).unwrap_err().contains("not finished"));
        let initial = r#"{"lsn":16,"snapshot":"INITIAL","snapshot_completed":false}"#;
        assert!(with(initial).unwrap_err().contains("not finished"));
        assert!(with(r#"{"lsn":16,"snapshot":"INITIAL","snapshot_completed":true}"#).is_ok());
        assert!(with(r#"{"lsn":16,"snapshot":true,"last_snapshot_record":true}"#).is_ok());
        let incremental = r#"{"lsn":16,"incremental_snapshot_primary_key":"aced"}"#;
        assert!(with(incremental).unwrap_err().contains("incremental"));
    }
}
