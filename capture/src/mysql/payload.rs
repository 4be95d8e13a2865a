//! A compressed transaction of MySQL (`binlog_transaction_compression`), read event by event.

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::event::{EVENT_BYTES_MAX, Header};
use super::wire::{Input, Malformed};

/// Memory that the decompressor may take for its window: 128 MiB, as the server writes at most.
const WINDOW_LOG_MAX: u32 = 27;
/// The fields in front of the content take less.
const FIELDS_BYTES_MAX: usize = 1024;
/// So much is decompressed at a time.
const STEP_BYTES: usize = 64 * 1024;

const ZSTD: usize = 0;
const NONE: usize = 255;

/// The events of one TRANSACTION_PAYLOAD event, which may come in parts. In memory are one part,
/// the decompressor's window and one event.
#[derive(Default)]
pub(super) struct Payload {
    /// Bytes that came.
    packed: Vec<u8>,
    /// How many of them were read.
    read: usize,
    /// `None` until the fields in front of it are here.
    content: Option<Content>,
    /// Bytes that were decompressed.
    plain: Vec<u8>,
    /// How many of them were handed out.
    handed: usize,
}

struct Content {
    /// `None` when it is not compressed.
    zstd: Option<Decoder<'static>>,
    /// Bytes announced that were not decompressed.
    packed: u64,
    /// Bytes announced that did not come out yet.
    plain: u64,
    /// The decompressor waits for more of what it has begun.
    begun: bool,
}

impl Payload {
    /// Adds the next part of the event's data. All events of the parts before must have been taken.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.packed.drain(..self.read.min(self.packed.len()));
        self.read = 0;
        self.packed.extend_from_slice(part);
    }

    /// The next event, or `None` when more parts are needed.
    pub(super) fn next(&mut self) -> Result<Option<(Header, Vec<u8>)>, Malformed> {
        if self.content.is_none() {
            match Content::open(&self.packed) {
                Ok((content, fields)) => {
                    self.read = fields;
                    self.content = Some(content);
                }
                Err(_) if self.packed.len() < FIELDS_BYTES_MAX => return Ok(None),
                Err(what) => return Err(what),
            }
        }
        loop {
            if let Some(event) = self.whole()? {
                return Ok(Some(event));
            }
            if !self.decompress()? {
                return Ok(None);
            }
        }
    }

    /// Ends the transaction: all that was announced must have come, and nothing else.
    pub(super) fn finish(mut self) -> Result<(), Malformed> {
        if self.next()?.is_some() {
            return Err(SHORT);
        }
        let Some(content) = &self.content else {
            return Err(Content::open(&self.packed).err().unwrap_or(SHORT));
        };
        let whole = content.packed == 0 && content.plain == 0 && !content.begun;
        if !whole || self.handed < self.plain.len() {
            return Err(SHORT);
        }
        match self.read == self.packed.len() {
            true => Ok(()),
            false => Err(Malformed("bytes behind a compressed transaction")),
        }
    }

    /// The event that is here whole.
    fn whole(&mut self) -> Result<Option<(Header, Vec<u8>)>, Malformed> {
        const HEADER: usize = Header::BYTES as usize;
        let unread = self.plain.get(self.handed..).unwrap_or_default();
        if unread.len() < HEADER {
            return Ok(None);
        }
        let header = Header::parse(unread)?;
        if header.size > EVENT_BYTES_MAX {
            return Err(Malformed("event larger than 1 GiB in a compressed transaction"));
        }
        let end = HEADER + header.body_bytes()? as usize;
        let left = self.content.as_ref().map_or(0, |content| content.plain);
        if end as u64 > unread.len() as u64 + left {
            return Err(SHORT);
        }
        let Some(data) = unread.get(HEADER..end) else { return Ok(None) };
        let event = (header, data.to_vec());
        self.handed += end;
        Ok(Some(event))
    }

    /// Decompresses a step further; false when nothing came of it.
    fn decompress(&mut self) -> Result<bool, Malformed> {
        let Some(content) = &mut self.content else { return Ok(false) };
        self.plain.drain(..self.handed);
        self.handed = 0;
        let here = self.packed.get(self.read..).unwrap_or_default();
        let input = here.get(..content.packed.min(here.len() as u64) as usize).unwrap_or(here);
        let before = self.plain.len();
        let (read, written) = match &mut content.zstd {
            None => {
                self.plain.extend_from_slice(input);
                (input.len(), input.len())
            }
            Some(_) if input.is_empty() && !content.begun => (0, 0),
            Some(zstd) => {
                self.plain.resize(before + STEP_BYTES, 0);
                let room = self.plain.get_mut(before..).unwrap_or_default();
                let status = zstd.run_on_buffers(input, room).map_err(|_| DAMAGED)?;
                content.begun = status.remaining != 0;
                (status.bytes_read, status.bytes_written)
            }
        };
        self.plain.truncate(before + written);
        self.read += read;
        content.packed -= read as u64;
        content.plain = content
            .plain
            .checked_sub(written as u64)
            .ok_or(Malformed("compressed transaction longer than announced"))?;
        Ok(read > 0 || written > 0)
    }
}

