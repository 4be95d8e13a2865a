//! A blocking connection that speaks the frontend/backend protocol as far as replication and
//! `COPY … TO STDOUT` need it. Messages are handed out as slices of the read buffer.
//!
//! Source: PostgreSQL manual, "Frontend/Backend Protocol", "Streaming Replication Protocol".

use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::control::Control;
use super::errors::{self, ServerError};
use super::pace::SHORT_READ_BYTES;
use super::session;
use crate::buffer::ReadBuffer;
use crate::socket::{Socket, is_pause};
use crate::{CaptureError, SourceOptions, tls};

/// PostgreSQL's own limit for one message (`PQ_LARGE_MESSAGE_LIMIT`).
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Receive window towards a server on the same machine; the kernel gives the buffer twice as much.
/// Smaller ones close sooner. It must hold one of loopback's segments of 64 KiB whatever part of
/// the buffer goes to overhead, or else the server's kernel waits 200 ms each time to send less.
const GATHERING_WINDOW_BYTES: usize = 128 * 1024;
/// A server says at once whether it offers TLS.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements may wait for locks and for running transactions; a peer that is silent for longer
/// than this is taken for dead.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A connection after start-up and authentication.
pub(super) struct Connection {
    pub(super) options: Arc<SourceOptions>,
    control: Arc<Control>,
    socket: Socket,
    buffer: ReadBuffer,
    out: BytesMut,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Bytes(usize),
    /// Nothing within the time allowed.
    Nothing,
}

/// A message of the server: its type, and where in the buffer its body is until the next read.
pub(super) type Frame = (u8, Range<usize>);

impl Connection {
    /// Connects and authenticates. With `replication`, as a logical walsender's peer.
    pub(super) fn open(
        options: &Arc<SourceOptions>,
        control: &Arc<Control>,
        replication: bool,
    ) -> Result<Self, CaptureError> {
        let socket = Socket::connect(&options.host, options.port)
            .map_err(|e| errors::socket(options, "connecting", e))?;
        control.watch(&socket, options)?;
        let socket = protect(socket, options)?;
        let mut connection = Self {
            options: options.clone(),
            control: control.clone(),
            socket,
            buffer: ReadBuffer::new(),
            out: BytesMut::new(),
        };
        session::start(&mut connection, replication)?;
        Ok(connection)
    }

