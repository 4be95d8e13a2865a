//! Dates, times and intervals as PostgreSQL prints them under `DateStyle` ISO, `IntervalStyle`
//! postgres and `TimeZone` UTC. Every parser takes any text and never panics.

use crossdock_model::time::{DAY_MICROS, days};

/// Reads a date: `2026-11-23`, `0044-03-15 BC`, `infinity`.
pub(super) fn date(text: &str) -> Option<i32> {
    match text {
        "infinity" => return Some(i32::MAX),
        "-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (body, before_christ) = era(text);
    i32::try_from(civil_days(body, before_christ)?).ok()
}

/// Reads a time of day as microseconds; `24:00:00` is one.
pub(super) fn time(text: &str) -> Option<i64> {
    let mut input = text.as_bytes();
    let micros = clock(&mut input)?;
    (input.is_empty() && micros <= DAY_MICROS).then_some(micros)
}

/// Reads `08:15:30+02`, `…-05:30`, `…+00:19:32`: microseconds, seconds east of UTC.
pub(super) fn time_with_zone(text: &str) -> Option<(i64, i32)> {
    let mut input = text.as_bytes();
    let micros = clock(&mut input)?;
    let offset = offset(&mut input)?;
    (input.is_empty() && micros <= DAY_MICROS).then_some((micros, offset))
}

/// Reads a timestamp as microseconds since 1970. The inner `None` is a valid time beyond what an
/// `i64` of microseconds since 1970 holds (PostgreSQL counts from 2000: the years 294247 to 294276).
pub(super) fn timestamp(text: &str) -> Option<Option<i64>> {
    instant(text, false)
}

/// Like [`timestamp`], with the offset that the server appends.
pub(super) fn timestamp_with_zone(text: &str) -> Option<Option<i64>> {
    instant(text, true)
}

fn instant(text: &str, zoned: bool) -> Option<Option<i64>> {
    match text {
        "infinity" => return Some(Some(i64::MAX)),
        "-infinity" => return Some(Some(i64::MIN)),
        _ => {}
    }
    let (body, before_christ) = era(text);
    let (date, clock_text) = body.split_once(' ')?;
    let days = civil_days(date, before_christ)?;
    let mut input = clock_text.as_bytes();
    let micros = clock(&mut input)?;
    let offset = if zoned { offset(&mut input)? } else { 0 };
    if !input.is_empty() {
        return None;
    }
    let shift = micros - i64::from(offset) * 1_000_000;
    Some(days.checked_mul(DAY_MICROS).and_then(|at| at.checked_add(shift)))
}

/// Reads an interval: months, days, microseconds.
pub(super) fn interval(text: &str) -> Option<(i32, i32, i64)> {
    match text {
        "infinity" => return Some((i32::MAX, i32::MAX, i64::MAX)),
        "-infinity" => return Some((i32::MIN, i32::MIN, i64::MIN)),
        _ => {}
    }
    let (mut months, mut days, mut micros) = (0i32, 0i32, 0i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            micros = signed_clock(word)?;
            if words.next().is_some() {
                return None;
            }
            break;
        }
        let number: i32 = word.parse().ok()?;
        match words.next()? {
            "year" | "years" => months = months.checked_add(number.checked_mul(12)?)?,
            "mon" | "mons" => months = months.checked_add(number)?,
            "day" | "days" => days = number,
            _ => return None,
        }
    }
    Some((months, days, micros))
}

fn signed_clock(word: &str) -> Option<i64> {
    let (sign, rest) = match word.as_bytes() {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    let mut input = rest;
    let micros = clock(&mut input)?;
    input.is_empty().then_some(sign * micros)
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |body| (body, true))
}

fn civil_days(text: &str, before_christ: bool) -> Option<i64> {
    let mut input = text.as_bytes();
    let year = number(&mut input, 4, 7)?;
    skip(&mut input, b'-')?;
    let month = number(&mut input, 2, 2)?;
    skip(&mut input, b'-')?;
    let day = number(&mut input, 2, 2)?;
    if !input.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // There is no year 0: 1 BC is the astronomical year 0.
    let year = if before_christ { 1 - year } else { year };
    Some(days(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?))
}

