//! The forms of which nearly all rules consist, evaluated on values as they are: without an
//! interpreter's context, and without a copy of what is read.
//!
//! It knows what it is sure of and nothing else. An expression of another form is not compiled; an
//! evaluation that comes upon anything unusual, errors among it, gives nothing. Both are left to
//! the interpreter, which alone says what CEL means.

use std::borrow::Cow;
use std::cmp::Ordering;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr as Ast, LiteralValue, operators,
};
use crossdock_model::Value;
use crossdock_model::canonical::Name;
use crossdock_model::names::shared;
use crossdock_model::value::write_json_text;
use serde_json::Value as Json;

use crate::number::Number;
use crate::scope::{Children, Scope, Var};

/// An expression that can be evaluated directly.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    /// `variable.member`
    Member(Box<str>, Name),
    /// A variable.
    Whole(Box<str>),
    Not(Box<Node>),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    /// Condition, then, otherwise.
    Choice(Box<Node>, Box<Node>, Box<Node>),
    Equal(Box<Node>, Box<Node>),
    Order(Box<Node>, Box<Node>, Accepts),
    /// Whether a value is among some.
    Among(Box<Node>, Vec<Node>),
    Decimal(Box<Node>),
    Absolute(Box<Node>),
    Sum(List, Box<Node>),
    Size(List),
    /// Whether it holds for all (`true`) or for one (`false`) of a list.
    Each(List, Box<Node>, bool),
    Arithmetic(Box<Node>, Box<Node>, Operator),
    AsText(Box<Node>),
    /// Members in the order of their names.
    Map(Vec<(Box<str>, Node)>),
}

/// Children of a record, and the name that each has in an expression about it.
#[derive(Debug)]
pub(super) struct List {
    variable: Box<str>,
    member: Name,
    each: Box<str>,
}

/// Which outcomes of a comparison are accepted.
type Accepts = fn(Ordering) -> bool;

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
}

/// What an expression gives.
enum Given<'s> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'s, str>),
    Decimal(Number),
    Json(Json),
}

/// Variables, and those of the lists that are being walked through.
struct Around<'a, 's> {
    scope: &'a Scope<'s>,
    each: Option<(&'a str, Var<'s>)>,
}

/// Compiles what can be evaluated directly.
pub(super) fn compile(ast: &Ast) -> Option<Node> {
    Some(match ast {
        Ast::Literal(LiteralValue::Null) => Node::Null,
        Ast::Literal(LiteralValue::Boolean(v)) => Node::Bool(*v.inner()),
        Ast::Literal(LiteralValue::Int(v)) => Node::Int(*v.inner()),
        Ast::Literal(LiteralValue::String(v)) => Node::Text(v.inner().into()),
        Ast::Ident(name) => Node::Whole(name.as_str().into()),
        Ast::Select(select) if !select.test => match &select.operand.expr {
            Ast::Ident(name) => Node::Member(name.as_str().into(), shared(&select.field)),
            _ => return None,
        },
        Ast::Call(call) => return compile_call(call),
        Ast::Comprehension(loop_) => return compile_loop(loop_),
        Ast::Map(map) => {
            let mut members: Vec<(Box<str>, Node)> = Vec::with_capacity(map.entries.len());
            for entry in &map.entries {
                let EntryExpr::MapEntry(entry) = &entry.expr else { return None };
                let Ast::Literal(LiteralValue::String(key)) = &entry.key.expr else { return None };
                if entry.optional || members.iter().any(|(name, _)| **name == *key.inner()) {
                    return None;
                }
                members.push((key.inner().into(), compile(&entry.value.expr)?));
            }
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Node::Map(members)
        }
        _ => return None,
    })
}

