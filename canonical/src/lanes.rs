//! `[[lane]]` and `[[maintenance]]`: what goes to targets first, and when they are left alone.

use crossdock_model::canonical::Name;

use crate::document::{Item, Section};
use crate::problems::{Report, Spot, did_you_mean};
use crate::span;
use crate::window::Window;

/// Largest share that a lane may have.
const WEIGHT_MAX: i64 = 1_000;

/// A lane: deliveries that wait together, apart from those of other lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Name.
    pub name: Name,
    /// What nobody assigns goes here.
    pub default: bool,
    /// Kinds of deliveries that go here: `shipment.departed`, `master.*`.
    pub kinds: Vec<Name>,
    /// Its share when several lanes wait.
    pub weight: u32,
    /// How long a delivery may take, microseconds; `None` for no promise.
    pub slo_micros: Option<i64>,
    /// It moves only in this window.
    pub window: Option<Window>,
    /// How long changes of a record are gathered before the last of them is told, microseconds.
    pub coalesce_micros: Option<i64>,
    /// `file:line`.
    pub rule: Name,
}

/// A window in which a target is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// Target.
    pub target: Name,
    /// When.
    pub window: Window,
    /// `file:line`.
    pub rule: Name,
}

/// A rule that owes deliveries, and how its lane is found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    /// `kind` of the rule; `ENTITY.RULE` when none is written.
    pub kind: Name,
    /// Lane that the rule names.
    pub lane: Option<(Name, Spot)>,
}

/// Lanes and maintenance windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    /// Lanes in file order.
    pub lanes: Vec<Lane>,
    /// Maintenance windows.
    pub maintenance: Vec<Maintenance>,
}

impl Lanes {
    /// Reads one rule file.
    pub fn read(&mut self, root: &Section<'_>, targets: &[Name]) {
        for block in root.tables("lane") {
            let Some(lane) = read_lane(&block) else { continue };
            let same = self.lanes.iter().find(|l| l.name == lane.name);
            if let Some(earlier) = same {
                let what = format!("the lane `{}` is defined at {}, too", lane.name, earlier.rule);
                root.report().at(&block.spot(), what, "give one of the two another name");
            }
            if let Some(earlier) = self.lanes.iter().find(|l| l.default && lane.default) {
                let what = format!("the default lane is {} at {}", earlier.name, earlier.rule);
                root.report().at(&block.spot(), what, "there is one default: remove `default`");
            }
            self.lanes.push(lane);
        }
        for block in root.tables("maintenance") {
            block.required("target");
            block.required("window");
            let target = block.get("target").and_then(|i| known_target(&i, targets));
            let window = block.get("window").and_then(|i| window(&i));
            block.done();
            if let (Some(target), Some(window)) = (target, window) {
                let rule = block.spot().name();
                self.maintenance.push(Maintenance { target, window, rule });
            }
        }
    }

    /// The lane of a kind of delivery.
    pub fn of(&self, kind: &Kind) -> Option<&Lane> {
        let named = |name: &Name| self.lanes.iter().find(|l| l.name == *name);
        if let Some((name, _)) = &kind.lane {
            return named(name);
        }
        let by_kind = self.lanes.iter().find(|l| l.kinds.iter().any(|k| fits(k, &kind.kind)));
        by_kind.or_else(|| self.lanes.iter().find(|l| l.default))
    }

    /// Reports a lane that a rule names and that does not exist.
    pub fn check(&self, kind: &Kind, report: &Report) {
        let Some((name, spot)) = &kind.lane else { return };
        if !self.lanes.iter().any(|l| l.name == *name) {
            let remedy = did_you_mean(name, self.lanes.iter().map(|l| &*l.name));
            report.at(spot, format!("there is no lane `{name}`"), remedy);
        }
    }
}

/// Whether a pattern, which may end in `.*`, names a kind.
fn fits(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(family) => kind.strip_prefix(family).is_some_and(|rest| rest.starts_with('.')),
        None => pattern == kind,
    }
}

fn read_lane(block: &Section<'_>) -> Option<Lane> {
    let name = block.required("name")?;
    let default = block.get("default").is_some_and(|i| {
        i.as_bool().unwrap_or_else(|| {
            i.wrong("true or false");
            false
        })
    });
    let kinds = block.get("kinds").map(|i| i.texts()).unwrap_or_default();
    let weight = block.get("weight").map_or(1, |item| {
        item.as_integer().filter(|w| (1..=WEIGHT_MAX).contains(w)).unwrap_or_else(|| {
            item.wrong("a whole number from 1 to 1000");
            1
        })
    });
    let lane = Lane {
        name: name.into(),
        default,
        kinds: kinds.into_iter().map(Name::from).collect(),
        weight: u32::try_from(weight).unwrap_or(1),
        slo_micros: block.get("slo").and_then(|i| span::micros(&i)),
        window: block.get("window").and_then(|i| window(&i)),
        coalesce_micros: block.get("coalesce").and_then(|i| span::micros(&i)),
        rule: block.spot().name(),
    };
    block.done();
    Some(lane)
}

/// Reads a window; a problem is reported and gives `None`.
fn window(item: &Item<'_>) -> Option<Window> {
    match Window::parse(item.text()?) {
        Ok(window) => Some(window),
        Err(what) => {
            let what = format!("this is no window of time: {what}");
            item.problem(what, "write for example \"Sun 02:00-04:00 Europe/Berlin\"");
            None
        }
    }
}

/// A target that is configured; another is reported and gives `None`.
pub(crate) fn known_target(item: &Item<'_>, targets: &[Name]) -> Option<Name> {
    let name = item.text()?;
    let found = targets.iter().find(|t| &***t == name);
    if found.is_none() {
        let remedy = did_you_mean(name, targets.iter().map(|t| &**t));
        item.problem(format!("there is no target `{name}` in the configuration"), remedy);
    }
    found.cloned()
}
