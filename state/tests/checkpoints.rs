//! Checkpoints: kept, listed, and rebuilt when they are damaged.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crossdock_state::checkpoints::VALUE_BYTES_MAX;
use crossdock_state::checkpoints::saved::{
    integrate_key, load, load_all, save, savepoint_key, source_key, target_key,
};
use crossdock_state::{
    CheckpointError, Checkpoints, Savepoint, SledCheckpoints, SourceCheckpoint, StageCheckpoint,
};

fn open(dir: &Path) -> (SledCheckpoints, bool) {
    let opened = SledCheckpoints::open(dir).unwrap();
    (opened.store, opened.rebuilt)
}

#[test]
fn values_are_there_after_reopening() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("state/checkpoints");
    let (store, rebuilt) = open(&dir);
    assert!(!rebuilt, "new, not lost");
    assert_eq!(store.get("source/erp").unwrap(), None);
    store.put("source/erp", b"one").unwrap();
    store.put_many(&[("source/erp", b"two"), ("source/wms", b""), ("target/erp", b"3")]).unwrap();
    store.put("gone", b"x").unwrap();
    store.remove("gone").unwrap();
    store.remove("never there").unwrap();
    drop(store);
    let (store, rebuilt) = open(&dir);
    assert!(!rebuilt);
    assert_eq!(store.get("source/erp").unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.get("gone").unwrap(), None);
    let sources = store.list("source/").unwrap();
    assert_eq!(
        sources,
        [("source/erp".to_string(), b"two".to_vec()), ("source/wms".to_string(), vec![])]
    );
    assert_eq!(store.list("").unwrap().len(), 3);
}

#[test]
fn it_is_no_place_for_data() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = open(&temporary.path().join("checkpoints"));
    let large = vec![0; VALUE_BYTES_MAX + 1];
    for (key, value) in [("source/erp", &large[..]), ("", b"x"), (" generation", b"x")] {
        assert!(matches!(store.put(key, value), Err(CheckpointError::Refused { .. })), "{key}");
    }
    store.put("source/erp", &large[1..]).unwrap();
}

#[test]
fn savepoints_hold_every_stage() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = open(&temporary.path().join("checkpoints"));
    let source = SourceCheckpoint {
        position: "binlog.000042:1093 (0-1-42)".into(),
        seq: 7,
        commit_micros: 1,
        saved_micros: 2,
    };
    let stage = StageCheckpoint { seq: 6, commit_micros: 1, saved_micros: 2 };
    let savepoint = Savepoint {
        name: "before go-live".into(),
        saved_micros: 3,
        sources: BTreeMap::from([("wms_eu".to_string(), source.clone())]),
        integrate: BTreeMap::from([("wms_eu".to_string(), stage.clone())]),
        targets: BTreeMap::from([("erp".to_string(), stage.clone())]),
    };
    save(&store, &source_key("wms_eu"), &source).unwrap();
    save(&store, &integrate_key("wms_eu"), &stage).unwrap();
    save(&store, &target_key("erp"), &stage).unwrap();
    save(&store, &savepoint_key("before go-live"), &savepoint).unwrap();
    assert_eq!(load(&store, &target_key("erp")).unwrap(), Some(stage));
    let all: BTreeMap<String, Savepoint> = load_all(&store, "savepoint/").unwrap();
    assert_eq!(all, BTreeMap::from([("before go-live".to_string(), savepoint)]));
    let other = load::<Savepoint>(&store, &target_key("erp"));
    assert!(matches!(other, Err(CheckpointError::Unreadable { .. })));
}

#[test]
fn one_process_at_a_time() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("checkpoints");
    let (store, _) = open(&dir);
    assert!(matches!(SledCheckpoints::open(&dir), Err(CheckpointError::Locked(_))));
    drop(store);
    open(&dir);
}

/// Writes 20 times and closes; the last write of each key says 20.
fn filled(dir: &Path) {
    let (store, _) = open(dir);
    for n in 1..=20u8 {
        store.put_many(&[("source/erp", &[n; 40]), ("integrate/erp", &[n; 40])]).unwrap();
    }
}

/// After damage the store is as it was, or it says that it is empty now; never anything between.
fn check(dir: &Path, what: &str) -> bool {
    let (store, rebuilt) = open(dir);
    let values = store.list("").unwrap();
    if rebuilt {
        assert_eq!(values, [], "{what}");
        // Until the caller has rebuilt it, it says so again.
        drop(store);
        let (store, again) = open(dir);
        assert!(again, "{what}");
        store.put("source/erp", b"rebuilt").unwrap();
        drop(store);
        let (store, again) = open(dir);
        assert!(!again, "{what}");
        assert_eq!(store.get("source/erp").unwrap().as_deref(), Some(&b"rebuilt"[..]));
    } else {
        let expected: Vec<_> =
            ["integrate/erp", "source/erp"].map(|k| (k.to_string(), vec![20u8; 40])).into();
        assert_eq!(values, expected, "{what}");
    }
    rebuilt
}

#[test]
fn a_damaged_store_is_moved_aside_and_rebuilt() {
    let length = {
        let temporary = tempfile::tempdir().unwrap();
        filled(&temporary.path().join("c"));
        temporary.path().join("c/db").metadata().unwrap().len()
    };
    let mut rebuilt = 0;
    for part in 0..8 {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("c");
        filled(&dir);
        let db = OpenOptions::new().write(true).open(dir.join("db")).unwrap();
        match part % 2 {
            0 => db.set_len(length * part / 8).unwrap(),
            _ => db.write_all_at(&[0xa5; 3_000], length * (part - 1) / 8).unwrap(),
        }
        let lost = check(&dir, &format!("part {part}"));
        rebuilt += u32::from(lost);
        let aside = temporary.path().read_dir().unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().contains(".broken-")
        });
        assert_eq!(aside.count() > 0, lost, "part {part}");
    }
    assert!(rebuilt >= 2, "the damage is real: {rebuilt}");
}

#[test]
fn a_store_that_was_deleted_is_rebuilt() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("c");
    filled(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(check(&dir, "deleted"));
}

#[test]
fn a_store_put_back_from_an_old_copy_is_rebuilt() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("c");
    filled(&dir);
    // The file beside it remembers more writes than the store does.
    let (old, new) = (temporary.path().join("old"), temporary.path().join("new"));
    filled(&old);
    {
        let (store, _) = open(&dir);
        store.put("source/erp", b"21").unwrap();
    }
    std::fs::rename(&dir, &new).unwrap();
    std::fs::rename(&old, &dir).unwrap();
    assert!(check(&dir, "old copy"));
}
