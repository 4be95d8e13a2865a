//! Exact decimals inside CEL: a value type of its own with the arithmetic and comparison
//! operators, so that no amount ever passes through a float.
//!
//! A decimal combines with decimals and, on its right, with whole numbers. Multiplication and
//! addition are exact; division is rounded to 34 significant digits, as IEEE 754 decimal128 is.

use std::any::Any;
use std::cmp::Ordering;

use bigdecimal::{BigDecimal, RoundingMode, Zero};
use cel::ExecutionError;
use cel::common::traits::{Adder, Comparer, Divider, Multiplier, Negator, Subtractor};
use cel::common::types::{CelInt, CelUInt, Kind, Type};
use cel::common::value::{CowVal, StaticVal, Val};

static DECIMAL: Type = Type::simple_type(Kind::Opaque, "decimal");
/// Digits kept by a division.
const DIVISION_DIGITS: u64 = 34;
/// Digits that a result may have; repeated multiplication must not exhaust memory.
pub(crate) const DIGITS_MAX: u64 = 2_000;

/// An exact decimal as a CEL value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dec(pub BigDecimal);

impl Dec {
    fn operand(value: &dyn Val, operator: &str) -> Result<BigDecimal, ExecutionError> {
        if let Some(dec) = value.downcast_ref::<Dec>() {
            return Ok(dec.0.clone());
        }
        if let Some(int) = value.downcast_ref::<CelInt>() {
            return Ok(BigDecimal::from(*int.inner()));
        }
        if let Some(int) = value.downcast_ref::<CelUInt>() {
            return Ok(BigDecimal::from(*int.inner()));
        }
        let types = vec!["decimal".to_string(), value.get_type().name().to_string()];
        Err(ExecutionError::no_such_overload(operator, types))
    }

    fn bounded<'b, 'v>(result: BigDecimal) -> Result<CowVal<'b, 'v>, ExecutionError> {
        if result.digits() > DIGITS_MAX {
            return Err(ExecutionError::function_error("decimal", "too many digits"));
        }
        Ok(CowVal::owned(Dec(result)))
    }
}

impl Val for Dec {
    fn get_type(&self) -> &Type {
        &DECIMAL
    }

    fn cel_type() -> &'static Type {
        &DECIMAL
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn as_divider<'b, 'v>(&'b self) -> Option<&'b (dyn Divider + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_multiplier<'b, 'v>(&'b self) -> Option<&'b (dyn Multiplier + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        Dec::operand(other, "_==_").is_ok_and(|other| self.0 == other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Dec {}

impl Adder for Dec {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Dec::bounded(&self.0 + Dec::operand(rhs, "_+_")?)
    }
}

impl Subtractor for Dec {
    fn sub<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Dec::bounded(&self.0 - Dec::operand(rhs, "_-_")?)
    }
}

impl Multiplier for Dec {
    fn mul<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Dec::bounded(&self.0 * Dec::operand(rhs, "_*_")?)
    }
}

impl Divider for Dec {
    fn div<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let divisor = Dec::operand(rhs, "_/_")?;
        if divisor.is_zero() {
            return Err(ExecutionError::function_error("decimal", "division by zero"));
        }
        let exact = &self.0 / divisor;
        Dec::bounded(exact.with_precision_round(
            std::num::NonZeroU64::new(DIVISION_DIGITS).unwrap_or(std::num::NonZeroU64::MIN),
            RoundingMode::HalfEven,
        ))
    }
}

impl Negator for Dec {
    fn negate<'v>(&self) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(Box::new(Dec(-self.0.clone())))
    }
}

impl Comparer for Dec {
    fn compare(&self, rhs: &dyn Val) -> Result<Ordering, ExecutionError> {
        Ok(self.0.cmp(&Dec::operand(rhs, "_<_")?))
    }
}
