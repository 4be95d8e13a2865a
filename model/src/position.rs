//! How far a source's log has been read.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time;

/// How the text of a polled source's place begins.
const POLL_PREFIX: &str = "poll:";
/// The last instant that has a text of its own.
const ROUND_MAX: i64 = i64::MAX - 1;

/// A place in a source's log. Opaque outside `capture`, but for its order and its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// PostgreSQL: a log sequence number.
    Postgres {
        /// The LSN as an integer.
        lsn: u64,
    },
    /// MySQL and MariaDB: both addresses are kept always.
    Binlog {
        /// Binlog file name, `binlog.000042`; with an epoch in front, `2@binlog.000001`, when
        /// reading has gone on with a server that numbers its files anew (a failover by GTID).
        file: String,
        /// Byte offset in that file.
        offset: u64,
        /// Executed GTID set (MySQL) or GTID position with all domains (MariaDB); may be empty.
        gtid: String,
    },
    /// A source without a log, which is asked for its rows again and again. What was committed
    /// before `round` has been read, but for what the source shows later than it should and for
    /// deletes; `step` counts what was read since. Orders what was read by when it was read.
    Poll {
        /// When the last complete round of reading began, by Crossdock's clock: microseconds since
        /// the Unix epoch. Never goes back, even when that clock does.
        round: u64,
        /// Number of the read since then, from 0.
        step: u64,
    },
}

/// Total order of a source's log, comparable without knowing which database it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogOrder {
    /// Binlog file number, above it the epoch in the upper half; 0 for PostgreSQL; the round of a
    /// polled source.
    pub file: u64,
    /// LSN or offset in the file of the commit; the step of a polled source.
    pub offset: u64,
    /// Place of the row within its transaction; 0 for snapshot rows, which precede the stream.
    pub ordinal: u32,
}

impl LogOrder {
    /// 40 hexadecimal digits that sort as the order does; the form kept in the canonical store.
    pub fn to_sortable(self) -> String {
        let mut text = String::with_capacity(40);
        let mut digits = |number: u64, count: u32| {
            for place in (0..count).rev() {
                let digit = (number >> (4 * place)) & 0xf;
                text.push(char::from_digit(digit as u32, 16).unwrap_or('0'));
            }
        };
        digits(self.file, 16);
        digits(self.offset, 16);
        digits(u64::from(self.ordinal), 8);
        text
    }

    /// Reads what [`LogOrder::to_sortable`] wrote.
    pub fn from_sortable(text: &str) -> Option<Self> {
        Some(Self {
            file: u64::from_str_radix(text.get(..16)?, 16).ok()?,
            offset: u64::from_str_radix(text.get(16..32)?, 16).ok()?,
            ordinal: u32::from_str_radix(text.get(32..40)?, 16).ok()?,
        })
    }
}

impl Position {
    /// The order of this place, for the row with `ordinal` of the transaction that commits here.
    pub fn order(&self, ordinal: u32) -> LogOrder {
        match self {
            Position::Postgres { lsn } => LogOrder { file: 0, offset: *lsn, ordinal },
            Position::Binlog { file, offset, .. } => {
                let (epoch, name) = split_epoch(file);
                let digits = name.rsplit('.').next().unwrap_or("");
                let number: u32 = digits.parse().unwrap_or(0);
                let file = u64::from(epoch) << 32 | u64::from(number);
                LogOrder { file, offset: *offset, ordinal }
            }
            Position::Poll { round, step } => LogOrder { file: *round, offset: *step, ordinal },
        }
    }

    /// Compares two places of one source's log.
    pub fn compare(&self, other: &Position) -> Ordering {
        self.order(0).cmp(&other.order(0))
    }
}

/// The epoch in front of a binlog file's name (0 where there is none), and the name on the server.
pub fn split_epoch(file: &str) -> (u32, &str) {
    match file.split_once('@') {
        Some((epoch, name)) if epoch.bytes().all(|b| b.is_ascii_digit()) => {
            epoch.parse().map_or((0, file), |epoch| (epoch, name))
        }
        _ => (0, file),
    }
}

