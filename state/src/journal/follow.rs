//! Reading a journal without its lock: beside the process that writes it, or when none runs.
//!
//! Nothing is changed on disk. Of what the writer appends, only *visible* blocks are handed out
//! (see [`Journal`](super::Journal)): what is behind the last transaction boundary may be cut by
//! the writer at any time, so it is never believed, and looked at anew each time. Blocks are made
//! durable before they are handed out; a crash of the writer cannot take them back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::frame::{self, Header};
use crate::journal::segment::{self, Segment, Window};
use crate::journal::{BlockMeta, Entry, JournalError, SnapshotFlag};

/// Blocks that one look finds at most, beyond those of one transaction.
const READY_MAX: usize = 1_024;

/// A reader of the journal in a folder. All calls block on the disk.
pub struct JournalFollower {
    dir: PathBuf,
    /// Where reading goes on; `None` before the first file is there.
    place: Option<Place>,
    /// Number of the next block to hand out.
    next: u64,
    /// Visible blocks that are known and not yet handed out.
    ready: VecDeque<Found>,
}

#[derive(Clone)]
struct Place {
    segment: Arc<Segment>,
    at: u64,
    /// Number of the block there.
    seq: u64,
}

struct Found {
    segment: Arc<Segment>,
    at: u64,
    header: Header,
    meta: BlockMeta,
}

impl JournalFollower {
    /// Reads from block `from` on; 0 or 1 is the oldest that is kept.
    ///
    /// A block that is not kept any more is [`JournalError::Trimmed`]. A folder that does not
    /// exist yet is an empty journal.
    pub fn open(dir: impl Into<PathBuf>, from: u64) -> Result<Self, JournalError> {
        let dir = dir.into();
        let files = files(&dir)?;
        let oldest = files.first().map_or(1, |(first, _)| *first);
        if from > 1 && from < oldest {
            return Err(JournalError::Trimmed { asked: from, oldest });
        }
        let next = from.max(oldest);
        let file = files.into_iter().rev().find(|(first, _)| *first <= next);
        let place = match file {
            Some((seq, path)) => Some(Place::begin(path, seq)?),
            None => None,
        };
        Ok(Self { dir, place, next, ready: VecDeque::new() })
    }

    /// Reads behind the last block that is visible now.
    pub fn open_at_end(dir: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let dir = dir.into();
        let newest = files(&dir)?.last().map_or(0, |(first, _)| *first);
        let mut follower = Self::open(dir, newest)?;
        loop {
            follower.look()?;
            if follower.ready.is_empty() {
                return Ok(follower);
            }
            while let Some(found) = follower.ready.pop_front() {
                follower.next = found.header.seq + 1;
            }
        }
    }

    /// The next visible block; `None` when there is none yet.
    pub fn next_block(&mut self) -> Result<Option<Entry>, JournalError> {
        if self.ready.is_empty() {
            self.look()?;
        }
        let Some(found) = self.ready.pop_front() else { return Ok(None) };
        let corrupt = || JournalError::Corrupt { file: found.segment.path.clone(), at: found.at };
        let end = found.at + found.header.length as u64;
        let mut window = Window::new(&found.segment, end);
        let bytes = window.get(found.at, found.header.length)?.ok_or_else(corrupt)?;
        if !frame::sound(&found.header, bytes) {
            return Err(corrupt());
        }
        let block = bytes.get(found.header.prefix_length()..).unwrap_or_default().to_vec();
        self.next = found.header.seq + 1;
        Ok(Some(Entry { seq: found.header.seq, meta: found.meta, bytes: block }))
    }

    /// Finds what has become visible since the last look. Goes on only from places that the
    /// writer never cuts.
    fn look(&mut self) -> Result<(), JournalError> {
        if self.place.is_none() {
            let Some((seq, path)) = files(&self.dir)?.into_iter().next() else { return Ok(()) };
            self.next = self.next.max(seq);
            self.place = Some(Place::begin(path, seq)?);
        }
        let Some(mut place) = self.place.clone() else { return Ok(()) };
        let mut pending = Vec::new();
        loop {
            self.look_through(&mut place, &mut pending)?;
            if self.ready.len() >= READY_MAX {
                break;
            }
            match self.following(&place, pending.is_empty())? {
                Some(next) => place = next,
                None => break,
            }
        }
        Ok(())
    }

