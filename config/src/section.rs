//! One table of the config file, read key by key; what is not asked for is unknown.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crossdock_model::Problem;
use crossdock_model::problem::line_of;
use toml::de::{DeTable, DeValue};

use crate::findings::Findings;
use crate::nearest::nearest;
use crate::settings::At;
use crate::variables::{Environment, VariableError, replace};

/// The longest part of a setting that a message quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// The config file that is being read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// File as the user named it.
    pub file: &'a str,
    /// Its content.
    pub text: &'a str,
    /// Its folder: relative paths start there.
    pub folder: &'a Path,
    /// Values of variables.
    pub environment: Environment<'a>,
    /// Where problems go.
    pub findings: &'a Findings,
}

impl Source<'_> {
    pub(crate) fn problem(&self, line: u32, what: impl Display, remedy: impl Display) {
        self.findings.problem(self.remark(line, what, remedy));
    }

    pub(crate) fn warning(&self, line: u32, what: impl Display, remedy: impl Display) {
        self.findings.warning(self.remark(line, what, remedy));
    }

    fn remark(&self, line: u32, what: impl Display, remedy: impl Display) -> Problem {
        let (what, remedy) = (what.to_string(), remedy.to_string());
        Problem { file: self.file.to_string(), line, what, remedy }
    }
}

/// A setting that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    /// Its value, variables replaced.
    pub value: T,
    /// As the file has it, for messages: values of variables may be secret.
    pub written: String,
    /// Where it is.
    pub line: u32,
}

