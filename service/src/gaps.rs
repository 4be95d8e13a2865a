//! Gaps: changes that a source's log does not hold any more. Each is recorded before anything
//! else is done about it, and stays on record.

use crossdock_capture::{CopyState, Memory, Purpose};
use crossdock_config::OnGap;
use crossdock_state::checkpoints::saved::{gaps_key, load, save};
use crossdock_state::{CheckpointError, Checkpoints};
use serde::{Deserialize, Serialize};

/// Records kept for each source; the oldest go.
const RECORDS_MAX: usize = 100;
/// Words of the server that are kept.
const WHAT_CHARS_MAX: usize = 1_000;
/// A source that loses its log again and again needs a person: this many resyncs an hour.
const RESYNCS_PER_HOUR: usize = 3;
const HOUR_MICROS: i64 = 3_600_000_000;

/// One gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When it was met, microseconds since the Unix epoch.
    pub at_micros: i64,
    /// When it was met last: a source that halts looks again now and then.
    pub last_micros: i64,
    /// Where the journal ended: changes after this place may be missing.
    pub from: String,
    /// What is gone, and the remedy.
    pub what: String,
    /// What the config says to do.
    pub policy: Policy,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was closed; 0 before.
    pub closed_micros: i64,
}

/// What is done about a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The source stops.
    Halt,
    /// Its tables are read again.
    Resync,
}

impl From<OnGap> for Policy {
    fn from(on_gap: OnGap) -> Self {
        match on_gap {
            OnGap::Halt => Policy::Halt,
            OnGap::Resync => Policy::Resync,
        }
    }
}

/// What became of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The source stands still until somebody decides.
    Halted,
    /// The tables are being read again.
    Resyncing,
    /// The tables were read again; what was deleted meanwhile is deleted here too.
    Resynced,
    /// The log was there again, and nothing is missing: the right server was back.
    Recovered,
}

impl Outcome {
    /// Whether changes are missing still.
    pub fn is_open(self) -> bool {
        matches!(self, Outcome::Halted | Outcome::Resyncing)
    }
}

/// The gaps of a source, oldest first.
pub fn list(store: &dyn Checkpoints, source: &str) -> Result<Vec<Gap>, CheckpointError> {
    Ok(load(store, &gaps_key(source))?.unwrap_or_default())
}

/// Records a gap that was met now. Returns what is to be done about it: by policy, but not again
/// and again.
pub fn record(
    store: &dyn Checkpoints,
    source: &str,
    (from, what): (&str, &str),
    policy: Policy,
    now_micros: i64,
) -> Result<Policy, CheckpointError> {
    let mut gaps = list(store, source)?;
    let recent =
        |gap: &&Gap| gap.outcome != Outcome::Halted && gap.at_micros > now_micros - HOUR_MICROS;
    let resync = policy == Policy::Resync && gaps.iter().filter(recent).count() < RESYNCS_PER_HOUR;
    let outcome = if resync { Outcome::Resyncing } else { Outcome::Halted };
    match gaps.last_mut() {
        Some(last) if last.outcome == Outcome::Halted && last.from == from => {
            (last.last_micros, last.policy, last.outcome) = (now_micros, policy, outcome);
        }
        _ => gaps.push(Gap {
            at_micros: now_micros,
            last_micros: now_micros,
            from: from.to_string(),
            what: what.chars().take(WHAT_CHARS_MAX).collect(),
            policy,
            outcome,
            closed_micros: 0,
        }),
    }
    let surplus = gaps.len().saturating_sub(RECORDS_MAX);
    gaps.drain(..surplus);
    save(store, &gaps_key(source), &gaps)?;
    Ok(if resync { Policy::Resync } else { Policy::Halt })
}

/// Somebody has ordered a resync: the gap that halted the source is being closed.
pub fn resyncing(store: &dyn Checkpoints, source: &str) -> Result<(), CheckpointError> {
    change_last(store, source, |gap| {
        if gap.outcome == Outcome::Halted {
            gap.outcome = Outcome::Resyncing;
        }
    })
}

/// The log is read on where it was to be read, so that nothing is missing after all.
pub fn recovered(
    store: &dyn Checkpoints,
    source: &str,
    now_micros: i64,
) -> Result<(), CheckpointError> {
    change_last(store, source, |gap| {
        if gap.outcome == Outcome::Halted {
            (gap.outcome, gap.closed_micros) = (Outcome::Recovered, now_micros);
        }
    })
}

/// All tables have been read again.
pub fn resynced(
    store: &dyn Checkpoints,
    source: &str,
    now_micros: i64,
) -> Result<(), CheckpointError> {
    change_last(store, source, |gap| {
        if gap.outcome == Outcome::Resyncing {
            (gap.outcome, gap.closed_micros) = (Outcome::Resynced, now_micros);
        }
    })
}

fn change_last(
    store: &dyn Checkpoints,
    source: &str,
    change: impl FnOnce(&mut Gap),
) -> Result<(), CheckpointError> {
    let mut gaps = list(store, source)?;
    let Some(last) = gaps.last_mut() else { return Ok(()) };
    let before = last.clone();
    change(last);
    if *last != before {
        save(store, &gaps_key(source), &gaps)?;
    }
    Ok(())
}

/// Whether tables are still to be read again after a gap.
pub fn is_resyncing(memory: &Memory) -> bool {
    memory.tables.iter().any(|copy| {
        copy.purpose == Purpose::Resync
            && matches!(copy.state, CopyState::Pending | CopyState::Paused)
    })
}

#[cfg(test)]
mod tests {
    use crossdock_state::SledCheckpoints;

    use super::*;

    #[test]
    fn a_gap_is_recorded_once_and_closed() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledCheckpoints::open(&dir.path().join("c")).unwrap().store;
        let meet = |policy, from, now| record(&store, "erp", (from, "lost"), policy, now).unwrap();
        assert_eq!(meet(Policy::Halt, "0/10", 1), Policy::Halt);
        assert_eq!(meet(Policy::Halt, "0/10", 2), Policy::Halt);
        let gaps = list(&store, "erp").unwrap();
        assert_eq!(gaps.len(), 1, "the source looked again");
        assert_eq!((gaps[0].at_micros, gaps[0].last_micros), (1, 2));
        resyncing(&store, "erp").unwrap();
        resynced(&store, "erp", 9).unwrap();
        let gaps = list(&store, "erp").unwrap();
        assert_eq!((gaps[0].outcome, gaps[0].closed_micros), (Outcome::Resynced, 9));
        recovered(&store, "erp", 10).unwrap();
        assert_eq!(list(&store, "erp").unwrap(), gaps, "it is closed already");
        assert_eq!(list(&store, "wms").unwrap(), []);

        meet(Policy::Halt, "0/20", 20);
        recovered(&store, "erp", 21).unwrap();
        let last = list(&store, "erp").unwrap().pop().unwrap();
        assert_eq!((last.outcome, last.outcome.is_open()), (Outcome::Recovered, false));
    }

    #[test]
    fn a_log_that_is_lost_again_and_again_halts() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledCheckpoints::open(&dir.path().join("c")).unwrap().store;
        let meet =
            |from: &str, now| record(&store, "erp", (from, "lost"), Policy::Resync, now).unwrap();
        for n in 0..3 {
            assert_eq!(meet(&format!("0/{n}"), n), Policy::Resync);
        }
        assert_eq!(meet("0/9", 10), Policy::Halt);
        assert_eq!(meet("0/9", HOUR_MICROS + 20), Policy::Resync, "an hour later");
    }
}
