//! The log as a server sends it to a replica, read by a thread of its own: bytes are received,
//! and checksums compared, while the events before them are decoded.
//!
//! Compressed transactions may be as large as a packet can be. They come in parts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mysql_common::packets::binlog_request::BinlogRequest;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::checksum::{self, Checksum};
use super::event::{Header, kind};
use super::packets::{EOF, EOF_BYTES_MAX, OK, Packets};
use super::session::Session;
use super::wire::Malformed;
use crate::snapshot::Halt;
use crate::{CaptureError, SourceOptions};

/// Events are handed over when so many bytes of them are here, or when nothing more is.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches that wait to be decoded.
const BATCHES_MAX: usize = 2;
/// A compressed transaction that is larger comes in parts.
const WHOLE_BYTES_MAX: u32 = 256 * 1024;
const HEADER: usize = Header::BYTES as usize;
const CHECKSUM: u64 = 4;

/// What comes next in the log.
pub(super) enum Piece {
    /// Whole events.
    Events(Events),
    /// A compressed transaction, whose parts follow.
    Large(Header),
    /// A part of its data.
    Part(Vec<u8>),
    /// Its end; the checksum was right.
    End,
}

/// Some events, without their checksums, which were right.
#[derive(Default)]
pub(super) struct Events {
    bytes: Vec<u8>,
    places: Vec<(Header, Range<usize>)>,
}

impl Events {
    /// Each with its data.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Header, &[u8])> {
        let data = |place: &Range<usize>| self.bytes.get(place.clone()).unwrap_or_default();
        self.places.iter().map(move |(header, place)| (header, data(place)))
    }

    fn push(&mut self, header: Header, data: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.places.push((header, from..self.bytes.len()));
    }
}

/// A dump of the log.
pub(super) struct Log {
    pieces: Receiver<Result<Piece, CaptureError>>,
    halt: Arc<Ended>,
}

impl Log {
    /// Asks for the log in a session of its own, in which `settings` are run first.
    pub(super) fn open(
        options: &SourceOptions,
        settings: Vec<String>,
        request: BinlogRequest<'static>,
    ) -> Result<Self, CaptureError> {
        let (sender, pieces) = channel(BATCHES_MAX);
        let halt = Arc::new(Ended(AtomicBool::new(false)));
        let (options, ours) = (Arc::new(options.clone()), halt.clone());
        let begun = std::thread::Builder::new().name("binlog".into()).spawn(move || {
            let mut thread = Thread { sender, options, checksum: Checksum::None, batch: None };
            if let Err(error) = thread.run(ours, &settings, &request) {
                // Nobody may listen any more.
                let _ = thread.sender.blocking_send(Err(error));
            }
        });
        match begun {
            Ok(_) => Ok(Self { pieces, halt }),
            Err(error) => Err(CaptureError::transient("no thread to read the binlog in", error)),
        }
    }

    /// Waits for the next piece; `None` when the server has ended the dump. May be called off.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, CaptureError> {
        self.pieces.recv().await.transpose()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.halt.halt();
    }
}

/// Nobody listens.
struct Ended(AtomicBool);

