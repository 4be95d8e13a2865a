//! What is counted of deliveries that waited, or were not made as they were owed.

use super::Metrics;

impl Metrics {
    /// A revert was not made.
    pub fn revert_withheld(&self, target: &str) {
        self.reverts_withheld.with_label_values(&[target]).inc();
    }

    /// A revert had nothing left to write.
    pub fn revert_superseded(&self, target: &str) {
        self.reverts_superseded.with_label_values(&[target]).inc();
    }

    /// Deliveries were gathered into later ones.
    pub fn coalesced(&self, target: &str, many: usize) {
        self.deliveries_coalesced.with_label_values(&[target]).inc_by(many as u64);
    }

    /// Deliveries were taken out of their lanes.
    pub fn pulled(&self, target: &str, many: usize) {
        self.deliveries_pulled.with_label_values(&[target]).inc_by(many as u64);
    }

    /// Deliveries of a lane were made: how long each had waited (seconds), how many too long.
    pub fn waited(&self, target: &str, lane: &str, waited: impl Iterator<Item = f64>, late: usize) {
        let seconds = self.delivery_seconds.with_label_values(&[target, lane]);
        waited.for_each(|waited| seconds.observe(waited.max(0.0)));
        self.deliveries_late.with_label_values(&[target, lane]).inc_by(late as u64);
    }
}
