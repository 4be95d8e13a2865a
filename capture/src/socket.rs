//! A blocking connection of TCP, with or without TLS.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A read returns after this long without data, so that whoever reads can look about.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, encrypted or not.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Connects without TLS.
    ///
    /// # Errors
    ///
    /// Of the last address that was tried.
    pub(crate) fn connect(host: &str, port: u16) -> Result<Self> {
        let mut failure = Error::new(ErrorKind::NotFound, "the host name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(READ_TIMEOUT))?;
                    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                    return Ok(Self::Plain(stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Begins TLS, once the server has agreed to it.
    ///
    /// # Errors
    ///
    /// Those of the socket, and of the server's certificate.
    pub(crate) fn encrypted(self, config: ClientConfig, name: ServerName<'static>) -> Result<Self> {
        let Self::Plain(stream) = self else { return Ok(self) };
        let client = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let mut tls = StreamOwned::new(client, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        tls.sock.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// True when the connection is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What is underneath.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Ends the connection; that it has ended already is as good.
    pub(crate) fn shut_down(&self) {
        let _ = self.tcp().shutdown(Shutdown::Both);
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Whether a read has only run out of time.
pub(crate) fn is_pause(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
