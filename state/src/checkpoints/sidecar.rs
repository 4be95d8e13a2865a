//! A twelve-byte file beside the store that counts its writes.
//!
//! A damaged store may open without complaint and simply have forgotten its latest writes. It
//! counts them itself; this file counts them too, one step behind. A store that knows of fewer
//! writes than the file does has lost some.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checkpoints::{CheckpointError, beside, io_error};

const BYTES: usize = 12;

/// The count and its file.
pub(super) struct Sidecar {
    path: PathBuf,
    file: File,
    /// Number of the last write that is known to be durable; 0 when there is none, or when the
    /// file is missing or unreadable.
    pub number: u64,
}

impl Sidecar {
    /// Opens or makes the file `DIR.writes`.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = beside(dir, ".writes");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error(&path, "opening"))?;
        let mut bytes = [0; BYTES];
        // An empty file is a new one; a damaged one says nothing.
        let number = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes).unwrap_or(0),
            Err(_) => 0,
        };
        Ok(Self { path, file, number })
    }

    /// Remembers that a write is durable.
    pub fn advance(&mut self, number: u64) -> Result<(), CheckpointError> {
        let mut bytes = [0; BYTES];
        let (count, checksum) = bytes.split_at_mut(8);
        count.copy_from_slice(&number.to_le_bytes());
        checksum.copy_from_slice(&crc32c::crc32c(count).to_le_bytes());
        // Smaller than a sector: it is written whole or not at all.
        self.file.write_all_at(&bytes, 0).map_err(io_error(&self.path, "writing"))?;
        self.file.sync_data().map_err(io_error(&self.path, "syncing"))?;
        self.number = number;
        Ok(())
    }
}

fn decode(bytes: [u8; BYTES]) -> Option<u64> {
    let (count, checksum) = bytes.split_first_chunk::<8>()?;
    let sound = crc32c::crc32c(count).to_le_bytes() == *checksum;
    sound.then(|| u64::from_le_bytes(*count))
}