impl Content {
    /// Reads the fields in front of it, and how many bytes they take.
    fn open(data: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut input = Input::new(data);
        let (mut packed, mut plain, mut method) = (None, None, None);
        loop {
            let field = input.lenenc()?;
            if field == 0 {
                break;
            }
            let mut value = Input::new(input.lenenc_bytes()?);
            match field {
                1 => packed = Some(value.lenenc()?),
                2 => method = Some(value.lenenc()?),
                3 => plain = Some(value.lenenc()?),
                _ => {}
            }
        }
        let packed = packed.ok_or(Malformed("compressed transaction without a length"))? as u64;
        let plain = plain.map_or(packed, |plain| plain as u64);
        let zstd = match method {
            Some(NONE) => None,
            Some(ZSTD) => {
                let mut zstd = Decoder::new().map_err(|_| DAMAGED)?;
                let window = DParameter::WindowLogMax(WINDOW_LOG_MAX);
                zstd.set_parameter(window).map_err(|_| DAMAGED)?;
                Some(zstd)
            }
            _ => return Err(Malformed("transaction compressed by a method that is not known")),
        };
        Ok((Self { zstd, packed, plain, begun: false }, input.at()))
    }
}

const DAMAGED: Malformed = Malformed("compressed transaction that is damaged");
const SHORT: Malformed = Malformed("compressed transaction shorter than announced");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::event::kind;

    /// As MySQL 9.7 logged an insert of three rows: fields and zstd, without header and checksum.
    const LOGGED: &str = "\
        0201000303fc4f010101a70028b52ffd604f00ed040012891d27804bd2013091814b2713089e91180f703c01\
        2edab98508430139d4f5e8397ec0636724846c9902ff3f22f133c25b0d3a7eb564c92baef1f798e785393f5b\
        bcd560a7820b4d952ec9d6f1a3f236f7e440e599ee7ac7fcf8d9e1ad0629134904d91d0dc725692605883633\
        bae27b60e8c8cff2ad06030f00365320c8e016c832f738aa009b3f05c200075440687174731159e281fbc0c8\
        03f002";

    pub(crate) fn logged() -> Vec<u8> {
        let digits: Vec<_> = LOGGED.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn all(data: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, Malformed> {
        in_parts(data, data.len().max(1))
    }

    fn in_parts(data: &[u8], bytes: usize) -> Result<Vec<(Header, Vec<u8>)>, Malformed> {
        let mut payload = Payload::default();
        let mut events = Vec::new();
        for part in data.chunks(bytes) {
            payload.push(part);
            while let Some(event) = payload.next()? {
                events.push(event);
            }
        }
        payload.finish()?;
        Ok(events)
    }

    #[test]
    fn the_events_of_a_recorded_payload() {
        let kinds: Vec<_> = all(&logged()).unwrap().iter().map(|(h, _)| h.kind).collect();
        assert_eq!(kinds, [kind::QUERY, kind::TABLE_MAP, kind::WRITE_ROWS, kind::XID]);
    }

    #[test]
    fn parts_of_any_length_are_one_payload() {
        let whole = all(&logged()).unwrap();
        for bytes in 1..40 {
            assert_eq!(in_parts(&logged(), bytes).unwrap(), whole, "{bytes}");
        }
    }

    #[test]
    fn an_uncompressed_payload() {
        let mut data = vec![2, 3, 0xfc, 255, 0, 1, 1, 27, 0];
        data.extend([1, 0, 0, 0, kind::XID, 5, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        data.extend([21, 0, 0, 0, 0, 0, 0, 0]);
        let events = all(&data).unwrap();
        assert_eq!((events[0].0.kind, events[0].1.len()), (kind::XID, 8));
    }

    #[test]
    fn broken_payloads_are_errors() {
        let whole = logged();
        for cut in 0..whole.len() {
            assert!(all(&whole[..cut]).is_err(), "{cut}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(all(&longer).is_err());
        // Announces one byte less, one byte more, and another method.
        for (at, byte) in [(6, 0x4e), (6, 0x50), (2, 7)] {
            let mut broken = whole.clone();
            broken[at] = byte;
            assert!(all(&broken).is_err(), "{at}");
        }
        // A length that would not fit into memory is not believed.
        let mut huge = vec![2, 1, 0, 3, 9, 0xfe];
        huge.extend(u64::MAX.to_le_bytes());
        huge.extend(&whole[8..]);
        assert!(all(&huge).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_hangs_or_panics(at in 0_usize..190, byte in any::<u8>()) {
            let mut data = logged();
            if let Some(place) = data.get_mut(at) {
                *place = byte;
            }
            let _ = all(&data);
        }
    }
}
