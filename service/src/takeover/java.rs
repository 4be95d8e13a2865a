//! Java's serialisation stream, as far as one kind of file needs it: a `HashMap` of byte arrays.
//!
//! ```text
//! stream := MAGIC VERSION map
//! map    := OBJECT class(HashMap) load_factor threshold BLOCK(8: buckets, count) (array array)* END
//! array  := ARRAY class([B) length bytes | REFERENCE handle | NULL
//! class  := CLASS name uid flags fields END superclass | REFERENCE handle
//! ```
//! Everything that may be referred to later gets a handle, in the order of appearance. Anything
//! else in a stream is refused: no object is made because a file says so.

use std::collections::BTreeMap;

const MAGIC: [u8; 4] = [0xac, 0xed, 0x00, 0x05];
const NULL: u8 = 0x70;
const REFERENCE: u8 = 0x71;
const CLASS: u8 = 0x72;
const OBJECT: u8 = 0x73;
const ARRAY: u8 = 0x75;
const BLOCK: u8 = 0x77;
const END: u8 = 0x78;
const FIRST_HANDLE: u32 = 0x7e_0000;
/// An offset is a small JSON document.
const ARRAY_BYTES_MAX: usize = 1 << 20;
const ENTRIES_MAX: u32 = 100_000;

/// Keys and values of a map; keys that are null or have no value are left out.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether bytes begin like such a stream.
pub fn is_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads a map of byte arrays.
///
/// # Errors
/// What was expected, and at which byte.
pub fn byte_map(bytes: &[u8]) -> Result<Entries, String> {
    let mut stream = Stream { bytes, at: 0, handles: Vec::new() };
    stream.map().map_err(|what| format!("byte {}: {what}", stream.at))
}

#[derive(Clone, PartialEq)]
enum Handle {
    MapClass,
    BytesClass,
    Map,
    Bytes(Vec<u8>),
}

struct Stream<'b> {
    bytes: &'b [u8],
    at: usize,
    handles: Vec<Handle>,
}

impl<'b> Stream<'b> {
    fn map(&mut self) -> Result<Entries, &'static str> {
        if self.take(4)? != MAGIC {
            return Err("not a stream of Java objects");
        }
        self.expect(OBJECT, "expected an object")?;
        if self.class()? != Handle::MapClass {
            return Err("expected a java.util.HashMap");
        }
        self.handles.push(Handle::Map);
        // Load factor and threshold: how a map was laid out in memory.
        self.take(8)?;
        self.expect(BLOCK, "expected the map's size")?;
        self.expect(8, "expected the map's size")?;
        self.take(4)?;
        let count = self.number()?;
        if count > ENTRIES_MAX {
            return Err("too many entries");
        }
        let mut entries = Entries::new();
        for _ in 0..count {
            let (key, value) = (self.array()?, self.array()?);
            entries.extend(key.zip(value));
        }
        self.expect(END, "expected the end of the map")?;
        match self.at == self.bytes.len() {
            true => Ok(entries),
            false => Err("expected the end of the file"),
        }
    }

    fn class(&mut self) -> Result<Handle, &'static str> {
        match self.byte()? {
            REFERENCE => self.reference(),
            CLASS => {
                let length = usize::from(self.short()?);
                let name = self.take(length)?;
                self.take(8)?;
                let (class, flags, fields) = match name {
                    // Two fields, and a method of its own for the rest.
                    b"java.util.HashMap" => (Handle::MapClass, 3, 2),
                    b"[B" => (Handle::BytesClass, 2, 0),
                    _ => return Err("a class that has no place in an offset file"),
                };
                self.handles.push(class.clone());
                self.expect(flags, "unknown flags of a class")?;
                if self.short()? != fields {
                    return Err("unknown fields of a class");
                }
                for expected in
                    [&b"F\0\x0aloadFactor"[..], b"I\0\x09threshold"].iter().take(fields.into())
                {
                    if self.take(expected.len())? != *expected {
                        return Err("unknown fields of a class");
                    }
                }
                self.expect(END, "expected the end of a class")?;
                self.expect(NULL, "expected no superclass")?;
                Ok(class)
            }
            _ => Err("expected a class"),
        }
    }

    fn array(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        match self.byte()? {
            NULL => Ok(None),
            REFERENCE => match self.reference()? {
                Handle::Bytes(bytes) => Ok(Some(bytes)),
                _ => Err("expected a byte array"),
            },
            ARRAY => {
                if self.class()? != Handle::BytesClass {
                    return Err("expected a byte array");
                }
                let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
                if length > ARRAY_BYTES_MAX {
                    return Err("a byte array that is too long");
                }
                let bytes = self.take(length)?.to_vec();
                self.handles.push(Handle::Bytes(bytes.clone()));
                Ok(Some(bytes))
            }
            _ => Err("expected a byte array"),
        }
    }

    fn reference(&mut self) -> Result<Handle, &'static str> {
        let at = self.number()?.checked_sub(FIRST_HANDLE).ok_or("a reference to nothing")?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.handles.get(at).cloned().ok_or("a reference to nothing")
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], &'static str> {
        let end = self.at.checked_add(length).ok_or("the file ends too early")?;
        let taken = self.bytes.get(self.at..end).ok_or("the file ends too early")?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.take(1).map(|taken| taken.first().copied().unwrap_or_default())
    }

    fn short(&mut self) -> Result<u16, &'static str> {
        self.take(2).map(|taken| taken.iter().fold(0, |n, byte| n << 8 | u16::from(*byte)))
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        self.take(4).map(|taken| taken.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), &'static str> {
        if self.byte()? == wanted { Ok(()) } else { Err(what) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written by a Java program that does what Kafka Connect's FileOffsetBackingStore does.
    const ONE: &[u8] = include_bytes!("golden/postgres.dat");
    const SEVERAL: &[u8] = include_bytes!("golden/several.dat");
    const EMPTY: &[u8] = include_bytes!("golden/empty.dat");

    #[test]
    fn maps_that_java_has_written() {
        let one = byte_map(ONE).unwrap();
        let key = br#"["kafka",{"server":"shop"}]"#;
        let value = std::str::from_utf8(&one[&key[..]]).unwrap();
        assert!(value.contains(r#""lsn_commit":36001352"#), "{value}");
        assert_eq!(byte_map(SEVERAL).unwrap().len(), 2, "a key without value is left out");
        assert_eq!(byte_map(EMPTY).unwrap().len(), 0);
    }

    #[test]
    fn anything_else_is_refused() {
        for file in [ONE, SEVERAL, EMPTY] {
            for length in 0..file.len() {
                assert!(byte_map(&file[..length]).is_err(), "cut at {length}");
            }
            for at in 0..file.len() {
                for byte in [0, 0x70, 0x71, 0xff] {
                    let mut changed = file.to_vec();
                    changed[at] = byte;
                    // Whatever it comes to, it comes to an end.
                    let _ = byte_map(&changed);
                }
            }
        }
        let other = [&MAGIC[..], b"\x73\x72\0\x0ejava.util.Date\0\0\0\0\0\0\0\0\x03\0\0\x78\x70"];
        let error = byte_map(&other.concat()).unwrap_err();
        assert!(error.contains("no place in an offset file"), "{error}");
    }
}
