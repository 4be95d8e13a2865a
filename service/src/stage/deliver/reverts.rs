//! Reverts: the owner's value goes back to whoever has overwritten it.

use crossdock_apply::store::Owed;

use super::{DeliverStage, Work};
use crate::stage::StageError;

impl DeliverStage {
    /// Whether a revert is one too many: then it is withheld now, and somebody must look at it.
    pub(super) async fn is_withheld(
        &self,
        work: &mut Work,
        revert: &Owed,
    ) -> Result<bool, StageError> {
        let (most, within) = (self.reverts_max, self.reverts_within);
        if !work.store.is_ping_pong(revert, most, within).await? {
            return Ok(false);
        }
        work.store.withhold_revert(revert, most).await?;
        work.withheld = true;
        Ok(true)
    }

    /// Gives a revert the value that the record has now: it may have waited for a long time, and
    /// nothing else may be owed to this target that would correct an old one.
    pub(super) async fn renew(&self, work: &mut Work, owed: &mut Owed) -> Result<(), StageError> {
        if owed.delivery.reverts.is_none() {
            return Ok(());
        }
        let record = work.store.record(&owed.delivery.record).await?;
        owed.delivery.writes = match self.rules.renewed(&owed.delivery, record) {
            Some(writes) => writes,
            None => {
                self.metrics.revert_superseded(self.target.name());
                Vec::new()
            }
        };
        Ok(())
    }
}
