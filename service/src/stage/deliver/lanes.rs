//! Lanes: deliveries of some rules wait apart from those of others, so that a backlog of one kind
//! does not hold up another.
//!
//! Each lane has a stream of its own in the target, with its own progress. Which rule goes through
//! which lane is on record: when the files say otherwise, what is owed already is delivered as it
//! was, and the new layout begins behind it. Lanes share a target by weight: whoever has had least
//! for its weight comes next, and a lane that had nothing to do has no claim on the past.

use std::time::{Duration, Instant};

use crossdock_apply::PostgresStore;
use crossdock_apply::store::{LaneRules, Layout, Others, RuleFilter};
use crossdock_canonical::{Rules, Window};
use crossdock_model::canonical::RecordKey;

use super::stream_name;
use super::workers::{streams, worker_of};
use crate::clock::now_micros;
use crate::stage::StageError;

/// A batch of a light lane should take no longer, lest a heavy one waits for it.
const LIGHT_BATCH: Duration = Duration::from_millis(8);
const LIGHT_ROWS_MIN: usize = 20;

/// One lane at work.
pub(super) struct Lane {
    /// Name; empty where there are no lanes.
    pub name: String,
    /// Its streams in the target: one for each worker.
    pub streams: Vec<String>,
    pub rules: RuleFilter,
    /// Number up to which each worker has made, or set aside, what is its own.
    pub made: Vec<u64>,
    /// The same, as the target has it on record.
    pub noted: Vec<u64>,
    /// There is nothing for it up to this number.
    pub looked: u64,
    /// Deliveries in its next batch, at most: fewer after a refusal, until it is clear which one
    /// it is about.
    pub limit: usize,
    weight: f64,
    /// Rows it has had, by its weight.
    had: f64,
    window: Option<Window>,
    slo: Option<Duration>,
    /// How long changes of a record are gathered.
    coalesce: Option<Duration>,
}

/// All lanes of a target.
pub(super) struct Lanes {
    pub all: Vec<Lane>,
    /// Connections over which the records of each lane are divided.
    pub workers: usize,
    /// The layout is for deliveries up to this number.
    pub end: u64,
    /// What the lane that was served last has had by its weight.
    clock: f64,
    /// Rows a millisecond, as of late.
    rate: f64,
}

impl Lane {
    /// How far it has come, whether something was made or there was nothing to make.
    pub fn at(&self) -> u64 {
        self.made.iter().copied().min().unwrap_or(0).max(self.looked)
    }

    /// Whether a delivery about a record has been made, although others before it have not: their
    /// workers were not as quick, or failed.
    pub fn has(&self, record: &RecordKey, seq: u64) -> bool {
        let made = self.made.get(worker_of(record, self.made.len()));
        made.is_some_and(|made| seq <= *made)
    }

    /// Notes that a worker has come to a number.
    pub fn made(&mut self, worker: usize, upto: u64) {
        if let Some(made) = self.made.get_mut(worker) {
            *made = upto.max(*made);
        }
    }

    /// Notes that the target says so, too.
    pub fn noted(&mut self, worker: usize, upto: u64) {
        self.made(worker, upto);
        if let Some(noted) = self.noted.get_mut(worker) {
            *noted = upto.max(*noted);
        }
    }

    /// Whether its window, if it has one, is open.
    pub fn may_move(&self) -> bool {
        self.window.as_ref().is_none_or(|window| window.contains(now_micros()))
    }

    /// Whether of several changes of a record the last one alone is told.
    pub fn coalesces(&self) -> bool {
        self.coalesce.is_some()
    }

    /// Whether a delivery that was owed at a time waits for others of its record.
    pub fn gathers(&self, owed_micros: i64) -> bool {
        let waited = u64::try_from(now_micros().saturating_sub(owed_micros)).unwrap_or(0);
        self.coalesce.is_some_and(|span| Duration::from_micros(waited) < span)
    }

    /// Whether a delivery that was owed at a time comes too late.
    pub fn is_late(&self, owed_micros: i64, now: i64) -> bool {
        let waited = u64::try_from(now.saturating_sub(owed_micros)).unwrap_or(0);
        self.slo.is_some_and(|slo| Duration::from_micros(waited) > slo)
    }
}