/// One table of the config file.
pub(crate) struct Section<'a> {
    pub(crate) source: Source<'a>,
    /// As in the brackets: `source.erp`.
    pub(crate) title: String,
    /// Where it begins.
    pub(crate) line: u32,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(source: Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self { source, title: String::new(), line: 1, table, asked: RefCell::default() }
    }

    /// File and line, for later messages.
    pub(crate) fn at(&self) -> At {
        (self.source.file.to_string(), self.line)
    }

    /// A table inside this one.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.ask(key);
        let (written, value) = self.table.get_key_value(key)?;
        self.inner(key, written.span().start, value.get_ref())
    }

    /// All tables inside a table, in the order of the file: `[source.NAME]` …
    pub(crate) fn named_sections(&self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(outer) = self.section(key) else { return Vec::new() };
        let mut entries: Vec<_> = outer.table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let open = |(name, value): (&toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let text: &std::borrow::Cow<'_, str> = name.get_ref();
            let section = outer.inner(text, name.span().start, value.get_ref())?;
            Some((text.to_string(), section))
        };
        entries.into_iter().filter_map(open).collect()
    }

    fn inner(&self, key: &str, offset: usize, value: &'a DeValue<'a>) -> Option<Section<'a>> {
        let title =
            if self.title.is_empty() { key.to_string() } else { format!("{}.{key}", self.title) };
        let line = line_of(self.source.text, offset);
        let Some(table) = value.as_table() else {
            let what = format!("`{title}` is {}, not a section", type_of(value));
            self.source.problem(line, what, format!("write `[{title}]` and its settings below it"));
            return None;
        };
        Some(Section { source: self.source, title, line, table, asked: RefCell::default() })
    }

    fn ask(&self, key: &'static str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
    }

    /// True when the key is there, whatever its value.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.ask(key);
        self.table.contains_key(key)
    }

    /// Line of a key; that of the section when the key is not there.
    pub(crate) fn line_of(&self, key: &str) -> u32 {
        let key = self.table.get_key_value(key);
        key.map_or(self.line, |(key, _)| line_of(self.source.text, key.span().start))
    }

    pub(crate) fn problem(&self, line: u32, what: impl Display, remedy: impl Display) {
        self.source.problem(line, what, remedy);
    }

    /// A text.
    pub(crate) fn text(&self, key: &'static str) -> Option<Found<String>> {
        self.ask(key);
        let value = self.table.get(key)?;
        let line = self.line_of(key);
        let Some(written) = value.get_ref().as_str() else {
            self.wrong_type(key, line, value.get_ref(), "a text in quotes");
            return None;
        };
        self.replaced(key, written, line)
    }

    /// A text that must be there and not empty.
    pub(crate) fn required(&self, key: &'static str, example: &str) -> Option<Found<String>> {
        if !self.has(key) {
            let what = format!("[{}] has no `{key}`", self.title);
            self.problem(self.line, what, format!("add `{key} = \"{example}\"`"));
            return None;
        }
        let found = self.text(key)?;
        if found.value.trim().is_empty() {
            let what = format!("`{key}` is empty");
            self.problem(found.line, what, format!("write for example `{key} = \"{example}\"`"));
            return None;
        }
        Some(found)
    }

    /// A number, which may be written as a text (so that it can come from a variable).
    fn number_text(&self, key: &'static str) -> Option<Found<String>> {
        self.ask(key);
        let value = self.table.get(key)?;
        let line = self.line_of(key);
        match value.get_ref() {
            DeValue::Integer(number) => {
                let written = number.to_string();
                let decimal = i128::from_str_radix(number.as_str(), number.radix()).ok();
                let value = decimal.map_or_else(|| written.clone(), |d| d.to_string());
                Some(Found { value, written, line })
            }
            DeValue::String(written) => self.replaced(key, written, line),
            other => {
                self.wrong_type(key, line, other, "a number");
                None
            }
        }
    }

    /// A whole number within limits; the default when it is not there.
    pub(crate) fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Option<u64> {
        if !self.has(key) {
            return Some(default);
        }
        let found = self.number_text(key)?;
        let number = found.value.parse().ok().filter(|n| range.contains(n));
        if number.is_none() {
            let what = format!("`{key}` is not a whole number: {}", quoted(&found.written));
            let remedy = format!("write a number from {} to {}", range.start(), range.end());
            self.problem(found.line, what, remedy);
        }
        number
    }

    /// A size or duration, parsed by `parse` and within limits (both given as people write them).
    pub(crate) fn quantity<T: PartialOrd>(
        &self,
        key: &'static str,
        default: &str,
        limits: (&str, &str),
        parse: fn(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            return parse(default);
        }
        let found = self.number_text(key)?;
        let (low, high) = (parse(limits.0)?, parse(limits.1)?);
        let value = parse(found.value.trim()).filter(|v| low <= *v && *v <= high);
        if value.is_none() {
            let what = format!("`{key}` cannot be {}", quoted(&found.written));
            let remedy = format!("write it like \"{default}\", from {} to {}", limits.0, limits.1);
            self.problem(found.line, what, remedy);
        }
        value
    }

    /// One word of a few; the default when it is not there.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: Option<T>,
    ) -> Option<T> {
        if !self.has(key) && default.is_some() {
            return default;
        }
        let found = self.required(key, choices.first().map_or("", |c| c.0))?;
        let choice = choices.iter().find(|(word, _)| *word == found.value);
        if choice.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let what = format!("`{key}` cannot be {}", quoted(&found.written));
            self.problem(found.line, what, format!("write one of: {}", words.join(", ")));
        }
        choice.map(|(_, value)| *value)
    }

    /// A list of texts; empty when it is not there.
    pub(crate) fn list(&self, key: &'static str) -> Vec<Found<String>> {
        self.ask(key);
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let line = self.line_of(key);
            self.wrong_type(key, line, value.get_ref(), "a list of texts, `[\"…\", \"…\"]`");
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items.iter() {
            let line = line_of(self.source.text, item.span().start);
            match item.get_ref().as_str() {
                Some(written) => list.extend(self.replaced(key, written, line)),
                None => self.wrong_type(key, line, item.get_ref(), "a list of texts"),
            }
        }
        list
    }

    /// A text or a list of texts; `None` after a problem.
    pub(crate) fn texts(&self, key: &'static str) -> Option<Vec<Found<String>>> {
        match self.table.get(key)?.get_ref().is_array() {
            true => {
                let found = self.list(key);
                let written = self.table.get(key)?.get_ref().as_array().map_or(0, |a| a.len());
                (found.len() == written).then_some(found)
            }
            false => Some(vec![self.text(key)?]),
        }
    }

    /// True when the key is there and has just this text.
    pub(crate) fn is_text(&self, key: &'static str, text: &str) -> bool {
        self.ask(key);
        self.table.get(key).is_some_and(|value| value.get_ref().as_str() == Some(text))
    }

    /// A path; a relative one starts at the folder of the config file.
    pub(crate) fn path(&self, key: &'static str) -> Option<Found<PathBuf>> {
        self.text(key).and_then(|found| self.path_of(key, found))
    }

    /// A path or a list of paths.
    pub(crate) fn paths(&self, key: &'static str) -> Vec<Found<PathBuf>> {
        let texts = self.texts(key).unwrap_or_default();
        texts.into_iter().filter_map(|found| self.path_of(key, found)).collect()
    }

    fn path_of(&self, key: &str, found: Found<String>) -> Option<Found<PathBuf>> {
        if found.value.is_empty() {
            self.problem(found.line, format!("`{key}` is empty"), "name a path, or remove the key");
            return None;
        }
        let value = self.source.folder.join(&found.value);
        Some(Found { value, written: found.written, line: found.line })
    }

    fn replaced(&self, key: &str, written: &str, line: u32) -> Option<Found<String>> {
        match replace(written, self.source.environment) {
            Ok(value) => return Some(Found { value, written: written.to_string(), line }),
            Err(VariableError::Missing(name)) => self.problem(
                line,
                format!("`{key}` needs the environment variable {name}, which is not set"),
                format!("set {name}, or give a default: `${{{name}:-default}}`"),
            ),
            Err(VariableError::Malformed) => self.problem(
                line,
                format!("`{key}` has a `${{` that begins no variable"),
                "write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself",
            ),
        }
        None
    }

    fn wrong_type(&self, key: &str, line: u32, value: &DeValue<'_>, wanted: &str) {
        let what = format!("`{key}` is {}", type_of(value));
        self.problem(line, what, format!("`{key}` takes {wanted}"));
    }

    /// Reports every key that nobody has asked for. Call it when all keys have been.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let line = line_of(self.source.text, key.span().start);
            let kind = if value.get_ref().is_table() { "section" } else { "key" };
            let what = match self.title.as_str() {
                "" => format!("unknown {kind} {}", quoted(name)),
                title => format!("unknown {kind} {} in [{title}]", quoted(name)),
            };
            let remedy = match nearest(name, asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("possible here: {}", asked.join(", ")),
            };
            self.problem(line, what, remedy);
        }
    }
}

/// Part of the file in a message: bounded, and on one line.
pub(crate) fn quoted(written: &str) -> String {
    let mut short: String = written.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < written.len() {
        short.push('…');
    }
    format!("`{}`", short.replace(char::is_control, " "))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
