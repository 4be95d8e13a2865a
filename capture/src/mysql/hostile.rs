//! Whatever the bytes of an event, decoding ends in events or in an error.

use crossdock_model::block::decode;
use proptest::prelude::*;

use super::decoder::Decoder;
use super::event::{Header, kind};
use super::fuzzing::{self, header};

fn decoder() -> Decoder {
    fuzzing::decoder(true)
}

fn feed(decoder: &mut Decoder, kind: u8, data: &[u8]) -> bool {
    fuzzing::feed(decoder, kind, 0, data)
}

/// `wms.t(id INT UNSIGNED, name VARCHAR(20), kg DECIMAL(9,3), at DATETIME(3), kind ENUM)`, with
/// full metadata.
fn table_map() -> Vec<u8> {
    let mut map = vec![7, 0, 0, 0, 0, 0, 1, 0, 3];
    map.extend(b"wms\0\x01t\0");
    map.extend([5, 3, 15, 246, 18, 254]);
    map.extend([7, 80, 0, 9, 3, 3, 247, 1]);
    map.push(0b1_1110);
    map.extend([1, 1, 0b1000_0000]);
    map.extend([2, 1, 45]);
    map.push(4);
    map.push(19);
    for name in ["id", "name", "kg", "at", "kind"] {
        map.push(name.len() as u8);
        map.extend(name.as_bytes());
    }
    map.extend([6, 5, 2, 1, b'a', 1, b'b']);
    map.extend([8, 1, 0]);
    map
}

/// Two rows for [`table_map`]: one full, one with NULLs.
fn write_rows() -> Vec<u8> {
    let mut rows = vec![7, 0, 0, 0, 0, 0, 1, 0, 5, 0b1_1111];
    rows.extend([0, 0xff, 0xff, 0xff, 0xff, 3]);
    rows.extend("né".as_bytes());
    rows.extend([0x80, 0, 0x05, 0x01, 0xf4]);
    rows.extend([0x99, 0xb8, 0x2e, 0x83, 0xde, 0x04, 0xce]);
    rows.push(2);
    rows.extend([0b1_1110, 1, 0, 0, 0]);
    rows
}

#[test]
fn the_hand_made_events_are_right() {
    let mut decoder = decoder();
    let mut gtid = 42_u64.to_le_bytes().to_vec();
    gtid.extend([0, 0, 0, 0, 0]);
    assert!(feed(&mut decoder, kind::MARIADB_GTID, &gtid));
    assert!(feed(&mut decoder, kind::TABLE_MAP, &table_map()));
    assert!(feed(&mut decoder, kind::WRITE_ROWS_V1, &write_rows()));
    assert!(feed(&mut decoder, kind::XID, &[0; 8]));
    let block = decoder.take_block();
    assert!(block.boundary);
    assert_eq!(block.end.to_string(), "binlog.000001:900 (0-1-42)");
    let fragments = decode(&block.bytes).unwrap();
    assert_eq!(fragments[0].header.id, "0-1-42");
    let events = &fragments[0].events;
    let texts = |at: usize| -> Vec<Option<String>> {
        let image = events[at].after.as_ref().unwrap();
        (0..5).map(|column| image.get(column).unwrap().to_text()).collect()
    };
    let text = |text: &str| Some(text.to_string());
    assert_eq!(texts(0)[0], text("4294967295"));
    assert_eq!(texts(0)[1], text("né"));
    assert_eq!(texts(0)[2], text("5.5"));
    assert_eq!(texts(0)[4], text("b"));
    assert_eq!(texts(1), [text("1"), None, None, None, None]);
    assert_eq!(events[0].table.as_ref().unwrap().key_columns(), [0]);
}

#[test]
fn a_rotation_to_a_place_that_no_file_has() {
    let mut decoder = decoder();
    let mut rotation = u64::MAX.to_le_bytes().to_vec();
    rotation.extend(b"binlog.000002");
    assert!(feed(&mut decoder, kind::ROTATE, &rotation));
    feed(&mut decoder, kind::XID, &[0; 8]);
}

/// Types of MySQL and MariaDB that the decoder takes in, or refuses by name.
const KNOWN: [u8; 44] = [
    2, 3, 4, 5, 13, 14, 15, 16, 17, 18, 19, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36,
    37, 38, 39, 40, 41, 42, 160, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172,
];

#[test]
fn every_unknown_type_of_event_is_an_error() {
    for kind in (0..=u8::MAX).filter(|kind| !KNOWN.contains(kind)) {
        let header = header(kind, 0, &[]);
        let Err(error) = decoder().event(&header, &[]) else { panic!("{kind}") };
        assert!(error.to_string().contains(&format!("event of type {kind}")), "{error}");
        // Servers mark what a reader may leave out.
        let ignorable = Header { flags: 0x80, ..header };
        assert!(decoder().event(&ignorable, &[]).is_ok(), "{kind}");
    }
}

#[test]
fn rows_in_parts_are_refused_by_name() {
    let Err(error) = decoder().event(&header(172, 0, &[]), &[]) else { panic!() };
    assert!(error.to_string().contains("logged in parts"), "{error}");
}

const ROWS: [u8; 10] = [23, 24, 25, 30, 31, 32, 166, 167, 168, 170];

proptest! {
    #[test]
    fn any_event_of_any_type(
        events in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..120)), 1..8),
    ) {
        let mut decoder = decoder();
        for (kind, data) in &events {
            feed(&mut decoder, *kind, data);
        }
    }

    #[test]
    fn any_rows_after_a_table_map(
        kind in prop::sample::select(&ROWS[..]),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut decoder = decoder();
        prop_assert!(feed(&mut decoder, kind::TABLE_MAP, &table_map()));
        let mut rows = vec![7, 0, 0, 0, 0, 0, 1, 0];
        if matches!(kind, 30..=32 | 169..) {
            rows.extend([2, 0]);
        }
        rows.push(5);
        rows.extend(&data);
        feed(&mut decoder, kind, &rows);
    }

    #[test]
    fn truncated_and_changed_events(
        cut in 0_usize..200,
        at in 0_usize..200,
        byte in any::<u8>(),
        code in any::<u8>(),
    ) {
        let mut map = table_map();
        if let Some(place) = map.get_mut(at) {
            *place = byte;
        }
        let mut rows = write_rows();
        if let Some(place) = rows.get_mut(at) {
            *place ^= byte;
        }
        for map in [table_map(), map] {
            let mut decoder = decoder();
            if feed(&mut decoder, kind::TABLE_MAP, &map[..map.len().min(cut + 40)]) {
                feed(&mut decoder, code, &rows);
                feed(&mut decoder, kind::WRITE_ROWS_V1, &rows[..rows.len().min(cut)]);
            }
        }
    }
}
