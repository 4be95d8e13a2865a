//! What Crossdock keeps on local disk: the journal and the checkpoints.
//!
//! The journal is the durable copy of what was captured; checkpoints (sled) are small, and each
//! of them can be rebuilt from the journal, the canonical store or a target.
//! Knows nothing of what the bytes mean.

pub mod checkpoints;
pub mod journal;

pub use checkpoints::saved::{Savepoint, SourceCheckpoint, StageCheckpoint};
pub use checkpoints::{CheckpointError, Checkpoints, Opened, SledCheckpoints};
pub use journal::{
    BlockMeta, Entry, Journal, JournalError, JournalFollower, JournalOptions, LocalJournal,
    SnapshotFlag,
};
