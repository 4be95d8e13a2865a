//! Windows of time that come again: `Sun 02:00-04:00 Europe/Berlin`, `22:00-05:00 UTC`.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// A stretch of every day, or of some days of the week, by the clock of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Days on which it begins; all seven when none is written.
    days: Vec<Weekday>,
    from: Time,
    /// At or before `from`: it ends on the next day.
    to: Time,
    zone: TimeZone,
    text: String,
}

impl Window {
    /// Reads `DAYS HH:MM-HH:MM ZONE`; days (`Sun`, `Mon,Fri`, `Mon-Fri`) may be left out.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let zone = words.pop().unwrap_or_default();
        let hours = words.pop().unwrap_or_default();
        let zone_of = || TimeZone::get(zone).map_err(|_| format!("there is no time zone `{zone}`"));
        let (from, to) = hours.split_once('-').ok_or("the hours are missing, like 02:00-04:00")?;
        let (from, to) = (clock(from)?, clock(to)?);
        let days = match words.as_slice() {
            [] => Vec::new(),
            [days] => read_days(days)?,
            _ => return Err("there are too many words".to_string()),
        };
        Ok(Self { days, from, to, zone: zone_of()?, text: text.trim().to_string() })
    }

    /// Whether a moment (microseconds since the Unix epoch) lies in it.
    pub fn contains(&self, micros: i64) -> bool {
        self.around(micros).into_iter().any(|(from, to)| (from..to).contains(&micros))
    }

    /// The end of the window that a moment lies in, otherwise `None`.
    pub fn ends_after(&self, micros: i64) -> Option<i64> {
        let holds = |(from, to): &(i64, i64)| (*from..*to).contains(&micros);
        self.around(micros).into_iter().filter(holds).map(|(_, to)| to).max()
    }

    /// When it begins next after a moment.
    pub fn begins_after(&self, micros: i64) -> Option<i64> {
        self.around(micros).into_iter().map(|(from, _)| from).filter(|from| *from > micros).min()
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The stretches of the days around a moment, as microseconds.
    fn around(&self, micros: i64) -> Vec<(i64, i64)> {
        let Ok(at) = Timestamp::from_microsecond(micros) else { return Vec::new() };
        let today = at.to_zoned(self.zone.clone()).date();
        let stretch = |back: i64| {
            let day = today.checked_add(back.days()).ok()?;
            if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
                return None;
            }
            let end = if self.to > self.from { day } else { day.checked_add(1.day()).ok()? };
            // An hour that the clock skips is taken as if it had not yet been put forward.
            let moment = |z: jiff::civil::DateTime| z.to_zoned(self.zone.clone()).ok();
            let micros = |z: Zoned| z.timestamp().as_microsecond();
            let from = moment(day.to_datetime(self.from)).map(micros)?;
            Some((from, moment(end.to_datetime(self.to)).map(micros)?))
        };
        (-1..=8).filter_map(stretch).collect()
    }
}

fn clock(text: &str) -> Result<Time, String> {
    let bad = || format!("`{text}` is not a time of day, like 02:00");
    let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
    let (hours, minutes) = (hours.parse().map_err(|_| bad())?, minutes.parse().map_err(|_| bad())?);
    if (hours, minutes) == (24, 0) {
        return Ok(Time::midnight());
    }
    Time::new(hours, minutes, 0, 0).map_err(|_| bad())
}

fn read_days(text: &str) -> Result<Vec<Weekday>, String> {
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (mut day, last) = (weekday(first)?, weekday(last)?);
                days.push(day);
                while day != last {
                    day = day.next();
                    days.push(day);
                }
            }
            None => days.push(weekday(part)?),
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Result<Weekday, String> {
    let all = [
        ("Mon", Weekday::Monday),
        ("Tue", Weekday::Tuesday),
        ("Wed", Weekday::Wednesday),
        ("Thu", Weekday::Thursday),
        ("Fri", Weekday::Friday),
        ("Sat", Weekday::Saturday),
        ("Sun", Weekday::Sunday),
    ];
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|(_, day)| *day).ok_or_else(|| format!("`{text}` is no day: Mon, Tue … Sun"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn a_window_follows_the_clock_of_its_place() {
        let window = Window::parse("Sun 02:00-04:00 Europe/Berlin").unwrap();
        // 2026-11-22 is a Sunday; Berlin is an hour ahead of UTC in winter.
        assert!(!window.contains(at("2026-11-22T00:59:59Z")));
        assert!(window.contains(at("2026-11-22T01:00:00Z")));
        assert_eq!(window.ends_after(at("2026-11-22T02:00:00Z")), Some(at("2026-11-22T03:00:00Z")));
        assert!(!window.contains(at("2026-11-22T03:00:00Z")));
        assert!(!window.contains(at("2026-11-23T02:00:00Z")));
        let next = window.begins_after(at("2026-11-23T12:00:00Z"));
        assert_eq!(next, Some(at("2026-11-29T01:00:00Z")));
    }

    #[test]
    fn a_window_may_last_over_midnight() {
        let window = Window::parse("22:00-05:00 UTC").unwrap();
        for (time, inside) in [("21:59", false), ("22:00", true), ("04:59", true), ("05:00", false)]
        {
            assert_eq!(window.contains(at(&format!("2026-11-23T{time}:00Z"))), inside, "{time}");
        }
        let friday = Window::parse("Mon-Thu,Sat 22:00-05:00 UTC").unwrap();
        assert!(friday.contains(at("2026-11-27T03:00:00Z")), "begun on Thursday");
        assert!(!friday.contains(at("2026-11-28T03:00:00Z")), "Friday has none");
    }

    #[test]
    fn what_is_no_window_is_said() {
        for bad in [
            "",
            "UTC",
            "02:00 UTC",
            "25:00-26:00 UTC",
            "Foo 02:00-04:00 UTC",
            "02:00-04:00 Mars",
            "Mon Tue 02:00-04:00 UTC",
        ] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
