//! CEL expressions: compiled once when the files are read, bounded in length and depth, and
//! evaluated with only the variables that they name.
//!
//! An expression that cannot be evaluated gives an error, never a boolean. Error texts name types
//! and fields and never carry values of rows.

mod direct;
mod functions;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue, operators};
use cel::parser::ParseErrors;
use cel::{Context, Env, ExecutionError};
use crossdock_model::Value;
use crossdock_model::canonical::Name;

use crate::problems::{Report, Spot, did_you_mean};
use crate::scope::{Scope, from_cel};

/// Longest expression, in characters.
const LENGTH_MAX: usize = 4_096;
/// Deepest nesting as written; the parser recurses several times for each level.
const NESTING_MAX: u16 = 48;
/// Deepest syntax tree once macros are expanded; evaluation recurses once for each level.
const DEPTH_MAX: usize = 160;

static ENV: LazyLock<Option<Arc<Env>>> = LazyLock::new(|| functions::environment().map(Arc::new));

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expr {
    ast: IdedExpr,
    /// Where it stands.
    pub spot: Spot,
    /// As it was written.
    pub text: Box<str>,
    roots: BTreeSet<String>,
    /// `variable.member` pairs that it reads.
    pub members: BTreeSet<(String, String)>,
    /// Members that it reads of the elements of lists; `None` when it may read any.
    pub elements: Option<BTreeSet<String>>,
    /// Variables of which it may read any member.
    wholes: BTreeSet<String>,
    /// Present when CEL's interpreter is not needed for it as a rule.
    direct: Option<direct::Node>,
}

impl Expr {
    /// Compiles an expression; a problem is reported and gives `None`. `variables` are those that
    /// it may use.
    pub fn compile(text: &str, spot: Spot, variables: &[&str], report: &Report) -> Option<Expr> {
        match parse(text) {
            Ok(ast) => {
                let mut found = Found::default();
                found.walk(&ast, &mut Vec::new(), 0);
                found.check(&spot, variables, report).then(|| Expr {
                    direct: direct::compile(&ast.expr),
                    ast,
                    spot,
                    text: text.into(),
                    roots: found.roots,
                    members: found.members,
                    elements: (!found.whole_elements).then_some(found.elements),
                    wholes: found.wholes,
                })
            }
            Err(what) => {
                report.at(&spot, what, "mend the expression; see docs/mapping-and-rules.md");
                None
            }
        }
    }

    /// Whether it uses a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.roots.contains(variable)
    }

    /// The members of a variable that it reads; `None` when it may read any.
    pub fn members_of(&self, variable: &str) -> Option<impl Iterator<Item = &str>> {
        let of = self.members.iter().filter(move |(root, _)| root == variable);
        (!self.wholes.contains(variable)).then(|| of.map(|(_, member)| member.as_str()))
    }

    /// Whether it may read one of some members of a variable.
    pub fn reads(&self, variable: &str, members: &[&Name]) -> bool {
        match self.members_of(variable) {
            Some(mut read) => read.any(|member| members.iter().any(|name| ***name == *member)),
            None => !members.is_empty(),
        }
    }

    /// Comparisons `PATH == "TEXT"` of which all must hold for it to hold.
    pub fn equalities(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        equalities(&self.ast, &mut found);
        found
    }

    /// Variables that it uses.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(String::as_str)
    }

    /// Evaluates to a plain value; a map or list becomes JSON.
    ///
    /// # Errors
    /// One sentence without values of rows.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value<'static>, String> {
        match self.direct.as_ref().and_then(|node| direct::value(node, scope)) {
            Some(value) => Ok(value),
            None => self.interpreted(scope),
        }
    }

    /// The same, by CEL's interpreter.
    fn interpreted(&self, scope: &Scope<'_>) -> Result<Value<'static>, String> {
        let env = ENV.as_ref().ok_or("the expression language could not be set up")?;
        let mut context = Context::with_env(Arc::clone(env));
        for name in &self.roots {
            if let Some(var) = scope.get(name) {
                context.add_variable_as_val(name.as_str(), var.to_val());
            }
        }
        let result = cel::Value::resolve_val(&self.ast, &context).map_err(|e| sentence(&e))?;
        from_cel(result.as_ref())
    }

    /// Evaluates to true or false.
    ///
    /// # Errors
    /// Also when the result is not a boolean.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.value(scope)? {
            Value::Bool(v) => Ok(v),
            _ => Err("the condition gives neither true nor false".to_string()),
        }
    }
}

