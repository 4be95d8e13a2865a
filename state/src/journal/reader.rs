//! Reading visible blocks, and finding places to rewind to.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::journal::recovery::read_frame;
use crate::journal::segment::{Segment, Window};
use crate::journal::{BlockMeta, Entry, JournalError, LocalJournal, frame};

impl LocalJournal {
    pub(super) fn read_visible(
        &self,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        self.check()?;
        let visible = *self.visible().borrow();
        let oldest = self.oldest_seq();
        if from < oldest {
            return Err(JournalError::Trimmed { asked: from, oldest });
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        self.walk_visible(from, visible, true, |seq, meta, block| {
            if !entries.is_empty() && bytes + block.len() > bytes_max {
                return false;
            }
            bytes += block.len();
            entries.push(Entry { seq, meta, bytes: block.to_vec() });
            bytes < bytes_max
        })?;
        // Trimmed meanwhile: what was found is not what was asked for.
        let oldest = self.oldest_seq();
        if from < oldest {
            return Err(JournalError::Trimmed { asked: from, oldest });
        }
        Ok(entries)
    }

    /// The first visible block for which `wanted` holds.
    pub fn find(
        &self,
        mut wanted: impl FnMut(&BlockMeta) -> bool,
    ) -> Result<Option<u64>, JournalError> {
        self.find_from(0, &mut wanted)
    }

    /// The first visible block that holds a transaction committed at `micros` or later; whoever
    /// starts there misses nothing from that time on. `None` when all of them are earlier.
    pub fn find_time(&self, micros: i64) -> Result<Option<u64>, JournalError> {
        let segments = self.segments();
        let late = segments.iter().find(|s| s.content().commit_micros_max >= micros);
        let Some(from) = late.map(|s| s.first_seq) else { return Ok(None) };
        self.find_from(from, &mut |meta| meta.commit_micros >= micros)
    }

    /// The first visible block that does not come before a place of the source's log; `compare`
    /// says how a block's position lies to it. `None` when all of them come before.
    pub fn find_position(
        &self,
        compare: impl Fn(&BlockMeta) -> Ordering,
    ) -> Result<Option<u64>, JournalError> {
        // Positions ascend, so the block is in the last segment that begins before it, or is the
        // first block of the next one.
        let mut from = 0;
        for segment in self.segments() {
            let mut before = false;
            let first = segment.first_seq;
            self.walk_visible(first, first, false, |_, meta, _| {
                before = compare(&meta) == Ordering::Less;
                false
            })?;
            if !before {
                break;
            }
            from = first;
        }
        self.find_from(from, &mut |meta| compare(meta) != Ordering::Less)
    }

    fn find_from(
        &self,
        from: u64,
        wanted: &mut dyn FnMut(&BlockMeta) -> bool,
    ) -> Result<Option<u64>, JournalError> {
        self.check()?;
        let visible = *self.visible().borrow();
        let mut found = None;
        self.walk_visible(from, visible, false, |seq, meta, _| {
            if wanted(&meta) {
                found = Some(seq);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Calls `each` for the blocks from `from` to `to`, as long as it says so. With `whole` blocks
    /// are read and verified; without, `each` gets an empty block.
    fn walk_visible(
        &self,
        from: u64,
        to: u64,
        whole: bool,
        mut each: impl FnMut(u64, BlockMeta, &[u8]) -> bool,
    ) -> Result<(), JournalError> {
        for segment in self.segments() {
            let (last_seq, start, end) = {
                let content = segment.content();
                (content.last_seq, content.place_before(from), content.length)
            };
            if last_seq < from || segment.first_seq > to {
                continue;
            }
            if !walk_segment(&segment, (start, end), (from, to), whole, &mut each)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Walks one segment from a place where a frame begins; false when `each` has had enough.
fn walk_segment(
    segment: &Arc<Segment>,
    (mut at, end): (u64, u64),
    (from, to): (u64, u64),
    whole: bool,
    each: &mut impl FnMut(u64, BlockMeta, &[u8]) -> bool,
) -> Result<bool, JournalError> {
    let mut window = Window::new(segment, end);
    while at < end {
        let corrupt = || JournalError::Corrupt { file: segment.path.clone(), at };
        let header = window.get(at, frame::HEADER_BYTES)?.and_then(frame::header);
        let header = header.ok_or_else(corrupt)?;
        if header.seq >= from {
            let prefix = header.prefix_length();
            let bytes = match whole {
                true => read_frame(&mut window, segment, at, header.seq)?.1,
                false => window.get(at, prefix)?.ok_or_else(corrupt)?,
            };
            let meta = frame::meta(&header, bytes).ok_or_else(corrupt)?;
            if !each(header.seq, meta, bytes.get(prefix..).unwrap_or_default()) {
                return Ok(false);
            }
        }
        // What follows may be cut at any time: it is not looked at.
        if header.seq >= to {
            return Ok(false);
        }
        at += header.length as u64;
    }
    Ok(true)
}
