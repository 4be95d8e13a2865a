//! A blocking session for reading many rows: the rows of a result as the server sends them, without
//! an allocation for any of them. The library makes an object of every row, and of every value.
//!
//! Opened behind a connection of the library with the same options, which tells what is wrong with
//! them, and lets the server remember the password (`caching_sha2_password`).
//!
//! Sources: MySQL internals, "Connection Phase", "Text Protocol"; MariaDB, "Connection".

use std::ops::Range;
use std::sync::Arc;

use mysql_async::{Error, ServerError};
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::MySerialize;
use secrecy::ExposeSecret;

use super::connect::{PACKET_MAX, server_error};
use super::packets::Packets;
use super::wire::{Input, Malformed};
use crate::snapshot::Halt;
use crate::{CaptureError, SourceOptions, tls};

const COM_QUERY: u8 = 3;
/// First byte of an answer.
const OK: u8 = 0;
const MORE: u8 = 1;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
/// An EOF packet is shorter than this; a row that begins with the same byte is longer.
const EOF_BYTES_MAX: usize = 9;
/// `utf8mb4_general_ci`, which all servers know.
const COLLATION: u8 = 45;
/// A first snapshot that is throttled takes rows now and then only.
const SETTINGS: &str = "SET time_zone = '+00:00', sql_mode = '', net_write_timeout = 3600";

/// A session after the log-in.
pub(super) struct Session {
    packets: Packets,
}

impl Session {
    /// Connects and logs in; the session runs in UTC.
    pub(super) fn open(
        options: &Arc<SourceOptions>,
        halt: Arc<dyn Halt + Send + Sync>,
    ) -> Result<Self, CaptureError> {
        let mut session = Self { packets: Packets::connect(options, halt)? };
        session.log_in()?;
        session.execute("beginning a session", SETTINGS)?;
        Ok(session)
    }

    /// Runs a statement that has no rows.
    pub(super) fn execute(&mut self, doing: &str, sql: &str) -> Result<(), CaptureError> {
        self.ask(sql)?;
        self.done(doing)
    }

    /// Sends a statement that has no rows; `done` must follow.
    pub(super) fn ask(&mut self, sql: &str) -> Result<(), CaptureError> {
        self.packets.command(COM_QUERY, sql.as_bytes())
    }

    /// Waits until the statement sent last has been run.
    pub(super) fn done(&mut self, doing: &str) -> Result<(), CaptureError> {
        let answer = self.packets.next()?;
        match self.packets.body(&answer).first() {
            Some(&OK) => Ok(()),
            _ => Err(self.refused(doing, &answer)),
        }
    }

    /// Runs a statement and gives its rows to `row`, each as the text protocol has it: see
    /// [`cell`]. After an error the session is spent.
    pub(super) fn select(
        &mut self,
        doing: &str,
        sql: &str,
        mut row: impl FnMut(&[u8]) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        self.ask(sql)?;
        let head = self.packets.next()?;
        let columns = match self.packets.body(&head).first() {
            None | Some(&(OK | ERR | 0xfb)) => return Err(self.refused(doing, &head)),
            Some(_) => Input::new(self.packets.body(&head))
                .lenenc()
                .map_err(|what| self.packets.odd(&format!("{doing}: {what}")))?,
        };
        // Their definitions, and an EOF.
        for _ in 0..=columns {
            let packet = self.packets.next()?;
            if self.packets.body(&packet).first() == Some(&ERR) {
                return Err(self.refused(doing, &packet));
            }
        }
        loop {
            let packet = self.packets.next()?;
            let body = self.packets.body(&packet);
            match body.first() {
                Some(&EOF) if body.len() < EOF_BYTES_MAX => return Ok(()),
                Some(&ERR) => return Err(self.refused(doing, &packet)),
                _ => row(body)?,
            }
        }
    }

