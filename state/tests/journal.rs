//! The journal's contract, clause by clause.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crossdock_state::{Journal, JournalError, JournalOptions, LocalJournal, SnapshotFlag};

use crate::{block, open, options, segment_files, stream};

/// Positions of all visible blocks from the oldest on.
fn positions(journal: &LocalJournal) -> Vec<u64> {
    let entries = journal.read(journal.oldest_seq(), usize::MAX).unwrap();
    entries.iter().map(|e| e.meta.position.parse().unwrap()).collect()
}

#[test]
fn blocks_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 4096);
    assert_eq!((journal.last(), journal.oldest_seq(), journal.next_seq()), (None, 1, 1));
    assert!(!journal.has_snapshot_or_stream());
    for n in 1..=100u64 {
        assert_eq!(journal.append(stream(n, true), &vec![n as u8; n as usize]).unwrap(), n);
    }
    assert_eq!(journal.read(1, usize::MAX).unwrap(), [], "nothing is visible before a sync");
    assert_eq!(journal.sync().unwrap(), 100);
    for _ in 0..2 {
        let entries = journal.read(1, usize::MAX).unwrap();
        assert_eq!(entries.len(), 100);
        for (entry, n) in entries.iter().zip(1..) {
            assert_eq!((entry.seq, &entry.meta), (n, &stream(n, true)));
            assert_eq!(entry.bytes, vec![n as u8; n as usize]);
        }
    }
    drop(journal);
    let journal = open(dir.path(), 4096);
    assert_eq!(journal.last(), Some((100, stream(100, true))));
    assert_eq!(journal.next_seq(), 101);
    assert_eq!(positions(&journal), (1..=100).collect::<Vec<_>>());
    assert!(segment_files(dir.path()).len() > 2, "several segments");
}

#[test]
fn a_read_is_bounded_and_gives_at_least_one_block() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 1 << 20);
    for n in 1..=10 {
        journal.append(stream(n, true), &[7; 1_000]).unwrap();
    }
    journal.sync().unwrap();
    let count = |bytes| journal.read(3, bytes).unwrap().len();
    assert_eq!([count(0), count(1), count(1_000), count(2_500), count(100_000)], [1, 1, 1, 2, 8]);
    assert_eq!(journal.read(11, 1).unwrap(), []);
}

#[test]
fn an_unfinished_transaction_is_not_seen_and_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 300);
    let visible = journal.visible();
    for (n, boundary) in [(1, true), (2, false), (3, false)] {
        journal.append(stream(n, boundary), b"part").unwrap();
    }
    assert_eq!(journal.sync().unwrap(), 3);
    assert_eq!((positions(&journal), *visible.borrow()), (vec![1], 1));
    journal.append(stream(4, true), b"end").unwrap();
    journal.sync().unwrap();
    assert_eq!((positions(&journal), *visible.borrow()), (vec![1, 2, 3, 4], 4));
    for n in 5..20 {
        journal.append(stream(n, false), b"part").unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    let journal = open(dir.path(), 300);
    assert_eq!((positions(&journal), journal.next_seq()), (vec![1, 2, 3, 4], 5));
    assert_eq!(journal.append(stream(50, true), b"anew").unwrap(), 5);
    journal.sync().unwrap();
    assert_eq!(positions(&journal), [1, 2, 3, 4, 50]);
}

