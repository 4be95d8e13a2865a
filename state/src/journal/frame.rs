//! The bytes of one block in a segment.
//!
//! ```text
//!  0  magic      u32   "XDJ1"
//!  4  length     u32   of the whole frame
//!  8  checksum   u32   crc32c of everything after it
//! 12  flags      u32   1 boundary | 2..6 snapshot part | 8 follows a gap in the numbers
//! 16  seq        u64   number of the block
//! 24  durable    u64   number of the last block that was durable when this one was written
//! 32  commit     i64   microseconds
//! 40  appended   i64   microseconds
//! 48  events     u32
//! 52  position   u32   length of the text that follows
//! 56  position text, then the block
//! ```
//! All numbers are little-endian. `durable` is what tells a torn tail from damage: blocks that
//! were never synced may reach the disk in any order, so a hole before a sound frame is nothing
//! to worry about unless that frame says that the hole had been durable.

use crate::journal::{BlockMeta, SnapshotFlag};

pub(super) const HEADER_BYTES: usize = 56;
/// A frame is never longer; the length field could say no more.
pub(super) const FRAME_BYTES_MAX: usize = u32::MAX as usize;
pub(super) const MAGIC: [u8; 4] = *b"XDJ1";
/// Start of what the checksum covers.
const CHECKED_FROM: usize = 12;

const BOUNDARY: u32 = 1;
const SNAPSHOT_SHIFT: u32 = 1;
const AFTER_GAP: u32 = 8;
const FLAGS_KNOWN: u32 = 0b1111;

/// The fixed part of a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// Length of the whole frame.
    pub length: usize,
    checksum: u32,
    pub boundary: bool,
    pub snapshot: SnapshotFlag,
    /// The number before this block's was left out on purpose.
    pub after_gap: bool,
    pub seq: u64,
    pub durable: u64,
    pub commit_micros: i64,
    pub appended_micros: i64,
    events: u32,
    position_length: usize,
}

impl Header {
    /// Bytes before the block itself.
    pub fn prefix_length(&self) -> usize {
        HEADER_BYTES + self.position_length
    }
}

/// Everything of a frame but the block: header and position text.
pub(super) fn prefix(
    meta: &BlockMeta,
    seq: u64,
    durable: u64,
    after_gap: bool,
    block: &[u8],
) -> Vec<u8> {
    let snapshot = match meta.snapshot {
        SnapshotFlag::Stream => 0,
        SnapshotFlag::First => 1,
        SnapshotFlag::Middle => 2,
        SnapshotFlag::Last => 3,
    };
    let mut flags = snapshot << SNAPSHOT_SHIFT;
    flags |= if meta.boundary { BOUNDARY } else { 0 };
    flags |= if after_gap { AFTER_GAP } else { 0 };
    let position = meta.position.as_bytes();
    let length = HEADER_BYTES + position.len() + block.len();
    debug_assert!(length <= FRAME_BYTES_MAX);
    let mut out = Vec::with_capacity(HEADER_BYTES + position.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&meta.commit_micros.to_le_bytes());
    out.extend_from_slice(&meta.appended_micros.to_le_bytes());
    out.extend_from_slice(&meta.events.to_le_bytes());
    out.extend_from_slice(&(position.len() as u32).to_le_bytes());
    out.extend_from_slice(position);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[CHECKED_FROM..]), block);
    out[8..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Reads a header; `None` when these bytes cannot be one. The checksum is not looked at.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let mut input = bytes.get(..HEADER_BYTES)?;
    if take::<4>(&mut input)? != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(take(&mut input)?) as usize;
    let checksum = u32::from_le_bytes(take(&mut input)?);
    let flags = u32::from_le_bytes(take(&mut input)?);
    let header = Header {
        length,
        checksum,
        boundary: flags & BOUNDARY != 0,
        snapshot: match (flags >> SNAPSHOT_SHIFT) & 3 {
            0 => SnapshotFlag::Stream,
            1 => SnapshotFlag::First,
            2 => SnapshotFlag::Middle,
            _ => SnapshotFlag::Last,
        },
        after_gap: flags & AFTER_GAP != 0,
        seq: u64::from_le_bytes(take(&mut input)?),
        durable: u64::from_le_bytes(take(&mut input)?),
        commit_micros: i64::from_le_bytes(take(&mut input)?),
        appended_micros: i64::from_le_bytes(take(&mut input)?),
        events: u32::from_le_bytes(take(&mut input)?),
        position_length: u32::from_le_bytes(take(&mut input)?) as usize,
    };
    let plausible = flags & !FLAGS_KNOWN == 0
        && header.prefix_length() <= length
        && header.durable < header.seq
        && header.seq < u64::MAX;
    plausible.then_some(header)
}

/// What is kept beside a block. `bytes` are at least [`Header::prefix_length`] long; `None` when
/// the position is not a text.
pub(super) fn meta(header: &Header, bytes: &[u8]) -> Option<BlockMeta> {
    let position = std::str::from_utf8(bytes.get(HEADER_BYTES..header.prefix_length())?).ok()?;
    Some(BlockMeta {
        position: position.to_string(),
        boundary: header.boundary,
        snapshot: header.snapshot,
        commit_micros: header.commit_micros,
        appended_micros: header.appended_micros,
        events: header.events,
    })
}

/// True when a whole frame has its checksum.
pub(super) fn sound(header: &Header, frame: &[u8]) -> bool {
    frame.len() == header.length
        && frame.get(CHECKED_FROM..).is_some_and(|rest| crc32c::crc32c(rest) == header.checksum)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*taken)
}
