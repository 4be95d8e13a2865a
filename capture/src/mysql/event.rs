//! Binlog events by type: headers, checksums, and the small events.

use std::fmt::Write as _;
use std::io::Read as _;

use super::statement;
use super::wire::{Input, Malformed};

/// Event type numbers of MySQL and MariaDB.
pub(super) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(crate) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_ROWS_V1: u8 = 23;
    pub(crate) const UPDATE_ROWS_V1: u8 = 24;
    pub(crate) const DELETE_ROWS_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const WRITE_ROWS: u8 = 30;
    pub(crate) const UPDATE_ROWS: u8 = 31;
    pub(crate) const DELETE_ROWS: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub(crate) const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIADB_GTID: u8 = 162;
    pub(crate) const MARIADB_GTID_LIST: u8 = 163;
    pub(crate) const MARIADB_START_ENCRYPTION: u8 = 164;
    pub(crate) const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub(crate) const MARIADB_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub(crate) const MARIADB_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub(crate) const MARIADB_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub(crate) const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub(crate) const MARIADB_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub(crate) const MARIADB_DELETE_ROWS_COMPRESSED: u8 = 171;
    pub(crate) const MARIADB_PARTIAL_ROW_DATA: u8 = 172;
}

/// The event was made up by the dump, it is not in the file.
pub(super) const FLAG_ARTIFICIAL: u16 = 0x20;
/// The event may be ignored by those who do not know its type.
pub(super) const FLAG_IGNORABLE: u16 = 0x80;
/// MariaDB: the session said `skip_replication`.
pub(super) const FLAG_SKIP_REPLICATION: u16 = 0x8000;
/// The file is still being written; left out of a format description's checksum.
const FLAG_IN_USE: u16 = 0x1;

/// Events larger than this are refused where they are decompressed.
pub(super) const EVENT_BYTES_MAX: u32 = 1 << 30;

/// The common header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Seconds since the epoch.
    pub(super) seconds: u32,
    /// Type, see [`kind`].
    pub(super) kind: u8,
    /// The server that made the change first.
    pub(super) server_id: u32,
    /// Bytes of the whole event.
    pub(super) size: u32,
    /// Lower 32 bits of the offset after the event; 0 for artificial events.
    pub(super) end: u32,
    /// Flags.
    pub(super) flags: u16,
}

impl Header {
    /// Bytes of every event's header.
    pub(super) const BYTES: u64 = 19;

    /// Reads the header of an event.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        Ok(Self {
            seconds: input.u32()?,
            kind: input.u8()?,
            server_id: input.u32()?,
            size: input.u32()?,
            end: input.u32()?,
            flags: input.u16()?,
        })
    }

    /// A checksum over the header, to which the event's data is added.
    pub(super) fn checksum(&self) -> crc32fast::Hasher {
        let flags = match self.kind {
            kind::FORMAT_DESCRIPTION => self.flags & !FLAG_IN_USE,
            _ => self.flags,
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.seconds.to_le_bytes());
        crc.update(&[self.kind]);
        crc.update(&self.server_id.to_le_bytes());
        crc.update(&self.size.to_le_bytes());
        crc.update(&self.end.to_le_bytes());
        crc.update(&flags.to_le_bytes());
        crc
    }

    /// Whether the checksum at the event's end is right.
    pub(super) fn checksum_holds(&self, data: &[u8], checksum: [u8; 4]) -> bool {
        let mut crc = self.checksum();
        crc.update(data);
        crc.finalize() == u32::from_le_bytes(checksum)
    }

    /// Bytes of the event without header.
    pub(super) fn body_bytes(&self) -> Result<u32, Malformed> {
        let body = self.size.checked_sub(Self::BYTES as u32);
        body.ok_or(Malformed("event shorter than its header"))
    }
}

/// The offset after an event that follows another. Offsets in headers have 32 bits, files may be
/// larger.
pub(super) fn offset_after(before: u64, end: u32) -> u64 {
    let offset = before & !0xffff_ffff | u64::from(end);
    // An offset that no file reaches, after a rotation to nowhere, stays what it is.
    if offset < before { offset.saturating_add(1 << 32) } else { offset }
}

/// A transaction's name in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gtid {
    /// MariaDB: domain, server, sequence.
    MariaDb { domain: u32, server: u32, sequence: u64 },
    /// MySQL: `uuid` or `uuid:tag`, and a number.
    Mysql { source: String, number: u64 },
    /// MySQL without GTIDs.
    Anonymous,
}

/// A GTID event.
#[derive(Clone, Debug)]
pub(super) struct GtidEvent {
    /// The name.
    pub(super) gtid: Gtid,
    /// True when the next event is the whole transaction (MariaDB: DDL).
    pub(super) standalone: bool,
    /// Commit time in microseconds, where the log has it so exactly.
    pub(super) commit_micros: Option<i64>,
    /// MariaDB: name of the XA transaction that is prepared, committed or rolled back here.
    pub(super) xid: Option<String>,
    /// MariaDB: it is prepared.
    pub(super) prepares: bool,
}

