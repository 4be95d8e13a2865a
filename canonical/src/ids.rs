//! Identities that are the same on every replay.

use crossdock_model::Value;
use crossdock_model::canonical::{Name, RowKey};
use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};

/// Namespace of all identities that Crossdock derives.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1c_4f0e_2b57_5a39_9a53_8c1f_0d72_e4b6);

/// An identity from its parts; no two lists of parts give the same text.
pub(crate) fn derive(parts: &[&str]) -> Uuid {
    let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        let _ = Value::Int(i64::try_from(part.len()).unwrap_or(i64::MAX)).push_text(&mut text);
        text.push(':');
        text.push_str(part);
    }
    v5(text.as_bytes())
}

/// A UUID of version 5 in our namespace. This crate's SHA-1 uses what the processor has for it.
fn v5(name: &[u8]) -> Uuid {
    let hash = Sha1::new().chain_update(NAMESPACE).chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// Identity of a piece of evidence: who said it, in which row, by which rule.
pub(crate) fn evidence_id(row: &RowKey, rule: &Name) -> Uuid {
    derive(&["evidence", &row.source, &row.table, &row.pk, rule])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_uuids_of_version_5() {
        for parts in [&["a", "bc"][..], &[], &["evidence", "erp", "public.orders", "7", "é"]] {
            let text: String = parts.iter().map(|p| format!("{}:{p}", p.len())).collect();
            assert_eq!(derive(parts), Uuid::new_v5(&NAMESPACE, text.as_bytes()));
        }
    }
}