    /// Walks the rest of one file. Blocks that are not visible yet stay in `pending`.
    fn look_through(
        &mut self,
        place: &mut Place,
        pending: &mut Vec<Found>,
    ) -> Result<(), JournalError> {
        let segment = place.segment.clone();
        let mut window = Window::new(&segment, segment.file_length()?);
        let mut visible = Vec::new();
        while visible.len() < READY_MAX {
            let Some(found) = frame_at(&mut window, place)? else { break };
            place.at += found.header.length as u64;
            place.seq = found.header.seq + 1;
            pending.push(found);
            if ends_visibly(pending) {
                visible.append(pending);
                self.place = Some(place.clone());
            }
        }
        if !visible.is_empty() {
            segment.sync()?;
            let next = self.next;
            self.ready.extend(visible.into_iter().filter(|found| found.header.seq >= next));
        }
        Ok(())
    }

    /// The file after the one that a place is at the end of; `None` when there is none (yet).
    /// `settled`: what is before the place can't be cut, so the files must fit together.
    fn following(&self, place: &Place, settled: bool) -> Result<Option<Place>, JournalError> {
        let segment = &place.segment;
        let later = files(&self.dir)?.into_iter().find(|(first, _)| *first > segment.first_seq);
        let Some((seq, path)) = later else { return Ok(None) };
        let next = Place::begin(path, seq)?;
        // The number that comes next, or one that was left out on purpose.
        if seq == place.seq || seq > place.seq && next.frame()?.is_some_and(Found::after_gap) {
            return Ok(Some(next));
        }
        // Before it began the next file, the writer may have gone on in this one.
        if settled && place.frame()?.is_none() && seq > place.seq {
            return Err(JournalError::Corrupt { file: segment.path.clone(), at: place.at });
        }
        Ok(None)
    }
}

impl Place {
    fn begin(path: PathBuf, seq: u64) -> Result<Self, JournalError> {
        Ok(Self { segment: Arc::new(Segment::open_to_read(path, seq)?), at: 0, seq })
    }

    fn frame(&self) -> Result<Option<Found>, JournalError> {
        let mut window = Window::new(&self.segment, self.segment.file_length()?);
        frame_at(&mut window, self)
    }
}

impl Found {
    fn after_gap(self) -> bool {
        self.header.after_gap
    }
}

/// The whole frame at a place; `None` when there is none (yet).
fn frame_at(window: &mut Window<'_>, place: &Place) -> Result<Option<Found>, JournalError> {
    let header = window.get(place.at, frame::HEADER_BYTES)?.and_then(frame::header);
    let Some(header) = header else { return Ok(None) };
    // The first of a file that begins behind a gap has the file's number.
    if header.seq != place.seq {
        return Ok(None);
    }
    let Some(bytes) = window.get(place.at, header.length)? else { return Ok(None) };
    // The writer may be in the middle of it.
    let meta = frame::sound(&header, bytes).then(|| frame::meta(&header, bytes)).flatten();
    let segment = place.segment.clone();
    Ok(meta.map(|meta| Found { segment, at: place.at, header, meta }))
}

/// Whether the last of these blocks ends a whole transaction, and no snapshot is open.
fn ends_visibly(pending: &[Found]) -> bool {
    let mut marks = pending.iter().rev().map(|found| found.meta.snapshot);
    let mark = marks.find(|mark| matches!(mark, SnapshotFlag::First | SnapshotFlag::Last));
    pending.last().is_some_and(|last| last.meta.boundary) && mark != Some(SnapshotFlag::First)
}

/// The files of a journal; none when its folder does not exist yet.
fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    match dir.exists() {
        true => segment::list(dir),
        false => Ok(Vec::new()),
    }
}
