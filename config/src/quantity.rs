//! Sizes and durations as people write them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Bytes in `128MiB`, `10 GB` or `4096`. Whole numbers only: exact, and enough.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim_start() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(factor)
}

/// The duration of `7d`, `1h 30m`, `30s` or `P5D`; a day has 24 hours. Months and years have no
/// fixed length, and are refused like negative durations.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("128MiB"), Some(134_217_728));
        assert_eq!(bytes("10 GiB"), Some(10_737_418_240));
        assert_eq!(bytes("3kB"), Some(3_000));
        assert_eq!(bytes("4096"), Some(4_096));
        for bad in ["", "MiB", "-1", "1.5GiB", "1XB", "99999999999TiB", "18446744073709551616", "é"]
        {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(duration("48h"), Some(Duration::from_secs(172_800)));
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("P5D"), Some(Duration::from_secs(432_000)));
        for bad in ["", "7", "d", "-5s", "3 months", "P1Y", "5 parsecs"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
