//! Packets of the client/server protocol over a blocking connection, handed out as slices of the
//! read buffer.
//!
//! Source: MySQL internals, "Client/Server Protocol", "MySQL Packets".

use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::{Error, IoError, ServerError};

use super::connect::{PACKET_MAX, server_error};
use crate::buffer::ReadBuffer;
use crate::snapshot::Halt;
use crate::socket::{Socket, is_pause};
use crate::{CaptureError, SourceOptions, tls};

/// A packet of this length is continued by the next one.
const CONTINUED: usize = 0xff_ffff;
const HEADER: usize = 4;
/// First byte of an answer.
pub(super) const OK: u8 = 0;
pub(super) const EOF: u8 = 0xfe;
pub(super) const ERR: u8 = 0xff;
/// An EOF packet is shorter than this; a row that begins with the same byte is longer.
pub(super) const EOF_BYTES_MAX: usize = 9;
/// Statements may wait for locks; a peer that is silent for longer is taken for dead.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A connection that packets come from.
pub(super) struct Packets {
    pub(super) options: Arc<SourceOptions>,
    halt: Arc<dyn Halt + Send + Sync>,
    line: Line,
    buffer: ReadBuffer,
    /// Number of the next packet of this exchange.
    sequence: u8,
    /// What is left of the packet that is read in parts.
    open: Option<Open>,
    out: Vec<u8>,
}

/// What packets come over.
enum Line {
    Open(Socket),
    /// It has been given up.
    Gone,
    /// What a server would send, whatever it is told.
    #[cfg(any(test, feature = "fuzzing"))]
    Recorded(std::io::Cursor<Vec<u8>>),
}

impl Read for Line {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Open(socket) => socket.read(room),
            Self::Gone => Err(ErrorKind::NotConnected.into()),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Recorded(bytes) => bytes.read(room),
        }
    }
}

impl Line {
    fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Open(socket) => socket.write_all(packet).and_then(|()| socket.flush()),
            Self::Gone => Err(ErrorKind::NotConnected.into()),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Recorded(_) => Ok(()),
        }
    }

    /// Whether packets are numbered; those made up are not.
    fn is_numbered(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Gone)
    }
}

/// A packet of which not all was handed out.
struct Open {
    left: usize,
    /// Another one continues it.
    continued: bool,
}

impl Packets {
    /// Connects, without a word.
    pub(super) fn connect(
        options: &Arc<SourceOptions>,
        halt: Arc<dyn Halt + Send + Sync>,
    ) -> Result<Self, CaptureError> {
        let socket = Socket::connect(&options.host, options.port)
            .map_err(|error| broken(options, "connecting", error))?;
        Ok(Self {
            options: options.clone(),
            halt,
            line: Line::Open(socket),
            buffer: ReadBuffer::new(),
            sequence: 0,
            open: None,
            out: Vec::new(),
        })
    }