impl Halt for Ended {
    fn halt(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_halted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What would be handed over of these packets, up to an error. Small transactions come whole.
#[cfg(feature = "fuzzing")]
pub(super) fn pieces(packets: &mut Packets) -> Vec<Piece> {
    // More than there can be packets.
    let (sender, mut receiver) = channel(100_000);
    let options = packets.options.clone();
    let mut thread = Thread { sender, options, checksum: Checksum::None, batch: None };
    let _ = thread.receive(packets);
    drop(thread);
    std::iter::from_fn(|| receiver.blocking_recv()?.ok()).collect()
}

struct Thread {
    sender: Sender<Result<Piece, CaptureError>>,
    options: Arc<SourceOptions>,
    /// What events end in now.
    checksum: Checksum,
    /// Events that were not handed over.
    batch: Option<Events>,
}

impl Thread {
    /// Reads until the server ends the dump, or nobody listens.
    fn run(
        &mut self,
        halt: Arc<Ended>,
        settings: &[String],
        request: &BinlogRequest<'_>,
    ) -> Result<(), CaptureError> {
        let mut session = Session::open(&self.options, halt)?;
        for setting in settings {
            session.execute("preparing the dump", setting)?;
        }
        let mut packets = session.dump(request)?;
        self.receive(&mut packets)
    }

    fn receive(&mut self, packets: &mut Packets) -> Result<(), CaptureError> {
        loop {
            let full = self.batch.as_ref().is_some_and(|batch| batch.bytes.len() >= BATCH_BYTES);
            if full || !packets.is_here() {
                self.hand_over_batch()?;
            }
            let head = packets.peek(1 + HEADER)?;
            let header = match head.split_first() {
                Some((&OK, event)) if event.len() >= HEADER => {
                    Header::parse(event).map_err(|what| self.odd(what))?
                }
                Some((&EOF, rest)) if rest.len() < EOF_BYTES_MAX => {
                    return self.hand_over_batch();
                }
                Some((&OK, _)) | None => return Err(self.not_an_event()),
                Some(_) => {
                    self.hand_over_batch()?;
                    let packet = packets.next()?;
                    return Err(packets.refused("reading the binlog", &packet));
                }
            };
            if header.kind == kind::TRANSACTION_PAYLOAD && header.size > WHOLE_BYTES_MAX {
                self.hand_over_batch()?;
                self.large(packets, header)?;
            } else {
                let packet = packets.next()?;
                let body = packets.body(&packet).get(1 + HEADER..).unwrap_or_default();
                self.event(header, body)?;
            }
        }
    }

    fn event(&mut self, header: Header, body: &[u8]) -> Result<(), CaptureError> {
        let data = match header.kind {
            kind::FORMAT_DESCRIPTION => {
                let announced = Checksum::announced(&header, body);
                let (checksum, data) = announced.map_err(|what| self.damaged(&header, what))?;
                self.checksum = checksum;
                data
            }
            _ => {
                let verified = self.checksum.verified(&header, body);
                verified.map_err(|what| self.damaged(&header, what))?
            }
        };
        self.batch.get_or_insert_default().push(header, data);
        Ok(())
    }

    /// Hands over a compressed transaction as it comes in.
    fn large(&mut self, packets: &mut Packets, header: Header) -> Result<(), CaptureError> {
        let damaged = |what| damaged(&self.options, &header, what);
        let body = u64::from(header.body_bytes().map_err(damaged)?);
        let checked = self.checksum == Checksum::Crc32;
        let mut data_left = if checked { body.saturating_sub(CHECKSUM) } else { body };
        let (mut head_left, mut sum, mut tail) = (1 + HEADER, header.checksum(), Vec::new());
        self.send(Piece::Large(header))?;
        while let Some(part) = packets.part()? {
            let bytes = packets.body(&part);
            let bytes = bytes.get(head_left.min(bytes.len())..).unwrap_or_default();
            head_left = head_left.saturating_sub(part.len());
            let (data, rest) = bytes.split_at(data_left.min(bytes.len() as u64) as usize);
            data_left -= data.len() as u64;
            tail.extend_from_slice(rest);
            if tail.len() as u64 > CHECKSUM {
                return Err(damaged(Malformed("event longer than its header says")));
            }
            sum.update(data);
            if !data.is_empty() {
                self.send(Piece::Part(data.to_vec()))?;
            }
        }
        let right = match checked {
            true => tail == sum.finalize().to_le_bytes(),
            false => tail.is_empty(),
        };
        match right && data_left == 0 {
            true => self.send(Piece::End),
            false => Err(damaged(checksum::WRONG)),
        }
    }

    fn hand_over_batch(&mut self) -> Result<(), CaptureError> {
        match self.batch.take() {
            Some(batch) => self.send(Piece::Events(batch)),
            None => Ok(()),
        }
    }

    fn send(&self, piece: Piece) -> Result<(), CaptureError> {
        self.sender.blocking_send(Ok(piece)).map_err(|_| CaptureError::stopped())
    }

    fn not_an_event(&self) -> CaptureError {
        let what = format!("{}: the server sent a packet that is not an event", self.options.name);
        CaptureError::Transient { what, source: None }
    }

    fn odd(&self, _: Malformed) -> CaptureError {
        self.not_an_event()
    }

    fn damaged(&self, header: &Header, what: Malformed) -> CaptureError {
        damaged(&self.options, header, what)
    }
}

fn damaged(options: &SourceOptions, header: &Header, what: Malformed) -> CaptureError {
    CaptureError::definite(
        format!("{}: event of type {} ending at {}: {what}", options.name, header.kind, header.end),
        "check the server's disk and network; verify the file with mysqlbinlog (mariadb-binlog) \
         --verify-binlog-checksum",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::fuzzing;

    const BODY: usize = 300_000;

    /// A compressed transaction as a server sends it.
    fn sent(damage: bool) -> (Header, Vec<u8>, Vec<u8>) {
        let data: Vec<u8> = (0..BODY).map(|n| (n * 31 % 251) as u8).collect();
        let mut header = fuzzing::header(kind::TRANSACTION_PAYLOAD, 0, &data);
        header.size += CHECKSUM as u32;
        let mut sum = header.checksum();
        sum.update(&data);
        let mut packet = vec![OK];
        packet.extend(header.seconds.to_le_bytes());
        packet.push(header.kind);
        for number in [header.server_id, header.size, header.end] {
            packet.extend(number.to_le_bytes());
        }
        packet.extend(header.flags.to_le_bytes());
        packet.extend(&data);
        packet.extend((sum.finalize() ^ u32::from(damage)).to_le_bytes());
        (header, data, packet)
    }

    /// What is handed over of a transaction, and how reading ended.
    fn handed_over(damage: bool) -> (Vec<Piece>, Result<(), CaptureError>, Vec<u8>) {
        let (header, data, packet) = sent(damage);
        let options = Arc::new(fuzzing::options(false, Vec::new()));
        let sent = [&(packet.len() as u32).to_le_bytes()[..], &packet].concat();
        let halt = Arc::new(Ended(AtomicBool::new(false)));
        let mut packets = Packets::recorded(&options, halt, sent);
        let (sender, mut receiver) = channel(100);
        let mut thread = Thread { sender, options, checksum: Checksum::Crc32, batch: None };
        let done = thread.large(&mut packets, header);
        drop(thread);
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            pieces.push(piece.unwrap());
        }
        (pieces, done, data)
    }

    #[test]
    fn a_large_transaction_comes_in_parts() {
        let (pieces, done, data) = handed_over(false);
        done.unwrap();
        assert!(matches!(pieces.first(), Some(Piece::Large(_))));
        assert!(matches!(pieces.last(), Some(Piece::End)));
        let parts = pieces.iter().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part.as_slice()),
            _ => None,
        });
        assert_eq!(parts.collect::<Vec<_>>().concat(), data);
    }

    #[test]
    fn a_damaged_one_has_no_end() {
        let (pieces, done, _) = handed_over(true);
        assert!(done.unwrap_err().to_string().contains("wrong checksum"));
        assert!(!pieces.iter().any(|piece| matches!(piece, Piece::End)));
    }
}