/// The lanes that the rules of a target go through, as the files say now. None where all go
/// through one.
pub(super) fn wanted(rules: &Rules, target: &str) -> Vec<LaneRules> {
    let mut lanes: Vec<LaneRules> = Vec::new();
    let rest = rules.lane_of("").map_or("", |lane| &*lane.name);
    for rule in rules.rules_of(target) {
        let Some(lane) = rules.lane_of(&rule).filter(|lane| &*lane.name != rest) else {
            continue;
        };
        match lanes.iter_mut().find(|known| *known.name == *lane.name) {
            Some(known) => known.rules.push(rule.to_string()),
            None => {
                lanes.push(LaneRules { name: lane.name.to_string(), rules: vec![rule.to_string()] })
            }
        }
    }
    if lanes.is_empty() {
        return lanes;
    }
    lanes.iter_mut().for_each(|lane| lane.rules.sort());
    lanes.sort_by(|a, b| a.name.cmp(&b.name));
    lanes.push(LaneRules { name: rest.to_string(), rules: Vec::new() });
    lanes
}

/// Name of a lane's stream.
pub(super) fn stream(deliver: &str, lane: &str) -> String {
    match lane {
        "" => deliver.to_string(),
        lane => format!("{deliver}/{lane}"),
    }
}

/// Names of all progress rows of `deliver` in a target that had these layouts.
pub fn stream_names(installation: &str, layouts: &[Layout]) -> Vec<String> {
    let deliver = stream_name(installation);
    let of = |layout: &Layout| stream_names_of(installation, layout);
    let mut names: Vec<String> = layouts.iter().flat_map(of).collect();
    names.push(deliver);
    names.sort();
    names.dedup();
    names
}

/// Names of the progress rows that count now, and from which number on.
pub fn present_streams(installation: &str, layouts: &[Layout]) -> (Vec<String>, u64) {
    match layouts.last() {
        Some(layout) => (stream_names_of(installation, layout), layout.from),
        None => (vec![stream_name(installation)], 0),
    }
}

fn stream_names_of(installation: &str, layout: &Layout) -> Vec<String> {
    let deliver = stream_name(installation);
    let of = |lane: &str| streams(&stream(&deliver, lane), layout.workers);
    match layout.lanes.is_empty() {
        true => of(""),
        false => layout.lanes.iter().flat_map(|lane| of(&lane.name)).collect(),
    }
}

/// The layouts of a target, the last being the one that the files ask for now.
pub(super) async fn layouts(
    store: &mut PostgresStore,
    rules: &Rules,
    target: &str,
    workers: usize,
) -> Result<Vec<Layout>, StageError> {
    let wanted = wanted(rules, target);
    let mut known = store.layouts(target).await?;
    let last = known.last().map_or((&[][..], 1), |layout| (&layout.lanes, layout.workers));
    if last != (&wanted[..], workers) {
        if !wanted.is_empty() {
            store.index_records().await?;
        }
        store.begin_layout(target, &wanted, workers).await?;
        known = store.layouts(target).await?;
    }
    if known.first().is_none_or(|first| first.from > 0) {
        known.insert(0, Layout { from: 0, lanes: Vec::new(), workers: 1 });
    }
    Ok(known)
}

impl Lanes {
    /// The lanes of a layout, with the stream of each and nothing done.
    pub fn new(deliver: &str, layout: &Layout, end: u64, rules: &Rules, limit: usize) -> Self {
        let none = [LaneRules { name: String::new(), rules: Vec::new() }];
        let lanes = if layout.lanes.is_empty() { &none[..] } else { &layout.lanes };
        let named: Vec<String> = lanes.iter().flat_map(|lane| lane.rules.clone()).collect();
        let span = |micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        let lane = |lane: &LaneRules| {
            let setting = match layout.lanes.is_empty() {
                true => rules.lane_of(""),
                false => rules.lanes().iter().find(|l| *l.name == *lane.name),
            };
            let filter = match lane.rules.is_empty() {
                true => RuleFilter { names: named.clone(), only: false },
                false => RuleFilter { names: lane.rules.clone(), only: true },
            };
            Lane {
                name: lane.name.clone(),
                streams: streams(&stream(deliver, &lane.name), layout.workers),
                rules: filter,
                made: vec![layout.from; layout.workers],
                noted: vec![layout.from; layout.workers],
                looked: layout.from,
                limit,
                weight: setting.map_or(1.0, |s| f64::from(s.weight.max(1))),
                had: 0.0,
                window: setting.and_then(|s| s.window.clone()),
                slo: setting.and_then(|s| s.slo_micros).map(span),
                coalesce: setting.and_then(|s| s.coalesce_micros).map(span),
            }
        };
        let workers = layout.workers;
        Self { all: lanes.iter().map(lane).collect(), workers, end, clock: 0.0, rate: 20.0 }
    }