impl GtidEvent {
    /// An event that says no more than this.
    pub(super) fn of(gtid: Gtid) -> Self {
        Self { gtid, standalone: false, commit_micros: None, xid: None, prepares: false }
    }
}

/// MariaDB's GTID event: sequence, domain, flags; then the id of a group commit and the name of an
/// XA transaction, where the flags say so.
pub(super) fn mariadb_gtid(header: &Header, data: &[u8]) -> Result<GtidEvent, Malformed> {
    let mut input = Input::new(data);
    let (sequence, domain, flags) = (input.u64()?, input.u32()?, input.u8()?);
    const STANDALONE: u8 = 1;
    const GROUP_COMMIT_ID: u8 = 2;
    const PREPARED_XA: u8 = 64;
    const COMPLETED_XA: u8 = 128;
    if flags & GROUP_COMMIT_ID != 0 {
        input.u64()?;
    }
    let xid = match flags & (PREPARED_XA | COMPLETED_XA) {
        0 => None,
        _ => {
            let (format, global, branch) = (input.u32()?, input.u8()?, input.u8()?);
            let (global, branch) =
                (input.take(usize::from(global))?, input.take(usize::from(branch))?);
            Some(statement::xid_of(format, global, branch))
        }
    };
    Ok(GtidEvent {
        standalone: flags & STANDALONE != 0,
        prepares: flags & PREPARED_XA != 0,
        xid,
        ..GtidEvent::of(Gtid::MariaDb { domain, server: header.server_id, sequence })
    })
}

/// MySQL's GTID and anonymous GTID events: flags, UUID, number, logical clock, and since 8.0 the
/// commit times in microseconds.
pub(super) fn mysql_gtid(data: &[u8], anonymous: bool) -> Result<GtidEvent, Malformed> {
    let mut input = Input::new(data);
    input.u8()?;
    let source = uuid_text(&input.array()?);
    let number = input.u64()?;
    let mut commit_micros = None;
    if !input.is_empty() && input.u8()? == 2 {
        input.take(16)?;
        if let Ok(mut immediate) = input.uint(7) {
            // The highest bit says that the original commit time follows.
            if immediate >> 55 & 1 == 1 {
                immediate &= !(1 << 55);
            }
            commit_micros = i64::try_from(immediate).ok();
        }
    }
    let gtid = match anonymous {
        true => Gtid::Anonymous,
        false => Gtid::Mysql { source, number },
    };
    Ok(GtidEvent { commit_micros, ..GtidEvent::of(gtid) })
}

/// MySQL 8.4's tagged GTID event, in its self-describing field format.
pub(super) fn mysql_tagged_gtid(data: &[u8]) -> Result<GtidEvent, Malformed> {
    let mut input = Input::new(data);
    let (_version, _size, _last) =
        (varlen_uint(&mut input)?, varlen_uint(&mut input)?, varlen_uint(&mut input)?);
    let (mut uuid, mut number, mut tag, mut commit_micros) = ([0; 16], 0, String::new(), None);
    while !input.is_empty() {
        match varlen_uint(&mut input)? {
            0 => drop(input.u8()?),
            1 => {
                for byte in &mut uuid {
                    *byte = varlen_uint(&mut input)? as u8;
                }
            }
            2 => number = varlen_int(&mut input)?,
            3 => {
                let length = varlen_uint(&mut input)? as usize;
                tag = String::from_utf8_lossy(input.take(length)?).into_owned();
            }
            4 | 5 => drop(varlen_int(&mut input)?),
            6 => {
                commit_micros = i64::try_from(varlen_uint(&mut input)?).ok();
                break;
            }
            _ => break,
        }
    }
    let mut source = uuid_text(&uuid);
    if !tag.is_empty() {
        let _ = write!(source, ":{tag}");
    }
    let number = u64::try_from(number).map_err(|_| Malformed("negative GTID number"))?;
    Ok(GtidEvent { commit_micros, ..GtidEvent::of(Gtid::Mysql { source, number }) })
}

/// One to nine bytes; the number of low set bits of the first is the number of further bytes.
pub(super) fn varlen_uint(input: &mut Input<'_>) -> Result<u64, Malformed> {
    let first = input.u8()?;
    let more = first.trailing_ones() as usize;
    if more == 8 {
        return input.u64();
    }
    let low = u64::from(first) >> (more + 1);
    let high = input.uint(more)?;
    Ok(low | high << (7 - more))
}

