//! What expressions can call beyond CEL's own functions: a test for presence, exact decimals.

use cel::common::ast::{CallExpr, Expr as Ast, IdedExpr, LiteralValue, operators};
use cel::common::types::DYN_TYPE;
use cel::common::value::CowVal;
use cel::parser::Macro;
use cel::{Env, ExecutionError};

use bigdecimal::RoundingMode;

use super::is_path;
use crate::decimal::Dec;
use crate::scope::to_decimal;

/// Places to which a decimal can be rounded.
const PLACES_MAX: i64 = 30;

/// CEL's own language and the functions of rules.
pub(super) fn environment() -> Option<Env> {
    let mut env = Env::stdlib();
    let any = || vec![DYN_TYPE];
    env.add_macro(Macro::global("present", 1, |helper, _, args| {
        let Some(arg) = args.pop() else { return Ok(None) };
        if !is_path(&arg.expr) {
            return Err(helper.new_error(arg.id, "present() takes a field, not a computation"));
        }
        // `!(not-strictly-false(x == null))`: an x that cannot be reached counts as absent.
        let null = helper.next_expr(Ast::Literal(LiteralValue::Null));
        let mut node = helper.next_expr(call(operators::EQUALS, vec![arg, null]));
        for operator in [operators::NOT_STRICTLY_FALSE, operators::LOGICAL_NOT] {
            node = helper.next_expr(call(operator, vec![node]));
        }
        Ok(Some(node))
    }))
    .ok()?;
    env.add_overload("dec", "dec_dyn", any(), |args| decimal_of(&args, "dec", |d| d)).ok()?;
    env.add_overload("abs_dec", "abs_dec_dyn", any(), |args| {
        decimal_of(&args, "abs_dec", |d| d.abs())
    })
    .ok()?;
    env.add_overload("round_dec", "round_dec_dyn_dyn", vec![DYN_TYPE, DYN_TYPE], rounded).ok()?;
    env.add_overload("sum_dec", "sum_dec_dyn", any(), sum_of).ok()?;
    Some(env)
}

fn call(name: &str, args: Vec<IdedExpr>) -> Ast {
    Ast::Call(CallExpr { func_name: name.to_string(), target: None, args })
}

fn decimal_of<'b, 'v>(
    args: &[CowVal<'b, 'v>],
    name: &str,
    change: impl Fn(bigdecimal::BigDecimal) -> bigdecimal::BigDecimal,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let given = args.first().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let value = to_decimal(given.as_ref()).map_err(|e| ExecutionError::function_error(name, e))?;
    Ok(CowVal::owned(Dec(change(value))))
}

/// A decimal with so many places, halves away from zero.
fn rounded<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let fail = |what: String| ExecutionError::function_error("round_dec", what);
    let [number, places] = args.as_slice() else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let number = to_decimal(number.as_ref()).map_err(fail)?;
    let places = to_decimal(places.as_ref()).map_err(fail)?;
    let places = bigdecimal::ToPrimitive::to_i64(&places)
        .filter(|n| (0..=PLACES_MAX).contains(n))
        .ok_or_else(|| fail(format!("it takes 0 to {PLACES_MAX} places")))?;
    Ok(CowVal::owned(Dec(number.with_scale_round(places, RoundingMode::HalfUp))))
}

fn sum_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let fail = |what: String| ExecutionError::function_error("sum_dec", what);
    let given = args.first().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let list = given
        .downcast_ref::<cel::common::types::CelList>()
        .ok_or_else(|| fail("it takes a list".to_string()))?;
    let mut sum = bigdecimal::BigDecimal::from(0);
    for item in list.inner() {
        sum += to_decimal(item.as_ref()).map_err(fail)?;
    }
    Ok(CowVal::owned(Dec(sum)))
}