    /// The server's certificate, where there is TLS.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        match &self.socket {
            Socket::Plain(_) => None,
            Socket::Tls(stream) => stream.conn.peer_certificates()?.first().map(|c| c.as_ref()),
        }
    }

    /// True when the connection is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// Writes what `build` puts into the buffer.
    pub(super) fn send(
        &mut self,
        build: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), CaptureError> {
        self.out.clear();
        let built = build(&mut self.out);
        let written = built
            .and_then(|()| self.socket.write_all(&self.out))
            .and_then(|()| self.socket.flush());
        // Passwords pass through here.
        self.out.fill(0);
        written.map_err(|e| self.broken("sending", e))
    }

    /// Reads once, waiting for a short time at most.
    pub(super) fn fill(&mut self) -> Result<Filled, CaptureError> {
        let read = self.buffer.fill(&mut self.socket);
        if self.control.stopped() {
            return Err(CaptureError::stopped());
        }
        match read {
            Ok(0) => Err(CaptureError::Transient {
                what: format!("source {}: the server closed the connection", self.options.name),
                source: None,
            }),
            Ok(count) => Ok(Filled::Bytes(count)),
            Err(error) if is_pause(&error) => Ok(Filled::Nothing),
            Err(error) => Err(self.broken("reading", error)),
        }
    }

    /// Reads what has arrived already, without waiting: up to the buffer's room, or with TLS, which
    /// is decrypted a few KiB at a time, up to what is a thick read.
    pub(super) fn fill_now(&mut self) -> Result<Filled, CaptureError> {
        self.nonblocking(true)?;
        let mut sum = 0;
        let read = loop {
            match self.fill() {
                Ok(Filled::Bytes(count)) => sum += count,
                // What has been read goes first; a broken connection says so again.
                Err(error) if sum == 0 => break Err(error),
                Ok(Filled::Nothing) | Err(_) => break Ok(()),
            }
            if !self.is_encrypted() || sum >= SHORT_READ_BYTES {
                break Ok(());
            }
        };
        self.nonblocking(false)?;
        read.map(|()| if sum == 0 { Filled::Nothing } else { Filled::Bytes(sum) })
    }

    /// Lets the messages of a server on the same machine gather on its side while we pause: keeps
    /// the receive window from growing, so that it closes. True when the server is on the same
    /// machine. Over a network the kernel goes on fitting the window to the way.
    pub(super) fn gather(&self) -> Result<bool, CaptureError> {
        let stream = self.socket.tcp();
        let ends = stream.local_addr().and_then(|ours| Ok((ours, stream.peer_addr()?)));
        let (ours, theirs) = ends.map_err(|e| self.broken("connecting", e))?;
        let near = ours.ip() == theirs.ip();
        if near {
            socket2::SockRef::from(stream)
                .set_recv_buffer_size(GATHERING_WINDOW_BYTES)
                .map_err(|e| self.broken("connecting", e))?;
        }
        Ok(near)
    }

    fn nonblocking(&self, on: bool) -> Result<(), CaptureError> {
        self.socket.tcp().set_nonblocking(on).map_err(|e| self.broken("reading", e))
    }

    /// The next whole message in the buffer.
    #[inline]
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        let Some((tag, length)) = self.header()? else { return Ok(None) };
        if self.buffer.unread().len() < 1 + length {
            return Ok(None);
        }
        let taken = self.buffer.take(1 + length);
        Ok(Some((tag, taken.start + 5..taken.end)))
    }

    /// The body of a message; empty for one that is gone.
    #[inline]
    pub(super) fn body(&self, frame: &Frame) -> &[u8] {
        self.buffer.get(frame.1.clone())
    }

    /// Waits for the next message. Notices, parameter changes and notifications are passed over.
    pub(super) fn reply(&mut self) -> Result<Frame, CaptureError> {
        let until = Instant::now() + REPLY_TIMEOUT;
        loop {
            match self.frame()? {
                Some((b'N' | b'S' | b'A', _)) => {}
                Some(frame) => return Ok(frame),
                None if self.fill()? == Filled::Nothing && Instant::now() > until => {
                    return Err(CaptureError::Transient {
                        what: format!(
                            "source {}: no answer for {} s",
                            self.options.name,
                            REPLY_TIMEOUT.as_secs()
                        ),
                        source: None,
                    });
                }
                None => {}
            }
        }
    }

    /// Sends a simple query.
    pub(super) fn send_query(&mut self, sql: &str) -> Result<(), CaptureError> {
        self.send(|out| frontend::query(sql, out))
    }

    /// Runs one statement and returns its rows as text.
    pub(super) fn query(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, CaptureError> {
        self.send_query(sql)?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let frame = self.reply()?;
            match frame.0 {
                b'D' => rows.push(data_row(self.body(&frame)).ok_or_else(|| self.odd(b'D'))?),
                b'E' => failure = Some(server_error(self.body(&frame))),
                b'T' | b'C' | b'I' => {}
                b'Z' => break,
                tag => return Err(self.odd(tag)),
            }
        }
        match failure {
            Some(error) => Err(errors::server(&self.options, doing, &error)),
            None => Ok(rows),
        }
    }

    /// An answer that has no place here.
    pub(super) fn odd(&self, tag: u8) -> CaptureError {
        CaptureError::definite(
            format!(
                "source {}: unexpected message of type `{}` from the server",
                self.options.name,
                tag.escape_ascii()
            ),
            "check that the port is that of a PostgreSQL server and not of a pooler",
        )
    }

    fn broken(&self, doing: &str, error: std::io::Error) -> CaptureError {
        if self.control.stopped() {
            return CaptureError::stopped();
        }
        errors::socket(&self.options, doing, error)
    }

    #[inline]
    fn header(&self) -> Result<Option<(u8, usize)>, CaptureError> {
        let Some(([tag, length @ ..], _)) = self.buffer.unread().split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if (4..=MESSAGE_BYTES_MAX).contains(&length) {
            Ok(Some((*tag, length)))
        } else {
            Err(self.odd(*tag))
        }
    }
}

/// Fields of an ErrorResponse.
pub(super) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError { code: String::new(), message: String::new() };
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'C', text)) => error.code = String::from_utf8_lossy(text).into_owned(),
            Some((b'M', text)) => error.message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    error
}

pub(super) fn data_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => row.push(None),
            Ok(length) => {
                let (text, after) = rest.split_at_checked(length)?;
                row.push(Some(String::from_utf8_lossy(text).into_owned()));
                rest = after;
            }
        }
    }
    Some(row)
}

/// Begins TLS where the options ask for it.
fn protect(mut socket: Socket, options: &SourceOptions) -> Result<Socket, CaptureError> {
    let Some(config) = tls::config(options)? else { return Ok(socket) };
    let name = tls::server_name(options)?;
    let broken = |e| errors::socket(options, "beginning TLS", e);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).map_err(broken)?;
    let mut answer = [0];
    let until = Instant::now() + ANSWER_TIMEOUT;
    loop {
        match socket.read_exact(&mut answer) {
            Err(error) if is_pause(&error) && Instant::now() < until => {}
            other => break other.map_err(broken)?,
        }
    }
    if answer != *b"S" {
        return Err(CaptureError::definite(
            format!("source {}: the server offers no TLS", options.name),
            "set ssl = on in postgresql.conf, or tls = \"disable\" for a private network",
        ));
    }
    socket.encrypted(config, name).map_err(broken)
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A walsender that is told ends at once and frees its slot.
        let _ = self.send(|out| {
            frontend::terminate(out);
            Ok(())
        });
        self.socket.shut_down();
    }
}

impl Control {
    /// Lets `stop` interrupt whatever waits on this socket.
    fn watch(&self, socket: &Socket, options: &SourceOptions) -> Result<(), CaptureError> {
        let copy =
            socket.tcp().try_clone().map_err(|e| errors::socket(options, "connecting", e))?;
        self.set_socket(copy);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_carry_code_and_message_only() {
        let error = server_error(b"SERROR\0C42501\0Mpermission denied\0Dsecret row\0\0");
        assert_eq!((&*error.code, &*error.message), ("42501", "permission denied"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = data_row(&bytes);
            let _ = server_error(&bytes);
        }
    }
}
