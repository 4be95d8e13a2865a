//! A blocking session for reading many rows: the rows of a result as the server sends them, without
//! an allocation for any of them. The library makes an object of every row, and of every value.
//!
//! Source: MySQL internals, "Text Protocol".

use std::sync::Arc;

use mysql_common::packets::ComRegisterSlave;
use mysql_common::packets::binlog_request::BinlogRequest;
use mysql_common::proto::MySerialize;

use super::login::log_in;
use super::packets::{EOF, EOF_BYTES_MAX, ERR, OK, Packets};
use super::wire::{Input, Malformed};
use crate::snapshot::Halt;
use crate::{CaptureError, SourceOptions};

const COM_QUERY: u8 = 3;
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
        let mut packets = Packets::connect(options, halt)?;
        log_in(&mut packets)?;
        let mut session = Self { packets };
        session.execute("beginning a session", SETTINGS)?;
        Ok(session)
    }

    /// A session that has been logged in, with what the server will send.
    #[cfg(feature = "fuzzing")]
    pub(super) fn of(packets: Packets) -> Self {
        Self { packets }
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
            _ => Err(self.packets.refused(doing, &answer)),
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
            None | Some(&(OK | ERR | 0xfb)) => return Err(self.packets.refused(doing, &head)),
            Some(_) => Input::new(self.packets.body(&head))
                .lenenc()
                .map_err(|what| self.packets.odd(&format!("{doing}: {what}")))?,
        };
        // Their definitions, and an EOF.
        for _ in 0..=columns {
            let packet = self.packets.next()?;
            if self.packets.body(&packet).first() == Some(&ERR) {
                return Err(self.packets.refused(doing, &packet));
            }
        }
        loop {
            let packet = self.packets.next()?;
            let body = self.packets.body(&packet);
            match body.first() {
                Some(&EOF) if body.len() < EOF_BYTES_MAX => return Ok(()),
                Some(&ERR) => return Err(self.packets.refused(doing, &packet)),
                _ => row(body)?,
            }
        }
    }

    /// Asks for the log, as a replica does: packets with events follow, see `dump`.
    pub(super) fn dump(mut self, request: &BinlogRequest<'_>) -> Result<Packets, CaptureError> {
        self.packets.request(|out| ComRegisterSlave::new(request.server_id()).serialize(out))?;
        self.done("registering as a replica")?;
        self.packets.request(|out| request.as_cmd().serialize(out))?;
        Ok(self.packets)
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

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut rest = bytes.as_slice();
            while cell(&mut rest).is_ok() && !rest.is_empty() {}
        }
    }
}
