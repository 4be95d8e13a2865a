//! Code tables: what a source's code means. An unknown code is never guessed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossdock_model::canonical::Name;

use crate::document::{Item, Section};
use crate::problems::{Spot, did_you_mean};
use crate::ruleset::{Replace, Rulesets};

/// What to do with a code that no entry matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// No value, and an exception.
    Exception,
    /// The code itself is the value.
    Keep,
}

/// One `[codes.NAME]` table.
#[derive(Debug)]
pub(crate) struct CodeTable {
    /// Name.
    pub name: Name,
    /// What happens to an unknown code.
    pub unmapped: Unmapped,
    /// Where it stands.
    pub spot: Spot,
    exact: HashMap<String, Name>,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// `None` matches anything.
    parts: Vec<Option<String>>,
    stars: usize,
    value: Name,
}

/// Code tables by name.
pub(crate) type Codes = BTreeMap<Name, Arc<CodeTable>>;

impl CodeTable {
    /// What a code of one or several parts means; the entry with the fewest `*` wins.
    pub fn look_up(&self, parts: &[String]) -> Option<Name> {
        if let Some(value) = self.exact.get(&parts.join(":")) {
            return Some(value.clone());
        }
        let fits = |p: &&Pattern| {
            p.parts.len() == parts.len()
                && p.parts.iter().zip(parts).all(|(want, is)| want.as_ref().is_none_or(|w| w == is))
        };
        self.patterns.iter().find(fits).map(|p| p.value.clone())
    }
}

impl CodeTable {
    /// Takes over what a table says of codes that this one does not name.
    fn lie_over(&mut self, base: &CodeTable) {
        for (code, value) in &base.exact {
            self.exact.entry(code.clone()).or_insert_with(|| value.clone());
        }
        let new = |p: &&Pattern| !self.patterns.iter().any(|own| own.parts == p.parts);
        let mut patterns: Vec<Pattern> = base.patterns.iter().filter(new).cloned().collect();
        self.patterns.append(&mut patterns);
        sort(&mut self.patterns);
    }

    /// Adds an entry.
    fn put(&mut self, code: &str, value: &str) {
        let parts: Vec<_> = code.split(':').map(|p| (p != "*").then(|| p.to_string())).collect();
        let stars = parts.iter().filter(|p| p.is_none()).count();
        match stars {
            0 => _ = self.exact.insert(code.to_string(), value.into()),
            _ => self.patterns.push(Pattern { parts, stars, value: value.into() }),
        }
    }

    /// All that it may say.
    pub fn values(&self) -> impl Iterator<Item = &Name> {
        self.exact.values().chain(self.patterns.iter().map(|p| &p.value))
    }
}

/// The entry with the fewest `*` comes first.
fn sort(patterns: &mut [Pattern]) {
    patterns.sort_by(|a, b| (a.stars, &b.parts).cmp(&(b.stars, &a.parts)));
}

/// Reads all `[codes.NAME]` tables of a file. An overlay adds entries to a table, or replaces some.
pub(crate) fn read(root: &Section<'_>, rulesets: &Rulesets, codes: &mut Codes) {
    let Some(section) = root.table("codes") else { return };
    for (name, item) in section.entries() {
        let Some(entries) = item.table() else { continue };
        let mut table = read_table(name, &entries);
        if let Some(earlier) = codes.get(name) {
            let what = format!("the code table `{name}`");
            match rulesets.replaces(&item, &what, &earlier.spot) {
                Replace::Yes => table.lie_over(earlier),
                Replace::Locked => continue,
                Replace::Conflict => {
                    let what = format!("{what} is also defined at {}", earlier.spot.name());
                    root.report().at(&table.spot, what, "give one of the two another name");
                }
            }
        }
        codes.insert(table.name.clone(), Arc::new(table));
    }
}

fn read_table(name: &str, entries: &Section<'_>) -> CodeTable {
    let mut table = CodeTable {
        name: name.into(),
        unmapped: Unmapped::Exception,
        spot: entries.spot(),
        exact: HashMap::new(),
        patterns: Vec::new(),
    };
    let mut lists = Vec::new();
    for (code, item) in entries.entries() {
        if code == "base" {
            lists = bases(&item);
            continue;
        }
        let Some(value) = item.text() else { continue };
        if code == "unmapped" {
            match value {
                "exception" => table.unmapped = Unmapped::Exception,
                "keep" => table.unmapped = Unmapped::Keep,
                _ => item.problem(
                    format!("`unmapped` cannot be `{value}`"),
                    "write \"exception\" or \"keep\"",
                ),
            }
            continue;
        }
        table.put(code, value);
    }
    sort(&mut table.patterns);
    lists.iter().for_each(|list| table.lie_over(list));
    table
}

/// The code lists that come with Crossdock, by name.
const LISTS: [(&str, &str); 4] = [
    ("rec24_status", include_str!("../codes/rec24_status.toml")),
    ("x12_214_appointment", include_str!("../codes/x12_214_appointment.toml")),
    ("x12_214_reason", include_str!("../codes/x12_214_reason.toml")),
    ("x12_214_status", include_str!("../codes/x12_214_status.toml")),
];
/// Where the code of a list stands in the key of a table.
const CODE: &str = "{}";

/// `base = "LIST"`, or `base = { LIST = "tms:{}:*" }` with the place of the list's codes in the
/// keys of this table. What the table itself says comes first.
fn bases(item: &Item<'_>) -> Vec<CodeTable> {
    let section = item.is_table().then(|| item.table()).flatten();
    let wanted: Vec<(&str, &str, Item<'_>)> = match section {
        Some(section) => {
            let entries = section.entries().into_iter();
            entries.filter_map(|(list, item)| Some((list, item.text()?, item))).collect()
        }
        None => item.text().map(|list| (list, CODE, *item)).into_iter().collect(),
    };
    wanted.iter().filter_map(|(list, place, item)| base(list, place, item)).collect()
}

fn base(list: &str, place: &str, item: &Item<'_>) -> Option<CodeTable> {
    let Some((_, text)) = LISTS.iter().find(|(name, _)| *name == list) else {
        let remedy = did_you_mean(list, LISTS.iter().map(|(name, _)| *name));
        item.problem(format!("no code list is called `{list}`"), remedy);
        return None;
    };
    if !place.contains(CODE) {
        let remedy = format!("write where they stand, like \"tms:{CODE}\" or \"*:{CODE}:*\"");
        item.problem(format!("`{place}` has no place for the codes of {list}"), remedy);
        return None;
    }
    let codes: BTreeMap<String, String> = toml::from_str(text).unwrap_or_default();
    debug_assert!(!codes.is_empty(), "{list} cannot be read");
    let mut table = CodeTable {
        name: list.into(),
        unmapped: Unmapped::Exception,
        spot: item.spot(),
        exact: HashMap::new(),
        patterns: Vec::new(),
    };
    codes.iter().for_each(|(code, value)| table.put(&place.replace(CODE, code), value));
    sort(&mut table.patterns);
    Some(table)
}
