//! Identities that are the same on every replay.

use std::fmt::Write as _;

use crossdock_model::canonical::{Name, RowKey};
use uuid::Uuid;

/// Namespace of all identities that Crossdock derives.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1c_4f0e_2b57_5a39_9a53_8c1f_0d72_e4b6);

/// An identity from its parts; no two lists of parts give the same text.
pub(crate) fn derive(parts: &[&str]) -> Uuid {
    let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // Writing to a String never fails.
        let _ = write!(text, "{}:{part}", part.len());
    }
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

/// Identity of a piece of evidence: who said it, in which row, by which rule.
pub(crate) fn evidence_id(row: &RowKey, rule: &Name) -> Uuid {
    derive(&["evidence", &row.source, &row.table, &row.pk, rule])
}
