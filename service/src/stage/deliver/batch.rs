//! From deliveries to what a target applies at once.

use crossdock_apply::store::Owed;
use crossdock_apply::{TargetBatch, Told};

/// What is written for some deliveries.
pub(super) fn batch(stream: String, upto: u64, owed: &[Owed]) -> TargetBatch {
    let hops = owed.iter().map(|owed| owed.delivery.hops).max().unwrap_or(0);
    let mut batch = TargetBatch { stream, upto, hops, ..TargetBatch::default() };
    for Owed { seq, owed_micros, delivery } in owed {
        let writes = delivery.writes.iter().cloned();
        batch.writes.extend(writes.map(|write| (delivery.event_id, write)));
        batch.told.push(Told {
            place: *seq,
            seq: *seq,
            event_id: delivery.event_id,
            rule: delivery.rule.clone(),
            record: delivery.record.clone(),
            owed_micros: *owed_micros,
            writes: delivery.writes.len(),
        });
    }
    batch
}
