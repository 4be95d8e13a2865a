//! `[ruleset]`: the name and version of a rule file, and whether regions may change what it says.
//!
//! Files in a folder `regions/NAME` are overlays: they are read after all others and may replace
//! what those say, unless the file that says it is locked.

use std::collections::BTreeMap;

use crossdock_model::canonical::Name;

use crate::document::{Item, Section};
use crate::problems::Spot;

/// The folder whose files are overlays.
const REGIONS: &str = "regions";

/// One rule file.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    /// File as the user named it.
    pub file: Name,
    /// Name; that of the file when none is written.
    pub name: Name,
    /// Version, as people count it; 0 when none is written. What decides is the content hash.
    pub version: i64,
    /// Overlays may not change what it says.
    pub locked: bool,
    /// The region of an overlay.
    pub region: Option<Name>,
}

/// All rule files, in the order in which they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rulesets {
    by_file: BTreeMap<Name, Ruleset>,
}

impl Rulesets {
    /// Reads `[ruleset]` of a file.
    pub fn read(&mut self, root: &Section<'_>) {
        let file = root.spot().file;
        let mut ruleset = Ruleset {
            name: file.clone(),
            version: 0,
            locked: false,
            region: region_of(&file),
            file: file.clone(),
        };
        if let Some(section) = root.table("ruleset") {
            ruleset.name = section.required("name").map_or(file.clone(), Name::from);
            if let Some(item) = section.get("version") {
                ruleset.version = item.as_integer().unwrap_or_else(|| {
                    item.wrong("a whole number");
                    0
                });
            }
            if let Some(item) = section.get("locked") {
                ruleset.locked = item.as_bool().unwrap_or_else(|| {
                    item.wrong("true or false");
                    true
                });
                if ruleset.locked && ruleset.region.is_some() {
                    item.problem("an overlay locks nothing", "lock the file that it lies over");
                }
            }
            section.done();
        }
        self.by_file.insert(file, ruleset);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Ruleset> {
        self.by_file.values()
    }

    /// The region whose overlay a file is.
    pub fn region(&self, file: &Name) -> Option<Name> {
        self.by_file.get(file)?.region.clone()
    }

    /// Whether a file is an overlay of another one that is locked.
    pub fn is_locked_for(&self, item: &Item<'_>, earlier: &Spot) -> bool {
        let overlay = self.by_file.get(&item.spot().file).is_some_and(|r| r.region.is_some());
        overlay && self.by_file.get(&earlier.file).is_some_and(|r| r.locked)
    }

    /// Whether what stands at `earlier` may be replaced by what a later file says: only by an
    /// overlay. A lock is reported here, and so the caller has nothing more to say.
    pub fn replaces(&self, item: &Item<'_>, what: &str, earlier: &Spot) -> Replace {
        let file = item.spot().file;
        let overlay = self.by_file.get(&file).is_some_and(|r| r.region.is_some());
        if !overlay || earlier.file == file {
            return Replace::Conflict;
        }
        let Some(locked) = self.by_file.get(&earlier.file).filter(|r| r.locked) else {
            return Replace::Yes;
        };
        let message = format!(
            "{what} is locked by the rule set {} at {}: an overlay may not change it",
            locked.name,
            earlier.name()
        );
        item.problem(message, "remove it here, or ask those who own that rule set");
        Replace::Locked
    }
}

/// What becomes of a rule that is written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replace {
    /// The later one counts.
    Yes,
    /// The earlier one is locked, and that has been reported.
    Locked,
    /// Both claim to count.
    Conflict,
}

/// Puts overlays behind all other files; within both, the order stays.
pub(crate) fn overlays_last<T>(files: &mut [T], name: impl Fn(&T) -> &str) {
    files.sort_by_key(|file| region_of(name(file)).is_some());
}

fn region_of(file: &str) -> Option<Name> {
    let mut parts = file.split(['/', '\\']).rev();
    let (_file, region, folder) = (parts.next()?, parts.next()?, parts.next()?);
    (folder == REGIONS).then(|| region.into())
}
