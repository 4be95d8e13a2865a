//! Character sets that only the server knows: what each of their characters is in Unicode is asked
//! of it, so that the stream decodes as the server itself does for the snapshot.

use std::borrow::Cow;
use std::collections::HashMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::server_error;
use super::wire::Malformed;
use crate::{CaptureError, SourceOptions};

/// Characters of one to four bytes. No character's bytes begin with those of another.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
    single: HashMap<u8, char>,
    /// By their bytes, read as one big-endian number: by the number of bytes, from two on.
    longer: [HashMap<u32, char>; 3],
}

/// Bytes that a character has at most: gb18030's have four.
const CHARACTER_BYTES_MAX: usize = 4;

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Mapping {}

impl Mapping {
    fn empty(name: &str) -> Self {
        Self { name: name.to_string(), single: HashMap::new(), longer: Default::default() }
    }

    /// Text of stored bytes.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, str>, Malformed> {
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if let Some(character) = self.single.get(first) {
                text.push(*character);
                rest = behind;
                continue;
            }
            let found = self.longer(rest).or_else(|| self.beyond_the_plane(rest));
            let (character, behind) =
                found.ok_or(Malformed("text with a character that its server can't convert"))?;
            text.push(character);
            rest = behind;
        }
        Ok(Cow::Owned(text))
    }

    /// The character of two or more bytes that stands at the beginning.
    fn longer<'b>(&self, bytes: &'b [u8]) -> Option<(char, &'b [u8])> {
        self.longer.iter().zip(2..).find_map(|(characters, length)| {
            let (code, behind) = bytes.split_at_checked(length)?;
            Some((*characters.get(&number(code))?, behind))
        })
    }

    /// What gb18030 has beyond the basic plane is counted through: 81308130 is U+10000 less
    /// 189000, each byte having 126 or 10 values.
    fn beyond_the_plane<'b>(&self, bytes: &'b [u8]) -> Option<(char, &'b [u8])> {
        let ([a @ 0x90..=0xe3, b @ 0x30..=0x39, c @ 0x81..=0xfe, d @ 0x30..=0x39], behind) =
            bytes.split_first_chunk::<4>().filter(|_| self.name == GB18030)?
        else {
            return None;
        };
        let digit = |byte: &u8, first: u8| u32::from(byte - first);
        let high = digit(a, 0x90) * 10 + digit(b, 0x30);
        let place = (high * 126 + digit(c, 0x81)) * 10 + digit(d, 0x30);
        Some((char::from_u32(0x1_0000 + place)?, behind))
    }

    fn add(&mut self, code: &[u8], text: &str) {
        let mut characters = text.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else { return };
        // What has no Unicode comes as a question mark.
        if character == '?' && code != b"?" {
            return;
        }
        match code {
            [byte] => drop(self.single.insert(*byte, character)),
            [] => {}
            longer => {
                if let Some(characters) = self.longer.get_mut(longer.len() - 2) {
                    characters.insert(number(longer), character);
                }
            }
        }
    }
}

/// The only character set with characters beyond the basic plane that is asked for.
const GB18030: &str = "gb18030";

fn number(code: &[u8]) -> u32 {
    code.iter().take(CHARACTER_BYTES_MAX).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Codes to ask for: SQL that lists the possible values of each half byte, from the first.
fn codes(name: &str) -> Vec<Vec<&'static [u8]>> {
    const ALL: &[u8] = b"0123456789ABCDEF";
    const HIGH: &[u8] = b"89ABCDEF";
    const DIGITS: &[u8] = b"0123456789";
    let one = vec![ALL, ALL];
    let two = vec![HIGH, ALL, ALL, ALL];
    match name {
        "ujis" | "eucjpms" => vec![one, two, vec![b"8", b"F", HIGH, ALL, HIGH, ALL]],
        // The basic plane, up to 8431A439.
        GB18030 => {
            vec![one, two, vec![b"8", b"1234", b"3", DIGITS, HIGH, ALL, b"3", DIGITS]]
        }
        _ => vec![one, two],
    }
}

/// SQL that gives each code in hexadecimal digits, and its character.
fn question(name: &str, halves: &[&[u8]]) -> String {
    let alias = |place: usize| format!("h{place}");
    let lists: Vec<_> = halves
        .iter()
        .enumerate()
        .map(|(place, values)| {
            let values: Vec<_> =
                values.iter().map(|digit| format!("SELECT '{}' d", char::from(*digit))).collect();
            format!("({}) {}", values.join(" UNION ALL "), alias(place))
        })
        .collect();
    let code: Vec<_> = (0..halves.len()).map(|place| format!("{}.d", alias(place))).collect();
    format!(
        "SELECT code, HEX(CONVERT(CONVERT(UNHEX(code) USING {name}) USING utf8mb4)) \
         FROM (SELECT CONCAT({}) code FROM {}) codes",
        code.join(", "),
        lists.join(", ")
    )
}

/// Asks the server for a character set.
pub(super) async fn load(
    options: &SourceOptions,
    conn: &mut Conn,
    name: &str,
) -> Result<Mapping, CaptureError> {
    let mut mapping = Mapping::empty(name);
    // It came from the server's own list of character sets.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(mapping);
    }
    for halves in codes(name) {
        let sql = question(name, &halves);
        let rows: Vec<(String, Option<String>)> = conn.query(sql).await.map_err(|error| {
            server_error(options, &format!("asking for the character set {name}"), error)
        })?;
        for (code, text) in rows {
            if let (Some(code), Some(text)) = (unhex(&code), text.as_deref().and_then(unhex))
                && let Ok(text) = std::str::from_utf8(&text)
            {
                mapping.add(&code, text);
            }
        }
    }
    Ok(mapping)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_one_to_four_bytes() {
        let mut mapping = Mapping::empty("sjis");
        mapping.add(b"A", "A");
        mapping.add(&[0xb1], "ｱ");
        mapping.add(&[0x93, 0xfa], "日");
        mapping.add(&[0x93], "?");
        assert_eq!(mapping.decode(b"A\xb1\x93\xfaA").unwrap(), "Aｱ日A");
        assert!(mapping.decode(b"A\x93").is_err());
        assert!(mapping.decode(b"\x93A").is_err());
        let mut mapping = Mapping::empty(GB18030);
        mapping.add(&[0x81, 0x30, 0x81, 0x35], "\u{85}");
        mapping.add(&[0x8f, 0xa2, 0xaf], "˘");
        assert_eq!(mapping.decode(b"\x81\x30\x81\x35").unwrap(), "\u{85}");
        assert_eq!(mapping.decode(b"\x8f\xa2\xaf").unwrap(), "˘");
        assert_eq!(mapping.decode(b"\x90\x30\x81\x30\xe3\x32\x9a\x35").unwrap(), "𐀀\u{10ffff}");
        assert!(mapping.decode(b"\xe3\x32\x9a\x36").is_err());
        assert!(mapping.decode(b"\x90\x30\x81").is_err());
        assert_eq!(unhex("93FA").unwrap(), [0x93, 0xfa]);
        assert_eq!(unhex("9"), None);
    }
}
