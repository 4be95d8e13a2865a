//! Code tables: what a source's code means. An unknown code is never guessed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossdock_model::canonical::Name;

use crate::document::Section;
use crate::problems::Spot;
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
    for (code, item) in entries.entries() {
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
        let parts: Vec<_> = code.split(':').map(|p| (p != "*").then(|| p.to_string())).collect();
        let stars = parts.iter().filter(|p| p.is_none()).count();
        match stars {
            0 => _ = table.exact.insert(code.to_string(), value.into()),
            _ => table.patterns.push(Pattern { parts, stars, value: value.into() }),
        }
    }
    sort(&mut table.patterns);
    table
}