/// A binlog file's name with its epoch, for [`Position::Binlog`].
pub fn with_epoch(epoch: u32, name: &str) -> String {
    match epoch {
        0 => name.to_string(),
        epoch => format!("{epoch}@{name}"),
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Postgres { lsn } => write!(f, "{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
            Position::Binlog { file, offset, gtid } if gtid.is_empty() => {
                write!(f, "{file}:{offset}")
            }
            Position::Binlog { file, offset, gtid } => write!(f, "{file}:{offset} ({gtid})"),
            Position::Poll { round, step } => {
                let began = time::instant_text(i64::try_from(*round).unwrap_or(ROUND_MAX));
                write!(f, "{POLL_PREFIX}{began}+{step}")
            }
        }
    }
}

/// A text that is not a position.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a log position: write an LSN such as 0/16B3748, FILE:OFFSET such as \
     binlog.000042:1093, or for a polled source poll:2026-11-23T10:00:00Z+0"
)]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PositionError(text.to_string());
        if let Some(place) = text.strip_prefix(POLL_PREFIX) {
            return polled(place).ok_or_else(bad);
        }
        if let Some((high, low)) = text.split_once('/') {
            let high = u64::from_str_radix(high, 16).map_err(|_| bad())?;
            let low = u64::from_str_radix(low, 16).map_err(|_| bad())?;
            if high > u64::from(u32::MAX) || low > u64::from(u32::MAX) {
                return Err(bad());
            }
            return Ok(Position::Postgres { lsn: high << 32 | low });
        }
        let (place, gtid) = text.split_once(" (").unwrap_or((text, ""));
        let (file, offset) = place.rsplit_once(':').ok_or_else(bad)?;
        if !file.contains('.') {
            return Err(bad());
        }
        Ok(Position::Binlog {
            file: file.to_string(),
            offset: offset.parse().map_err(|_| bad())?,
            gtid: gtid.trim_end_matches(')').to_string(),
        })
    }
}

/// Reads `BEGIN+STEP`.
fn polled(place: &str) -> Option<Position> {
    let (began, step) = place.rsplit_once('+')?;
    let round = u64::try_from(time::parse_instant(began)?).ok()?;
    let digits = !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
    Some(Position::Poll { round, step: step.parse().ok().filter(|_| digits)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        for text in [
            "0/16B3748",
            "A/0",
            "binlog.000042:1093",
            "mysql-bin.000003:4 (0-1-42,1-2-7)",
            "2@binlog.000001:4 (0-1-42)",
            "poll:2026-11-23T10:00:00.000001Z+17",
        ] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        let bad =
            ["poll:", "poll:2026-11-23T10:00:00Z", "poll:2026-11-23T10:00:00Z+-1", "poll:x+1"];
        for text in ["", "x", "12", "binlog:12", "G/1", "1/100000000"].into_iter().chain(bad) {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn order_is_that_of_the_log() {
        let at = |text: &str| text.parse::<Position>().unwrap();
        assert!(at("binlog.000009:900").compare(&at("binlog.000010:4")).is_lt());
        assert!(at("0/FFFFFFFF").compare(&at("1/0")).is_lt());
        assert!(at("binlog.000010:4").compare(&at("1@binlog.000001:4")).is_lt());
        assert!(at("1@binlog.000010:4").compare(&at("2@binlog.000001:4")).is_lt());
        assert_eq!(split_epoch("host@bin.000001"), (0, "host@bin.000001"));
        let polled = |text: &str| at(&format!("poll:2026-11-23T{text}"));
        assert!(polled("10:00:00Z+99").compare(&polled("10:00:00.5Z+0")).is_lt());
        assert!(polled("10:00:00Z+9").compare(&polled("10:00:00Z+10")).is_lt());
        let order = at("3@binlog.000010:4").order(7);
        assert_eq!(LogOrder::from_sortable(&order.to_sortable()), Some(order));
    }
}
