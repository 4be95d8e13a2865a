//! One file of the journal, and reading through it in pieces.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::journal::JournalError;
use crate::journal::frame::Header;

/// A block's place is remembered at least this often; between, frames are walked.
const INDEX_EVERY_BYTES: u64 = 64 << 10;
/// Files are read in pieces of this size (or of one frame, where that is larger).
const WINDOW_BYTES: usize = 256 << 10;
const SUFFIX: &str = ".journal";

/// One file of blocks with consecutive numbers.
pub(super) struct Segment {
    pub path: PathBuf,
    pub file: File,
    /// Number of its first block.
    pub first_seq: u64,
    content: RwLock<Content>,
}

/// What is known of a segment's frames.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// End of the last frame; what follows is zeros.
    pub length: u64,
    /// Number of the last block; one less than the first when there is none.
    pub last_seq: u64,
    /// When its first block was appended.
    pub first_appended_micros: i64,
    /// When its last block was appended.
    pub last_appended_micros: i64,
    /// Latest commit time in it; may be too late after a cut, never too early.
    pub commit_micros_max: i64,
    /// Number and place of some blocks, ascending; the first block is among them.
    index: Vec<(u64, u64)>,
}

impl Content {
    /// The nearest remembered place at or before a block.
    pub fn place_before(&self, seq: u64) -> u64 {
        let at = self.index.partition_point(|(known, _)| *known <= seq);
        at.checked_sub(1).and_then(|at| self.index.get(at)).map_or(0, |(_, place)| *place)
    }
}

impl Segment {
    /// Makes the file for blocks from `first_seq` on, of full size if the file system can.
    pub fn create(dir: &Path, first_seq: u64, bytes: u64) -> Result<Self, JournalError> {
        let path = dir.join(format!("{first_seq:020}{SUFFIX}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| io_error(&path, "making a segment", e))?;
        let segment = Self::with(path, file, first_seq);
        segment.preallocate(bytes)?;
        segment.on("syncing a new segment", |file| file.sync_all())?;
        sync_dir(dir)?;
        Ok(segment)
    }

    /// Opens an existing file; its frames are yet to be noted.
    pub fn open(path: PathBuf, first_seq: u64) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| io_error(&path, "opening a segment", e))?;
        Ok(Self::with(path, file, first_seq))
    }

    /// Opens an existing file that another process may be writing to.
    pub fn open_to_read(path: PathBuf, first_seq: u64) -> Result<Self, JournalError> {
        let file = File::open(&path).map_err(|e| io_error(&path, "opening a segment", e))?;
        Ok(Self::with(path, file, first_seq))
    }

    fn with(path: PathBuf, file: File, first_seq: u64) -> Self {
        let content = Content {
            length: 0,
            last_seq: first_seq - 1,
            first_appended_micros: i64::MAX,
            last_appended_micros: i64::MIN,
            commit_micros_max: i64::MIN,
            index: Vec::new(),
        };
        Self { path, file, first_seq, content: RwLock::new(content) }
    }

