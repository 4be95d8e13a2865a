//! Character sets that only the server knows: what each of their characters is in Unicode is asked
//! of it, so that the stream decodes as the server itself does for the snapshot.

use std::borrow::Cow;
use std::collections::HashMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::server_error;
use super::wire::Malformed;
use crate::{CaptureError, SourceOptions};

/// Characters of one or two bytes. Longer ones (of ujis, eucjpms, gb18030) are not known.
#[derive(Debug)]
pub(super) struct Mapping {
    name: String,
    single: HashMap<u8, char>,
    double: HashMap<[u8; 2], char>,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Mapping {}

impl Mapping {
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
            let pair = behind
                .split_first()
                .and_then(|(second, behind)| Some((self.double.get(&[*first, *second])?, behind)));
            let (character, behind) =
                pair.ok_or(Malformed("text with a character that its server can't convert"))?;
            text.push(*character);
            rest = behind;
        }
        Ok(Cow::Owned(text))
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
            [first, second] => drop(self.double.insert([*first, *second], character)),
            _ => {}
        }
    }
}

/// Asks the server for a character set.
pub(super) async fn load(
    options: &SourceOptions,
    conn: &mut Conn,
    name: &str,
) -> Result<Mapping, CaptureError> {
    let mut mapping =
        Mapping { name: name.to_string(), single: HashMap::new(), double: HashMap::new() };
    // It came from the server's own list of character sets.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(mapping);
    }
    let digits = |from: u8, alias: &str| {
        let rows: Vec<_> = (from..16).map(|digit| format!("SELECT '{digit:X}' d")).collect();
        format!("({}) {alias}", rows.join(" UNION ALL "))
    };
    let one = (format!("{}, {}", digits(0, "a"), digits(0, "b")), "a.d, b.d");
    let two = (
        format!("{}, {}, {}, {}", digits(8, "a"), digits(0, "b"), digits(0, "c"), digits(0, "e")),
        "a.d, b.d, c.d, e.d",
    );
    for (from, code) in [one, two] {
        let sql = format!(
            "SELECT code, HEX(CONVERT(CONVERT(UNHEX(code) USING {name}) USING utf8mb4)) \
             FROM (SELECT CONCAT({code}) code FROM {from}) codes"
        );
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
    fn characters_of_one_and_two_bytes() {
        let mut mapping =
            Mapping { name: "sjis".into(), single: HashMap::new(), double: HashMap::new() };
        mapping.add(b"A", "A");
        mapping.add(&[0xb1], "ｱ");
        mapping.add(&[0x93, 0xfa], "日");
        mapping.add(&[0x93], "?");
        assert_eq!(mapping.decode(b"A\xb1\x93\xfaA").unwrap(), "Aｱ日A");
        assert!(mapping.decode(b"A\x93").is_err());
        assert!(mapping.decode(b"\x93A").is_err());
        assert_eq!(unhex("93FA").unwrap(), [0x93, 0xfa]);
        assert_eq!(unhex("9"), None);
    }
}
