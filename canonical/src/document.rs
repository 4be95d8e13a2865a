//! Reading a TOML file with the place of everything, and refusing keys that nobody asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use crossdock_model::canonical::Name;
use crossdock_model::problem::{SourceText, line_of};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problems::{Report, Spot, did_you_mean};

/// Names and lines of one file.
pub(crate) struct File<'t> {
    name: Name,
    text: &'t str,
    report: &'t Report,
}

impl<'t> File<'t> {
    /// Names a file.
    pub fn new(source: &'t SourceText, report: &'t Report) -> Self {
        Self { name: source.file.as_str().into(), text: &source.text, report }
    }

    /// Parses the file; a syntax error is reported and gives `None`.
    pub fn parse(&self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table),
            Err(error) => {
                let at = error.span().unwrap_or(0..0);
                let remedy = "mend the TOML syntax at this line";
                self.report.at(&self.spot(at), error.message().to_string(), remedy);
                None
            }
        }
    }

    /// The whole file as a section.
    pub fn root<'a>(&'a self, table: &'a Spanned<DeTable<'t>>) -> Section<'a> {
        Section::new(self, table.get_ref(), 0..0, "file")
    }

    fn spot(&self, span: Range<usize>) -> Spot {
        Spot { file: self.name.clone(), line: line_of(self.text, span.start) }
    }
}

/// A value and its place.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    file: &'a File<'a>,
    /// Where it stands.
    span: (usize, usize),
    value: &'a DeValue<'a>,
    /// The key that it was found under.
    pub key: &'a str,
}

impl<'a> Item<'a> {
    /// Where the value stands.
    pub fn spot(&self) -> Spot {
        self.file.spot(self.span.0..self.span.1)
    }

    /// Reports a value of the wrong kind.
    pub fn wrong(&self, wanted: &str) {
        let what = format!("`{}` is {}, not {wanted}", self.key, self.value.type_str());
        self.file.report.at(&self.spot(), what, format!("write {wanted}"));
    }

    /// Reports a problem with this value.
    pub fn problem(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.file.report.at(&self.spot(), what, remedy);
    }

    /// The problems of all files.
    pub fn report(&self) -> &'a Report {
        self.file.report
    }

    /// The value as text, without complaint if it is something else.
    pub fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The value as a whole number, without complaint if it is something else.
    pub fn as_integer(&self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The value as a boolean, without complaint if it is something else.
    pub fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The value as text.
    pub fn text(&self) -> Option<&'a str> {
        self.value.as_str().or_else(|| {
            self.wrong("a text");
            None
        })
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// The value as a table.
    pub fn table(&self) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(table) => {
                Some(Section::new(self.file, table, self.span.0..self.span.1, self.key))
            }
            _ => {
                self.wrong("a table");
                None
            }
        }
    }

    /// The members of an array.
    pub fn array(&self) -> Vec<Item<'a>> {
        match self.value {
            DeValue::Array(items) => items.iter().map(|i| self.member(i)).collect(),
            _ => {
                self.wrong("a list");
                Vec::new()
            }
        }
    }

    /// One text or a list of texts.
    pub fn texts(&self) -> Vec<&'a str> {
        match self.value {
            DeValue::Array(_) => self.array().iter().filter_map(Item::text).collect(),
            _ => self.text().into_iter().collect(),
        }
    }

    fn member(&self, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let span = value.span();
        Item {
            file: self.file,
            span: (span.start, span.end),
            value: value.get_ref(),
            key: self.key,
        }
    }
}

/// A table whose keys are taken one by one; [`Section::done`] reports those that were not.
pub(crate) struct Section<'a> {
    file: &'a File<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    name: &'a str,
    known: RefCell<BTreeSet<String>>,
}

impl<'a> Section<'a> {
    fn new(file: &'a File<'a>, table: &'a DeTable<'a>, span: Range<usize>, name: &'a str) -> Self {
        Self { file, table, span, name, known: RefCell::default() }
    }

    /// Where the section stands.
    pub fn spot(&self) -> Spot {
        // A header's own span begins at its bracket; a dotted or inline table's at its value.
        self.file.spot(self.span.clone())
    }

    /// The problems of all files.
    pub fn report(&self) -> &'a Report {
        self.file.report
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        self.known.borrow_mut().insert(key.to_string());
        let (found, value) = self.table.get_key_value(key)?;
        let span = value.span();
        Some(Item {
            file: self.file,
            span: (span.start, span.end),
            value: value.get_ref(),
            key: found.get_ref(),
        })
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.text()
    }

    /// The text under a key that must be there.
    pub fn required(&self, key: &str) -> Option<&'a str> {
        let item = self.get(key);
        if item.is_none() {
            let what = format!("`{key}` is missing in [{}]", self.name);
            self.file.report.at(&self.spot(), what, format!("add `{key} = \"...\"`"));
        }
        item?.text()
    }

    /// The table under a key.
    pub fn table(&self, key: &str) -> Option<Section<'a>> {
        self.get(key)?.table()
    }

    /// The tables of an array of tables; none when the key is absent.
    pub fn tables(&self, key: &str) -> Vec<Section<'a>> {
        let items = self.get(key).map(|i| i.array()).unwrap_or_default();
        items.iter().filter_map(Item::table).collect()
    }

    /// All entries in file order, for tables whose keys are names.
    pub fn entries(&self) -> Vec<(&'a str, Item<'a>)> {
        let mut all: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                self.known.borrow_mut().insert(key.get_ref().to_string());
                let at = value.span();
                let key_at = key.span();
                let name: &'a str = key.get_ref();
                let item = Item {
                    file: self.file,
                    span: (at.start, at.end),
                    value: value.get_ref(),
                    key: name,
                };
                (key_at.start, name, item)
            })
            .collect();
        all.sort_by_key(|(at, ..)| *at);
        all.into_iter().map(|(_, name, item)| (name, item)).collect()
    }

    /// Reports every key that was not asked for.
    pub fn done(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(name) {
                let remedy = did_you_mean(name, known.iter().map(String::as_str));
                let what = format!("unknown key `{name}` in [{}]", self.name);
                self.file.report.at(&self.file.spot(key.span()), what, remedy);
            }
        }
    }
}
