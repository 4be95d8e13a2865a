//! How far a polled table has been read, and where its next round begins.
//!
//! A row whose transaction takes its time shows up with a cursor that lies behind others which
//! were seen already. So a round begins where the cursors ended a while ago: a transaction that
//! was not seen by the last round, and takes no longer than the overlap from writing a cursor to
//! its commit, has written a cursor beyond those that were visible that much earlier. This holds
//! for times, numbers and texts alike, and needs neither the server's clock nor arithmetic.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::TableCopy;

/// Ends of cursors that are kept within an overlap: what a round reads too much is a part of it.
const MARKS_PER_OVERLAP: i64 = 16;
/// A round may take long: not more marks than these.
const MARKS_MAX: usize = 64;

/// What [`TableCopy::cursor`] holds for a polled table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Where cursors ended, and when; oldest first. The next round begins at the first.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// The round that is being read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<OpenRound>,
    /// When the last complete round began, microseconds since the Unix epoch; 0 before the first.
    #[serde(default)]
    pub complete_micros: i64,
    /// All rows are being read: those up to this key have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_after: Option<Vec<String>>,
}

/// Where cursors ended at some time: whatever is written later lies not before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// When, microseconds since the Unix epoch.
    pub at_micros: i64,
    /// The greatest cursor; `None` when there was no row.
    pub cursor: Option<Vec<String>>,
    /// Rows with this very cursor have been read, and are too many to be read again and again.
    #[serde(default)]
    pub passed: bool,
}

/// A round that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenRound {
    /// When, microseconds since the Unix epoch.
    pub began_micros: i64,
    /// Cursor and key of the last row read.
    pub after: Option<Vec<String>>,
}

impl State {
    /// Reads what is stored; what can't be read means that nothing is known.
    pub(super) fn of(copy: &TableCopy) -> Self {
        serde_json::from_value(copy.cursor.clone()).unwrap_or_default()
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Notes that cursors end at `cursor` now; absent when no row was seen, so that they end where
    /// they did.
    pub(super) fn mark(&mut self, now: i64, cursor: Option<&[String]>, overlap: Duration) {
        // The clock was set back: what was noted was noted before now.
        for mark in &mut self.marks {
            mark.at_micros = mark.at_micros.min(now);
        }
        let last = self.marks.last();
        let spacing = micros(overlap) / MARKS_PER_OVERLAP;
        if last.is_some_and(|last| now - last.at_micros < spacing) {
            return;
        }
        let known = last.and_then(|last| last.cursor.as_deref());
        let cursor = cursor.or(known).map(<[String]>::to_vec);
        let passed = last.is_some_and(|last| last.passed && last.cursor == cursor);
        self.marks.push(Mark { at_micros: now, cursor, passed });
        if self.marks.len() > MARKS_MAX {
            // An earlier one is as true, but longer ago.
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The open round has read everything. `too_many`: more rows than can be told from changed
    /// ones in the next.
    pub(super) fn complete(&mut self, overlap: Duration, too_many: bool) {
        let Some(OpenRound { began_micros, .. }) = self.round.take() else { return };
        self.complete_micros = began_micros;
        let settled = began_micros.saturating_sub(micros(overlap));
        let first = self.marks.iter().rposition(|mark| mark.at_micros <= settled).unwrap_or(0);
        self.marks.drain(..first);
        let Some(low) = self.marks.first() else { return };
        let (cursor, is_settled) = (low.cursor.clone(), low.at_micros <= settled);
        if too_many && is_settled && self.marks.iter().all(|mark| mark.cursor == cursor) {
            self.marks.truncate(1);
            self.marks.iter_mut().for_each(|mark| mark.passed = true);
        }
    }

    /// All rows may be read now: whatever was on its way when the first mark was made has been
    /// committed, and what follows is seen by rounds.
    pub(super) fn whole_begins_micros(&self, overlap: Duration) -> i64 {
        self.marks.first().map_or(i64::MAX, |mark| mark.at_micros.saturating_add(micros(overlap)))
    }
}

/// As microseconds.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Duration = Duration::from_micros(160);

    fn text(cursor: &str) -> Option<Vec<String>> {
        Some(vec![cursor.to_string()])
    }

    fn round(state: &mut State, began: i64, ended: i64, cursor: &str) {
        state.round = Some(OpenRound { began_micros: began, after: None });
        state.mark(ended, Some(&[cursor.to_string()]), OVERLAP);
        state.complete(OVERLAP, false);
    }

    fn begins(state: &State) -> Option<&str> {
        state.marks.first()?.cursor.as_ref()?.first().map(String::as_str)
    }

    #[test]
    fn a_round_begins_where_cursors_ended_an_overlap_before_the_last_one_began() {
        let mut state = State::default();
        state.mark(1_000, text("a").as_deref(), OVERLAP);
        round(&mut state, 1_100, 1_110, "b");
        assert_eq!(begins(&state), Some("a"), "nothing is known of 940");
        round(&mut state, 1_200, 1_210, "c");
        assert_eq!(begins(&state), Some("a"), "at 1040");
        round(&mut state, 1_269, 1_280, "d");
        assert_eq!(begins(&state), Some("a"), "at 1109");
        round(&mut state, 1_270, 1_290, "e");
        assert_eq!(begins(&state), Some("b"), "at 1110");
        round(&mut state, 1_500, 1_510, "f");
        assert_eq!(begins(&state), Some("e"), "at 1340: of those at 1280 and 1290 the last");
    }

    #[test]
    fn marks_stay_few_and_a_clock_that_is_set_back_does_no_harm() {
        let mut state = State::default();
        for n in 0..10_000 {
            state.mark(n * 10, Some(&[n.to_string()]), OVERLAP);
        }
        assert!(state.marks.len() <= MARKS_MAX && begins(&state) == Some("0"));
        state.mark(50, text("z").as_deref(), OVERLAP);
        assert!(state.marks.iter().all(|mark| mark.at_micros <= 50));
        round(&mut state, 220, 230, "z");
        assert_eq!(begins(&state), Some("9999"), "of those at 50 the last");
    }

    #[test]
    fn rows_with_one_cursor_are_passed_when_they_are_too_many() {
        let mut state = State::default();
        state.mark(1_000, text("a").as_deref(), OVERLAP);
        state.mark(1_100, None, OVERLAP);
        state.round = Some(OpenRound { began_micros: 1_150, after: None });
        state.complete(OVERLAP, true);
        assert!(!state.marks[0].passed, "a transaction may be on its way");
        state.round = Some(OpenRound { began_micros: 1_270, after: None });
        state.mark(1_280, None, OVERLAP);
        state.complete(OVERLAP, true);
        assert_eq!(state.marks.len(), 1);
        assert!(state.marks[0].passed);
        state.mark(1_400, None, OVERLAP);
        state.mark(1_500, text("b").as_deref(), OVERLAP);
        let passed: Vec<bool> = state.marks.iter().map(|mark| mark.passed).collect();
        assert_eq!(passed, [true, true, false]);
    }
}
