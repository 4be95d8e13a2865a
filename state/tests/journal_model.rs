//! The journal against a model of it, under random work, crashes and damage.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crossdock_state::{Journal, JournalError, LocalJournal, SnapshotFlag};
use proptest::prelude::*;

use crate::{block, open, options, segment_files};

const SEGMENT_BYTES: u64 = 700;

#[derive(Clone, Debug)]
enum Step {
    Append { bytes: usize, boundary: bool, snapshot: SnapshotFlag },
    Sync,
    Reopen,
    CutTransaction,
    CutSnapshot,
    Trim { passed: u64 },
}

/// What the journal should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Every block that was not cut, by number from 1: position, length, flags.
    blocks: Vec<Expected>,
    /// Position of the next block; never used twice.
    next_position: u64,
    synced: usize,
    /// The furthest that consumers have ever passed.
    passed: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Expected {
    position: u64,
    bytes: usize,
    boundary: bool,
    snapshot: SnapshotFlag,
}

impl Model {
    /// How many of the first `n` blocks can be seen.
    fn visible(&self, n: usize) -> usize {
        let (mut open, mut visible) = (false, 0);
        for (i, block) in self.blocks.iter().take(n).enumerate() {
            match block.snapshot {
                SnapshotFlag::First => open = true,
                SnapshotFlag::Last => open = false,
                SnapshotFlag::Stream | SnapshotFlag::Middle => {}
            }
            if block.boundary && !open {
                visible = i + 1;
            }
        }
        visible
    }

    /// How many of the first `n` blocks are whole transactions.
    fn whole(&self, n: usize) -> usize {
        self.blocks.iter().take(n).rposition(|block| block.boundary).map_or(0, |i| i + 1)
    }

    fn cut(&mut self, keep: usize) {
        self.blocks.truncate(keep);
        self.synced = self.synced.min(keep);
    }
}

/// The journal shows exactly the first `visible` blocks, but for those trimmed.
fn check(journal: &LocalJournal, model: &Model, visible: usize) {
    let oldest = journal.oldest_seq();
    let entries = journal.read(oldest, usize::MAX).unwrap();
    let expected: Vec<_> = model.blocks.iter().take(visible).skip(oldest as usize - 1).collect();
    assert_eq!(entries.len(), expected.len());
    for ((entry, block), seq) in entries.iter().zip(expected).zip(oldest..) {
        assert_eq!((entry.seq, &entry.meta.position), (seq, &block.position.to_string()));
        assert_eq!(entry.bytes, content(block));
    }
    assert_eq!(journal.last().map_or(0, |(seq, _)| seq), visible as u64);
    let whole = Some(model.whole(model.synced)).filter(|whole| *whole != visible);
    assert_eq!(journal.unfinished_snapshot().map(|(seq, _)| seq as usize), whole);
}

fn content(block: &Expected) -> Vec<u8> {
    (0..block.bytes).map(|i| (block.position as usize * 7 + i) as u8).collect()
}

