//! Lanes that gather: of several changes of a record the last one is told.

use std::collections::HashMap;

use crossdock_apply::store::Owed;
use crossdock_model::canonical::{Name, RecordKey, RowWrite, WriteKind};

/// Keeps the last one of deliveries that follow each other about one record and that write the
/// same columns of the same row. Others, such as inserts of events, all stay. Returns how many
/// went.
pub(super) fn last_of_each(owed: &mut Vec<Owed>) -> usize {
    let before = owed.len();
    let mut next: HashMap<&RecordKey, &Owed> = HashMap::with_capacity(before);
    let mut kept = vec![true; before];
    for (this, kept) in owed.iter().zip(&mut kept).rev() {
        let later = next.insert(&this.delivery.record, this);
        *kept = !later.is_some_and(|later| says_it_all(later, this));
    }
    let mut kept = kept.into_iter();
    owed.retain(|_| kept.next().unwrap_or(true));
    before - owed.len()
}

/// Whether after the later delivery nothing is left of the earlier one.
fn says_it_all(later: &Owed, earlier: &Owed) -> bool {
    let (later, earlier) = (&later.delivery, &earlier.delivery);
    let plain = later.reverts.is_none() && earlier.reverts.is_none();
    let same_row = |(a, b): (&RowWrite, &RowWrite)| {
        matches!(a.kind, WriteKind::Upsert | WriteKind::Update)
            && a.kind == b.kind
            && a.table == b.table
            && a.key == b.key
            && names(a).eq(names(b))
    };
    plain
        && later.rule == earlier.rule
        && later.writes.len() == earlier.writes.len()
        && later.writes.iter().zip(&earlier.writes).all(same_row)
}

fn names(write: &RowWrite) -> impl Iterator<Item = &Name> {
    write.columns.iter().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use crossdock_model::canonical::Delivery;
    use crossdock_model::{TableName, Value};
    use uuid::Uuid;

    use super::*;

    fn owed(seq: u64, record: &str, rule: &str, kind: WriteKind) -> Owed {
        let write = RowWrite {
            table: TableName::new("public", rule),
            kind,
            key: vec![("no".into(), Value::Text(record.to_string().into()))],
            columns: vec![("weight".into(), Value::UInt(seq))],
        };
        let delivery = Delivery {
            event_id: Uuid::from_u128(u128::from(seq)),
            target: "copy".into(),
            rule: rule.into(),
            record: RecordKey { entity: "parcel".into(), key: record.into() },
            writes: vec![write],
            reverts: None,
            hops: 0,
        };
        Owed { seq, owed_micros: 0, delivery }
    }

    #[test]
    fn the_last_of_a_run_is_told_and_every_event_is() {
        use WriteKind::{Insert, Update, Upsert};
        let mut all = vec![
            owed(1, "a", "weights", Upsert),
            owed(2, "b", "weights", Upsert),
            owed(3, "a", "weights", Upsert),
            // Another rule's update needs the row that comes before it.
            owed(4, "a", "depots", Update),
            owed(5, "a", "weights", Upsert),
            owed(6, "a", "weights", Upsert),
            owed(7, "c", "events", Insert),
            owed(8, "c", "events", Insert),
        ];
        assert_eq!(last_of_each(&mut all), 2);
        let seqs: Vec<u64> = all.iter().map(|owed| owed.seq).collect();
        assert_eq!(seqs, [2, 3, 4, 6, 7, 8]);
    }

    #[test]
    fn a_revert_is_never_gathered() {
        let mut all =
            vec![owed(1, "a", "r", WriteKind::Update), owed(2, "a", "r", WriteKind::Update)];
        if let Some(first) = all.first_mut() {
            first.delivery.reverts = Some("weight".into());
        }
        assert_eq!(last_of_each(&mut all), 0);
    }
}
