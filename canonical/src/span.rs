//! Lengths of time as people write them: `8h`, `48h`, `90s`, `P5D`.

use jiff::{Span, SpanRelativeTo};

use crate::document::Item;

/// Longest time that a rule may name: ten years. Longer ones are slips of the pen.
const SPAN_MICROS_MAX: i64 = 10 * 366 * 24 * 3_600 * 1_000_000;

/// Reads a length of time, in microseconds; a problem is reported and gives `None`.
pub(crate) fn micros(item: &Item<'_>) -> Option<i64> {
    let text = item.text()?;
    let read = parse(text);
    if read.is_none() {
        let what = format!("`{}` is not a length of time: `{text}`", item.key);
        item.problem(what, "write for example \"90s\", \"15m\", \"8h\" or \"P5D\" (five days)");
    }
    read
}

/// A length of time above zero; days have 24 hours. Months and years have no length.
fn parse(text: &str) -> Option<i64> {
    let span: Span = text.trim().parse().ok()?;
    let long = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    let micros = i64::try_from(long.as_micros()).ok()?;
    (1..=SPAN_MICROS_MAX).contains(&micros).then_some(micros)
}

/// A length of time in words of a reader: `8h`, `5d`.
pub(crate) fn words(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let whole = units.iter().find(|(_, length)| seconds > 0 && seconds % length == 0);
    match whole {
        Some((unit, length)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        let hours = |h: i64| Some(h * 3_600 * 1_000_000);
        assert_eq!(parse("8h"), hours(8));
        assert_eq!(parse("48h"), hours(48));
        assert_eq!(parse("P5D"), hours(5 * 24));
        assert_eq!(parse("P7D"), hours(7 * 24));
        assert_eq!(parse("1m"), Some(60_000_000));
        assert_eq!(parse("2s"), Some(2_000_000));
        for bad in ["", "8", "P1M", "1y", "-2h", "0s", "soon", "P9999Y", "PT999999999H"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lengths_are_said_in_whole_units() {
        assert_eq!(words(5 * 86_400_000_000), "5d");
        assert_eq!(words(8 * 3_600_000_000), "8h");
        assert_eq!(words(90_000_000), "90s");
    }
}
