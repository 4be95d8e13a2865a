//! What rows say of a record, as it is kept with the record.
//!
//! A version byte; then for each contribution source, table and key of the row, its place in the
//! log (file, offset, ordinal, big-endian), fields as `encode_fields` writes them, the number of
//! links, and for each its name, entity and key. Texts and fields begin with their length in
//! bytes; lengths and numbers are 32 bits, little-endian.

use std::sync::Arc;

use crossdock_model::LogOrder;
use crossdock_model::block::{decode_fields, encode_fields};
use crossdock_model::canonical::{Contribution, Links, Name, RecordKey, RowKey};
use crossdock_model::names::shared;

/// First byte.
const VERSION: u8 = 1;

/// All contributions of one record. Never empty.
pub(super) fn encode(said: &[Arc<Contribution>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 256 * said.len());
    out.push(VERSION);
    for contribution in said {
        let RowKey { source, table, pk } = &contribution.row;
        [source, table, pk].into_iter().for_each(|text| put(&mut out, text.as_bytes()));
        let LogOrder { file, offset, ordinal } = contribution.at;
        out.extend_from_slice(&file.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&ordinal.to_be_bytes());
        put(&mut out, &encode_fields(&contribution.fields));
        out.extend_from_slice(&length(contribution.links.len()));
        for (name, to) in &*contribution.links {
            [name, &to.entity, &to.key].into_iter().for_each(|text| put(&mut out, text.as_bytes()));
        }
    }
    out
}

/// Reads what [`encode`] wrote of a record. Never panics, whatever the bytes.
pub(super) fn decode(bytes: &[u8], record: &RecordKey) -> Option<Vec<Contribution>> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let mut input = Input(rest);
    let mut said = Vec::new();
    while !input.0.is_empty() {
        said.push(Contribution {
            record: record.clone(),
            row: RowKey { source: input.name()?, table: input.name()?, pk: input.text()?.into() },
            at: input.order()?,
            fields: decode_fields(input.bytes()?)?.into(),
            links: input.links()?.into(),
            gone: false,
        });
    }
    Some(said)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()));
    out.extend_from_slice(bytes);
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).unwrap_or(u32::MAX).to_le_bytes()
}

struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A text that many share.
    fn name(&mut self) -> Option<Name> {
        self.text().map(shared)
    }

    fn order(&mut self) -> Option<LogOrder> {
        Some(LogOrder {
            file: u64::from_be_bytes(self.array()?),
            offset: u64::from_be_bytes(self.array()?),
            ordinal: u32::from_be_bytes(self.array()?),
        })
    }

    fn links(&mut self) -> Option<Links> {
        let count = u32::from_le_bytes(self.array()?);
        let mut links = Links::new();
        for _ in 0..count {
            let name = self.name()?;
            links.insert(name, RecordKey { entity: self.name()?, key: self.text()?.into() });
        }
        Some(links)
    }
}

#[cfg(test)]
mod tests {
    use crossdock_model::Value;
    use crossdock_model::canonical::Fields;
    use proptest::prelude::*;

    use super::*;

    fn record() -> RecordKey {
        RecordKey { entity: "sales_order".into(), key: "so:1".into() }
    }

    prop_compose! {
        fn contribution()(
            texts in prop::array::uniform3(".{0,12}"),
            at in any::<(u64, u64, u32)>(),
            fields in prop::collection::btree_map("[a-z_]{1,8}", any::<i64>(), 0..5),
            links in prop::collection::btree_map("[a-z_]{1,8}", ("[a-z]{1,8}", ".{0,12}"), 0..3),
        ) -> Arc<Contribution> {
            let [source, table, pk] = texts.map(Name::from);
            let fields: Fields =
                fields.into_iter().map(|(k, v)| (k.as_str().into(), Value::Int(v))).collect();
            let link = |(name, (entity, key)): (String, (String, String))| {
                (Name::from(name), RecordKey { entity: entity.into(), key: key.into() })
            };
            Arc::new(Contribution {
                record: record(),
                row: RowKey { source, table, pk },
                fields: fields.into(),
                links: Arc::new(links.into_iter().map(link).collect()),
                at: LogOrder { file: at.0, offset: at.1, ordinal: at.2 },
                gone: false,
            })
        }
    }

    proptest! {
        #[test]
        fn what_is_said_comes_back(said in prop::collection::vec(contribution(), 0..4)) {
            let back = decode(&encode(&said), &record()).unwrap();
            prop_assert_eq!(back.into_iter().map(Arc::new).collect::<Vec<_>>(), said);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &record());
        }

        #[test]
        fn no_part_panics(said in prop::collection::vec(contribution(), 1..3), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&said);
            let _ = decode(&bytes[..cut.index(bytes.len())], &record());
        }
    }
}
