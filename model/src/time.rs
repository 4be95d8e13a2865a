//! Texts of dates and times from the integers that [`crate::Value`] carries. Proleptic Gregorian,
//! years beyond 0-9999 printed with a sign as ISO 8601 asks.

/// Microseconds in a day.
pub const DAY_MICROS: i64 = 86_400_000_000;
/// Room for a time as text.
const TEXT_BYTES: usize = 28;

/// Year, month and day of a count of days since 1970-01-01.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a civil date; the inverse of [`civil`].
pub fn days(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// `2026-11-23`, `infinity` or `-infinity`.
pub fn date_text(date: i32) -> String {
    match date {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        _ => {
            let mut text = String::with_capacity(TEXT_BYTES);
            write_date(&mut text, date);
            text
        }
    }
}

fn write_date(out: &mut String, date: i32) {
    let (y, m, d) = civil(i64::from(date));
    match u64::try_from(y) {
        Ok(year @ 0..=9999) => digits(out, year, 4),
        _ => out.push_str(&format!("{y:+07}")),
    }
    for part in [m, d] {
        out.push('-');
        digits(out, u64::from(part), 2);
    }
}

/// A number with so many digits at least. By hand: times are written for most changes.
fn digits(out: &mut String, number: u64, least: u32) {
    let mut place = 10_u64.pow(least.saturating_sub(1));
    while number / place >= 10 {
        place *= 10;
    }
    while place > 0 {
        out.push(char::from(b'0' + (number / place % 10) as u8));
        place /= 10;
    }
}

/// `08:15:30` with as many decimals as are needed; a sign and more than 24 hours are kept.
pub fn time_text(micros: i64) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    if micros < 0 {
        text.push('-');
    }
    write_time(&mut text, micros.unsigned_abs());
    text
}

fn write_time(out: &mut String, micros: u64) {
    let (s, us) = (micros / 1_000_000, micros % 1_000_000);
    for (number, behind) in [(s / 3600, ":"), (s / 60 % 60, ":"), (s % 60, "")] {
        digits(out, number, 2);
        out.push_str(behind);
    }
    if us != 0 {
        out.push('.');
        digits(out, us, 6);
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// `+02:00`, `-05:30`, and with seconds where an offset has them.
pub fn offset_text(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let abs = seconds.unsigned_abs();
    match abs % 60 {
        0 => format!("{sign}{:02}:{:02}", abs / 3600, abs / 60 % 60),
        s => format!("{sign}{:02}:{:02}:{s:02}", abs / 3600, abs / 60 % 60),
    }
}

/// `2026-11-23T08:15:30.5`, without zone.
pub fn timestamp_text(micros: i64) -> String {
    match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        _ => {
            let day = micros.div_euclid(DAY_MICROS);
            let mut text = String::with_capacity(TEXT_BYTES);
            write_date(&mut text, i32::try_from(day).unwrap_or(i32::MAX - 1));
            text.push('T');
            write_time(&mut text, micros.rem_euclid(DAY_MICROS).unsigned_abs());
            text
        }
    }
}

/// `2026-11-23T08:15:30.5Z`.
pub fn instant_text(micros: i64) -> String {
    match micros {
        i64::MAX | i64::MIN => timestamp_text(micros),
        _ => timestamp_text(micros) + "Z",
    }
}

/// Reads `2026-11-23`, `2026-11-23 08:15:30.5`, `…T…`, with or without `Z` or an offset.
/// Returns microseconds since the epoch and the offset in seconds, if there was one;
/// the microseconds are *not* shifted by the offset.
pub fn parse_timestamp(text: &str) -> Option<(i64, Option<i32>)> {
    let text = text.trim();
    if text.len() < 10 || !text.is_ascii() {
        return None;
    }
    let (date, rest) = text.split_at(text.find([' ', 'T']).unwrap_or(text.len()));
    let midnight = i64::from(parse_date(date)?).checked_mul(DAY_MICROS)?;
    let rest = rest.get(1..).unwrap_or("");
    if rest.is_empty() {
        return Some((midnight, None));
    }
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    let micros = parse_time(time.trim())?;
    let offset = match zone {
        "" => None,
        "Z" => Some(0),
        _ => Some(parse_offset(zone)?),
    };
    Some((midnight.checked_add(micros).filter(|_| micros <= DAY_MICROS)?, offset))
}

/// Reads an instant; a text without zone is taken as UTC.
pub fn parse_instant(text: &str) -> Option<i64> {
    let (micros, offset) = parse_timestamp(text)?;
    micros.checked_sub(i64::from(offset.unwrap_or(0)) * 1_000_000)
}

/// Reads `2026-11-23` (also with a longer or signed year).
pub fn parse_date(text: &str) -> Option<i32> {
    let (sign, body) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = body.strip_prefix('+').unwrap_or(body).splitn(3, '-');
    let year: i64 = parts.next()?.parse().ok()?;
    let month: u32 = parts.next()?.parse().ok()?;
    let day: u32 = parts.next()?.parse().ok()?;
    if year > 5_900_000 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    i32::try_from(days(sign * year, month, day)).ok()
}

/// Reads `08:15`, `08:15:30` or `08:15:30.5` as microseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit())
        || !(0..=9_999).contains(&hours)
        || !(0..=59).contains(&minutes)
        || !(0..=60).contains(&whole)
    {
        return None;
    }
    let mut micros = 0;
    for i in 0..6 {
        micros = micros * 10 + fraction.as_bytes().get(i).map_or(0, |b| i64::from(b - b'0'));
    }
    Some(((hours * 60 + minutes) * 60 + whole) * 1_000_000 + micros)
}

/// Reads `+02`, `+0200`, `+02:00` or `-05:30:15` as seconds east of UTC.
pub fn parse_offset(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text).replace(':', "");
    if !matches!(digits.len(), 2 | 4 | 6) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |i: usize| digits.get(i..i + 2).map_or(Some(0), |d| d.parse::<i32>().ok());
    Some(sign * (part(0)? * 3600 + part(2)? * 60 + part(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_what_people_write() {
        assert_eq!(instant_text(1_795_414_530_500_000), "2026-11-23T06:15:30.5Z");
        assert_eq!(parse_instant("2026-11-23 08:15:30.5+02"), Some(1_795_414_530_500_000));
        assert_eq!(date_text(parse_date("0044-03-15").unwrap()), "0044-03-15");
        assert_eq!(time_text(-30_600_000_000), "-08:30:00");
        for text in ["2026-13-01", "5800000-01-01", "2026-11-23 25:00", "2026-11-23 08:60:00"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in ["+2", "-x1", "+02:0", "+02:00:00:00", ""] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
        assert_eq!(parse_offset("-05:30:15"), Some(-19_815));
    }

    proptest! {
        #[test]
        fn dates_round_trip(date in -3_000_000i32..3_000_000) {
            let (y, m, d) = civil(i64::from(date));
            prop_assert_eq!(days(y, m, d), i64::from(date));
            prop_assert_eq!(parse_date(&date_text(date)), Some(date));
        }

        #[test]
        fn instants_round_trip(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000) {
            prop_assert_eq!(parse_instant(&instant_text(micros)), Some(micros));
        }
    }
}