fn equalities(node: &IdedExpr, found: &mut Vec<(String, String)>) {
    let Ast::Call(call) = &node.expr else { return };
    let [left, right] = call.args.as_slice() else { return };
    if call.func_name == operators::LOGICAL_AND {
        equalities(left, found);
        equalities(right, found);
    }
    if call.func_name == operators::EQUALS {
        for (path, literal) in [(left, right), (right, left)] {
            if let (Some(path), Ast::Literal(LiteralValue::String(text))) =
                (path_text(&path.expr), &literal.expr)
            {
                found.push((path, text.inner().to_string()));
            }
        }
    }
}

/// A path as text: `rec.site`.
fn path_text(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Ident(name) => Some(name.clone()),
        Ast::Select(select) => {
            Some(format!("{}.{}", path_text(&select.operand.expr)?, select.field))
        }
        _ => None,
    }
}

fn is_path(ast: &Ast) -> bool {
    match ast {
        Ast::Ident(_) => true,
        Ast::Select(select) => !select.test && is_path(&select.operand.expr),
        Ast::Call(call) if call.func_name == operators::INDEX => {
            call.args.first().is_some_and(|a| is_path(&a.expr))
        }
        _ => false,
    }
}

fn parse(text: &str) -> Result<IdedExpr, String> {
    if text.chars().count() > LENGTH_MAX {
        return Err(format!("the expression is longer than {LENGTH_MAX} characters"));
    }
    if nesting(text) > usize::from(NESTING_MAX) {
        return Err(format!("the expression is nested more than {NESTING_MAX} levels deep"));
    }
    let env = ENV.as_ref().ok_or("the expression language could not be set up")?;
    let parser = env.parser().enable_optional_syntax(false).max_recursion_depth(NESTING_MAX * 2);
    parser.parse(text).map_err(|e| first_error(&e))
}

/// Deepest bracket nesting, counted before the parser sees the text.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn first_error(errors: &ParseErrors) -> String {
    match errors.errors.first() {
        Some(e) => format!("the expression cannot be read at column {}: {}", e.pos.1 + 1, e.msg),
        None => "the expression cannot be read".to_string(),
    }
}

/// What a syntax tree refers to.
#[derive(Default)]
struct Found {
    roots: BTreeSet<String>,
    members: BTreeSet<(String, String)>,
    wholes: BTreeSet<String>,
    elements: BTreeSet<String>,
    whole_elements: bool,
    functions: BTreeSet<String>,
    refused: Vec<String>,
    too_deep: bool,
}

impl Found {
    fn walk(&mut self, node: &IdedExpr, local: &mut Vec<String>, depth: usize) {
        if depth > DEPTH_MAX {
            self.too_deep = true;
            return;
        }
        let next = depth + 1;
        match &node.expr {
            Ast::Unspecified | Ast::Literal(_) => {}
            Ast::Ident(name) => {
                if local.contains(name) {
                    self.whole_elements |= !name.starts_with('@');
                } else if !name.starts_with('@') {
                    self.roots.insert(name.clone());
                    self.wholes.insert(name.clone());
                }
            }
            Ast::Select(select) => match &select.operand.expr {
                Ast::Ident(name) if local.contains(name) => {
                    self.elements.insert(select.field.clone());
                }
                Ast::Ident(name) => {
                    self.roots.insert(name.clone());
                    self.members.insert((name.clone(), select.field.clone()));
                }
                _ => self.walk(&select.operand, local, next),
            },
            Ast::Call(call) => {
                self.functions.insert(call.func_name.clone());
                self.refuse_null_test(call);
                call.target.iter().for_each(|t| self.walk(t, local, next));
                call.args.iter().for_each(|a| self.walk(a, local, next));
            }
            Ast::List(list) => list.elements.iter().for_each(|e| self.walk(e, local, next)),
            Ast::Map(map) => map.entries.iter().for_each(|e| self.entry(&e.expr, local, next)),
            Ast::Struct(s) => s.entries.iter().for_each(|e| self.entry(&e.expr, local, next)),
            Ast::Comprehension(c) => {
                self.walk(&c.iter_range, local, next);
                self.walk(&c.accu_init, local, next);
                let before = local.len();
                local.extend([c.iter_var.clone(), c.accu_var.clone()]);
                local.extend(c.iter_var2.clone());
                for part in [&c.loop_cond, &c.loop_step, &c.result] {
                    self.walk(part, local, next);
                }
                local.truncate(before);
            }
        }
    }

