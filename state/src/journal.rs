//! The journal of one source: a segmented log of blocks, numbered from 1 without gaps.
//!
//! ```text
//! DIR/lock                              held while a process has the journal open
//! DIR/00000000000000000001.journal      segment: frames, one after the other, then zeros
//! DIR/00000000000000004711.journal      the name is the number of its first block
//! ```
//! Read in this order: [`frame`] (bytes of one block), [`segment`] (one file), [`recovery`] (what
//! opening believes and cuts), [`local`] (appending and deleting), [`reader`] (reading and finding),
//! [`follow`] (reading beside the process that writes).

mod frame;
mod segment;

mod recovery;

mod local;
mod reader;

mod follow;

pub use follow::JournalFollower;
pub use local::LocalJournal;

use std::path::PathBuf;
use std::time::Duration;

/// Blocks that are appended with one sync, at most: a sync waits for the disk, and while it does,
/// the next blocks gather.
pub const BLOCKS_PER_SYNC: usize = 64;

/// What is kept beside each block, readable without decoding it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMeta {
    /// Opaque text: where reading the source goes on after this block.
    pub position: String,
    /// The block ends with a whole transaction.
    pub boundary: bool,
    /// Part of a snapshot: see [`Journal`].
    pub snapshot: SnapshotFlag,
    /// Commit time of its last transaction, microseconds since the Unix epoch.
    pub commit_micros: i64,
    /// When it was appended, microseconds since the Unix epoch.
    pub appended_micros: i64,
    /// Row changes in it.
    pub events: u32,
}

/// Which part of a snapshot a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFlag {
    /// None.
    Stream,
    /// Its first block.
    First,
    /// Neither first nor last.
    Middle,
    /// Its last block.
    Last,
}

/// One block as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// What is kept beside it.
    pub meta: BlockMeta,
    /// The block.
    pub bytes: Vec<u8>,
}

/// How a journal keeps its files.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Folder; made when missing. One process at a time: a second open is refused (lock file).
    pub dir: PathBuf,
    /// A segment is closed at this size. Default 128 MiB.
    pub segment_bytes: u64,
    /// Segments older than this may go, once every consumer has passed them.
    pub retain: Duration,
    /// Segments beyond this total may go, once every consumer has passed them.
    pub retain_bytes: u64,
    /// The first block of a new journal gets at least this number (so that a journal that was
    /// lost never reuses numbers that consumers have passed).
    pub first_seq: u64,
}

impl JournalOptions {
    /// Defaults: segments of 128 MiB, kept for a day and up to 32 GiB, numbers from 1.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 128 << 20,
            retain: Duration::from_secs(24 * 60 * 60),
            retain_bytes: 32 << 30,
            first_seq: 1,
        }
    }
}

/// The durable buffer between capture and the rest.
///
/// Contract:
/// - One appender; any number of readers at the same time.
/// - `append` returns the block's number; the block is durable when a later `sync` returns.
///   A failed write or sync poisons the journal: every later call fails, and the process must
///   open it anew (which cuts the torn tail).
/// - Readers see only *visible* blocks: durable, and up to a transaction boundary, and no block of
///   a snapshot before its last block is durable.
/// - Opening cuts, with a warning: a torn or corrupt tail; blocks after the last boundary. A
///   snapshot without its last block stays, not visible, until it is continued or cut.
///   A corrupt block that is *followed by* sound ones is not cut but an error, naming file and
///   offset.
/// - Blocks are deleted by `trim` only, whole segments at a time, never one that a consumer needs.
pub trait Journal: Send + Sync {
    /// Appends a block.
    fn append(&self, meta: BlockMeta, bytes: &[u8]) -> Result<u64, JournalError>;

    /// Makes everything appended durable. Returns the number of the last durable block.
    fn sync(&self) -> Result<u64, JournalError>;

    /// Reads visible blocks from `from` on: at least one, then more up to `bytes_max` in all;
    /// empty when there is none yet. `from` below the oldest kept block is an error.
    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Entry>, JournalError>;
}

/// Why the journal stopped.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no. Poisons the journal.
    #[error("journal {file}: {doing} failed")]
    Io {
        /// File concerned.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// A block does not have its checksum and is not at the tail.
    #[error(
        "journal {file} is corrupt at byte {at}: restore the file, or move the journal away and let the source be read anew"
    )]
    Corrupt {
        /// File concerned.
        file: PathBuf,
        /// Where.
        at: u64,
    },
    /// An earlier write failed.
    #[error("journal is closed after a failed write: restart the process")]
    Poisoned,
    /// The block asked for is not kept any more.
    #[error(
        "journal block {asked} is gone, the oldest kept is {oldest}: rewind less far, or take a new snapshot"
    )]
    Trimmed {
        /// Asked for.
        asked: u64,
        /// Oldest kept.
        oldest: u64,
    },
    /// Another process has it open.
    #[error("journal {0} is in use by another crossdock")]
    Locked(PathBuf),
}
