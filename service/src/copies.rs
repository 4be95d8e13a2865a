//! How the reading of tables' rows stands, in numbers for people: share, rate, time left.

use crossdock_capture::{CopyState, Memory, Purpose, TableCopy};
use serde::{Deserialize, Serialize};

/// One line of `snapshot list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyLine {
    /// Source.
    pub source: String,
    /// Table.
    pub table: String,
    /// `initial`, `added`, `requested` or `resync`.
    pub purpose: String,
    /// `pending`, `reading`, `paused`, `done`, `cancelled` or `failed`.
    pub state: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// The condition the rows are chosen by.
    pub filter: Option<String>,
    /// Rows read.
    pub rows: u64,
    /// Rows expected, as the server estimates; 0 when it does not know.
    pub rows_estimated: u64,
    /// Share of the rows that are read.
    pub percent: Option<u8>,
    /// Rows a second, from the beginning.
    pub rows_per_second: Option<f64>,
    /// Seconds left at that rate.
    pub eta_seconds: Option<u64>,
    /// When reading began and ended, microseconds since the Unix epoch; 0 before.
    pub started_micros: i64,
    /// See `started_micros`.
    pub finished_micros: i64,
}

/// Every state that a copy can have, as lines and metrics say it.
pub const STATES: [&str; 6] = ["pending", "reading", "paused", "done", "cancelled", "failed"];

/// What a source's reader remembers, as lines.
pub fn lines(source: &str, memory: &Memory, now_micros: i64) -> Vec<CopyLine> {
    memory.tables.iter().map(|copy| line(source, copy, now_micros)).collect()
}

fn line(source: &str, copy: &TableCopy, now_micros: i64) -> CopyLine {
    let state = state(copy);
    let end = if copy.finished_micros > 0 { copy.finished_micros } else { now_micros };
    let seconds = (end - copy.started_micros) as f64 / 1e6;
    let measured = copy.started_micros > 0 && seconds > 0.0 && copy.rows > 0;
    let rate = measured.then(|| copy.rows as f64 / seconds);
    let known = copy.rows_estimated > 0;
    let percent = match state {
        "done" => Some(100),
        // An estimate may be too low: done is done only when it is said.
        _ => known.then(|| (copy.rows.saturating_mul(100) / copy.rows_estimated).min(99)),
    };
    let left = copy.rows_estimated.saturating_sub(copy.rows) as f64;
    let eta = rate.filter(|_| known && state == "reading").map(|rate| (left / rate).ceil() as u64);
    CopyLine {
        source: source.to_string(),
        table: copy.table.to_string(),
        purpose: purpose(copy.purpose).to_string(),
        state: state.to_string(),
        reason: match &copy.state {
            CopyState::Failed(reason) => Some(reason.clone()),
            _ => None,
        },
        filter: copy.filter.clone(),
        rows: copy.rows,
        rows_estimated: copy.rows_estimated,
        percent: percent.map(|p| u8::try_from(p).unwrap_or(100)),
        rows_per_second: rate.filter(|_| matches!(state, "reading" | "done")),
        eta_seconds: eta,
        started_micros: copy.started_micros,
        finished_micros: copy.finished_micros,
    }
}

/// The word for how a copy stands.
pub fn state(copy: &TableCopy) -> &'static str {
    match copy.state {
        CopyState::Pending if copy.started_micros > 0 => "reading",
        CopyState::Pending => "pending",
        CopyState::Paused => "paused",
        CopyState::Done => "done",
        CopyState::Cancelled => "cancelled",
        CopyState::Failed(_) => "failed",
    }
}

fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Initial => "initial",
        Purpose::Added => "added",
        Purpose::Requested => "requested",
        Purpose::Resync => "resync",
    }
}

#[cfg(test)]
mod tests {
    use crossdock_model::TableName;

    use super::*;

    #[test]
    fn share_rate_and_time_left() {
        let copy = TableCopy {
            rows: 500,
            rows_estimated: 2_000,
            started_micros: 1_000_000,
            ..TableCopy::new(TableName::new("s", "a"), Purpose::Added)
        };
        let reading = line("erp", &copy, 6_000_000);
        assert_eq!((&*reading.state, reading.percent), ("reading", Some(25)));
        assert_eq!((reading.rows_per_second, reading.eta_seconds), (Some(100.0), Some(15)));
        // More rows than were estimated: nearly done, but not done.
        let more = line("erp", &TableCopy { rows: 3_000, ..copy.clone() }, 6_000_000);
        assert_eq!((more.percent, more.eta_seconds), (Some(99), Some(0)));
        let state = CopyState::Done;
        let done = TableCopy { state, rows: 3_000, finished_micros: 4_000_000, ..copy.clone() };
        let done = line("erp", &done, 9_000_000);
        assert_eq!((done.percent, done.rows_per_second), (Some(100), Some(1_000.0)));
        let waiting = line("erp", &TableCopy { started_micros: 0, rows: 0, ..copy }, 9_000_000);
        assert_eq!((&*waiting.state, waiting.rows_per_second), ("pending", None));
    }
}