    /// Whether a delivery of a rule has been made, in whichever lane that is.
    pub fn have(&self, rule: &str, record: &RecordKey, seq: u64) -> bool {
        let named = |lane: &&Lane| lane.rules.names.iter().any(|name| name == rule);
        let lane = self.all.iter().filter(|l| l.rules.only).find(named);
        let lane = lane.or_else(|| self.all.iter().find(|lane| !lane.rules.only));
        lane.is_some_and(|lane| lane.has(record, seq))
    }

    /// Every delivery of the layout has been made.
    pub fn are_through(&self) -> bool {
        self.all.iter().all(|lane| lane.at() >= self.end)
    }

    /// Lanes in the order in which they are served; of equals the heavier first.
    pub fn in_turn(&self) -> Vec<usize> {
        let mut turn: Vec<usize> = (0..self.all.len()).collect();
        let had = |at: &usize| self.all.get(*at).map_or((0.0, 0.0), |l| (l.had, -l.weight));
        turn.sort_by(|a, b| had(a).partial_cmp(&had(b)).unwrap_or(std::cmp::Ordering::Equal));
        turn
    }

    /// Deliveries in a lane's next batch, at most. A light lane takes less, so that a heavy one
    /// never waits long.
    pub fn limit(&self, at: usize) -> usize {
        let Some(lane) = self.all.get(at) else { return 1 };
        // What is gathered comes to few rows, and needs to be seen together.
        let light = !lane.coalesces() && self.all.iter().any(|other| other.weight > lane.weight);
        match light {
            true => {
                let rows = self.rate * LIGHT_BATCH.as_secs_f64() * 1_000.0;
                lane.limit.min((rows as usize).max(LIGHT_ROWS_MIN))
            }
            false => lane.limit,
        }
    }

    /// There was nothing for a lane up to a number.
    pub fn nothing_for(&mut self, at: usize, upto: u64) {
        let clock = self.clock;
        if let Some(lane) = self.all.get_mut(at) {
            lane.looked = lane.looked.max(upto);
            lane.had = lane.had.max(clock);
        }
    }

    /// A lane has had so many rows, in the time since `begun`.
    pub fn served(&mut self, at: usize, rows: usize, begun: Instant) {
        if let Some(lane) = self.all.get_mut(at) {
            lane.had += rows as f64 / lane.weight;
            self.clock = lane.had;
        }
        let millis = begun.elapsed().as_secs_f64() * 1_000.0;
        if rows >= LIGHT_ROWS_MIN / 2 && millis > 0.0 {
            self.rate = 0.8 * self.rate + 0.2 * (rows as f64 / millis);
        }
    }

    /// How far all but one have come, by rule.
    pub fn others(&self, but: usize) -> Others {
        let mut others = Others { named: Vec::new(), rest: u64::MAX };
        for (at, lane) in self.all.iter().enumerate() {
            let done = if at == but { u64::MAX } else { lane.at() };
            match lane.rules.only {
                true => others.named.extend(lane.rules.names.iter().map(|r| (r.clone(), done))),
                false => others.rest = done,
            }
        }
        others
    }

    /// How far the others have come that are least far.
    pub fn least_but(&self, but: usize) -> u64 {
        let others = self.all.iter().enumerate().filter(|(at, _)| *at != but);
        others.map(|(_, lane)| lane.at()).min().unwrap_or(u64::MAX)
    }

    /// Up to here every lane has made what it had to.
    pub fn at(&self) -> u64 {
        self.all.iter().map(Lane::at).min().unwrap_or(0)
    }
}