fn varlen_int(input: &mut Input<'_>) -> Result<i64, Malformed> {
    let zigzag = varlen_uint(input)?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// A UUID with its dashes.
pub(super) fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A QUERY event: the session's database and the statement.
pub(super) fn query(data: &[u8], compressed: bool) -> Result<(String, String), Malformed> {
    let mut input = Input::new(data);
    input.take(8)?;
    let database_bytes = usize::from(input.u8()?);
    input.u16()?;
    let status_bytes = usize::from(input.u16()?);
    input.take(status_bytes)?;
    let database = String::from_utf8_lossy(input.take(database_bytes)?).into_owned();
    input.u8()?;
    let text = match compressed {
        true => inflate(input.rest())?,
        false => input.rest().to_vec(),
    };
    Ok((database, String::from_utf8_lossy(&text).into_owned()))
}

/// A ROTATE event: offset and name of the next file.
pub(super) fn rotate(data: &[u8]) -> Result<(String, u64), Malformed> {
    let mut input = Input::new(data);
    let offset = input.u64()?;
    let name = std::str::from_utf8(input.rest()).map_err(|_| Malformed("binlog file name"))?;
    Ok((name.trim_end_matches('\0').to_string(), offset))
}

/// Undoes MariaDB's compression of events and of columns: a byte of method and width of the length,
/// the length (big-endian), a zlib stream; in columns it may lack zlib's header.
pub(super) fn inflate(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut input = Input::new(packed);
    let head = input.u8()?;
    if head & 0x80 == 0 || head >> 4 & 7 != 0 {
        return Err(Malformed("compressed by a method that is not known"));
    }
    let length = input.uint_be(usize::from(head & 7))?;
    if length > u64::from(EVENT_BYTES_MAX) {
        return Err(Malformed("decompressed event would be larger than 1 GiB"));
    }
    const BARE: u8 = 8;
    let mut plain = Vec::new();
    let read = match head & BARE {
        0 => flate2::read::ZlibDecoder::new(input.rest()).take(length + 1).read_to_end(&mut plain),
        _ => {
            flate2::read::DeflateDecoder::new(input.rest()).take(length + 1).read_to_end(&mut plain)
        }
    };
    read.map_err(|_| Malformed("compressed data that is damaged"))?;
    match plain.len() as u64 == length {
        true => Ok(plain),
        false => Err(Malformed("compressed data of another length than announced")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_events_are_checked() {
        use std::io::Write as _;
        let mut packer = flate2::write::ZlibEncoder::new(vec![0x81, 5], Default::default());
        packer.write_all(b"hello").unwrap();
        let mut packed = packer.finish().unwrap();
        assert_eq!(inflate(&packed).unwrap(), b"hello");
        packed[1] = 4;
        assert!(inflate(&packed).is_err());
        assert!(inflate(&[0x80]).is_err());
    }

    #[test]
    fn variable_lengths() {
        assert_eq!(varlen_uint(&mut Input::new(&[0b1010])), Ok(5));
        assert_eq!(varlen_uint(&mut Input::new(&[0b0000_0001, 0x02])), Ok(128));
        assert_eq!(varlen_int(&mut Input::new(&[0b0000_0010])), Ok(-1));
    }

    #[test]
    fn gtids_of_mysql_5_7_and_8_0() {
        // Flags, UUID, number, and the logical clock of 5.7.
        let mut data = vec![1];
        data.extend([0xaa; 16]);
        data.extend(7_u64.to_le_bytes());
        data.push(2);
        data.extend([1; 16]);
        let old = mysql_gtid(&data, false).unwrap();
        let source = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa".to_string();
        assert_eq!(old.gtid, Gtid::Mysql { source, number: 7 });
        assert_eq!(old.commit_micros, None);
        // 8.0 adds when it was committed here, and there where it came from.
        let micros = 1_795_421_730_123_456_u64;
        data.extend(&(micros | 1 << 55).to_le_bytes()[..7]);
        data.extend(&micros.to_le_bytes()[..7]);
        let new = mysql_gtid(&data, true).unwrap();
        assert_eq!(new.commit_micros, i64::try_from(micros).ok());
        assert_eq!(new.gtid, Gtid::Anonymous);
        assert!(mysql_gtid(&data[..20], false).is_err());
    }

    #[test]
    fn mariadb_gtids() {
        let header = Header {
            seconds: 0,
            kind: kind::MARIADB_GTID,
            server_id: 7,
            size: 0,
            end: 0,
            flags: 0,
        };
        let mut data = 4711_u64.to_le_bytes().to_vec();
        data.extend([3, 0, 0, 0, 1]);
        let event = mariadb_gtid(&header, &data).unwrap();
        assert_eq!(event.gtid, Gtid::MariaDb { domain: 3, server: 7, sequence: 4711 });
        assert!(event.standalone);
        assert!(mariadb_gtid(&header, &data[..8]).is_err());
        // As MariaDB 10.11 logged XA PREPARE 'one','q',7; and with the id of a group commit.
        let prepared = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x4c, 7, 0, 0, 0, 3, 1];
        let event = mariadb_gtid(&header, &[&prepared[..], b"oneq"].concat()).unwrap();
        assert_eq!(event.xid.as_deref(), Some("x'6f6e65',x'71',7"));
        assert!(event.prepares && !event.standalone);
        let mut grouped = prepared[..12].to_vec();
        grouped.extend([0x8f, 9, 9, 9, 9, 9, 9, 9, 9]);
        grouped.extend(&prepared[13..]);
        let event = mariadb_gtid(&header, &[&grouped[..], b"oneq"].concat()).unwrap();
        assert_eq!(event.xid.as_deref(), Some("x'6f6e65',x'71',7"));
        assert!(!event.prepares && event.standalone);
        assert!(mariadb_gtid(&header, &prepared).is_err());
    }
}
