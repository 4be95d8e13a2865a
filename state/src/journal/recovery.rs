//! What opening a journal believes, and what it cuts.
//!
//! First the files: frames are walked from the oldest on. Where they stop making sense, it is
//! either the torn tail of a crash, which is cut, or damage to what had been durable, which is an
//! error; a later frame that says "by then it was durable" tells which. Then the contents: a
//! transaction without its end is cut, because the source will say it again. Of a snapshot
//! without its last block the whole transactions stay, not visible, for who can continue it.
//!
//! Checksums are verified in the last two files with blocks; in older ones, which were durable as
//! a whole before the next was begun, only headers are walked, and readers verify.

use std::path::Path;
use std::sync::Arc;

use crate::journal::frame::{self, Header};
use crate::journal::segment::{self, Segment, Window};
use crate::journal::{BlockMeta, JournalError, SnapshotFlag};

/// Files at the end whose checksums are verified on opening.
const VERIFIED_FILES: usize = 2;

/// Where a block is that ends with a whole transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Boundary {
    pub seq: u64,
    pub meta: BlockMeta,
    /// First block of its segment.
    segment: u64,
    /// End of its frame in the segment.
    end: u64,
}

/// Follows which blocks are visible, as if all of them were durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    snapshot_open: bool,
    /// The last block that may be read.
    pub visible: Option<Boundary>,
    /// The last block that ends a transaction; behind `visible` within a snapshot only.
    pub whole: Option<Boundary>,
}

impl Progress {
    /// Takes the next block; `end` is the end of its frame in `segment`.
    pub fn note(&mut self, seq: u64, meta: &BlockMeta, segment: &Segment, end: u64) {
        match meta.snapshot {
            SnapshotFlag::First => self.snapshot_open = true,
            SnapshotFlag::Last => self.snapshot_open = false,
            SnapshotFlag::Stream | SnapshotFlag::Middle => {}
        }
        if meta.boundary {
            let segment = segment.first_seq;
            self.whole = Some(Boundary { seq, meta: meta.clone(), segment, end });
            if !self.snapshot_open {
                self.visible = self.whole.clone();
            }
        }
    }

    /// The last block of a snapshot that has not ended, when there is one.
    pub fn unfinished_snapshot(&self) -> Option<&Boundary> {
        let visible = self.visible.as_ref().map(|v| v.seq);
        self.whole.as_ref().filter(|whole| Some(whole.seq) != visible)
    }

    /// As it is once everything behind the last whole transaction is cut.
    pub fn without_transaction(&self) -> Self {
        let snapshot_open = self.unfinished_snapshot().is_some();
        Self { snapshot_open, ..self.clone() }
    }

    /// As it is once everything that is not visible is cut.
    pub fn without_snapshot(&self) -> Self {
        Self { snapshot_open: false, visible: self.visible.clone(), whole: self.visible.clone() }
    }
}

/// A journal as found, without the transaction that had not ended.
pub(super) struct Recovered {
    /// Oldest first; none is empty.
    pub segments: Vec<Arc<Segment>>,
    pub progress: Progress,
    /// Number of the next block.
    pub next_seq: u64,
    /// The next block's number does not follow the last one's.
    pub after_gap: bool,
}

/// Reads the folder and cuts what must be cut.
pub(super) fn recover(dir: &Path, first_seq: u64) -> Result<Recovered, JournalError> {
    let files = segment::list(dir)?;
    let lowest = files.first().map_or(1, |(first, _)| *first);
    let mut segments = Vec::with_capacity(files.len());
    for (first, path) in files {
        segments.push(Arc::new(Segment::open(path, first)?));
    }
    let mut progress = Progress::default();
    let mut found = 0;
    let verify_from = verify_from(&segments)?;
    let mut damage = None;
    for (i, segment) in segments.iter().enumerate() {
        let expected = i.checked_sub(1).and_then(|i| segments.get(i)).map(|s| s.content().last_seq);
        let torn = match expected.map(|last| last + 1) {
            Some(next) if !follows(segment, next)? => Some((next, 0)),
            _ => walk(segment, i >= verify_from, &mut progress)?,
        };
        found = found.max(segment.content().last_seq);
        if let Some((seq, at)) = torn {
            if said_durable(&segments[i..], seq, at)? {
                return Err(JournalError::Corrupt { file: segment.path.clone(), at });
            }
            damage = Some(seq);
            break;
        }
    }
    if let Some(seq) = damage {
        tracing::warn!(dir = %dir.display(), seq, "journal: cut the torn tail of a crash");
    }
    let progress = progress.without_transaction();
    let last = progress.whole.as_ref().map_or(lowest - 1, |whole| whole.seq);
    if found > last {
        let blocks = found - last;
        tracing::warn!(dir = %dir.display(), blocks, "journal: cut an unfinished transaction");
    }
    cut(dir, &mut segments, progress.whole.as_ref())?;
    let next_seq = (last + 1).max(first_seq);
    let after_gap = !segments.is_empty() && next_seq > last + 1;
    if after_gap {
        let text =
            "journal: blocks that were consumed are missing at its end; numbers go on behind";
        tracing::warn!(dir = %dir.display(), last, next_seq, "{text}");
    }
    Ok(Recovered { segments, progress, next_seq, after_gap })
}

