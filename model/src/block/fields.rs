//! Bytes of named values: row images in the canonical store, and what is kept aside of them.

use super::{decode_value, encode_value};
use crate::canonical::Fields;
use crate::names::shared;

/// First byte of encoded fields.
const FIELDS_VERSION: u8 = 1;

/// Fields with their exact types.
pub fn encode_fields(fields: &Fields) -> Vec<u8> {
    let mut out = vec![FIELDS_VERSION];
    for (name, value) in fields {
        out.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        encode_value(&mut out, value);
    }
    out
}

/// Reads what [`encode_fields`] wrote. Never panics, whatever the bytes.
pub fn decode_fields(bytes: &[u8]) -> Option<Fields> {
    let (version, mut rest) = bytes.split_first()?;
    if *version != FIELDS_VERSION {
        return None;
    }
    let mut fields = Fields::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (name, after) = after.split_at_checked(length)?;
        let (value, used) = decode_value(after).ok()?;
        fields.insert(shared(std::str::from_utf8(name).ok()?), value);
        rest = after.get(used..)?;
    }
    Some(fields)
}
