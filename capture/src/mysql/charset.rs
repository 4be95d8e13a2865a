//! Character sets of the server, decoded to UTF-8.

use std::borrow::Cow;
use std::sync::Arc;

use super::mapping::Mapping;
use super::wire::Malformed;

/// A character set, as far as it can be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// utf8mb3, utf8mb4.
    Utf8,
    /// ascii, and names of the server itself.
    Ascii,
    /// latin1, which is cp1252 to MySQL and MariaDB.
    Latin1,
    /// utf16 and ucs2, big-endian.
    Utf16,
    /// utf16le.
    Utf16Le,
    /// utf32, big-endian.
    Utf32,
    /// binary: bytes, no text.
    Binary,
    /// Any other, as the server says it is.
    Mapped(Arc<Mapping>),
    /// Any other, before the server was asked.
    Other(Arc<str>),
}

impl Charset {
    pub(super) fn by_name(name: &str) -> Self {
        match name {
            "utf8" | "utf8mb3" | "utf8mb4" => Self::Utf8,
            "ascii" => Self::Ascii,
            "latin1" => Self::Latin1,
            "utf16" | "ucs2" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf32" => Self::Utf32,
            "binary" => Self::Binary,
            other => Self::Other(other.into()),
        }
    }

    /// Text of stored bytes.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, str>, Malformed> {
        match self {
            Self::Utf8 | Self::Ascii | Self::Binary => std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| Malformed("text that is not in its column's character set")),
            Self::Latin1 => Ok(latin1(bytes)),
            Self::Utf16 => utf16(bytes, u16::from_be_bytes),
            Self::Utf16Le => utf16(bytes, u16::from_le_bytes),
            Self::Utf32 => utf32(bytes),
            Self::Mapped(mapping) => mapping.decode(bytes),
            Self::Other(_) => Err(Malformed("text in a character set that is not known")),
        }
    }
}

fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
        _ => bytes.iter().map(|byte| cp1252(*byte)).collect(),
    }
}

/// MySQL's latin1: cp1252, with the five bytes that cp1252 leaves open as control characters.
fn cp1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, Malformed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|p| unit(*p))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(Cow::Owned(text)),
        _ => Err(Malformed("text that is not UTF-16")),
    }
}

fn utf32(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let (units, rest) = bytes.as_chunks::<4>();
    let text: Option<String> =
        units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect();
    match text {
        Some(text) if rest.is_empty() => Ok(Cow::Owned(text)),
        _ => Err(Malformed("text that is not UTF-32")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_become_utf8() {
        assert_eq!(Charset::Latin1.decode(b"M\xfcll\x80").unwrap(), "Müll€");
        assert_eq!(Charset::Utf16.decode(b"\0M\0\xfc").unwrap(), "Mü");
        assert_eq!(Charset::Utf32.decode(b"\0\0\0M\0\x01\xf6\x9a").unwrap(), "M🚚");
        assert!(Charset::Utf16.decode(b"\0M\0").is_err());
        assert!(Charset::Utf8.decode(b"\xff").is_err());
        assert!(Charset::by_name("big5").decode(b"a").is_err());
    }
}