#[test]
fn a_snapshot_is_seen_whole_or_not_at_all() {
    use SnapshotFlag::{First, Last, Middle};
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 300);
    journal.append(block(1, true, First), b"").unwrap();
    for n in 2..30 {
        journal.append(block(n, true, Middle), b"rows").unwrap();
    }
    journal.sync().unwrap();
    assert_eq!((positions(&journal), journal.last()), (vec![], None));
    drop(journal);

    let journal = open(dir.path(), 300);
    assert_eq!((journal.next_seq(), journal.has_snapshot_or_stream()), (30, false));
    assert_eq!(journal.cut_snapshot().unwrap(), 1);
    assert_eq!(journal.unfinished_snapshot(), None);
    assert_eq!(segment_files(dir.path()).len(), 0, "cut back to before its first block");
    for (n, part) in [(1, First), (2, Middle), (3, Last)] {
        journal.append(block(n, true, part), b"rows").unwrap();
    }
    journal.append(stream(4, true), b"rows").unwrap();
    journal.sync().unwrap();
    assert_eq!(positions(&journal), [1, 2, 3, 4]);

    // A later snapshot, interrupted: what was there before it stays.
    for (n, part) in [(5, First), (6, Middle)] {
        journal.append(block(n, true, part), b"rows").unwrap();
    }
    journal.sync().unwrap();
    assert_eq!(positions(&journal), [1, 2, 3, 4]);
    drop(journal);
    assert_eq!(positions(&open(dir.path(), 300)), [1, 2, 3, 4]);
}

#[test]
fn an_unfinished_snapshot_is_continued() {
    use SnapshotFlag::{First, Last, Middle};
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 300);
    for (n, boundary, part) in
        [(1, true, First), (2, true, Middle), (3, false, Middle), (4, false, Middle)]
    {
        journal.append(block(n, boundary, part), b"rows").unwrap();
    }
    journal.sync().unwrap();
    let unfinished = |journal: &LocalJournal| journal.unfinished_snapshot().map(|(seq, _)| seq);
    assert_eq!(unfinished(&journal), Some(2));
    assert_eq!(journal.cut_transaction().unwrap(), 3, "only the transaction that did not end");
    assert_eq!((unfinished(&journal), positions(&journal)), (Some(2), vec![]));
    journal.append(block(30, false, Middle), b"rows").unwrap();
    journal.sync().unwrap();
    drop(journal);

    let journal = open(dir.path(), 300);
    assert_eq!((unfinished(&journal), positions(&journal)), (Some(2), vec![]));
    let meta = journal.unfinished_snapshot().unwrap().1;
    assert_eq!((&*meta.position, journal.next_seq()), ("2", 3), "reading goes on here");
    journal.append(block(31, true, Middle), b"rows").unwrap();
    journal.sync().unwrap();
    assert!(positions(&journal).is_empty());
    journal.append(block(32, true, Last), b"").unwrap();
    journal.append(stream(33, true), b"rows").unwrap();
    journal.sync().unwrap();
    assert_eq!((unfinished(&journal), positions(&journal)), (None, vec![1, 2, 31, 32, 33]));
}

#[test]
fn an_interrupted_source_says_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 300);
    for n in 1..=5 {
        journal.append(stream(n, true), b"whole").unwrap();
    }
    journal.sync().unwrap();
    for n in 6..40 {
        journal.append(stream(n, false), b"part").unwrap();
    }
    journal.sync().unwrap();
    assert_eq!(journal.cut_transaction().unwrap(), 6);
    assert_eq!(journal.cut_transaction().unwrap(), 6);
    for n in 60..80 {
        assert_eq!(journal.append(stream(n, true), b"again").unwrap(), n - 54);
    }
    journal.sync().unwrap();
    let expected: Vec<u64> = (1..=5).chain(60..80).collect();
    assert_eq!(positions(&journal), expected);
    drop(journal);
    assert_eq!(positions(&open(dir.path(), 300)), expected);

    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 300);
    journal.append(stream(1, false), b"part").unwrap();
    assert_eq!(journal.cut_transaction().unwrap(), 1);
    journal.append(stream(2, true), b"whole").unwrap();
    journal.sync().unwrap();
    assert_eq!(positions(&journal), [2]);
}

