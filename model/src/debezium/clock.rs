//! Dates, times and intervals in Debezium's texts and numbers.

use serde_json::Value as Json;

use crate::time::{self, DAY_MICROS};

/// Microseconds of a month in a duration: a twelfth of 365.25 days.
const MONTH_MICROS: i64 = 2_629_800_000_000;
/// What Debezium writes for `infinity` and `-infinity`, in microseconds.
const INFINITY_MICROS: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY_MICROS: i64 = -9_223_372_036_832_400_000;

/// A wall-clock time with the infinities as Debezium writes them.
pub(super) fn finite(micros: i64) -> i64 {
    match micros {
        i64::MAX => INFINITY_MICROS,
        i64::MIN => MINUS_INFINITY_MICROS,
        micros => micros,
    }
}

/// A date as Java prints it: years beyond 9999 with a sign.
fn date(days: i64) -> String {
    let (year, month, day) = time::civil(days);
    let year = match year {
        0..=9_999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", year.unsigned_abs()),
    };
    format!("{year}-{month:02}-{day:02}")
}

/// `2026-05-01Z`, or `infinity`.
pub(super) fn iso_date(days: i32) -> Json {
    Json::from(match days {
        i32::MAX | i32::MIN => time::date_text(days),
        days => date(i64::from(days)) + "Z",
    })
}

/// `13:14:15.123456Z`.
pub(super) fn iso_time(micros: i64) -> Json {
    Json::from(time::time_text(micros) + "Z")
}

/// `2026-05-01T13:14:15.123456Z`.
pub(super) fn iso_timestamp(micros: i64) -> Json {
    let days = date(micros.div_euclid(DAY_MICROS));
    Json::from(format!("{days}T{}Z", time::time_text(micros.rem_euclid(DAY_MICROS))))
}

/// Time of day moved to UTC: `11:14:15.123456Z`.
pub(super) fn zoned_time(micros: i64, offset: i32) -> Json {
    let utc = micros.saturating_sub(i64::from(offset) * 1_000_000).rem_euclid(DAY_MICROS);
    iso_time(utc)
}

/// `2026-05-01T11:14:15.123456Z` with as many decimals as are declared.
pub(super) fn zoned(micros: i64, digits: i64) -> Json {
    if matches!(micros, i64::MAX | i64::MIN) {
        return Json::from(time::instant_text(micros));
    }
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let shown = format!("{fraction:06}");
    let decimals = usize::try_from(digits).unwrap_or(6).min(6);
    let fraction = match shown.get(..decimals).filter(|shown| !shown.is_empty()) {
        Some(shown) => format!(".{shown}"),
        None => String::new(),
    };
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let days = date(micros.div_euclid(DAY_MICROS));
    Json::from(format!("{days}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// An interval in microseconds.
pub(super) fn duration(months: i32, days: i32, micros: i64) -> Json {
    let months = i64::from(months).saturating_mul(MONTH_MICROS);
    let days = i64::from(days).saturating_mul(DAY_MICROS);
    Json::from(months.saturating_add(days).saturating_add(micros))
}

/// `P1Y2M3DT4H5M6.789S`; each part has its own sign.
pub(super) fn iso_interval(months: i32, days: i32, micros: i64) -> Json {
    let (years, months) = (months / 12, months % 12);
    let (hours, minutes) = (micros / 3_600_000_000, micros / 60_000_000 % 60);
    let rest = micros % 60_000_000;
    let sign = if rest < 0 { "-" } else { "" };
    let rest = rest.unsigned_abs();
    let fraction = format!(".{:06}", rest % 1_000_000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let seconds = rest / 1_000_000;
    Json::from(format!("P{years}Y{months}M{days}DT{hours}H{minutes}M{sign}{seconds}{fraction}S"))
}