/// `HH:MM:SS[.ffffff]`; hours have more digits in intervals.
fn clock(input: &mut &[u8]) -> Option<i64> {
    let hours = number(input, 2, 10)?;
    skip(input, b':')?;
    let minutes = number(input, 2, 2)?;
    skip(input, b':')?;
    let seconds = number(input, 2, 2)?;
    let mut micros = 0;
    if input.first() == Some(&b'.') {
        skip(input, b'.')?;
        let digits = input.iter().take_while(|b| b.is_ascii_digit()).count();
        let fraction = number(input, 1, 6)?;
        micros = fraction * 10i64.pow(6 - u32::try_from(digits.min(6)).ok()?);
    }
    hours
        .checked_mul(3_600_000_000)?
        .checked_add((minutes * 60 + seconds) * 1_000_000)?
        .checked_add(micros)
}

/// `+02`, `-05:30`, `+00:19:32`.
fn offset(input: &mut &[u8]) -> Option<i32> {
    let sign = match input.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *input = input.get(1..)?;
    let mut seconds = number(input, 2, 2)? * 3600;
    for unit in [60, 1] {
        if input.first() == Some(&b':') {
            *input = input.get(1..)?;
            seconds += number(input, 2, 2)? * unit;
        }
    }
    i32::try_from(sign * seconds).ok()
}

/// A run of at least `min` digits, at most `max`.
fn number(input: &mut &[u8], min: usize, max: usize) -> Option<i64> {
    let digits = input.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits < min || digits > max {
        return None;
    }
    let (taken, rest) = input.split_at(digits);
    *input = rest;
    Some(taken.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn skip(input: &mut &[u8], byte: u8) -> Option<()> {
    let rest = input.strip_prefix(&[byte])?;
    *input = rest;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_model::time::{civil, date_text, time_text};
    use proptest::prelude::*;

    #[test]
    fn known_texts() {
        assert_eq!(date("1970-01-01"), Some(0));
        assert_eq!(date("infinity"), Some(i32::MAX));
        assert_eq!(date("0001-12-31 BC"), date("0001-01-01").map(|d| d - 1));
        assert_eq!(time("24:00:00"), Some(DAY_MICROS));
        assert_eq!(time("00:00:00.0012"), Some(1_200));
        assert_eq!(time_with_zone("08:15:30-05:30"), Some((29_730_000_000, -19_800)));
        assert_eq!(timestamp("1970-01-02 00:00:00.5"), Some(Some(86_400_500_000)));
        assert_eq!(
            timestamp_with_zone("2026-11-23 06:15:30+00"),
            Some(Some(1_795_414_530_000_000))
        );
        assert_eq!(
            timestamp_with_zone("0044-03-15 00:00:00+00 BC"),
            timestamp("0044-03-15 00:00:00 BC")
        );
        assert_eq!(timestamp("294276-12-31 23:59:59"), Some(None));
        assert_eq!(interval("1 year 2 mons -3 days +04:05:06.7"), Some((14, -3, 14_706_700_000)));
        assert_eq!(interval("-00:00:01"), Some((0, 0, -1_000_000)));
        assert_eq!(interval("00:00:00"), Some((0, 0, 0)));
        assert_eq!(interval("2 mons"), Some((2, 0, 0)));
        assert_eq!(interval("3 moons"), None);
    }

    proptest! {
        #[test]
        fn dates_round_trip(day in -2_400_000i32..2_900_000) {
            let (year, month, day_of_month) = civil(i64::from(day));
            let text = match year {
                ..=0 => format!("{:04}-{month:02}-{day_of_month:02} BC", 1 - year),
                1..=9999 => date_text(day),
                _ => format!("{year}-{month:02}-{day_of_month:02}"),
            };
            prop_assert_eq!(date(&text), Some(day));
        }

        #[test]
        fn times_round_trip(micros in 0..=DAY_MICROS) {
            prop_assert_eq!(time(&time_text(micros)), Some(micros));
        }
    }
}