/// Index of the first file whose checksums are verified.
fn verify_from(segments: &[Arc<Segment>]) -> Result<usize, JournalError> {
    let mut with_blocks = 0;
    for (i, segment) in segments.iter().enumerate().rev() {
        let mut window = Window::new(segment, segment.file_length()?);
        let begun = window.get(0, frame::HEADER_BYTES)?.is_some_and(|b| frame::header(b).is_some());
        with_blocks += usize::from(begun);
        if with_blocks == VERIFIED_FILES {
            return Ok(i);
        }
    }
    Ok(0)
}

/// Whether a file may come after the block before `next`: its numbers go on, or it says itself
/// that there is a gap on purpose.
fn follows(segment: &Segment, next: u64) -> Result<bool, JournalError> {
    if segment.first_seq == next {
        return Ok(true);
    }
    let mut window = Window::new(segment, segment.file_length()?);
    let header = window.get(0, frame::HEADER_BYTES)?.and_then(frame::header);
    Ok(segment.first_seq > next && header.is_some_and(|header| header.after_gap))
}

/// Notes a file's frames. `Some` when they stop before the file's content does: the number that
/// was expected there, and the place.
fn walk(
    segment: &Segment,
    verify: bool,
    progress: &mut Progress,
) -> Result<Option<(u64, u64)>, JournalError> {
    let mut window = Window::new(segment, segment.file_length()?);
    let (mut at, mut seq) = (0, segment.first_seq);
    while let Some(header) = window.get(at, frame::HEADER_BYTES)?.and_then(frame::header) {
        let needed = if verify { header.length } else { header.prefix_length() };
        let whole = window.left(at) >= header.length as u64;
        if header.seq != seq || !whole {
            return Ok(Some((seq, at)));
        }
        let Some(bytes) = window.get(at, needed)? else { return Ok(Some((seq, at))) };
        let meta = frame::meta(&header, bytes);
        let Some(meta) = meta.filter(|_| !verify || frame::sound(&header, bytes)) else {
            return Ok(Some((seq, at)));
        };
        segment.note(&header);
        at += header.length as u64;
        progress.note(seq, &meta, segment, at);
        seq += 1;
    }
    Ok(if blank(&mut window, at)? { None } else { Some((seq, at)) })
}

/// True when a file holds nothing but zeros from a place on.
fn blank(window: &mut Window<'_>, mut at: u64) -> Result<bool, JournalError> {
    while window.left(at) > 0 {
        let length = usize::try_from(window.left(at).min(4096)).unwrap_or(4096);
        if window.get(at, length)?.is_some_and(|bytes| bytes.iter().any(|b| *b != 0)) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}

/// Whether a sound frame behind the damage (`at` in the first of `segments`) says that block
/// `seq` had been durable.
fn said_durable(segments: &[Arc<Segment>], seq: u64, at: u64) -> Result<bool, JournalError> {
    for (i, segment) in segments.iter().enumerate() {
        let mut window = Window::new(segment, segment.file_length()?);
        let mut at = if i == 0 { at } else { 0 };
        while window.left(at) >= frame::HEADER_BYTES as u64 {
            let length = usize::try_from(window.left(at).min(4096)).unwrap_or(4096);
            let piece = window.get(at, length)?.unwrap_or_default();
            let Some(skip) = piece.windows(4).position(|w| *w == frame::MAGIC) else {
                // The magic may straddle two pieces.
                at += (length - 3).max(1) as u64;
                continue;
            };
            at += skip as u64;
            let header = window.get(at, frame::HEADER_BYTES)?.and_then(frame::header);
            if let Some(header) = header.filter(|h| h.seq > seq && h.durable >= seq) {
                let frame = window.get(at, header.length)?;
                if frame.is_some_and(|frame| frame::sound(&header, frame)) {
                    return Ok(true);
                }
            }
            at += 1;
        }
    }
    Ok(false)
}

/// Removes every block behind `keep`, and every file without blocks. Newest first, so
/// that a crash on the way leaves a journal that is cut again.
pub(super) fn cut(
    dir: &Path,
    segments: &mut Vec<Arc<Segment>>,
    keep: Option<&Boundary>,
) -> Result<(), JournalError> {
    let mut removed = false;
    while let Some(last) = segments.last() {
        match keep.filter(|keep| keep.segment >= last.first_seq) {
            Some(keep) => {
                last.cut(keep.end, keep.seq)?;
                break;
            }
            None => {
                std::fs::remove_file(&last.path)
                    .map_err(|e| segment::io_error(&last.path, "removing a segment", e))?;
                segments.pop();
                removed = true;
            }
        }
    }
    if removed { segment::sync_dir(dir) } else { Ok(()) }
}

/// Reads one frame whole and verified; for readers, which only ask for what is visible.
pub(super) fn read_frame<'w>(
    window: &'w mut Window<'_>,
    segment: &Segment,
    at: u64,
    seq: u64,
) -> Result<(Header, &'w [u8]), JournalError> {
    let corrupt = || JournalError::Corrupt { file: segment.path.clone(), at };
    let header = window.get(at, frame::HEADER_BYTES)?.and_then(frame::header);
    let header = header.filter(|h| h.seq == seq).ok_or_else(corrupt)?;
    let bytes = window.get(at, header.length)?.ok_or_else(corrupt)?;
    if !frame::sound(&header, bytes) {
        return Err(corrupt());
    }
    Ok((header, bytes))
}
