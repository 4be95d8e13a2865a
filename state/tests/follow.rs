//! Reading a journal beside the process that writes it.

use crossdock_state::{Journal, JournalError, JournalFollower, SnapshotFlag};

use crate::{block, open, segment_files, stream};

/// Numbers of the blocks that are there now.
fn drain(follower: &mut JournalFollower) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(entry) = follower.next_block().unwrap() {
        assert_eq!(entry.bytes, vec![entry.seq as u8; 40]);
        found.push(entry.seq);
    }
    found
}

#[test]
fn blocks_appear_as_they_are_written_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = JournalFollower::open(dir.path().join("none"), 0).unwrap();
    assert!(before.next_block().unwrap().is_none());
    let journal = open(dir.path(), 600);
    let mut follower = JournalFollower::open(dir.path(), 0).unwrap();
    let mut expected = 1;
    for n in 1..=60u64 {
        journal.append(stream(n, true), &[n as u8; 40]).unwrap();
        if n % 7 == 0 {
            journal.sync().unwrap();
            assert_eq!(drain(&mut follower), (expected..=n).collect::<Vec<_>>());
            expected = n + 1;
        }
    }
    assert!(segment_files(dir.path()).len() > 3);
    let mut middle = JournalFollower::open(dir.path(), 30).unwrap();
    assert_eq!(drain(&mut middle), (30..=60).collect::<Vec<_>>());
    let mut end = JournalFollower::open_at_end(dir.path()).unwrap();
    assert!(drain(&mut end).is_empty());
    journal.append(stream(61, true), &[61; 40]).unwrap();
    assert_eq!(drain(&mut end), [61]);
}

#[test]
fn what_may_be_cut_is_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 600);
    let append = |n: u64, boundary, snapshot| {
        journal.append(block(n, boundary, snapshot), &[n as u8; 40]).unwrap();
    };
    let mut follower = JournalFollower::open(dir.path(), 1).unwrap();
    append(1, true, SnapshotFlag::First);
    append(2, true, SnapshotFlag::Middle);
    assert!(drain(&mut follower).is_empty());
    append(3, true, SnapshotFlag::Last);
    assert_eq!(drain(&mut follower), [1, 2, 3]);
    for n in 4..=20 {
        append(n, false, SnapshotFlag::Stream);
    }
    assert!(drain(&mut follower).is_empty());
    journal.sync().unwrap();
    assert_eq!(journal.cut_snapshot().unwrap(), 4);
    assert!(drain(&mut follower).is_empty());
    append(4, false, SnapshotFlag::Stream);
    append(5, true, SnapshotFlag::Stream);
    assert_eq!(drain(&mut follower), [4, 5]);
}

#[test]
fn a_trimmed_block_and_damage_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 600);
    for n in 1..=40 {
        journal.append(stream(n, true), &[n as u8; 40]).unwrap();
    }
    journal.sync().unwrap();
    journal.trim(20).unwrap();
    let oldest = journal.oldest_seq();
    assert!(oldest > 2);
    let trimmed = JournalFollower::open(dir.path(), 2).map(drop);
    assert!(matches!(trimmed, Err(JournalError::Trimmed { asked: 2, oldest: o }) if o == oldest));
    assert_eq!(drain(&mut JournalFollower::open(dir.path(), 0).unwrap()).first(), Some(&oldest));
    drop(journal);
    let file = segment_files(dir.path()).swap_remove(1);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut follower = JournalFollower::open(dir.path(), 0).unwrap();
    let damage = std::iter::from_fn(|| follower.next_block().transpose()).find(Result::is_err);
    assert!(matches!(damage, Some(Err(JournalError::Corrupt { .. }))), "{damage:?}");
}
