//! Checksums at the end of events.
//!
//! Source: MySQL 5.6.1 "WL#2540: Replication event checksums"; MariaDB 5.3 has the same.

use super::event::{Header, kind};
use super::wire::{Input, Malformed};

/// Bytes of a checksum.
const BYTES: usize = 4;

/// What events of a log end in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Nothing: `binlog_checksum = NONE`, or a server from before there were any.
    #[default]
    None,
    /// A CRC-32 of all that is before it.
    Crc32,
}

impl Checksum {
    /// What the FORMAT_DESCRIPTION event at the beginning of a log says of all that follows, and
    /// its data without its own checksum, which is right.
    pub(super) fn announced<'e>(
        header: &Header,
        body: &'e [u8],
    ) -> Result<(Self, &'e [u8]), Malformed> {
        let mut input = Input::new(body);
        input.u16()?;
        let version = input.take(50)?;
        if !has_checksums(&String::from_utf8_lossy(version)) {
            return Ok((Self::None, body));
        }
        // Its own is there even if those of others are not.
        let short = Malformed("format description that ends too early");
        let (data, sum) = body.split_last_chunk::<BYTES>().ok_or(short)?;
        match data.last().ok_or(short)? {
            0 => Ok((Self::None, data)),
            1 if header.checksum_holds(data, *sum) => Ok((Self::Crc32, data)),
            1 => Err(WRONG),
            _ => Err(Malformed("checksums of a kind that is not known")),
        }
    }

    /// An event's data without checksum, once that is right.
    #[inline]
    pub(super) fn verified<'e>(
        self,
        header: &Header,
        body: &'e [u8],
    ) -> Result<&'e [u8], Malformed> {
        match (self, body.split_last_chunk::<BYTES>()) {
            (Self::Crc32, Some((data, sum))) if header.checksum_holds(data, *sum) => Ok(data),
            (Self::Crc32, _) => Err(WRONG),
            // The rotation that a dump begins with has one before any is announced.
            (Self::None, Some((data, sum)))
                if header.kind == kind::ROTATE && header.checksum_holds(data, *sum) =>
            {
                Ok(data)
            }
            (Self::None, _) => Ok(body),
        }
    }
}

/// An event is not what was written.
pub(super) const WRONG: Malformed = Malformed("wrong checksum");

/// Whether a server of this version says what its events end in.
fn has_checksums(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0_u32);
    let version_numbers = (next(), next(), next());
    let first = if version.contains("MariaDB") { (5, 3, 0) } else { (5, 6, 1) };
    version_numbers >= first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_checksums() {
        for version in ["5.6.1-m5", "5.7.44-log", "8.0.40", "10.5.15-MariaDB-log", "5.5.68-MariaDB"]
        {
            assert!(has_checksums(version), "{version}");
        }
        for version in ["5.1.34sp1-log", "5.5.62", "5.6.0", ""] {
            assert!(!has_checksums(version), "{version}");
        }
    }

    #[test]
    fn damaged_events_are_told() {
        let header =
            Header { seconds: 1, kind: kind::XID, server_id: 1, size: 31, end: 99, flags: 0 };
        let mut body = 7_u64.to_le_bytes().to_vec();
        let mut sum = header.checksum();
        sum.update(&body);
        body.extend(sum.finalize().to_le_bytes());
        assert_eq!(Checksum::Crc32.verified(&header, &body), Ok(&body[..8]));
        assert_eq!(Checksum::None.verified(&header, &body), Ok(&body[..]));
        body[3] ^= 1;
        assert_eq!(Checksum::Crc32.verified(&header, &body), Err(WRONG));
        assert_eq!(Checksum::Crc32.verified(&header, &body[..3]), Err(WRONG));
    }
}
