//! Which rules are in force: on record in the store since when, and by whom.

use crossdock_model::canonical::Name;

use super::PostgresStore;
use crate::ApplyError;

/// A change of the rules in force, or one that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesetChange {
    /// Who asked for it: `start`, `operator anna`, `SIGHUP`.
    pub by: Name,
    /// Hash of the rules before; `None` for the first ones.
    pub old: Option<Name>,
    /// Hash of the new rules; `None` when they could not even be read.
    pub new: Option<Name>,
    /// Why they were refused; `None` when they are in force.
    pub problems: Option<String>,
}

impl PostgresStore {
    /// Puts a change on record.
    pub async fn note_ruleset(&mut self, change: &RulesetChange) -> Result<(), ApplyError> {
        let sql = "INSERT INTO crossdock.ruleset_change
                       (by_whom, old_hash, new_hash, accepted, problems)
                   VALUES ($1, $2, $3, $4, $5) RETURNING id";
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let problems = change.problems.as_deref();
        let accepted = problems.is_none();
        self.query(sql, &[&&*change.by, &old, &new, &accepted, &problems]).await?;
        Ok(())
    }

    /// Puts the rules that are in force from now on on record, unless they are already.
    pub async fn rules_in_force(&mut self, hash: &str, by: &str) -> Result<(), ApplyError> {
        let sql = "SELECT hash FROM crossdock.v_ruleset";
        let rows = self.query(sql, &[]).await?;
        let old = self.read(rows, |row| row.name(0))?.pop();
        if old.as_deref() == Some(hash) {
            return Ok(());
        }
        let (by, new) = (by.into(), Some(hash.into()));
        self.note_ruleset(&RulesetChange { by, old, new, problems: None }).await
    }
}
