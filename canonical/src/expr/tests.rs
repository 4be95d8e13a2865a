//! What expressions give, and that both ways of evaluating them agree.

use proptest::prelude::*;

use super::*;
use crate::scope::Var;
use crossdock_model::canonical::{Fields, Name};

fn eval(text: &str) -> Result<Value<'static>, String> {
    let report = Report::default();
    let spot = Spot { file: "r.toml".into(), line: 1 };
    let Some(expr) = Expr::compile(text, spot, &["rec"], &report) else {
        let problems = report.into_problems();
        return Err(problems.iter().map(|p| p.what.clone()).collect::<Vec<_>>().join("; "));
    };
    let mut rec = Fields::new();
    rec.insert("amount".into(), Value::Decimal("0.1".into()));
    rec.insert("secret".into(), Value::Text("hunter2".into()));
    rec.insert("note".into(), Value::Json(r#"{"a": {"b": [1, 2]}}"#.into()));
    expr.value(&Scope::default().with("rec", Var::Fields(&rec)))
}

#[test]
fn decimals_are_exact() {
    for text in [
        "dec(rec.amount) + dec('0.2') == dec('0.3')",
        "dec('12345678901234567890.01') * 100 > dec('1234567890123456789000')",
        "abs_dec(dec('-5')) <= 5",
        // Halves go away from zero, as on an invoice.
        "round_dec(dec('2.345'), 2) == dec('2.35')",
        "round_dec(dec('-0.125'), 2) == dec('-0.13')",
        "round_dec(dec('52.75000000000001'), 3) == dec('52.75')",
        "sum_dec(['0.1', '0.2', rec.amount]) == dec('0.40')",
        "-dec('1') < dec('1') / 3",
        "abs_dec(dec('95') - dec('100')) * 100 <= dec('100') * 5",
    ] {
        assert_eq!(eval(text), Ok(Value::Bool(true)), "{text}");
    }
    assert_eq!(eval("dec('1.10') * dec('3')"), Ok(Value::Decimal("3.30".into())));
}

#[test]
fn presence_is_a_test_and_failure_is_not_a_boolean() {
    assert_eq!(eval("present(rec.amount)"), Ok(Value::Bool(true)));
    for text in ["present(rec.nothing)", "present(rec.note.x.y)", "present(rec.nothing.x)"] {
        assert_eq!(eval(text), Ok(Value::Bool(false)), "{text}");
    }
    assert_eq!(eval("rec.note.a.b[1] == 2"), Ok(Value::Bool(true)));
    for text in [
        "dec(rec.nothing) > dec('0')",
        "rec.secret > 1",
        "rec.nothing.x == 1",
        "dec(rec.secret) == dec('1')",
        "dec('1') / 0 == dec('1')",
        "round_dec(dec('1'), 31) == dec('1')",
        "rec",
        "present(1 + 1)",
        "unheard_of(rec.amount)",
    ] {
        let error = eval(text).expect_err(text);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn size_is_bounded() {
    assert!(eval(&format!("'{}' == ''", "x".repeat(5_000))).is_err());
    assert!(eval(&("[".repeat(90) + &"]".repeat(90))).is_err());
    assert!(eval(&vec!["1"; 1_500].join("+")).is_err());
    assert!(eval(&"true ? 1 : ".repeat(300)).is_err());
    // Repeated signs cancel out, however many there are.
    assert_eq!(eval(&("!".repeat(3_000) + "true")), Ok(Value::Bool(true)));
}

/// What occurs in the rules of the demo and in the recipes.
const USUAL: [&str; 12] = [
    "present(rec.amount) && dec(rec.amount) > dec(\"0\")",
    "rec.secret != \"planned\"",
    "!(present(rec.note) && rec.secret in [\"test\", \"dummy\"])",
    "rec.lines.exists(l, present(l.a) && dec(l.b) < dec(l.c))",
    "sum_dec(rec.lines.map(p, p.b))",
    "size(rec.lines) == 0 ? (rec.a in [\"x\"] ? \"y\" : \"z\") : \"w\"",
    "rec.lines.all(s, s.a in [\"departed\", \"delivered\"])",
    "{\"status\": rec.secret, \"amount\": rec.amount}",
    "string(rec.secret) + \":\" + string(rec.c)",
    "rec.c == 99 || rec.c > 5",
    "abs_dec(dec(rec.b) - dec(rec.amount)) * 100 <= dec(rec.b) * 5",
    "rec.secret",
];

fn compiled(text: &str) -> Option<Expr> {
    let spot = Spot { file: "r.toml".into(), line: 1 };
    Expr::compile(text, spot, &["rec", "word"], &Report::default())
}

#[test]
fn what_is_usual_needs_no_interpreter() {
    for text in USUAL {
        assert!(compiled(text).is_some_and(|e| e.direct.is_some()), "{text}");
    }
}

fn value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3..4i64).prop_map(Value::Int),
        Just(Value::UInt(u64::MAX)),
        Just(Value::Float(0.5)),
        "-?[0-9]{1,2}(\\.[0-9]{1,2})?".prop_map(|t| Value::Decimal(t.into())),
        "[a-c1:]{0,2}".prop_map(|t| Value::Text(t.into())),
        Just(Value::TimestampTz(1_700_000_000_000_000)),
        Just(Value::Json("null".into())),
        Just(Value::Json(r#"{"a": [1, "b"]}"#.into())),
    ]
}

fn fields() -> impl Strategy<Value = Fields> {
    proptest::collection::btree_map("[abc]", value(), 0..4)
        .prop_map(|map| map.into_iter().map(|(k, v)| (k.as_str().into(), v)).collect())
}

fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "(rec|l)\\.[abc]",
        Just("word".to_string()),
        Just("rec.key".to_string()),
        Just("null".to_string()),
        Just("true".to_string()),
        (-3..4i64).prop_map(|n| n.to_string()),
        "\"[a-c1:]{0,2}\"",
        "dec\\(\"[0-9]\\.[0-9]\"\\)",
        "present\\((rec|l)\\.[abc]\\)",
        // Of few values, so that both sides are equal often.
        "\\((dec\\(1\\)|[01]|\"[ab]\") (<|<=|>|>=|==|\\+|-|\\*) (dec\\(1\\)|[01]|\"[ab]\")\\)",
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = "(==|!=|<|<=|>|>=|&&|\\|\\||\\+|-|\\*)";
        prop_oneof![
            (two.clone(), operator).prop_map(|((a, b), o)| format!("({a}) {o} ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), two.clone()).prop_map(|(c, (a, b))| format!("({c}) ? ({a}) : ({b})")),
            inner.clone().prop_map(|a| format!("({a}) in [\"a\", 1, \"b\"]")),
            ("(dec|abs_dec|string)", inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            ("(all|exists)", inner.clone()).prop_map(|(f, a)| format!("rec.lines.{f}(l, {a})")),
            inner.clone().prop_map(|a| format!("sum_dec(rec.lines.map(l, {a}))")),
            Just("size(rec.lines)".to_string()),
            two.prop_map(|(a, b)| format!("{{\"x\": {a}, \"b\": {b}}}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// What is evaluated directly gives what the interpreter gives; and nothing where that fails.
    #[test]
    fn the_interpreter_agrees(
        text in text(),
        rec in fields(),
        lines in proptest::collection::vec(fields(), 0..3),
    ) {
        let text = if text.contains("l.") { format!("rec.lines.all(l, {text})") } else { text };
        let Some(expr) = compiled(&text) else { return Ok(()) };
        let children = [(Name::from("lines"), lines.iter().collect())].into();
        let rec = Var::Record { key: "ord:1", fields: &rec, children: Some(&children) };
        let scope = Scope::default().with("rec", rec).with("word", Var::Text("b"));
        let direct = expr.direct.as_ref().filter(|node| !matches!(node, direct::Node::Member(..)));
        if let Some(value) = direct.and_then(|node| direct::value(node, &scope)) {
            prop_assert_eq!(expr.interpreted(&scope), Ok(value), "{}", text);
        }
    }
}