    fn entry(&mut self, entry: &EntryExpr, local: &mut Vec<String>, depth: usize) {
        match entry {
            EntryExpr::StructField(field) => self.walk(&field.value, local, depth),
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key, local, depth);
                self.walk(&entry.value, local, depth);
            }
        }
    }

    /// `x.y != ""` is true for NULL, which is hardly ever meant.
    fn refuse_null_test(&mut self, call: &CallExpr) {
        let [left, right] = call.args.as_slice() else { return };
        let empty = |node: &IdedExpr| match &node.expr {
            Ast::Literal(LiteralValue::Null) => true,
            Ast::Literal(LiteralValue::String(s)) => s.inner().is_empty(),
            _ => false,
        };
        for (path, literal) in [(left, right), (right, left)] {
            if call.func_name == operators::NOT_EQUALS
                && empty(literal)
                && is_path(&path.expr)
                && let Some(text) = nullable_path(&path.expr)
            {
                self.refused.push(text);
            }
        }
    }

    fn check(&self, spot: &Spot, variables: &[&str], report: &Report) -> bool {
        let mut good = true;
        let mut refuse = |what: String, remedy: String| {
            report.at(spot, what, remedy);
            good = false;
        };
        for name in &self.roots {
            if !variables.contains(&name.as_str()) {
                let what = format!("the expression uses `{name}`, which is not known here");
                refuse(what, did_you_mean(name, variables.iter().copied()));
            }
        }
        for path in &self.refused {
            let what = format!("`{path}` may be NULL, and NULL differs from everything");
            refuse(what, format!("write present({path}) instead"));
        }
        for name in self.functions.iter().filter(|f| !is_known_function(f)) {
            let what = format!("the expression calls `{name}`, which does not exist");
            refuse(what, did_you_mean(name, FUNCTIONS.iter().copied()));
        }
        if self.too_deep {
            refuse("the expression is nested too deeply".into(), "split it into fields".into());
        }
        good
    }
}

/// The text of a path over something nullable; `ev` has no NULLs.
fn nullable_path(ast: &Ast) -> Option<String> {
    let sure = ["ev", "op", "now", "source"];
    path_text(ast).filter(|path| {
        let root = path.split('.').next().unwrap_or_default();
        !sure.contains(&root)
    })
}

const FUNCTIONS: [&str; 23] = [
    "present",
    "dec",
    "abs_dec",
    "round_dec",
    "sum_dec",
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "min",
    "max",
];

fn is_known_function(name: &str) -> bool {
    // Operators are called `_+_`, `@in` and so on.
    !name.starts_with(|c: char| c.is_ascii_alphabetic()) || FUNCTIONS.contains(&name)
}

/// An evaluation error in one sentence, without the values that took part.
fn sentence(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no member `{name}`"),
        ExecutionError::NoSuchOverload(e) => e.to_string(),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` is not known"),
        ExecutionError::UnexpectedType { got, want } => format!("{want} expected, found {got}"),
        ExecutionError::ValuesNotComparable(a, b) => {
            format!("{} and {} cannot be compared", a.type_of(), b.type_of())
        }
        ExecutionError::UnsupportedBinaryOperator(op, a, b) => {
            format!("`{op}` does not take {} and {}", a.type_of(), b.type_of())
        }
        ExecutionError::FunctionError { function, message } => format!("{function}(): {message}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_string()
        }
        ExecutionError::Overflow(op, ..) => format!("`{op}` overflows"),
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter than that".to_string(),
        _ => "the expression cannot be evaluated with this data".to_string(),
    }
}

#[cfg(test)]
mod tests;