#[test]
fn only_what_everybody_has_passed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 1_000);
    for n in 1..=100 {
        journal.append(stream(n, true), &[1; 100]).unwrap();
    }
    journal.sync().unwrap();
    let all = journal.bytes_on_disk();
    assert_eq!(journal.trim(0).unwrap(), 0);
    let freed = journal.trim(50).unwrap();
    assert!(freed > 0);
    assert_eq!(journal.bytes_on_disk(), all - freed);
    let oldest = journal.oldest_seq();
    assert!((40..=51).contains(&oldest), "{oldest}");
    assert_eq!(journal.oldest_appended_micros(), Some(1_000 + oldest as i64));
    assert_eq!(journal.read(51, 1).unwrap()[0].seq, 51);
    let gone = journal.read(oldest - 1, 1).unwrap_err();
    assert!(matches!(gone, JournalError::Trimmed { asked, oldest: o } if asked + 1 == o));

    // Even when all is passed, the block at which the source resumes stays.
    journal.trim(u64::MAX).unwrap();
    assert_eq!(journal.last().map(|(seq, _)| seq), Some(100));
    drop(journal);
    let journal = open(dir.path(), 1_000);
    assert_eq!(journal.last(), Some((100, stream(100, true))));
    assert_eq!(journal.append(stream(101, true), b"").unwrap(), 101);
}

#[test]
fn blocks_are_kept_for_their_time_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let kept = |retain_bytes| JournalOptions {
        retain: Duration::from_secs(3_600 * 24 * 365 * 1_000),
        retain_bytes,
        ..options(dir.path(), 1_000)
    };
    let journal = LocalJournal::open(kept(u64::MAX)).unwrap();
    for n in 1..=100 {
        journal.append(stream(n, true), &[1; 100]).unwrap();
    }
    journal.sync().unwrap();
    assert_eq!(journal.trim(u64::MAX).unwrap(), 0, "young enough");
    drop(journal);
    let journal = LocalJournal::open(kept(5_000)).unwrap();
    journal.trim(u64::MAX).unwrap();
    let bytes = journal.bytes_on_disk();
    assert!((4_000..=5_000).contains(&bytes), "{bytes}");
}

#[test]
fn damage_is_told_from_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 100_000);
    for n in 1..=10 {
        journal.append(stream(n, true), &[1; 1_000]).unwrap();
        journal.sync().unwrap();
    }
    drop(journal);
    let path = segment_files(dir.path()).remove(0);
    let flip = |at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    };
    // In block 5 of 10, which was durable: an error that names file and place.
    let block_bytes = journal_block_bytes(1_000);
    let middle = block_bytes * 4 + 500;
    flip(middle);
    match LocalJournal::open(options(dir.path(), 100_000)).err() {
        Some(JournalError::Corrupt { file, at }) => {
            assert_eq!((file.as_path(), at), (path.as_path(), block_bytes * 4));
        }
        other => panic!("{other:?}"),
    }
    flip(middle);
    // In the last block: nobody can tell it from a torn write.
    flip(block_bytes * 9 + 500);
    let journal = open(dir.path(), 100_000);
    assert_eq!(journal.last().map(|(seq, _)| seq), Some(9));
}

/// Length of the frame of a block with a position of one digit.
fn journal_block_bytes(block: u64) -> u64 {
    56 + 1 + block
}

#[test]
fn damage_in_an_old_segment_is_found_by_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 3_000);
    for n in 1..=9 {
        journal.append(stream(n, true), &[1; 1_000]).unwrap();
    }
    journal.sync().unwrap();
    let oldest = segment_files(dir.path()).remove(0);
    OpenOptions::new().write(true).open(oldest).unwrap().write_all_at(&[9], 500).unwrap();
    drop(journal);
    let journal = open(dir.path(), 3_000);
    assert!(matches!(journal.read(1, 1), Err(JournalError::Corrupt { at: 0, .. })));
    assert_eq!(journal.read(2, 1).unwrap()[0].seq, 2);
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 3_000);
    for n in 1..=9 {
        journal.append(stream(n, true), &[1; 1_000]).unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    std::fs::remove_file(segment_files(dir.path()).remove(1)).unwrap();
    let opened = LocalJournal::open(options(dir.path(), 3_000));
    assert!(matches!(opened, Err(JournalError::Corrupt { .. })));
}

