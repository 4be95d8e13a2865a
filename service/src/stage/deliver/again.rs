//! Deliveries that have left their lanes and are made after all: those that people, or rows that
//! have arrived, have let go, with what waited behind them, and those that were pulled out of
//! another lane.

use std::collections::HashSet;
use std::time::Instant;

use crossdock_apply::store::{Again, Owed};
use crossdock_model::TableName;
use crossdock_model::canonical::{Name, RowWrite, WriteKind};

use super::batch::batch;
use super::workers::Part;
use super::{Batch, DeliverStage, POLL, Work};
use crate::stage::StageError;

impl DeliverStage {
    /// What has been let go: looked for once in a while.
    pub(super) async fn due_again(&self, work: &mut Work) -> Result<Option<Batch>, StageError> {
        let idle = work.looked.is_some_and(|at| at.elapsed() < POLL);
        if idle || (work.blocked.is_empty() && !work.withheld) {
            return Ok(None);
        }
        let target = self.target.name();
        self.retry_parents(work).await?;
        let mut due = work.store.due_again(target, work.again_limit).await?;
        due.truncate(at_once(&due));
        let Some(upto) = due.last().map(|again| again.number) else {
            work.looked = Some(Instant::now());
            work.blocked = work.store.parked_records(target).await?.into_iter().collect();
            work.withheld = work.withheld && work.store.has_withheld(target).await?;
            return Ok(None);
        };
        work.looked = None;
        let places: Vec<u64> = due.iter().map(|again| again.number).collect();
        let mut owed: Vec<Owed> = due.into_iter().map(|Again { owed, .. }| owed).collect();
        for owed in &mut owed {
            self.renew(work, owed).await?;
        }
        let mut write = batch(self.again_stream(), upto, &owed);
        write.told.iter_mut().zip(places).for_each(|(told, place)| told.place = place);
        let parts = vec![Part { worker: 0, write, owed }];
        Ok(Some(Batch { parts, upto, behind: Vec::new(), lane: None }))
    }
}

/// A row as a write names it.
type Row<'w> = (&'w TableName, Vec<(&'w Name, Option<String>)>);

fn row(write: &RowWrite) -> Row<'_> {
    (&write.table, write.key.iter().map(|(name, value)| (name, value.to_text())).collect())
}

/// How many of the first ones are made in one transaction. Of several writes of one row in a
/// transaction the last one alone is made: whether the target takes a delivery now that it has
/// refused is only known when nothing later stands in for it. And one mark has one number of hops.
fn at_once(due: &[Again]) -> usize {
    let hops = due.first().map_or(0, |first| first.owed.delivery.hops);
    let mut tried: HashSet<Row<'_>> = HashSet::new();
    for (at, again) in due.iter().enumerate() {
        let writes = &again.owed.delivery.writes;
        let rows = || writes.iter().filter(|write| write.kind != WriteKind::Insert).map(row);
        if again.owed.delivery.hops != hops || rows().any(|row| tried.contains(&row)) {
            return at;
        }
        if again.refused {
            tried.extend(rows());
        }
    }
    due.len()
}

#[cfg(test)]
mod tests {
    use crossdock_model::Value;
    use crossdock_model::canonical::{Delivery, RecordKey};
    use uuid::Uuid;

    use super::*;

    fn again(number: u64, row: i64, kind: WriteKind, refused: bool) -> Again {
        let write = RowWrite {
            table: TableName::new("public", "parcels"),
            kind,
            key: vec![("no".into(), Value::Int(row))],
            columns: vec![("weight".into(), Value::UInt(number))],
        };
        let delivery = Delivery {
            event_id: Uuid::from_u128(u128::from(number)),
            target: "copy".into(),
            rule: "weights".into(),
            record: RecordKey { entity: "parcel".into(), key: row.to_string().into() },
            writes: vec![write],
            reverts: None,
            hops: 0,
        };
        Again { number, refused, owed: Owed { seq: number, owed_micros: 0, delivery } }
    }

    #[test]
    fn followers_go_together_and_a_refused_one_is_not_replaced_by_them() {
        use WriteKind::{Insert, Upsert};
        let followers: Vec<Again> = (1..=5).map(|n| again(n, 7, Upsert, false)).collect();
        assert_eq!(at_once(&followers), 5);
        let behind = |kind| {
            let mut due = vec![again(1, 7, kind, true), again(2, 8, kind, true)];
            due.extend((3..=5).map(|n| again(n, n as i64, kind, false)));
            due.extend((6..=9).map(|n| again(n, 7, kind, false)));
            due
        };
        assert_eq!(at_once(&behind(Upsert)), 5, "the sixth writes the row of the first");
        assert_eq!(at_once(&behind(Insert)), 9, "events replace nothing");
        assert_eq!(at_once(&[]), 0);
    }

    #[test]
    fn one_batch_has_one_number_of_hops() {
        let mut due: Vec<Again> =
            (1..=4).map(|n| again(n, n as i64, WriteKind::Upsert, false)).collect();
        due[2].owed.delivery.hops = 1;
        assert_eq!(at_once(&due), 2);
    }
}
