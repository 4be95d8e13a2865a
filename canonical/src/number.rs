//! Exact numbers of expressions: those of up to 18 digits, nearly all, without an allocation.

use std::cmp::Ordering;
use std::fmt::Write as _;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use crossdock_model::value;

use crate::decimal::DIGITS_MAX;

/// So many digits are read as a small number: with as many more it fits 128 bits.
const SMALL_DIGITS: usize = 18;
/// So many places after the point.
const SCALE_MAX: u32 = 18;
/// Results beyond this are computed as large numbers.
const SMALL_MAX: i128 = 10_i128.pow(18);

/// An exact decimal number.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    /// `digits` × 10^-`scale`.
    Small { digits: i128, scale: u32 },
    /// Any other.
    Large(BigDecimal),
}

impl Number {
    /// Zero.
    pub const ZERO: Self = Self::Small { digits: 0, scale: 0 };

    /// Reads a number; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        small(text).or_else(|| value::decimal(text).map(Self::Large))
    }

    /// As a large number.
    pub fn large(self) -> BigDecimal {
        match self {
            Self::Small { digits, scale } => BigDecimal::new(BigInt::from(digits), scale.into()),
            Self::Large(number) => number,
        }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        match both(&self, &other) {
            // With nothing the other number stays as it is, with its scale.
            Some((a, b, scale)) if a != 0 && b != 0 => Some(Self::of(a + b, scale)),
            _ => bounded(self.large() + other.large()),
        }
    }

    /// Adds to a sum, as the interpreter does: to nothing otherwise than [`Number::plus`] would.
    pub fn add(&mut self, other: Self) {
        *self = match both(self, &other) {
            Some((a, b, scale)) if a != 0 && b != 0 => Self::of(a + b, scale),
            _ => {
                let mut sum = std::mem::replace(self, Self::ZERO).large();
                sum += other.large();
                Self::from(sum)
            }
        };
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        match both(&self, &other) {
            Some((a, b, scale)) if a != 0 && b != 0 => Some(Self::of(a - b, scale)),
            _ => bounded(self.large() - other.large()),
        }
    }

    /// The product. Its scale depends on whether one of the two is zero or one: that is known to large
    /// numbers alone.
    pub fn times(self, other: Self) -> Option<Self> {
        bounded(self.large() * other.large())
    }

    /// Without its sign.
    pub fn abs(self) -> Self {
        match self {
            Self::Small { digits, scale } => Self::Small { digits: digits.abs(), scale },
            Self::Large(number) => Self::Large(number.abs()),
        }
    }

    /// Which is greater.
    pub fn compare(&self, other: &Self) -> Ordering {
        match both(self, other) {
            Some((a, b, _)) => a.cmp(&b),
            None => self.clone().large().cmp(&other.clone().large()),
        }
    }

    /// In plain notation, with the zeros that its scale has.
    pub fn to_plain_string(&self) -> String {
        match self {
            Self::Small { digits, scale: 0 } => digits.to_string(),
            Self::Small { digits, scale } => {
                let (sign, digits) = (if *digits < 0 { "-" } else { "" }, digits.unsigned_abs());
                let one = 10_u128.pow(*scale);
                let width = usize::try_from(*scale).unwrap_or(usize::MAX);
                let mut text = String::with_capacity(width + 22);
                // Writing to a String never fails.
                let _ = write!(text, "{sign}{}.{:0width$}", digits / one, digits % one);
                text
            }
            Self::Large(number) => number.to_plain_string(),
        }
    }

    /// Keeps small ones small.
    fn of(digits: i128, scale: u32) -> Self {
        let number = Self::Small { digits, scale };
        let small = digits.abs() < SMALL_MAX && scale <= SCALE_MAX;
        if small { number } else { Self::Large(number.large()) }
    }
}

impl From<BigDecimal> for Number {
    fn from(number: BigDecimal) -> Self {
        let (digits, scale) = number.as_bigint_and_exponent();
        match (i128::try_from(digits), u32::try_from(scale)) {
            (Ok(digits), Ok(scale)) if digits.abs() < SMALL_MAX && scale <= SCALE_MAX => {
                Self::Small { digits, scale }
            }
            _ => Self::Large(number),
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::of(value.into(), 0)
    }
}

/// Two small numbers of the same scale, if it is one that they can be brought to.
fn both(a: &Number, b: &Number) -> Option<(i128, i128, u32)> {
    let (Number::Small { digits: a, scale: of_a }, Number::Small { digits: b, scale: of_b }) =
        (a, b)
    else {
        return None;
    };
    let scale = *of_a.max(of_b);
    // At most 18 digits, and 18 more.
    Some((a * 10_i128.pow(scale - of_a), b * 10_i128.pow(scale - of_b), scale))
}

fn bounded(number: BigDecimal) -> Option<Number> {
    (number.digits() <= DIGITS_MAX).then_some(Number::Large(number))
}

/// A short number in plain notation.
fn small(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if digits.len() > SMALL_DIGITS {
        return None;
    }
    let (mut number, mut point) = (0_i128, None);
    for (at, byte) in digits.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => number = number * 10 + i128::from(byte - b'0'),
            b'.' if point.is_none() && at > 0 => point = Some(at),
            _ => return None,
        }
    }
    let scale = point.map_or(Some(0), |at| u32::try_from(digits.len() - at - 1).ok())?;
    let ends_well = !digits.is_empty() && point != Some(digits.len() - 1);
    let digits = if negative { -number } else { number };
    ends_well.then_some(Number::Small { digits, scale })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The model is the number without a bound.
        #[test]
        fn small_numbers_are_numbers(
            a in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,9})?",
            b in "-?[0-9]{1,9}(\\.[0-9]{1,9})?",
        ) {
            let (x, y) = (value::decimal(&a).unwrap(), value::decimal(&b).unwrap());
            let (ours, other) = (Number::parse(&a).unwrap(), Number::parse(&b).unwrap());
            prop_assert_eq!(ours.compare(&other), x.cmp(&y));
            prop_assert_eq!(ours.to_plain_string(), x.to_plain_string());
            prop_assert_eq!(ours.clone().abs().to_plain_string(), x.clone().abs().to_plain_string());
            let (mut sum, mut wanted) = (ours.clone(), x.clone());
            sum.add(other.clone());
            wanted += y.clone();
            prop_assert_eq!(sum.to_plain_string(), wanted.to_plain_string());
            for (ours, wanted) in [
                (ours.clone().plus(other.clone()), x.clone() + y.clone()),
                (ours.clone().minus(other.clone()), x.clone() - y.clone()),
                (ours.times(other), x * y),
            ] {
                let ours = ours.unwrap();
                prop_assert_eq!(ours.to_plain_string(), wanted.to_plain_string());
                prop_assert_eq!(ours.large(), wanted);
            }
        }

        #[test]
        fn what_is_no_number_is_none(text in "[-+.0-9e ]{0,6}") {
            let wanted = value::decimal(&text);
            let ours = Number::parse(&text).map(Number::large);
            prop_assert_eq!(ours, wanted);
        }
    }
}