    /// What is known of its frames.
    pub fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn content_mut(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the frame that begins where the noted ones end.
    pub fn note(&self, header: &Header) {
        let mut content = self.content_mut();
        let place = content.length;
        let due = content.index.last().is_none_or(|(_, at)| place - at >= INDEX_EVERY_BYTES);
        if due {
            content.index.push((header.seq, place));
        }
        if content.last_seq < self.first_seq {
            content.first_appended_micros = header.appended_micros;
        }
        content.last_appended_micros = header.appended_micros;
        content.commit_micros_max = content.commit_micros_max.max(header.commit_micros);
        content.last_seq = header.seq;
        content.length = place + header.length as u64;
    }

    /// Writes a frame at the file's end, without copying the block.
    pub fn write(&self, prefix: &[u8], block: &[u8]) -> Result<(), JournalError> {
        let mut parts = [IoSlice::new(prefix), IoSlice::new(block)];
        let mut left = &mut parts[..];
        self.on("writing a block", |mut file| {
            while left.iter().any(|part| !part.is_empty()) {
                match file.write_vectored(left) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(n) => IoSlice::advance_slices(&mut left, n),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        })
    }

    /// Makes its content durable.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.on("syncing a segment", |file| file.sync_data())
    }

    /// No more blocks will come: gives back what was preallocated, durably.
    pub fn close(&self) -> Result<(), JournalError> {
        let length = self.content().length;
        self.sync()?;
        self.on("closing a segment", |file| file.set_len(length))?;
        self.on("closing a segment", |file| file.sync_all())
    }

    /// Forgets the frames from `length` on (`last_seq` is the last one kept), so that nothing of
    /// them can be read again.
    pub fn cut(&self, length: u64, last_seq: u64) -> Result<(), JournalError> {
        self.on("cutting a segment", |file| file.set_len(length))?;
        self.on("cutting a segment", |file| file.sync_all())?;
        let mut content = self.content_mut();
        content.index.retain(|(_, place)| *place < length);
        content.length = length;
        content.last_seq = last_seq;
        Ok(())
    }

    /// Makes the file ready for appending after its last frame.
    pub fn resume(&self, bytes: u64) -> Result<(), JournalError> {
        let length = self.content().length;
        // Whatever lies behind the last frame must be zeros from now on.
        self.on("cutting a segment", |file| file.set_len(length))?;
        self.preallocate(bytes)?;
        self.on("syncing a segment", |file| file.sync_all())?;
        self.on("seeking in a segment", |mut file| file.seek(SeekFrom::Start(length)).map(drop))
    }

    fn preallocate(&self, bytes: u64) -> Result<(), JournalError> {
        let length = nix::libc::off_t::try_from(bytes).unwrap_or(nix::libc::off_t::MAX);
        match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // A file system that cannot preallocate works as well, only slower.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(()),
            Err(e) => Err(io_error(&self.path, "preallocating a segment", e.into())),
        }
    }

    fn on<T>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<T, JournalError> {
        act(&self.file).map_err(|e| io_error(&self.path, doing, e))
    }

    /// The file's size, preallocated bytes included.
    pub fn file_length(&self) -> Result<u64, JournalError> {
        self.on("reading a segment", |file| file.metadata().map(|m| m.len()))
    }
}

/// The segments in a folder with the numbers of their first blocks, ascending.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut found = Vec::new();
    let entries = dir.read_dir().map_err(|e| io_error(dir, "listing segments", e))?;
    for entry in entries {
        let path = entry.map_err(|e| io_error(dir, "listing segments", e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let first = name.strip_suffix(SUFFIX).and_then(|digits| digits.parse::<u64>().ok());
        if let Some(first) = first.filter(|first| *first > 0) {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes names that were added to or removed from a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error(dir, "syncing the folder", e))
}

pub(super) fn io_error(file: &Path, doing: &'static str, source: io::Error) -> JournalError {
    JournalError::Io { file: file.to_path_buf(), doing, source }
}

/// A file read piece by piece: asking for bytes near those asked for before costs no read.
pub(super) struct Window<'s> {
    segment: &'s Segment,
    /// Bytes from here on are not looked at.
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'s> Window<'s> {
    pub fn new(segment: &'s Segment, end: u64) -> Self {
        Self { segment, end, start: 0, bytes: Vec::new() }
    }

    /// Bytes left from a place on.
    pub fn left(&self, at: u64) -> u64 {
        self.end.saturating_sub(at)
    }

    /// `length` bytes at a place; `None` when there are fewer.
    pub fn get(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, JournalError> {
        if self.left(at) < length as u64 {
            return Ok(None);
        }
        let held = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        if held.is_none_or(|skip| skip.saturating_add(length) > self.bytes.len()) {
            let wanted = (length.max(WINDOW_BYTES) as u64).min(self.left(at));
            self.fill(at, usize::try_from(wanted).unwrap_or(length))?;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).and_then(|rest| rest.get(..length)))
    }

    /// Reads up to `length` bytes from a place; fewer when the file has been cut meanwhile.
    fn fill(&mut self, at: u64, length: usize) -> Result<(), JournalError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(length, 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.segment.file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io_error(&self.segment.path, "reading a segment", e)),
            }
        }
        bytes.truncate(filled);
        (self.start, self.bytes) = (at, bytes);
        Ok(())
    }
}