    /// Packets that are in these bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn recorded(
        options: &Arc<SourceOptions>,
        halt: Arc<dyn Halt + Send + Sync>,
        bytes: Vec<u8>,
    ) -> Self {
        Self {
            options: options.clone(),
            halt,
            line: Line::Recorded(std::io::Cursor::new(bytes)),
            buffer: ReadBuffer::new(),
            sequence: 0,
            open: None,
            out: Vec::new(),
        }
    }

    /// Encrypts what follows, once the server has agreed to it.
    pub(super) fn encrypt(&mut self, config: rustls::ClientConfig) -> Result<(), CaptureError> {
        let name = tls::server_name(&self.options)?;
        let Line::Open(socket) = std::mem::replace(&mut self.line, Line::Gone) else {
            return Err(self.odd("no connection"));
        };
        let encrypted = socket.encrypted(config, name);
        let socket = encrypted.map_err(|error| broken(&self.options, "beginning TLS", error))?;
        self.line = Line::Open(socket);
        Ok(())
    }

    /// True when the connection is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(&self.line, Line::Open(socket) if socket.is_encrypted())
    }

    /// Begins a new exchange: the next packet is its first.
    pub(super) fn command(&mut self, command: u8, argument: &[u8]) -> Result<(), CaptureError> {
        self.request(|out| {
            out.push(command);
            out.extend_from_slice(argument);
        })
    }

    /// Begins a new exchange with the packet that `build` appends.
    pub(super) fn request(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> Result<(), CaptureError> {
        self.sequence = 0;
        self.send(build)
    }

    /// Sends what `build` appends as one packet.
    pub(super) fn send(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> Result<(), CaptureError> {
        self.out.clear();
        self.out.extend_from_slice(&[0; HEADER]);
        build(&mut self.out);
        let length = self.out.len() - HEADER;
        if length >= CONTINUED {
            return Err(self.odd("a statement of 16 MiB or more was to be sent"));
        }
        let [a, b, c, _] = (length as u32).to_le_bytes();
        if let Some(header) = self.out.first_chunk_mut::<HEADER>() {
            *header = [a, b, c, self.sequence];
        }
        self.sequence = self.sequence.wrapping_add(1);
        let written = self.line.send(&self.out);
        // Passwords pass through here.
        self.out.fill(0);
        written.map_err(|error| broken(&self.options, "sending", error))
    }

    /// Waits for the next packet; returns where in the buffer it is until the next call.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Range<usize>, CaptureError> {
        loop {
            if let Some(packet) = self.whole()? {
                return Ok(packet);
            }
            self.fill()?;
        }
    }

    /// Whether the next packet is here whole, or a part of it that needs no waiting for.
    pub(super) fn is_here(&self) -> bool {
        let unread = self.buffer.unread();
        unread.split_first_chunk::<HEADER>().is_some_and(|([a, b, c, _], rest)| {
            rest.len() >= u32::from_le_bytes([*a, *b, *c, 0]) as usize
        })
    }

    /// Waits for the beginning of the next packet: so many bytes of it, or all.
    pub(super) fn peek(&mut self, bytes: usize) -> Result<&[u8], CaptureError> {
        let wanted = loop {
            if let Some(([a, b, c, _], rest)) = self.buffer.unread().split_first_chunk::<HEADER>() {
                let wanted = bytes.min(u32::from_le_bytes([*a, *b, *c, 0]) as usize);
                if rest.len() >= wanted {
                    break wanted;
                }
            }
            self.fill()?;
        };
        Ok(self.buffer.unread().get(HEADER..HEADER + wanted).unwrap_or_default())
    }

    /// Waits for a part of the next packet; `None` behind the last one. A packet is read in parts
    /// or whole.
    pub(super) fn part(&mut self) -> Result<Option<Range<usize>>, CaptureError> {
        loop {
            let here = self.buffer.unread().len();
            match &mut self.open {
                None => match self.buffer.unread().first_chunk::<HEADER>() {
                    Some([a, b, c, sequence]) => {
                        let left = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
                        let sequence = *sequence;
                        self.in_order(sequence)?;
                        self.buffer.take(HEADER);
                        self.open = Some(Open { left, continued: left == CONTINUED });
                    }
                    None => self.fill()?,
                },
                Some(Open { left: 0, continued }) => {
                    let ends = !*continued;
                    self.open = None;
                    if ends {
                        return Ok(None);
                    }
                }
                Some(_) if here == 0 => self.fill()?,
                Some(open) => {
                    let count = open.left.min(here);
                    open.left -= count;
                    return Ok(Some(self.buffer.take(count)));
                }
            }
        }
    }

    /// The bytes of a packet; empty for one that is gone.
    #[inline]
    pub(super) fn body(&self, packet: &Range<usize>) -> &[u8] {
        self.buffer.get(packet.clone())
    }

    /// What an answer that is not the one hoped for says.
    pub(super) fn refused(&self, doing: &str, packet: &Range<usize>) -> CaptureError {
        match server_message(self.body(packet)) {
            Some(error) => server_error(&self.options, doing, Error::Server(error)),
            None => self.odd(doing),
        }
    }

    /// An answer that has no place here.
    pub(super) fn odd(&self, what: &str) -> CaptureError {
        CaptureError::definite(
            format!("{}: unexpected answer of the server: {what}", self.options.name),
            "check that the port is that of a MySQL or MariaDB server",
        )
    }

    #[inline]
    fn whole(&mut self) -> Result<Option<Range<usize>>, CaptureError> {
        let unread = self.buffer.unread();
        let Some(([a, b, c, sequence], rest)) = unread.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (length, sequence) = (u32::from_le_bytes([*a, *b, *c, 0]) as usize, *sequence);
        if length == CONTINUED {
            return self.joined();
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.in_order(sequence)?;
        let taken = self.buffer.take(HEADER + length);
        Ok(Some(taken.start + HEADER..taken.end))
    }

    /// A packet in several parts, once all are here: the headers between them are cut out.
    fn joined(&mut self) -> Result<Option<Range<usize>>, CaptureError> {
        let unread = self.buffer.unread();
        let (mut end, mut parts) = (0, Vec::new());
        loop {
            let header = unread.get(end..).and_then(|rest| rest.first_chunk::<HEADER>());
            let Some([a, b, c, sequence]) = header else { return Ok(None) };
            let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
            parts.push((end + HEADER..end + HEADER + length, *sequence));
            end += HEADER + length;
            if end > PACKET_MAX {
                return Err(self.odd("a packet of more than 1 GiB"));
            }
            if end > unread.len() {
                return Ok(None);
            }
            if length < CONTINUED {
                break;
            }
        }
        let start = self.buffer.take(end).start;
        let mut to = start + HEADER;
        for (part, sequence) in parts {
            self.in_order(sequence)?;
            self.buffer.copy_within(start + part.start..start + part.end, to);
            to += part.len();
        }
        Ok(Some(start + HEADER..to))
    }

    #[inline]
    fn in_order(&mut self, sequence: u8) -> Result<(), CaptureError> {
        if sequence != self.sequence && self.line.is_numbered() {
            return Err(CaptureError::Transient {
                what: format!("{}: packets of the server are out of order", self.options.name),
                source: None,
            });
        }
        self.sequence = sequence.wrapping_add(1);
        Ok(())
    }

    fn fill(&mut self) -> Result<(), CaptureError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let read = self.buffer.fill(&mut self.line);
            if self.halt.is_halted() {
                return Err(CaptureError::stopped());
            }
            let what = match read {
                Ok(0) => "the server closed the connection".to_string(),
                Ok(_) => return Ok(()),
                Err(error) if !is_pause(&error) => {
                    return Err(broken(&self.options, "reading", error));
                }
                Err(_) if Instant::now() < until => continue,
                Err(_) => format!("no answer for {} s", PATIENCE.as_secs()),
            };
            return Err(CaptureError::Transient {
                what: format!("{}: {what}", self.options.name),
                source: None,
            });
        }
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        // COM_QUIT; a server that is in the middle of an answer notices the closed socket.
        let _ = self.command(1, &[]);
        if let Line::Open(socket) = &self.line {
            socket.shut_down();
        }
    }
}

/// The error of an ERR packet.
pub(super) fn server_message(body: &[u8]) -> Option<ServerError> {
    let ([ERR, low, high], rest) = body.split_first_chunk::<3>()? else { return None };
    let (state, message) = match rest.strip_prefix(b"#").and_then(|rest| rest.split_at_checked(5)) {
        Some((state, message)) => (state, message),
        None => (&b"HY000"[..], rest),
    };
    Some(ServerError {
        code: u16::from_le_bytes([*low, *high]),
        state: String::from_utf8_lossy(state).into_owned(),
        message: String::from_utf8_lossy(message).into_owned(),
    })
}

fn broken(options: &SourceOptions, doing: &str, error: std::io::Error) -> CaptureError {
    let place = format!("{doing} ({}:{})", options.host, options.port);
    server_error(options, &place, Error::Io(IoError::Io(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_code_state_and_message() {
        let error = server_message(b"\xff\x48\x04#HY000No tables used").unwrap();
        assert_eq!((error.code, &*error.message), (1096, "No tables used"));
        assert_eq!(server_message(b"\xff\x10\x04Too many").unwrap().message, "Too many");
        assert!(server_message(b"\x00\x00\x00").is_none());
    }
}
