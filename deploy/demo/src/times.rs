//! Event times of the demo: made from the order's number, never from the wall clock, so that two
//! runs give equal data.

use anyhow::Result;
use jiff::{Timestamp, tz::TimeZone};

/// 2026-06-01T06:00:00Z in seconds: when the first order of a workload is captured.
const FIRST_ORDER: i64 = 1_780_293_600;
/// 2026-01-05T00:00:00Z in seconds: the first day of the history.
const FIRST_HISTORY_DAY: i64 = 1_767_571_200;

/// A point in time, in whole seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub i64);

impl At {
    /// When live order `number` is captured: one a minute.
    pub fn order(number: u32) -> Self {
        Self(FIRST_ORDER + i64::from(number) * 60)
    }

    /// Midnight UTC of the day on which history order `number` came in: forty a day.
    pub fn history_day(number: u32) -> Self {
        Self(FIRST_HISTORY_DAY + i64::from(number / 40) * 86_400)
    }

    /// Later by some minutes.
    pub fn plus_minutes(self, minutes: i64) -> Self {
        Self(self.0 + minutes * 60)
    }

    /// `2026-06-01T06:00:00Z`.
    pub fn rfc3339(self) -> Result<String> {
        Ok(Timestamp::from_second(self.0)?.to_string())
    }

    /// `2026-06-01 06:00:00`, in UTC.
    pub fn utc(self) -> Result<String> {
        Ok(Timestamp::from_second(self.0)?.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// `2026-06-01 08:00:00`, as the clock on the wall in Hamburg shows it.
    pub fn berlin(self) -> Result<String> {
        let zone = TimeZone::get("Europe/Berlin")?;
        let local = Timestamp::from_second(self.0)?.to_zoned(zone);
        Ok(local.strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// `2026-06-01`, in UTC.
    pub fn date(self) -> Result<String> {
        Ok(Timestamp::from_second(self.0)?.strftime("%Y-%m-%d").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::At;

    #[test]
    fn hamburg_is_ahead_of_utc_by_season() {
        assert_eq!(At::order(0).rfc3339().unwrap(), "2026-06-01T06:00:00Z");
        assert_eq!(At::order(0).berlin().unwrap(), "2026-06-01 08:00:00");
        assert_eq!(At::history_day(40).utc().unwrap(), "2026-01-06 00:00:00");
        assert_eq!(At::history_day(40).berlin().unwrap(), "2026-01-06 01:00:00");
    }
}