#[test]
fn numbers_that_consumers_have_passed_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let from = |first_seq| {
        LocalJournal::open(JournalOptions { first_seq, ..options(dir.path(), 3_000) }).unwrap()
    };
    let journal = from(500);
    assert_eq!((journal.oldest_seq(), journal.next_seq()), (500, 500));
    assert_eq!(journal.append(stream(1, true), b"a").unwrap(), 500);
    journal.sync().unwrap();
    drop(journal);
    // The end of the journal was lost, consumers have passed 700.
    let journal = from(701);
    assert_eq!(journal.append(stream(2, true), b"b").unwrap(), 701);
    journal.sync().unwrap();
    assert_eq!(journal.read(501, 10).unwrap()[0].seq, 701);
    drop(journal);
    let journal = from(701);
    let seqs: Vec<_> = journal.read(500, 1_000).unwrap().iter().map(|e| e.seq).collect();
    assert_eq!((seqs, journal.next_seq()), (vec![500, 701], 702));
}

/// Who asks while the first block is appended must not hear that it is gone already.
#[test]
fn the_oldest_block_is_the_first_one_while_it_is_appended() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), 1 << 20);
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| journal.append(stream(1, true), b"first").unwrap());
            while !appending.is_finished() {
                assert_eq!(journal.oldest_seq(), 1);
            }
        });
        assert_eq!(journal.oldest_seq(), 1);
    }
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 3_000);
    let second = LocalJournal::open(options(dir.path(), 3_000));
    assert!(matches!(second, Err(JournalError::Locked(_))));
    drop(journal);
    open(dir.path(), 3_000);
}

#[test]
fn places_to_rewind_to() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 1_000);
    for n in 1..=100 {
        journal.append(stream(n * 2, true), &[1; 100]).unwrap();
    }
    journal.append(stream(202, false), b"unfinished").unwrap();
    journal.sync().unwrap();
    let position = |wanted: u64| {
        let found =
            journal.find_position(|meta| meta.position.parse::<u64>().unwrap().cmp(&wanted));
        found.unwrap()
    };
    assert_eq!([position(0), position(2), position(3), position(120)], [1, 1, 2, 60].map(Some));
    assert_eq!([position(200), position(201), position(202)], [Some(100), None, None]);
    let time = |micros| journal.find_time(micros).unwrap();
    assert_eq!([time(0), time(20), time(21), time(2_000)], [1, 1, 2, 100].map(Some));
    assert_eq!([time(2_001), time(2_020)], [None, None]);
    assert_eq!(journal.find(|meta| meta.position == "84").unwrap(), Some(42));
    assert_eq!(journal.find(|meta| meta.position == "85").unwrap(), None);
}

#[test]
fn readers_tail_the_appender() {
    let dir = tempfile::tempdir().unwrap();
    let journal = std::sync::Arc::new(open(dir.path(), 10_000));
    let mut visible = journal.visible();
    let reader = journal.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tail = std::thread::spawn(move || {
        let mut from = 1;
        while from <= 2_000 {
            runtime.block_on(visible.wait_for(|seq| *seq >= from)).unwrap();
            for entry in reader.read(from, 4_096).unwrap() {
                assert_eq!((entry.seq, entry.meta.position), (from, from.to_string()));
                from += 1;
            }
        }
    });
    let mut sent = 1;
    while sent <= 2_000 {
        for _ in 0..20 {
            journal.append(stream(sent, true), &[3; 200]).unwrap();
            sent += 1;
        }
        // Work that is given up and begun again must not disturb readers.
        journal.sync().unwrap();
        journal.append(stream(0, false), &[3; 200]).unwrap();
        journal.cut_transaction().unwrap();
    }
    tail.join().unwrap();
}
