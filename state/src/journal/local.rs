//! The journal on local disk: appending, syncing, deleting.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use crate::journal::recovery::{self, Progress, Recovered};
use crate::journal::segment::{self, Segment, io_error};
use crate::journal::{BlockMeta, Entry, Journal, JournalError, JournalOptions, frame};

/// A [`Journal`] in a folder of its own. All calls block on the disk: call them where blocking is
/// allowed.
pub struct LocalJournal {
    pub(super) options: JournalOptions,
    /// Oldest first; the last one is written to.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    writer: Mutex<Writer>,
    /// Of what is durable.
    progress: Mutex<Progress>,
    visible: watch::Sender<u64>,
    poisoned: AtomicBool,
    /// Held as long as the journal is open.
    _lock: Flock<File>,
}

/// What only the appender needs.
struct Writer {
    next_seq: u64,
    /// Everything up to here is on disk.
    durable: u64,
    /// As if everything appended were durable.
    progress: Progress,
    /// The next block does not follow the last one.
    after_gap: bool,
    /// The last segment has its cursor at its end and room behind it.
    ready: bool,
}

impl LocalJournal {
    /// Opens the journal of a folder, or makes one. See [`Journal`] for what opening cuts.
    pub fn open(options: JournalOptions) -> Result<LocalJournal, JournalError> {
        let dir = &options.dir;
        std::fs::create_dir_all(dir).map_err(|e| io_error(dir, "making the folder", e))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            segment::sync_dir(parent)?;
        }
        let lock = lock(dir)?;
        let Recovered { segments, progress, next_seq, after_gap } =
            recovery::recover(dir, options.first_seq.max(1))?;
        let (visible, _) = watch::channel(progress.visible.as_ref().map_or(0, |v| v.seq));
        let durable = progress.clone();
        let writer = Writer { next_seq, durable: next_seq - 1, progress, after_gap, ready: false };
        Ok(LocalJournal {
            options,
            segments: RwLock::new(segments),
            writer: Mutex::new(writer),
            progress: Mutex::new(durable),
            visible,
            poisoned: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// The last visible block; reading the source goes on at its position.
    pub fn last(&self) -> Option<(u64, BlockMeta)> {
        self.durable().visible.map(|v| (v.seq, v.meta))
    }

    /// The last durable block of a snapshot whose last block is not there yet. It can be continued
    /// behind that block, or cut with [`cut_snapshot`](Self::cut_snapshot).
    pub fn unfinished_snapshot(&self) -> Option<(u64, BlockMeta)> {
        self.durable().unfinished_snapshot().map(|w| (w.seq, w.meta.clone()))
    }

    fn durable(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a whole snapshot, or any of the stream, is in it. When not, the source must be read
    /// from a new snapshot (or from a given position).
    pub fn has_snapshot_or_stream(&self) -> bool {
        self.last().is_some()
    }

    /// Number that the next block will get.
    pub fn next_seq(&self) -> u64 {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).next_seq
    }

    /// Number of the oldest block that is kept; that of the next block when there is none.
    pub fn oldest_seq(&self) -> u64 {
        // First the number: what is appended after that is in a segment that is seen here.
        let next = self.next_seq();
        self.segments().first().map_or(next, |segment| segment.first_seq)
    }

    /// When the oldest block that is kept was appended, microseconds since the Unix epoch.
    pub fn oldest_appended_micros(&self) -> Option<i64> {
        self.segments().first().map(|s| s.content().first_appended_micros)
    }

    /// Number of the last visible block, 0 before the first; for waiting until there is more.
    pub fn visible(&self) -> watch::Receiver<u64> {
        self.visible.subscribe()
    }

    /// Bytes of all blocks that are kept, without what is preallocated for the next ones.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments().iter().map(|s| s.content().length).sum()
    }

    /// Drops the transaction that has been appended and not ended: for a source that was
    /// interrupted and will say it again. An unfinished snapshot stays. Returns the next block's
    /// number.
    pub fn cut_transaction(&self) -> Result<u64, JournalError> {
        self.cut(Progress::without_transaction)
    }

    /// Drops everything that is not visible, also an unfinished snapshot: for a source that will
    /// take it anew. Returns the next block's number.
    pub fn cut_snapshot(&self) -> Result<u64, JournalError> {
        self.cut(Progress::without_snapshot)
    }

    fn cut(&self, kept: fn(&Progress) -> Progress) -> Result<u64, JournalError> {
        let mut writer = self.writer()?;
        let progress = kept(&self.durable());
        let keep = progress.whole.as_ref().map(|whole| whole.seq);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let begun = segments.last().map(|s| s.content().last_seq);
        if begun.is_none_or(|last| Some(last) == keep) {
            return Ok(writer.next_seq);
        }
        let first = segments.first().map_or(writer.next_seq, |s| s.first_seq);
        self.guarded(recovery::cut(&self.options.dir, &mut segments, progress.whole.as_ref()))?;
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress.clone();
        writer.progress = progress;
        writer.ready = false;
        let next = keep.map_or(first, |seq| seq + 1);
        writer.next_seq = next.max(self.options.first_seq);
        writer.after_gap = keep.is_some() && writer.next_seq > next;
        writer.durable = writer.next_seq - 1;
        Ok(writer.next_seq)
    }

    /// Deletes whole segments, oldest first, whose blocks are all at or below `passed` (what every
    /// consumer has passed) and that are older than `retain` or beyond `retain_bytes`. A segment
    /// with the last visible block stays. Returns the bytes that were freed.
    pub fn trim(&self, passed: u64) -> Result<u64, JournalError> {
        self.check()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let retain = now.saturating_sub(self.options.retain);
        let old_micros = i64::try_from(retain.as_micros()).unwrap_or(i64::MAX);
        let visible = *self.visible.borrow();
        let mut freed = 0;
        loop {
            let total = self.bytes_on_disk();
            let victim = {
                let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
                let Some((first, second)) = segments.first().zip(segments.get(1)) else { break };
                let content = first.content();
                let unneeded = content.last_seq <= passed && second.first_seq <= visible;
                let old = content.last_appended_micros <= old_micros;
                if !unneeded || !(old || total > self.options.retain_bytes) {
                    break;
                }
                drop(content);
                segments.remove(0)
            };
            freed += victim.content().length;
            // Readers that are in the middle of it keep the open file.
            std::fs::remove_file(&victim.path)
                .map_err(|e| io_error(&victim.path, "removing a segment", e))?;
        }
        if freed > 0 {
            segment::sync_dir(&self.options.dir)?;
        }
        Ok(freed)
    }

    pub(super) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn last_segment(&self) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Fails when an earlier write has failed.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match self.poisoned.load(Ordering::Acquire) {
            true => Err(JournalError::Poisoned),
            false => Ok(()),
        }
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, JournalError> {
        // An appender that panicked may have left half a frame.
        let writer = self.writer.lock().map_err(|_| JournalError::Poisoned)?;
        self.check()?;
        Ok(writer)
    }

    /// After a failed write or sync nobody knows what the disk holds.
    fn guarded<T>(&self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if result.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        result
    }

    /// The segment that takes the next frame: the last one, or a new one when it would be too full.
    fn segment_for(&self, writer: &mut Writer, bytes: u64) -> Result<Arc<Segment>, JournalError> {
        if let Some(segment) = self.last_segment().filter(|_| !writer.after_gap) {
            let fits = segment.content().length + bytes <= self.options.segment_bytes;
            if fits && !writer.ready {
                segment.resume(self.options.segment_bytes)?;
                writer.ready = true;
            }
            if fits {
                return Ok(segment);
            }
            segment.close()?;
            writer.durable = writer.next_seq - 1;
        }
        let size = self.options.segment_bytes.max(bytes);
        let segment = Arc::new(Segment::create(&self.options.dir, writer.next_seq, size)?);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.push(segment.clone());
        writer.ready = true;
        Ok(segment)
    }
}

impl Journal for LocalJournal {
    fn append(&self, meta: BlockMeta, bytes: &[u8]) -> Result<u64, JournalError> {
        let mut writer = self.writer()?;
        let length = frame::HEADER_BYTES + meta.position.len() + bytes.len();
        if length > frame::FRAME_BYTES_MAX {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a block of 4 GiB or more");
            return Err(io_error(&self.options.dir, "appending", error));
        }
        let segment = self.guarded(self.segment_for(&mut writer, length as u64))?;
        let seq = writer.next_seq;
        let prefix = frame::prefix(&meta, seq, writer.durable, writer.after_gap, bytes);
        self.guarded(segment.write(&prefix, bytes))?;
        if let Some(header) = frame::header(&prefix) {
            segment.note(&header);
        }
        let end = segment.content().length;
        writer.progress.note(seq, &meta, &segment, end);
        writer.next_seq += 1;
        writer.after_gap = false;
        Ok(seq)
    }

    fn sync(&self) -> Result<u64, JournalError> {
        let mut writer = self.writer()?;
        let appended = writer.next_seq - 1;
        if writer.durable < appended {
            if let Some(segment) = self.last_segment() {
                self.guarded(segment.sync())?;
            }
            writer.durable = appended;
        }
        let seq = writer.progress.visible.as_ref().map_or(0, |v| v.seq);
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = writer.progress.clone();
        // Readers wake up once the lock is free and `progress` agrees.
        drop(writer);
        self.visible.send_if_modified(|known| std::mem::replace(known, seq) != seq);
        Ok(appended)
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Entry>, JournalError> {
        self.read_visible(from, bytes_max)
    }
}

fn lock(dir: &Path) -> Result<Flock<File>, JournalError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| io_error(&path, "opening the lock file", e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        Errno::EWOULDBLOCK => JournalError::Locked(dir.to_path_buf()),
        e => io_error(&path, "locking", e.into()),
    })
}