fn compile_call(call: &CallExpr) -> Option<Node> {
    if call.target.is_some() {
        return None;
    }
    let node = |at: usize| Some(Box::new(compile(&call.args.get(at)?.expr)?));
    let order = |accepts: Accepts| Some(Node::Order(node(0)?, node(1)?, accepts));
    let arithmetic = |operator| Some(Node::Arithmetic(node(0)?, node(1)?, operator));
    match (call.func_name.as_str(), call.args.len()) {
        (operators::LOGICAL_NOT, 1) => Some(Node::Not(node(0)?)),
        // What cannot be evaluated is left to the interpreter, so that this is what is in it.
        (operators::NOT_STRICTLY_FALSE, 1) => compile(&call.args.first()?.expr),
        (operators::LOGICAL_AND, 2) => Some(Node::Both(node(0)?, node(1)?)),
        (operators::LOGICAL_OR, 2) => Some(Node::Either(node(0)?, node(1)?)),
        (operators::CONDITIONAL, 3) => Some(Node::Choice(node(0)?, node(1)?, node(2)?)),
        (operators::EQUALS, 2) => Some(Node::Equal(node(0)?, node(1)?)),
        (operators::NOT_EQUALS, 2) => Some(Node::Not(Box::new(Node::Equal(node(0)?, node(1)?)))),
        (operators::LESS, 2) => order(Ordering::is_lt),
        (operators::LESS_EQUALS, 2) => order(Ordering::is_le),
        (operators::GREATER, 2) => order(Ordering::is_gt),
        (operators::GREATER_EQUALS, 2) => order(Ordering::is_ge),
        (operators::ADD, 2) => arithmetic(Operator::Add),
        (operators::SUBSTRACT, 2) => arithmetic(Operator::Subtract),
        (operators::MULTIPLY, 2) => arithmetic(Operator::Multiply),
        (operators::IN, 2) => {
            let Ast::List(list) = &call.args.get(1)?.expr else { return None };
            let literal = |e: &cel::common::ast::IdedExpr| match &e.expr {
                Ast::Literal(_) => compile(&e.expr),
                _ => None,
            };
            let all = list.elements.iter().map(literal).collect::<Option<Vec<_>>>()?;
            Some(Node::Among(node(0)?, all))
        }
        ("dec", 1) => Some(Node::Decimal(node(0)?)),
        ("abs_dec", 1) => Some(Node::Absolute(node(0)?)),
        ("string", 1) => Some(Node::AsText(node(0)?)),
        ("size", 1) => Some(Node::Size(list(&call.args.first()?.expr, "")?)),
        ("sum_dec", 1) => match &call.args.first()?.expr {
            Ast::Comprehension(loop_) => {
                let element = mapped(loop_)?;
                let list = list(&loop_.iter_range.expr, &loop_.iter_var)?;
                Some(Node::Sum(list, Box::new(compile(element)?)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn list(ast: &Ast, each: &str) -> Option<List> {
    let Ast::Select(select) = ast else { return None };
    let Ast::Ident(variable) = &select.operand.expr else { return None };
    let (variable, member) = (variable.as_str().into(), shared(&select.field));
    (!select.test).then(|| List { variable, member, each: each.into() })
}

/// `LIST.all(X, PREDICATE)` or `LIST.exists(X, PREDICATE)`.
fn compile_loop(of: &ComprehensionExpr) -> Option<Node> {
    let (Ast::Literal(LiteralValue::Boolean(begin)), None) = (&of.accu_init.expr, &of.iter_var2)
    else {
        return None;
    };
    let (Ast::Ident(result), Ast::Call(step)) = (&of.result.expr, &of.loop_step.expr) else {
        return None;
    };
    let begin = *begin.inner();
    let joint = if begin { operators::LOGICAL_AND } else { operators::LOGICAL_OR };
    let [accumulated, predicate] = step.args.as_slice() else { return None };
    let Ast::Ident(accumulated) = &accumulated.expr else { return None };
    let plain = *result == of.accu_var && *accumulated == of.accu_var && step.func_name == joint;
    let list = list(&of.iter_range.expr, &of.iter_var).filter(|_| plain)?;
    Some(Node::Each(list, Box::new(compile(&predicate.expr)?), begin))
}

/// The expression that `LIST.map(X, EXPRESSION)` makes of each.
fn mapped(of: &ComprehensionExpr) -> Option<&Ast> {
    let (Ast::List(begin), Ast::Call(step)) = (&of.accu_init.expr, &of.loop_step.expr) else {
        return None;
    };
    let (Ast::Ident(result), None) = (&of.result.expr, &of.iter_var2) else { return None };
    let [accumulated, made] = step.args.as_slice() else { return None };
    let (Ast::Ident(accumulated), Ast::List(made)) = (&accumulated.expr, &made.expr) else {
        return None;
    };
    let [element] = made.elements.as_slice() else { return None };
    let plain = begin.elements.is_empty()
        && step.func_name == operators::ADD
        && *accumulated == of.accu_var
        && *result == of.accu_var;
    plain.then_some(&element.expr)
}

/// The value of an expression; `None` when only the interpreter can tell.
pub(super) fn value(node: &Node, scope: &Scope<'_>) -> Option<Value<'static>> {
    if let Node::Member(variable, member) = node {
        // Its type stays: nothing is computed.
        return Some(scope.get(variable)?.borrowed(member)?.into_owned());
    }
    let around = Around { scope, each: None };
    if let Node::Map(_) = node {
        let mut text = String::new();
        node.write_json(&around, &mut text)?;
        return Some(Value::Json(text.into()));
    }
    Some(match node.give(&around)? {
        Given::Null => Value::Null,
        Given::Bool(v) => Value::Bool(v),
        Given::Int(v) => Value::Int(v),
        Given::Text(v) => Value::Text(v.into_owned().into()),
        Given::Decimal(v) => Value::Decimal(v.to_plain_string().into()),
        Given::Json(v) => Value::Json(v.to_string().into()),
    })
}

impl Node {
    fn give<'s>(&'s self, around: &Around<'_, 's>) -> Option<Given<'s>> {
        Some(match self {
            Node::Null => Given::Null,
            Node::Bool(v) => Given::Bool(*v),
            Node::Int(v) => Given::Int(*v),
            Node::Text(v) => Given::Text(Cow::Borrowed(v)),
            Node::Member(variable, member) => given(around.var(variable)?.borrowed(member)?)?,
            Node::Whole(name) => match around.var(name)? {
                Var::Text(text) => Given::Text(Cow::Borrowed(text)),
                _ => return None,
            },
            Node::Not(node) => Given::Bool(!node.holds(around)?),
            Node::Both(a, b) => Given::Bool(a.holds(around)? && b.holds(around)?),
            Node::Either(a, b) => Given::Bool(a.holds(around)? || b.holds(around)?),
            Node::Choice(when, then, otherwise) => match when.holds(around)? {
                true => then.give(around)?,
                false => otherwise.give(around)?,
            },
            Node::Equal(a, b) => Given::Bool(equal(&a.give(around)?, &b.give(around)?)?),
            Node::Order(a, b, accepts) => {
                Given::Bool(accepts(order(&a.give(around)?, &b.give(around)?)?))
            }
            Node::Among(node, all) => {
                let value = node.give(around)?;
                for one in all {
                    if equal(&value, &one.give(around)?)? {
                        return Some(Given::Bool(true));
                    }
                }
                Given::Bool(false)
            }
            Node::Decimal(node) => Given::Decimal(decimal(node.give(around)?)?),
            Node::Absolute(node) => Given::Decimal(decimal(node.give(around)?)?.abs()),
            Node::Sum(list, node) => {
                let mut sum = Number::ZERO;
                for each in around.list(list)? {
                    sum.add(decimal(node.give(&around.with(list, each))?)?);
                }
                Given::Decimal(sum)
            }
            Node::Size(list) => Given::Int(i64::try_from(around.list(list)?.count()).ok()?),
            Node::Each(list, predicate, all) => {
                for each in around.list(list)? {
                    if predicate.holds(&around.with(list, each))? != *all {
                        return Some(Given::Bool(!all));
                    }
                }
                Given::Bool(*all)
            }
            Node::Arithmetic(a, b, operator) => {
                compute(a.give(around)?, b.give(around)?, *operator)?
            }
            Node::AsText(node) => match node.give(around)? {
                Given::Text(text) => Given::Text(text),
                Given::Int(v) => Given::Text(v.to_string().into()),
                _ => return None,
            },
            Node::Map(members) => {
                let mut map = serde_json::Map::with_capacity(members.len());
                for (name, node) in members {
                    map.insert(name.to_string(), json(node.give(around)?));
                }
                Given::Json(Json::Object(map))
            }
        })
    }

    /// Appends what it gives as JSON; a map is written as it is walked through.
    fn write_json<'s>(&'s self, around: &Around<'_, 's>, out: &mut String) -> Option<()> {
        let Node::Map(members) = self else {
            return self.give_json(around, out);
        };
        out.push('{');
        for (at, (name, node)) in members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_json_text(out, name);
            out.push(':');
            node.write_json(around, out)?;
        }
        out.push('}');
        Some(())
    }

    fn give_json<'s>(&'s self, around: &Around<'_, 's>, out: &mut String) -> Option<()> {
        match self.give(around)? {
            Given::Text(text) => write_json_text(out, &text),
            other => out.push_str(&json(other).to_string()),
        }
        Some(())
    }

    fn holds<'s>(&'s self, around: &Around<'_, 's>) -> Option<bool> {
        match self.give(around)? {
            Given::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a, 's> Around<'a, 's> {
    fn var(&self, name: &str) -> Option<Var<'s>> {
        match self.each {
            Some((each, var)) if each == name => Some(var),
            _ => self.scope.get(name),
        }
    }

    fn with<'b>(&self, list: &'b List, each: Var<'s>) -> Around<'b, 's>
    where
        'a: 'b,
    {
        Around { scope: self.scope, each: Some((&list.each, each)) }
    }

    /// The members of a list; nothing for lists within lists.
    fn list(&self, list: &List) -> Option<impl Iterator<Item = Var<'s>> + use<'s>> {
        let Var::Record { children: Some(children), .. } = self.scope.get(&list.variable)? else {
            return None;
        };
        if self.each.is_some() {
            return None;
        }
        let children: &'s Children<'s> = children;
        Some(children.of(&list.member)?.iter().map(|fields| Var::Fields(fields)))
    }
}

/// A value as the interpreter sees it.
fn given<'s>(value: Cow<'s, Value<'static>>) -> Option<Given<'s>> {
    Some(match value {
        Cow::Borrowed(Value::Text(text)) => Given::Text(Cow::Borrowed(text)),
        Cow::Owned(Value::Text(text)) => Given::Text(Cow::Owned(text.into())),
        value => match &*value {
            Value::Null => Given::Null,
            Value::Bool(v) => Given::Bool(*v),
            Value::Int(v) => Given::Int(*v),
            Value::UInt(v) => Given::Int(i64::try_from(*v).ok()?),
            Value::Float(_) | Value::Json(_) | Value::Array(_) => return None,
            other => Given::Text(Cow::Owned(other.to_text()?)),
        },
    })
}

fn equal(a: &Given<'_>, b: &Given<'_>) -> Option<bool> {
    match (a, b) {
        (Given::Null, Given::Null) => Some(true),
        (Given::Bool(a), Given::Bool(b)) => Some(a == b),
        (Given::Int(a), Given::Int(b)) => Some(a == b),
        (Given::Text(a), Given::Text(b)) => Some(a == b),
        (Given::Decimal(a), Given::Decimal(b)) => Some(a.compare(b).is_eq()),
        (Given::Text(_), Given::Null | Given::Int(_) | Given::Bool(_))
        | (Given::Null | Given::Int(_) | Given::Bool(_), Given::Text(_))
        | (Given::Null, Given::Int(_) | Given::Bool(_))
        | (Given::Int(_) | Given::Bool(_), Given::Null) => Some(false),
        _ => None,
    }
}

fn order(a: &Given<'_>, b: &Given<'_>) -> Option<Ordering> {
    match (a, b) {
        (Given::Int(a), Given::Int(b)) => Some(a.cmp(b)),
        (Given::Text(a), Given::Text(b)) => Some(a.cmp(b)),
        (Given::Decimal(a), Given::Decimal(b)) => Some(a.compare(b)),
        (Given::Decimal(a), Given::Int(b)) => Some(a.compare(&Number::from(*b))),
        _ => None,
    }
}

fn decimal(value: Given<'_>) -> Option<Number> {
    match value {
        Given::Decimal(v) => Some(v),
        Given::Int(v) => Some(Number::from(v)),
        Given::Text(text) => Number::parse(&text),
        Given::Null | Given::Bool(_) | Given::Json(_) => None,
    }
}

fn compute<'s>(a: Given<'s>, b: Given<'s>, operator: Operator) -> Option<Given<'s>> {
    let (a, b) = match (a, b) {
        (Given::Decimal(a), Given::Decimal(b)) => (a, b),
        (Given::Decimal(a), Given::Int(b)) => (a, Number::from(b)),
        (Given::Int(a), Given::Int(b)) => {
            return Some(Given::Int(match operator {
                Operator::Add => a.checked_add(b)?,
                Operator::Subtract => a.checked_sub(b)?,
                Operator::Multiply => a.checked_mul(b)?,
            }));
        }
        (Given::Text(a), Given::Text(b)) if matches!(operator, Operator::Add) => {
            return Some(Given::Text((a.into_owned() + &b).into()));
        }
        _ => return None,
    };
    let result = match operator {
        Operator::Add => a.plus(b),
        Operator::Subtract => a.minus(b),
        Operator::Multiply => a.times(b),
    };
    result.map(Given::Decimal)
}

fn json(value: Given<'_>) -> Json {
    match value {
        Given::Null => Json::Null,
        Given::Bool(v) => Json::Bool(v),
        Given::Int(v) => Json::from(v),
        Given::Text(v) => Json::String(v.into_owned()),
        Given::Decimal(v) => Value::Decimal(v.to_plain_string().into()).to_json(),
        Given::Json(v) => v,
    }
}
