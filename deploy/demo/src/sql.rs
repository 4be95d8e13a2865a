//! Small pieces of SQL text. Values are made by the demo itself.

/// A text literal.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A quantity of thousandths as a literal: 2500 is `2.500`.
pub(crate) fn milli(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", value.abs() / 1000, value.abs() % 1000)
}

/// An amount in minor units as a literal: 1250 is `12.50`.
pub(crate) fn minor(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_exact_decimals() {
        assert_eq!(milli(2_500), "2.500");
        assert_eq!(milli(-50), "-0.050");
        assert_eq!(minor(1_205), "12.05");
        assert_eq!(text("O'Neill"), "'O''Neill'");
    }
}
