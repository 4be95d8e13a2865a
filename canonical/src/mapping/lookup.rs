//! Lookups: which row of another table a row refers to, and by which of its columns it is found.
//!
//! A row that is found by other columns than its key has an *alias* for each such set of columns: a
//! key made of their values. It refers to that key, so that whoever keeps references knows which
//! rows have the alias; a row that looks for it refers to another key, of the same values, and so
//! hears when a row begins or ceases to have the alias.

use crossdock_model::canonical::{Fields, Name, RowKey};
use crossdock_model::names::shared;

use super::{Path, Reader, path};
use crate::document::{Item, Section};
use crate::problems::Spot;

/// Columns of a key that a lookup can name.
const COLUMNS_MAX: usize = 8;

/// A row of another table of the same source.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Name under which its columns are used.
    pub name: Name,
    /// `schema.table`.
    pub table: Name,
    /// Where the parts of the key of the row are found.
    pub key: Vec<Path>,
    /// Columns that find the row; without them, its primary key does.
    pub by: Option<Alias>,
    /// There may be no such row, and then its columns are NULL.
    pub optional: bool,
    /// What stands in front of the key when the text refers to this table; a text that begins
    /// otherwise refers to something else.
    pub prefix: Option<String>,
    /// Where it stands.
    pub spot: Spot,
}

/// Columns other than the primary key by which rows of a table are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    /// The columns, sorted.
    pub columns: Vec<Name>,
    /// Table of the keys to which rows refer that have an alias.
    pub held: Name,
    /// Table of the keys to which rows refer that look for one.
    sought: Name,
}

impl Alias {
    fn new(table: &str, columns: Vec<Name>) -> Self {
        let all = columns.join(", ");
        let held = shared(&format!("{table} by {all}"));
        let sought = shared(&format!("{table} sought by {all}"));
        Self { columns, held, sought }
    }

    /// The alias of a row; `None` when a part of it is NULL or not known.
    pub fn of(&self, source: &Name, row: &Fields) -> Option<RowKey> {
        let values = self.columns.iter().map(|c| row.get(c).filter(|v| !v.is_null()));
        let values: Option<Vec<_>> = values.collect();
        let pk = RowKey::join(values?);
        Some(RowKey { source: source.clone(), table: self.held.clone(), pk })
    }

    /// To what those refer who look for an alias.
    pub fn sought(&self, alias: &RowKey) -> RowKey {
        RowKey { table: self.sought.clone(), ..alias.clone() }
    }
}

/// A lookup as it is written.
struct Written<'w> {
    name: &'w str,
    item: Item<'w>,
    table: Option<Name>,
    key: Vec<&'w str>,
    is_list: bool,
    by: Vec<&'w str>,
    optional: bool,
    prefix: Option<&'w str>,
}

impl<'w> Written<'w> {
    fn read(reader: &Reader<'_>, name: &'w str, item: Item<'w>) -> Option<Self> {
        let s = item.table()?;
        s.required("table");
        let table = s.get("table").and_then(|i| reader.table_name(&i));
        let key = match s.get("key") {
            Some(item) => item.texts(),
            None => s.required("key").into_iter().collect(),
        };
        let is_list = s.get("key").is_some_and(|i| i.is_array());
        let by = s.get("by").map(|i| i.texts()).unwrap_or_default();
        let optional = s.get("optional").and_then(|i| match i.as_bool() {
            None => {
                i.wrong("true or false");
                None
            }
            given => given,
        });
        let prefix = s.text("prefix");
        s.done();
        if ["row", "before", "op", "rec", "ev"].contains(&name) {
            item.problem(format!("a lookup cannot be called `{name}`"), "choose another name");
        }
        let optional = optional.unwrap_or_default();
        let written = Self { name, item, table, key, is_list, by, optional, prefix };
        written.check();
        Some(written)
    }

    fn check(&self) {
        if !self.by.is_empty() && self.by.len() != self.key.len() {
            let what =
                format!("the lookup `{}` has not as many columns in `by` as in `key`", self.name);
            self.item
                .problem(what, "name in `by` the column that each part of `key` is compared with");
        }
        if self.key.is_empty() && self.is_list {
            let what = format!("the lookup `{}` has a key without parts", self.name);
            self.item.problem(what, "write key = \"COLUMN\"");
        }
        if self.key.len() > COLUMNS_MAX {
            let what = format!("the lookup `{}` has a key of {} parts", self.name, self.key.len());
            self.item.problem(what, format!("at most {COLUMNS_MAX} are possible"));
        }
        if self.prefix.is_some() && self.key.len() > 1 {
            let what =
                format!("the lookup `{}` has a prefix and a key of several parts", self.name);
            self.item.problem(what, "a prefix stands in front of a key of one part");
        }
    }

    /// Whether the key is made of lookups that are not among these.
    fn is_ready(&self, waiting: &[String]) -> bool {
        let root = |path: &&str| path.split_once('.').map(|(root, _)| root.to_string());
        !self.key.iter().filter_map(root).any(|root| waiting.contains(&root))
    }

    fn lookup(self, earlier: &[Lookup]) -> Option<Lookup> {
        let table = self.table?;
        // In one order, so that rows have one alias whatever the order in which it is written.
        let mut parts: Vec<(Name, Path)> = self
            .key
            .iter()
            .enumerate()
            .map(|(at, text)| {
                (self.by.get(at).copied().unwrap_or_default().into(), path(text, earlier))
            })
            .collect();
        parts.sort_by(|a, b| a.0.cmp(&b.0));
        let (columns, key): (Vec<Name>, Vec<Path>) = parts.into_iter().unzip();
        let by = (!self.by.is_empty()).then(|| Alias::new(&table, columns));
        let prefix = self.prefix.map(str::to_string);
        let (name, spot) = (self.name.into(), self.item.spot());
        Some(Lookup { name, table, key, by, optional: self.optional, prefix, spot })
    }
}

impl Reader<'_> {
    /// Lookups in an order in which each refers only to earlier ones.
    pub(super) fn lookups(&self, block: &Section<'_>) -> Vec<Lookup> {
        let Some(section) = block.get("lookup").and_then(|i| i.table()) else { return Vec::new() };
        let entries = section.entries();
        let read = |(name, item)| Written::read(self, name, item);
        let mut waiting: Vec<Written<'_>> = entries.into_iter().filter_map(read).collect();
        let mut found: Vec<Lookup> = Vec::new();
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.iter().map(|w| w.name.to_string()).collect();
            let Some(at) = waiting.iter().position(|w| w.is_ready(&names)) else {
                for Written { name, item, .. } in &waiting {
                    let what = format!("the lookup `{name}` refers to itself in a circle");
                    item.problem(what, "start from a column of the row");
                }
                break;
            };
            let lookup = waiting.remove(at).lookup(&found);
            found.extend(lookup);
        }
        found
    }
}
