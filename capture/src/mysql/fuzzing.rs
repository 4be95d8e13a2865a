//! Random bytes in place of a binlog.

use std::sync::Arc;

use crossdock_model::TableName;
#[cfg(feature = "fuzzing")]
use crossdock_model::{Block, BlockBuilder};

use super::catalog::Table;
use super::charset::Charset;
use super::connect::Server;
use super::decoder::{Decoder, Next};
use super::event::Header;
#[cfg(feature = "fuzzing")]
use super::event::kind;
use super::gtid::Executed;
#[cfg(feature = "fuzzing")]
use super::login::log_in;
#[cfg(feature = "fuzzing")]
use super::packets::Packets;
use super::payload::Payload;
#[cfg(feature = "fuzzing")]
use super::session::Session;
use super::table_map::Collations;
#[cfg(feature = "fuzzing")]
use super::{dump, select};
#[cfg(feature = "fuzzing")]
use crate::snapshot::Halt;
use crate::{DatabaseKind, SourceOptions, Tls};

/// A decoder of table `wms.t`.
pub(super) fn decoder(mariadb: bool) -> Decoder {
    decoder_of(mariadb, vec![TableName::new("wms", "t")])
}

/// Options of a source with these tables.
pub(super) fn options(mariadb: bool, tables: Vec<TableName>) -> SourceOptions {
    SourceOptions {
        name: "wms".into(),
        kind: if mariadb { DatabaseKind::Mariadb } else { DatabaseKind::Mysql },
        host: String::new(),
        port: 0,
        user: String::new(),
        password: String::new().into(),
        database: String::new(),
        tls: Tls::Disable,
        tables,
        slot: String::new(),
        slot_failover: false,
        publication: String::new(),
        server_id: 9,
        zero_dates: Default::default(),
        block_bytes_max: 1 << 20,
        spill_dir: None,
        snapshot: Default::default(),
        poll: None,
    }
}

/// A decoder of these tables.
pub(super) fn decoder_of(mariadb: bool, tables: Vec<TableName>) -> Decoder {
    let options = options(mariadb, tables);
    let server =
        Server { mariadb, version: String::new(), server_id: 1, identity: "1".into(), gtids: true };
    let collations = Collations {
        charsets: [(8, Charset::Latin1), (45, Charset::Utf8), (63, Charset::Binary)].into(),
        geometries_counted: true,
    };
    let place = ("binlog.000001", 4);
    Decoder::new(&options, &server, collations, place, (Executed::default(), false))
}

pub(super) fn header(kind: u8, flags: u16, data: &[u8]) -> Header {
    let size = 19 + u32::try_from(data.len()).unwrap_or(0);
    Header { seconds: 1, kind, server_id: 1, size, end: 900, flags }
}

