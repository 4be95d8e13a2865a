//! A delivery as those are told it who take documents rather than rows.

use crossdock_model::Value;
use crossdock_model::canonical::{Name, RowWrite, WriteKind};
use crossdock_model::time::instant_text;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{TargetBatch, Told};

/// The deliveries of a batch, each with its own writes.
pub(super) fn deliveries(
    batch: &TargetBatch,
) -> impl Iterator<Item = (&Told, &[(Uuid, RowWrite)])> {
    let mut rest = &batch.writes[..];
    batch.told.iter().map(move |told| {
        let (own, others) = rest.split_at_checked(told.writes).unwrap_or((rest, &[]));
        rest = others;
        (told, own)
    })
}

/// One delivery. It holds nothing that a repetition would change.
pub(super) fn document(installation: &str, told: &Told, writes: &[(Uuid, RowWrite)]) -> String {
    let writes: Vec<Json> = writes
        .iter()
        .map(|(_, write)| {
            json!({
                "table": write.table.to_string(),
                "write": word(write.kind),
                "key": named(&write.key),
                "columns": named(&write.columns),
            })
        })
        .collect();
    json!({
        "event_id": told.event_id,
        "installation": installation,
        "delivery": told.seq,
        "rule": &*told.rule,
        "entity": &*told.record.entity,
        "key": &*told.record.key,
        "owed_at": instant_text(told.owed_micros),
        "writes": writes,
    })
    .to_string()
}

/// Columns by name.
pub fn named(cells: &[(Name, Value<'static>)]) -> Json {
    let cells = cells.iter().map(|(name, value)| (name.to_string(), value.to_json()));
    Json::Object(cells.collect::<Map<_, _>>())
}

/// The word for a way of writing.
pub fn word(kind: WriteKind) -> &'static str {
    match kind {
        WriteKind::Insert => "insert",
        WriteKind::Upsert => "upsert",
        WriteKind::Update => "update",
        WriteKind::Delete => "delete",
    }
}
