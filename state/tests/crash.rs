//! A process that is killed while it writes: everything it had acknowledged is there.
//!
//! The test runs itself again as the child process; the child writes, and says on its standard
//! output what is durable.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossdock_state::checkpoints::saved::{SourceCheckpoint, load, save, source_key};
use crossdock_state::{Journal, SledCheckpoints};

use crate::{open, stream};

const DIR: &str = "CROSSDOCK_STATE_TEST_DIR";
const SEGMENT_BYTES: u64 = 20_000;
const ROUNDS: u64 = 12;

/// Starts this binary again to run one test only, as the writer in `dir`.
fn writer(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge `count` times, kills it, and returns the last acknowledgement that
/// it had sent by then.
fn kill_after(mut child: Child, count: u64) -> u64 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0;
    let mut seen = 0;
    while let Some(Ok(line)) = lines.next() {
        if let Some(number) = line.strip_prefix("ack ") {
            last = number.parse().unwrap();
            seen += 1;
        }
        if seen == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {number}").and_then(|()| out.flush()).unwrap();
}

fn journal_writer(dir: &Path) {
    let journal = open(dir, SEGMENT_BYTES);
    loop {
        let seq = journal.next_seq();
        for part in 0..3 {
            let bytes = vec![seq as u8; (seq as usize * 37 + part) % 900];
            journal.append(stream(seq + part as u64, part == 2), &bytes).unwrap();
        }
        say(journal.sync().unwrap());
    }
}

#[test]
fn a_killed_process_loses_no_acknowledged_block() {
    if let Some(dir) = std::env::var_os(DIR) {
        return journal_writer(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut known = 0;
    for round in 0..ROUNDS {
        let child = writer("crash::a_killed_process_loses_no_acknowledged_block", dir.path());
        let acknowledged = kill_after(child, 1 + round * 7);
        assert!(acknowledged > known);
        let journal = open(dir.path(), SEGMENT_BYTES);
        let (last, _) = journal.last().unwrap();
        assert!(last >= acknowledged, "{last} {acknowledged}");
        assert_eq!(last % 3, 0, "whole transactions");
        let entries = journal.read(1, usize::MAX).unwrap();
        assert_eq!(entries.len() as u64, last);
        for (entry, seq) in entries.iter().zip(1..) {
            assert_eq!((entry.seq, entry.meta.position.as_str()), (seq, seq.to_string().as_str()));
        }
        known = last;
    }
}

fn checkpoint(seq: u64) -> SourceCheckpoint {
    let position = format!("0/{seq:X}");
    SourceCheckpoint { position, seq, commit_micros: 1, saved_micros: 2 }
}

fn checkpoint_writer(dir: &Path) {
    let store = SledCheckpoints::open(&dir.join("checkpoints")).unwrap().store;
    let key = source_key("erp");
    let mut seq = load::<SourceCheckpoint>(&store, &key).unwrap().map_or(0, |c| c.seq);
    loop {
        seq += 1;
        save(&store, &key, &checkpoint(seq)).unwrap();
        say(seq);
    }
}

#[test]
fn a_killed_process_loses_no_checkpoint() {
    if let Some(dir) = std::env::var_os(DIR) {
        return checkpoint_writer(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let child = writer("crash::a_killed_process_loses_no_checkpoint", dir.path());
        let acknowledged = kill_after(child, 1 + round * 5);
        let opened = SledCheckpoints::open(&dir.path().join("checkpoints")).unwrap();
        assert!(!opened.rebuilt);
        let found: SourceCheckpoint = load(&opened.store, &source_key("erp")).unwrap().unwrap();
        assert!(found.seq >= acknowledged, "{} {acknowledged}", found.seq);
        assert_eq!(found, checkpoint(found.seq));
    }
}
