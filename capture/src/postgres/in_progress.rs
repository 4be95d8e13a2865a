//! Transactions that the server sends before they have ended (pgoutput protocol 2 and later).
//!
//! A transaction that outgrows the server's `logical_decoding_work_mem` comes in pieces, between
//! those of others. Its changes are kept on disk as they came, and are read from there when it
//! commits: so blocks still hold whole transactions in the order of their commits, and memory does
//! not grow with a transaction's size.
//!
//! The files have no name from the beginning: whatever ends this process, they are gone.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::decoder::defect;
use super::pgoutput::{self, Streaming};
use crate::CaptureError;

/// Changes are written and read in pieces of about this size.
const PIECE_BYTES: usize = 256 * 1024;

/// All transactions in progress of one connection.
pub(super) struct InProgress {
    folder: PathBuf,
    transactions: HashMap<u32, Kept>,
    /// The transaction whose changes are arriving.
    arriving: Option<u32>,
    /// Changes of it that are not written yet.
    piece: Vec<u8>,
}

struct Kept {
    file: File,
    /// Sub-transactions that were rolled back: their changes do not count.
    aborted: HashSet<u32>,
}

/// What became of a message.
pub(super) enum Taken {
    /// It belongs to no transaction in progress: it is for the decoder.
    Not,
    /// It has been dealt with.
    Kept,
    /// The transaction has committed, with these changes.
    Committed(Commit, Changes),
}

/// How a transaction that was in progress has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub xid: u32,
    /// LSN of the commit record, and where the log goes on after it.
    pub lsn: u64,
    pub end_lsn: u64,
    pub micros: i64,
}

impl InProgress {
    /// Keeps changes in a folder, which must exist.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, transactions: HashMap::new(), arriving: None, piece: Vec::new() }
    }

    /// Takes a message if it is part of a transaction in progress, or says what became of one.
    #[inline]
    pub(super) fn take(&mut self, message: &[u8]) -> Result<Taken, CaptureError> {
        let tag = message.first().copied().unwrap_or(0);
        match (tag, self.arriving) {
            (b'S' | b'E' | b'c' | b'A', _) => self.control(message),
            (_, None) => Ok(Taken::Not),
            (b'R' | b'Y' | b'O' | b'I' | b'U' | b'D' | b'T' | b'M', Some(_)) => self.keep(message),
            (tag, Some(_)) => {
                Err(defect(&format!("a message of type {tag} within a transaction in progress")))
            }
        }
    }

    fn control(&mut self, message: &[u8]) -> Result<Taken, CaptureError> {
        let message = pgoutput::parse_streaming(message)
            .map_err(|error| defect(&format!("a malformed message of type {}", error.tag)))?;
        match (message, self.arriving) {
            (Streaming::Start { xid, first }, None) => self.start(xid, first)?,
            (Streaming::Stop, Some(_)) => {
                self.write()?;
                self.arriving = None;
            }
            (Streaming::Abort { xid, subxid }, None) => {
                if xid == subxid {
                    self.transactions.remove(&xid);
                } else if let Some(kept) = self.transactions.get_mut(&xid) {
                    kept.aborted.insert(subxid);
                }
            }
            (Streaming::Commit(commit), None) => {
                let kept = self
                    .transactions
                    .remove(&commit.xid)
                    .ok_or_else(|| defect("the commit of a transaction that never began"))?;
                return Ok(Taken::Committed(commit, Changes::new(kept, &self.folder)?));
            }
            _ => return Err(defect("pieces of transactions in progress out of order")),
        }
        Ok(Taken::Kept)
    }

    fn start(&mut self, xid: u32, first: bool) -> Result<(), CaptureError> {
        if first == self.transactions.contains_key(&xid) {
            return Err(defect("pieces of a transaction in progress out of order"));
        }
        if first {
            let file = tempfile::tempfile_in(&self.folder).map_err(|e| failed(&self.folder, e))?;
            self.transactions.insert(xid, Kept { file, aborted: HashSet::new() });
        }
        self.arriving = Some(xid);
        Ok(())
    }

    fn keep(&mut self, message: &[u8]) -> Result<Taken, CaptureError> {
        let length =
            u32::try_from(message.len()).map_err(|_| defect("a message of 4 GiB or more"))?;
        self.piece.extend_from_slice(&length.to_le_bytes());
        self.piece.extend_from_slice(message);
        if self.piece.len() >= PIECE_BYTES {
            self.write()?;
        }
        Ok(Taken::Kept)
    }

    fn write(&mut self) -> Result<(), CaptureError> {
        let kept = self.arriving.and_then(|xid| self.transactions.get_mut(&xid));
        if let Some(kept) = kept {
            kept.file.write_all(&self.piece).map_err(|e| failed(&self.folder, e))?;
        }
        self.piece.clear();
        // One huge value must not keep its memory.
        self.piece.shrink_to(2 * PIECE_BYTES);
        Ok(())
    }
}

/// The changes of a transaction that has committed, in order.
pub(super) struct Changes {
    input: BufReader<File>,
    aborted: HashSet<u32>,
    folder: PathBuf,
    message: Vec<u8>,
}

