//! The journal and the checkpoints on a real disk: what is acknowledged is there afterwards,
//! whatever happened in between.
#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod checkpoints;
mod crash;
mod follow;
mod journal;
mod journal_model;

use crossdock_state::{BlockMeta, JournalOptions, LocalJournal, SnapshotFlag};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A block of the stream.
fn stream(position: u64, boundary: bool) -> BlockMeta {
    block(position, boundary, SnapshotFlag::Stream)
}

fn block(position: u64, boundary: bool, snapshot: SnapshotFlag) -> BlockMeta {
    BlockMeta {
        position: position.to_string(),
        boundary,
        snapshot,
        commit_micros: position as i64 * 10,
        appended_micros: 1_000 + position as i64,
        events: 1,
    }
}

/// Small segments, which may go as soon as everybody has passed them.
fn options(dir: &Path, segment_bytes: u64) -> JournalOptions {
    let retain = Duration::ZERO;
    JournalOptions { segment_bytes, retain, ..JournalOptions::new(dir) }
}

fn open(dir: &Path, segment_bytes: u64) -> LocalJournal {
    LocalJournal::open(options(dir, segment_bytes)).unwrap()
}

/// The journal's segment files, oldest first.
fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let paths = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|p| p.extension().is_some_and(|e| e == "journal")).collect();
    files.sort();
    files
}
