//! The end of loops: a change that Crossdock itself has caused again and again is told no more.
//!
//! What a trigger makes of Crossdock's own write is a genuine change, and travels. Two systems
//! whose triggers answer each other would make it travel for ever. The mark of a write says how
//! often Crossdock was the cause before; what follows from it has one hop more.

use crossdock_model::canonical::{Delivery, ExceptionItem, Tally};
use serde_json::json;

use crate::judge::{Judge, Tx};

/// More hops than this are a loop: longer ways through real systems have not been seen.
const HOPS_MAX: u8 = 4;

impl Judge<'_> {
    /// Notes on what a transaction owes, from the `first` delivery on, how often Crossdock has
    /// caused it; beyond the limit it is not owed, and an exception says so.
    pub(crate) fn stop_loops(&mut self, tx: &Tx<'_>, first: usize) {
        let hops = tx.folded.hops;
        if hops == 0 {
            return;
        }
        if hops <= HOPS_MAX {
            self.out.deliveries.iter_mut().skip(first).for_each(|d| d.hops = hops);
            return;
        }
        let kept = first.min(self.out.deliveries.len());
        for stopped in self.out.deliveries.split_off(kept) {
            self.count(Tally::Loop { source: tx.folded.source.clone() });
            self.loop_trouble(tx, &stopped);
        }
    }

    fn loop_trouble(&mut self, tx: &Tx<'_>, stopped: &Delivery) {
        let source = &tx.folded.source;
        let (target, key) = (&stopped.target, &stopped.record.key);
        self.troubles.raise(ExceptionItem {
            id: self.troubles.id(&["loop_detected", key, source, target, &stopped.rule]),
            kind: "loop_detected".into(),
            record: Some(stopped.record.clone()),
            source: source.clone(),
            rule: stopped.rule.clone(),
            team: "".into(),
            text: format!(
                "A change of {key} went round through Crossdock {HOPS_MAX} times; what {source} \
                 made of it was not told to {target} any more."
            ),
            context: json!({
                "hops": tx.folded.hops,
                "target": &**target,
                "transaction": tx.folded.header.id,
                "position": &*tx.place,
            }),
            open: true,
        });
    }
}