/// Feeds one event as the stream does.
pub(super) fn feed(decoder: &mut Decoder, kind: u8, flags: u16, data: &[u8]) -> bool {
    match decoder.event(&header(kind, flags, data), data) {
        Ok(Next::Resolve { id, map, raw }) => match Table::from_log(*map, None, Default::default())
        {
            Some(table) => {
                decoder.mapped(id, raw, Arc::new(table));
                true
            }
            None => false,
        },
        Ok(Next::Unpack) => unpack(decoder, data).is_some(),
        Ok(Next::Truncate(name)) => {
            decoder.truncated(&Table::bare(&name));
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// A compressed transaction, as the stream reads it.
fn unpack(decoder: &mut Decoder, data: &[u8]) -> Option<()> {
    let mut payload = Payload::default();
    payload.push(data);
    while let Some((header, data)) = payload.next().ok()? {
        decoder.unpacked(&header, &data).ok()?;
    }
    payload.finish().ok()
}

/// Events: each type, flags and length (two bytes), then its data. The first byte says whether it
/// is MariaDB's log.
#[cfg(feature = "fuzzing")]
pub fn binlog(data: &[u8]) -> Option<Block> {
    let (&first, mut data) = data.split_first()?;
    let mut decoder = decoder(first & 1 == 1);
    while let Some(([kind, flags, high, low], rest)) = data.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (event, rest) = rest.split_at(length);
        data = rest;
        if !feed(&mut decoder, *kind, u16::from(*flags), event) {
            return None;
        }
    }
    decoder.at_boundary().then(|| decoder.take_block())
}

/// A transaction with rows of one table: type of the event, length of the table's description,
/// the description after its number, then the rows after theirs.
#[cfg(feature = "fuzzing")]
pub fn binlog_rows(data: &[u8]) -> Option<Block> {
    const TABLE: [u8; 8] = [7, 0, 0, 0, 0, 0, 1, 0];
    const NAMES: &[u8] = b"\x03wms\0\x01t\0";
    let ([rows_kind, length], rest) = data.split_first_chunk::<2>()?;
    let (map, rows) = rest.split_at_checked(usize::from(*length))?;
    let mut decoder = decoder(true);
    let mut gtid = 42_u64.to_le_bytes().to_vec();
    gtid.extend([0; 5]);
    let begun = feed(&mut decoder, kind::MARIADB_GTID, 0, &gtid)
        && feed(&mut decoder, kind::TABLE_MAP, 0, &[&TABLE, NAMES, map].concat())
        && feed(&mut decoder, *rows_kind, 0, &[&TABLE, rows].concat())
        && feed(&mut decoder, kind::XID, 0, &[0; 8]);
    begun.then(|| decoder.take_block())
}

/// A value of type JSON as MySQL stores it.
#[cfg(feature = "fuzzing")]
pub fn jsonb(data: &[u8]) {
    let _ = super::jsonb::to_text(data);
}

/// What a server sends: the first byte says in which exchange (logging in, the rows of a query, the
/// log), then packets, each after its length in two bytes.
#[cfg(feature = "fuzzing")]
pub fn mysql_reply(data: &[u8]) {
    let Some((exchange, mut rest)) = data.split_first() else { return };
    let mut bytes = Vec::new();
    while let Some(([high, low], behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (packet, behind) = behind.split_at(length);
        rest = behind;
        bytes.extend((packet.len() as u32).to_le_bytes());
        bytes.extend_from_slice(packet);
    }
    let options = Arc::new(options(false, Vec::new()));
    let mut packets = Packets::recorded(&options, Arc::new(Never), bytes);
    match exchange % 3 {
        0 => drop(log_in(&mut packets)),
        1 => rows(Session::of(packets)),
        _ => log(&mut packets),
    }
}

/// Nobody calls it off.
#[cfg(feature = "fuzzing")]
struct Never;

#[cfg(feature = "fuzzing")]
impl Halt for Never {
    fn halt(&self) {}

    fn is_halted(&self) -> bool {
        false
    }
}

/// Rows of a table with a column of each kind.
#[cfg(feature = "fuzzing")]
fn rows(mut session: Session) {
    let types = [
        "int",
        "bigint unsigned",
        "float",
        "double",
        "decimal(9,3)",
        "year",
        "date",
        "time(3)",
        "datetime(6)",
        "timestamp",
        "bit(13)",
        "varchar(9)",
        "varbinary(9)",
        "enum('a','b')",
        "set('a','b')",
        "json",
        "uuid",
        "inet6",
        "inet4",
    ];
    let table = Table::declared(&types);
    let key: Vec<usize> = (0..types.len()).collect();
    let mut builder = BlockBuilder::new();
    let _ = session.select("reading rows", "", |row| {
        select::write(&mut builder, &table, row)?;
        let _ = select::literals(&table, &key, |at| select::nth(row, at));
        Ok(())
    });
}

/// Events that come in packets.
#[cfg(feature = "fuzzing")]
fn log(packets: &mut Packets) {
    let mut decoder = decoder(false);
    for piece in dump::pieces(packets) {
        let dump::Piece::Events(events) = piece else { continue };
        for (header, data) in events.iter() {
            if !feed(&mut decoder, header.kind, header.flags, data) {
                return;
            }
        }
    }
}
