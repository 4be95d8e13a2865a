//! A compressed transaction of MySQL (`binlog_transaction_compression`), read event by event.

use std::io::{Cursor, Read};

use super::event::{EVENT_BYTES_MAX, Header};
use super::wire::{Input, Malformed};

/// Memory that the decompressor may take for its window: 128 MiB, as the server writes at most.
const WINDOW_LOG_MAX: u32 = 27;

const ZSTD: usize = 0;
const NONE: usize = 255;

/// The events of one TRANSACTION_PAYLOAD event. Only one of them is in memory at a time.
pub(super) struct Payload<'a> {
    content: Box<dyn Read + Send + 'a>,
    /// Bytes announced and not read yet.
    left: u64,
}

impl<'a> Payload<'a> {
    /// Reads the fields in front of the content.
    pub(super) fn open(data: &'a [u8]) -> Result<Self, Malformed> {
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
        let packed = packed.ok_or(Malformed("compressed transaction without a length"))?;
        let content = input.take(packed)?;
        if !input.is_empty() {
            return Err(Malformed("bytes behind a compressed transaction"));
        }
        let content: Box<dyn Read + Send + 'a> = match method {
            Some(NONE) => Box::new(Cursor::new(content)),
            Some(ZSTD) => {
                let mut decoder =
                    zstd::stream::read::Decoder::new(Cursor::new(content)).map_err(|_| DAMAGED)?;
                decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| DAMAGED)?;
                Box::new(decoder)
            }
            _ => return Err(Malformed("transaction compressed by a method that is not known")),
        };
        Ok(Self { content, left: plain.unwrap_or(packed) as u64 })
    }

    /// The next event, or `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<(Header, Vec<u8>)>, Malformed> {
        if self.left == 0 {
            return match self.content.read(&mut [0]) {
                Ok(0) => Ok(None),
                _ => Err(Malformed("compressed transaction longer than announced")),
            };
        }
        let header = Header::parse(&self.take(Header::BYTES)?)?;
        if header.size > EVENT_BYTES_MAX {
            return Err(Malformed("event larger than 1 GiB in a compressed transaction"));
        }
        let data = self.take(u64::from(header.body_bytes()?))?;
        Ok(Some((header, data)))
    }

    fn take(&mut self, bytes: u64) -> Result<Vec<u8>, Malformed> {
        self.left = self.left.checked_sub(bytes).ok_or(SHORT)?;
        let mut taken = Vec::new();
        let read = self.content.by_ref().take(bytes).read_to_end(&mut taken);
        match read.map_err(|_| DAMAGED)? as u64 == bytes {
            true => Ok(taken),
            false => Err(SHORT),
        }
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
        let mut payload = Payload::open(data)?;
        let mut events = Vec::new();
        while let Some(event) = payload.next()? {
            events.push(event);
        }
        Ok(events)
    }

    #[test]
    fn the_events_of_a_recorded_payload() {
        let kinds: Vec<_> = all(&logged()).unwrap().iter().map(|(h, _)| h.kind).collect();
        assert_eq!(kinds, [kind::QUERY, kind::TABLE_MAP, kind::WRITE_ROWS, kind::XID]);
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
