//! Room for what a socket brings, handed out as slices: no copy and no allocation for a message.

use std::io::Read;
use std::ops::Range;

/// Room for reading; one read may fill it.
const ROOM_BYTES: usize = 256 * 1024;

/// Bytes that were read and not taken yet.
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    /// The part of `bytes` that was not taken.
    unread: Range<usize>,
}

impl ReadBuffer {
    /// Empty, with room.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; ROOM_BYTES], unread: 0..0 }
    }

    /// What was not taken yet.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.unread.clone()).unwrap_or_default()
    }

    /// Takes so many bytes; returns where they are until the next read.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Range<usize> {
        let from = self.unread.start;
        self.unread.start = from.saturating_add(count).min(self.unread.end);
        from..self.unread.start
    }

    /// Bytes that were taken since the last read; empty when they are gone.
    #[inline]
    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Moves bytes within what was taken since the last read.
    pub(crate) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        let fits = from.start <= from.end && from.end <= self.bytes.len();
        if fits && to.saturating_add(from.len()) <= self.bytes.len() {
            self.bytes.copy_within(from, to);
        }
    }

    /// Reads once; returns how many bytes came.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(crate) fn fill(&mut self, socket: &mut impl Read) -> std::io::Result<usize> {
        self.make_room();
        let count = socket.read(self.bytes.get_mut(self.unread.end..).unwrap_or_default())?;
        self.unread.end += count;
        Ok(count)
    }

    /// Moves the unread bytes to the front when the room behind them gets short, and grows while
    /// one message does not fit: by doubling, as its bytes arrive, whatever length it claims to
    /// have.
    fn make_room(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
            if self.bytes.len() > 4 * ROOM_BYTES {
                self.bytes.truncate(ROOM_BYTES);
                self.bytes.shrink_to_fit();
            }
        }
        if self.bytes.len() - self.unread.end < ROOM_BYTES / 4 {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.bytes.len() - self.unread.end < ROOM_BYTES / 4 {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_makes_room() {
        let sent: Vec<u8> = (0..3 * ROOM_BYTES).map(|n| n as u8).collect();
        let mut socket = sent.as_slice();
        let mut buffer = ReadBuffer::new();
        while buffer.fill(&mut socket).unwrap() > 0 {}
        assert_eq!(buffer.unread(), sent);
        let taken = buffer.take(sent.len() - 1);
        assert_eq!(buffer.get(taken), &sent[..sent.len() - 1]);
        assert_eq!(buffer.unread(), &sent[sent.len() - 1..]);
        assert_eq!(buffer.take(9).len(), 1);
        let mut more = &[7; 10][..];
        buffer.fill(&mut more).unwrap();
        assert_eq!(buffer.unread(), [7; 10]);
    }
}