impl Changes {
    fn new(kept: Kept, folder: &std::path::Path) -> Result<Self, CaptureError> {
        let Kept { mut file, aborted } = kept;
        file.seek(SeekFrom::Start(0)).map_err(|e| failed(folder, e))?;
        let input = BufReader::with_capacity(PIECE_BYTES, file);
        Ok(Self { input, aborted, folder: folder.to_path_buf(), message: Vec::new() })
    }

    /// The next message that counts, as the server sent it.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, CaptureError> {
        loop {
            let mut length = [0; 4];
            match self.input.read_exact(&mut length) {
                Ok(()) => {}
                // Written by this process and by nobody else: it ends where a message ends.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(e) => return Err(failed(&self.folder, e)),
            }
            self.message.resize(u32::from_le_bytes(length) as usize, 0);
            self.input.read_exact(&mut self.message).map_err(|e| failed(&self.folder, e))?;
            if self.aborted.is_empty() || !self.is_aborted() {
                return Ok(Some(&self.message));
            }
        }
    }

    fn is_aborted(&self) -> bool {
        // Type, then the sub-transaction. An origin has none: it holds for the whole transaction.
        match self.message.split_first_chunk::<5>() {
            Some(([tag, xid @ ..], _)) if *tag != b'O' => {
                self.aborted.contains(&u32::from_be_bytes(*xid))
            }
            _ => false,
        }
    }
}

fn failed(folder: &std::path::Path, error: std::io::Error) -> CaptureError {
    CaptureError::transient(
        format!(
            "keeping a large transaction in {} until it ends: {error} (make room there, or raise \
             the server's logical_decoding_work_mem)",
            folder.display()
        ),
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start(xid: u32, first: bool) -> Vec<u8> {
        [&b"S"[..], &xid.to_be_bytes(), &[u8::from(first)]].concat()
    }

    fn abort(xid: u32, subxid: u32) -> Vec<u8> {
        [&b"A"[..], &xid.to_be_bytes(), &subxid.to_be_bytes()].concat()
    }

    fn commit(xid: u32) -> Vec<u8> {
        let lsns = [100u64.to_be_bytes(), 110u64.to_be_bytes(), 0u64.to_be_bytes()].concat();
        [&b"c"[..], &xid.to_be_bytes(), &[0], &lsns].concat()
    }

    fn change(xid: u32, content: &[u8]) -> Vec<u8> {
        [&b"I"[..], &xid.to_be_bytes(), content].concat()
    }

    fn all(mut changes: Changes) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(message) = changes.next().unwrap() {
            out.push(message.to_vec());
        }
        out
    }

    fn feed(transactions: &mut InProgress, messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let mut committed = None;
        for message in messages {
            if let Taken::Committed(_, changes) = transactions.take(message).unwrap() {
                committed = Some(all(changes));
            }
        }
        committed
    }

    #[test]
    fn pieces_come_together_without_what_was_rolled_back() {
        let mut transactions = InProgress::new(std::env::temp_dir());
        let committed = feed(
            &mut transactions,
            &[
                start(7, true),
                change(7, b"one"),
                change(8, b"rolled back"),
                b"E".to_vec(),
                start(9, true),
                change(9, b"of another"),
                b"E".to_vec(),
                abort(7, 8),
                start(7, false),
                change(7, &[b'x'; PIECE_BYTES]),
                b"O12345678origin\0".to_vec(),
                b"E".to_vec(),
                abort(9, 9),
                commit(7),
            ],
        );
        let expected =
            [change(7, b"one"), change(7, &[b'x'; PIECE_BYTES]), b"O12345678origin\0".to_vec()];
        assert_eq!(committed.unwrap(), expected);
        assert!(transactions.transactions.is_empty());
        assert!(matches!(transactions.take(b"B").unwrap(), Taken::Not));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        for messages in [
            vec![b"E".to_vec()],
            vec![start(7, false)],
            vec![start(7, true), start(8, true)],
            vec![start(7, true), commit(7)],
            vec![start(7, true), b"B".to_vec()],
            vec![commit(7)],
            vec![b"S".to_vec()],
        ] {
            let mut transactions = InProgress::new(std::env::temp_dir());
            assert!(messages.iter().any(|m| transactions.take(m).is_err()), "{messages:?}");
        }
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let mut transactions = InProgress::new("/nonexistent/spill".into());
        let error = transactions.take(&start(7, true)).err().unwrap();
        assert!(error.is_transient() && error.to_string().contains("/nonexistent/spill"));
    }

    proptest! {
        #[test]
        fn no_messages_panic(
            messages in proptest::collection::vec(
                (
                    proptest::sample::select(&b"SEcAIRO"[..]),
                    proptest::collection::vec(0u8..3, 0..12),
                ),
                0..12,
            )
        ) {
            let mut transactions = InProgress::new(std::env::temp_dir());
            for (tag, body) in messages {
                let message = [&[tag][..], &body].concat();
                if let Ok(Taken::Committed(_, changes)) = transactions.take(&message) {
                    all(changes);
                }
            }
        }
    }
}