/// Does the steps and checks after each; returns the model at the end.
fn run(dir: &Path, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let mut journal = Some(open(dir, SEGMENT_BYTES));
    for step in steps {
        let now = journal.take().unwrap();
        journal = Some(match step {
            Step::Append { bytes, boundary, snapshot } => {
                let (position, bytes) = (model.next_position, *bytes);
                let made = Expected { position, bytes, boundary: *boundary, snapshot: *snapshot };
                let meta = block(position, *boundary, *snapshot);
                let seq = now.append(meta, &content(&made)).unwrap();
                model.next_position += 1;
                model.blocks.push(made);
                assert_eq!(seq, model.blocks.len() as u64);
                now
            }
            Step::Sync => {
                assert_eq!(now.sync().unwrap(), model.blocks.len() as u64);
                model.synced = model.blocks.len();
                now
            }
            Step::Reopen => {
                // A process that ends loses nothing that it has written; only a machine does.
                drop(now);
                model.cut(model.whole(model.blocks.len()));
                model.synced = model.blocks.len();
                open(dir, SEGMENT_BYTES)
            }
            Step::CutTransaction => {
                now.cut_transaction().unwrap();
                model.cut(model.whole(model.synced));
                now
            }
            Step::CutSnapshot => {
                now.cut_snapshot().unwrap();
                model.cut(model.visible(model.synced));
                now
            }
            Step::Trim { passed } => {
                now.trim(*passed).unwrap();
                let visible = model.visible(model.synced) as u64;
                model.passed = model.passed.max(*passed);
                assert!(now.oldest_seq() <= model.passed + 1);
                assert!(now.oldest_seq() <= visible.max(1), "the last visible block stays");
                now
            }
        });
        if let Some(journal) = &journal {
            check(journal, &model, model.visible(model.synced));
        }
    }
    model
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let snapshot = prop_oneof![
        12 => Just(SnapshotFlag::Stream),
        1 => Just(SnapshotFlag::First),
        2 => Just(SnapshotFlag::Middle),
        2 => Just(SnapshotFlag::Last),
    ];
    let append = (0usize..400, prop::bool::weighted(0.7), snapshot)
        .prop_map(|(bytes, boundary, snapshot)| Step::Append { bytes, boundary, snapshot });
    let step = prop_oneof![
        10 => append,
        4 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::CutTransaction),
        1 => Just(Step::CutSnapshot),
        1 => (0u64..30).prop_map(|passed| Step::Trim { passed }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_its_model(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &steps);
    }

    /// A crash of the machine may leave the last file cut at any byte: what is seen afterwards is
    /// a prefix of the blocks, and all of them that end before the cut count.
    #[test]
    fn a_cut_file_shows_a_prefix(steps in steps(), place in 0.0..1.0f64) {
        let dir = tempfile::tempdir().unwrap();
        let model = run(dir.path(), &steps);
        let Some(path) = segment_files(dir.path()).pop() else { return Ok(()) };
        let first: usize = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let length = (place * path.metadata().unwrap().len() as f64) as u64;
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let mut whole = first - 1;
        let mut end = 0;
        for block in model.blocks.iter().skip(first - 1) {
            end += 56 + block.position.to_string().len() as u64 + block.bytes as u64;
            if end <= length {
                whole += 1;
            }
        }
        let journal = open(dir.path(), SEGMENT_BYTES);
        let mut cut = model.clone();
        cut.cut(model.whole(whole));
        cut.synced = cut.blocks.len();
        let visible = cut.visible(cut.synced);
        if journal.oldest_seq() as usize <= visible {
            check(&journal, &cut, visible);
        }
        // And it goes on from there.
        journal.cut_snapshot().unwrap();
        let seq = journal.append(block(9_999, true, SnapshotFlag::Stream), b"on").unwrap();
        journal.sync().unwrap();
        prop_assert_eq!(journal.last().map(|(seq, _)| seq), Some(seq));
    }

    /// A damaged byte is never served: opening cuts a tail or refuses, reading refuses.
    #[test]
    fn a_damaged_byte_is_never_served(steps in steps(), file in 0.0..1.0f64, place in 0.0..1.0f64) {
        let dir = tempfile::tempdir().unwrap();
        let model = run(dir.path(), &steps);
        let files = segment_files(dir.path());
        let Some(path) = files.get((file * files.len() as f64) as usize) else { return Ok(()) };
        let damaged = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = (place * damaged.metadata().unwrap().len() as f64) as u64;
        let mut byte = [0];
        if damaged.read_at(&mut byte, at).unwrap() == 0 {
            return Ok(());
        }
        damaged.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
        let journal = match LocalJournal::open(options(dir.path(), SEGMENT_BYTES)) {
            Ok(journal) => journal,
            Err(error) => {
                prop_assert!(matches!(error, JournalError::Corrupt { .. }), "{}", error);
                return Ok(());
            }
        };
        let mut from = journal.oldest_seq();
        loop {
            match journal.read(from, 1) {
                Ok(entries) => match entries.into_iter().next() {
                    Some(entry) => {
                        let expected = &model.blocks[entry.seq as usize - 1];
                        prop_assert_eq!(entry.bytes, content(expected));
                        prop_assert_eq!(entry.meta.position, expected.position.to_string());
                        from = entry.seq + 1;
                    }
                    None => break,
                },
                Err(JournalError::Corrupt { .. }) => from += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
}