    /// The rows of a small result, as texts; NULL is empty.
    pub(super) fn texts(
        &mut self,
        doing: &str,
        sql: &str,
    ) -> Result<Vec<Vec<String>>, CaptureError> {
        let mut rows = Vec::new();
        self.select(doing, sql, |mut rest| {
            let mut row = Vec::new();
            while !rest.is_empty() {
                let sent = cell(&mut rest)?.unwrap_or_default();
                row.push(String::from_utf8_lossy(sent).into_owned());
            }
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    fn log_in(&mut self) -> Result<(), CaptureError> {
        const DOING: &str = "connecting";
        let options = self.packets.options.clone();
        let greeting = self.packets.next()?;
        let body = self.packets.body(&greeting);
        if body.first() == Some(&ERR) {
            return Err(self.refused(DOING, &greeting));
        }
        let Ok(greeting) = ParseBuf(body).parse::<HandshakePacket<'_>>(()) else {
            return Err(self.packets.odd("its greeting"));
        };
        let greeting = greeting.into_owned();
        let mut wanted = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        let tls = tls::config(&options)?;
        wanted.set(CapabilityFlags::CLIENT_SSL, tls.is_some());
        let agreed = greeting.capabilities() & wanted;
        if let Some(config) = tls {
            if !agreed.contains(CapabilityFlags::CLIENT_SSL) {
                return Err(self.packets.odd("it offers no TLS"));
            }
            let request = SslRequest::new(agreed, PACKET_MAX as u32, COLLATION);
            self.packets.send(|out| request.serialize(out))?;
            self.packets.encrypt(config)?;
        }
        let plugin = match greeting.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        let data = plugin.gen_data(Some(options.password.expose_secret()), &greeting.nonce());
        let response = HandshakeResponse::new(
            data.as_deref(),
            (8, 0, 0),
            Some(options.user.as_bytes()),
            None::<&[u8]>,
            Some(plugin),
            agreed,
            None,
            PACKET_MAX as u32,
        );
        self.packets.send(|out| response.serialize(out))?;
        self.authenticate(DOING)
    }

    /// Answers until the server is content.
    fn authenticate(&mut self, doing: &str) -> Result<(), CaptureError> {
        let options = self.packets.options.clone();
        let password = options.password.expose_secret();
        let mut switched = false;
        loop {
            let packet = self.packets.next()?;
            let body = self.packets.body(&packet);
            match body {
                [OK, ..] => return Ok(()),
                // caching_sha2_password: the server remembers, and is content.
                [MORE, 3] => {}
                // It does not, and asks for the password itself.
                [MORE, 4] if self.packets.is_encrypted() => self.packets.send(|out| {
                    out.extend_from_slice(password.as_bytes());
                    out.push(0);
                })?,
                [MORE, 4] => {
                    return Err(CaptureError::Transient {
                        what: format!("{}: the server has just forgotten a log-in", options.name),
                        source: None,
                    });
                }
                [EOF, ..] if !switched => {
                    switched = true;
                    let Ok(request) = ParseBuf(body).parse::<AuthSwitchRequest<'_>>(()) else {
                        return Err(self.packets.odd("its way of authentication"));
                    };
                    let plugin = request.auth_plugin();
                    let known = matches!(
                        plugin,
                        AuthPlugin::CachingSha2Password
                            | AuthPlugin::MysqlNativePassword
                            | AuthPlugin::Ed25519
                    );
                    if !known {
                        return Err(self.packets.odd("a way of authentication that is not known"));
                    }
                    let data = plugin.gen_data(Some(password), request.plugin_data());
                    let data = data.map(|data| data.into_owned());
                    self.packets.send(|out| {
                        if let Some(data) = data {
                            data.serialize(out);
                        }
                    })?;
                }
                _ => return Err(self.refused(doing, &packet)),
            }
        }
    }

    /// What an answer that is not the one hoped for says.
    fn refused(&self, doing: &str, packet: &Range<usize>) -> CaptureError {
        let body = self.packets.body(packet);
        match server_message(body) {
            Some(error) => server_error(&self.packets.options, doing, Error::Server(error)),
            None => self.packets.odd(doing),
        }
    }
}

/// The error of an ERR packet.
fn server_message(body: &[u8]) -> Option<ServerError> {
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

/// Takes the next cell of a row of the text protocol; `None` is NULL.
#[inline]
pub(super) fn cell<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    const SHORT: Malformed = Malformed("row that ends too early");
    let (first, behind) = rest.split_first().ok_or(SHORT)?;
    let (sent, behind) = match *first {
        0xfb => {
            *rest = behind;
            return Ok(None);
        }
        length @ ..=0xfa => behind.split_at_checked(usize::from(length)).ok_or(SHORT)?,
        _ => {
            let mut input = Input::new(rest);
            (input.lenenc_bytes()?, input.rest())
        }
    };
    *rest = behind;
    Ok(Some(sent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cells_of_all_lengths() {
        let long = [&[0xfc, 0x2c, 0x01][..], &[b'x'; 300]].concat();
        let row = [&b"\x01a\xfb\x00"[..], &long].concat();
        let mut rest = row.as_slice();
        assert_eq!(cell(&mut rest).unwrap(), Some(&b"a"[..]));
        assert_eq!(cell(&mut rest).unwrap(), None);
        assert_eq!(cell(&mut rest).unwrap(), Some(&b""[..]));
        assert_eq!(cell(&mut rest).unwrap().map(<[u8]>::len), Some(300));
        assert!(rest.is_empty() && cell(&mut rest).is_err());
        assert!(cell(&mut &b"\x02a"[..]).is_err());
    }

    #[test]
    fn errors_carry_code_state_and_message() {
        let error = server_message(b"\xff\x48\x04#HY000No tables used").unwrap();
        assert_eq!((error.code, &*error.message), (1096, "No tables used"));
        assert_eq!(server_message(b"\xff\x10\x04Too many").unwrap().message, "Too many");
        assert!(server_message(b"\x00\x00\x00").is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = server_message(&bytes);
            let mut rest = bytes.as_slice();
            while cell(&mut rest).is_ok() && !rest.is_empty() {}
        }
    }
}
