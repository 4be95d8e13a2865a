//! Crossdock, or a server under it, ends at every point before and after something becomes
//! durable, for each kind of target: nothing is lost, doubled or out of order.
//!
//! `CRASH_POINTS` sets how many points, `CRASH_SEED` where the schedule begins; `make crash` has
//! the long form. Schedules that ever failed stand in `crash_seeds.txt` and come first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossdock_harness::wait_until;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::crash_world::{Heat, Plant, targets};
use crate::world::Kind;

/// Points of a source, the store, all targets, targets that refuse, and single kinds of targets:
/// every point of the program.
const INGEST: [&str; 5] = [
    "ingest.before_append",
    "ingest.before_sync",
    "ingest.after_sync",
    "ingest.after_checkpoint",
    "ingest.after_acknowledge",
];
const INTEGRATE: [&str; 2] = ["integrate.before_commit", "integrate.after_commit"];
const DELIVER: [&str; 5] = [
    "deliver.before_apply",
    "deliver.after_apply",
    "deliver.after_checkpoint",
    "deliver.before_again_done",
    "deliver.after_pull",
];
const REFUSE: [&str; 2] = ["deliver.after_park", "deliver.after_pass_over"];
const MIRROR: [&str; 2] = ["mirror.before_apply", "mirror.after_apply"];
const FILE: [&str; 4] =
    ["file.half_written", "file.before_sync", "file.after_sync", "file.before_close"];
const PARQUET: [&str; 2] = ["file.before_rename", "file.before_remove"];
/// A point that only a large transaction passes: `large.rs` lets the process end there.
const LARGE: &str = "integrate.piece";
/// Targets that are files: they refuse nothing, and no server of theirs can end.
const FILES: [&str; 2] = ["lines", "lake"];
const DATABASE: [(&str, &str); 3] = [
    ("postgres.in_transaction", "pg"),
    ("mysql.before_commit", "maria"),
    ("mysql.before_commit", "mysql"),
];

/// Points of one world; then it is compared, and another one begins.
const LEG: usize = 60;
/// Points in `make test`.
const SHORT: usize = 24;
/// Every so many steps it is a server that ends, and not Crossdock.
const SERVER_EVERY: usize = 4;
/// A point that is not reached in so many times the pause, the source writing on, is not reached.
const PATIENCE: u32 = 20;
const PAUSE: Duration = Duration::from_secs(1);
/// Once in so many steps nobody refuses anything, and what was refused is tried again.
const LIFTED_EVERY: u32 = 6;
/// Once in so many steps the source commits something that is refused.
const HEAVY_EVERY: u32 = 4;
/// Schedules that failed once.
const SEEDS: &str = include_str!("crash_seeds.txt");

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Crossdock,
    Source,
    Store,
    Target,
    SourceAndTarget,
}

/// Something ends at a point; without `who` it is no target's.
#[derive(Clone, Copy, Debug)]
struct Step {
    point: &'static str,
    who: &'static str,
    victim: Victim,
}

impl Step {
    /// As the program is told.
    fn name(&self) -> String {
        match self.who {
            "" => self.point.to_string(),
            who => format!("{}@{who}", self.point),
        }
    }
}

/// Everything that can end anywhere.
fn steps() -> Vec<Step> {
    use Victim::{Crossdock, Source, SourceAndTarget, Store, Target};
    let mut steps = Vec::new();
    let mut add = |point, who, victims: &[Victim]| {
        steps.extend(victims.iter().map(|victim| Step { point, who, victim: *victim }));
    };
    for point in INGEST {
        add(point, "", &[Crossdock, Source]);
    }
    for point in INTEGRATE {
        add(point, "", &[Crossdock, Store, Source]);
    }
    for point in MIRROR {
        add(point, "", &[Crossdock, Store]);
    }
    for who in targets() {
        for point in DELIVER {
            add(point, who, &[Crossdock]);
        }
        if FILES.contains(&who) {
            continue;
        }
        for point in REFUSE {
            add(point, who, &[Crossdock, Target]);
        }
        add("deliver.before_apply", who, &[Target, SourceAndTarget]);
        add("deliver.after_apply", who, &[Target, SourceAndTarget, Store]);
    }
    for (point, who) in DATABASE.into_iter().filter(|(_, who)| targets().contains(who)) {
        add(point, who, &[Crossdock, Target, SourceAndTarget]);
    }
    for who in FILES {
        FILE.into_iter().for_each(|point| add(point, who, &[Crossdock]));
    }
    PARQUET.into_iter().for_each(|point| add(point, "lake", &[Crossdock]));
    add("http.after_post", "portal", &[Crossdock, Target]);
    steps
}

/// The steps of a leg: those of Crossdock and those of servers, each in an order of its own.
fn schedule(random: &mut StdRng, points: usize) -> Vec<Step> {
    let (mut own, mut servers): (Vec<_>, Vec<_>) =
        steps().into_iter().partition(|step| step.victim == Victim::Crossdock);
    own.shuffle(random);
    servers.shuffle(random);
    let (mut own, mut servers) = (own.into_iter().cycle(), servers.into_iter().cycle());
    let next = |at: usize| match at % SERVER_EVERY {
        0 => servers.next(),
        _ => own.next(),
    };
    (1..=points).filter_map(next).collect()
}

/// How often points were reached.
#[derive(Default)]
struct Reached(BTreeMap<String, (u32, u32)>);

impl Reached {
    fn note(&mut self, step: &Step, reached: bool) {
        let (tried, there) = self.0.entry(step.name()).or_default();
        *tried += 1;
        *there += u32::from(reached);
    }

    fn sum(&self) -> usize {
        self.0.values().map(|(_, there)| *there as usize).sum()
    }

    /// Points that were tried and never reached.
    fn never(&self) -> Vec<&str> {
        let never = self.0.iter().filter(|(_, (_, there))| *there == 0);
        never.map(|(name, _)| name.as_str()).collect()
    }
}

/// Says what repeats a leg that fails.
struct Leg {
    seed: u64,
    points: usize,
}

impl Drop for Leg {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, points } = self;
            eprintln!("add to tests/suite/crash_seeds.txt, once it is known what was wrong:");
            eprintln!("{seed} {points}  # what was wrong");
        }
    }
}

/// One step: true when the point was reached.
fn run(plant: &mut Plant, step: &Step, random: &mut StdRng) -> bool {
    // Points that are passed often are met at the first, second or third passing.
    let times = match step.point {
        point if [&REFUSE[..], &PARQUET, &["file.before_close"]].concat().contains(&point) => 1,
        _ => random.random_range(1..=3),
    };
    let variable = match step.victim {
        Victim::Crossdock => "CROSSDOCK_CRASH_AT",
        _ => "CROSSDOCK_STOP_AT",
    };
    let lifted = match step.point {
        "deliver.before_again_done" => true,
        point if REFUSE.contains(&point) => false,
        _ => random.random_ratio(1, LIFTED_EVERY),
    };
    // What is refused blocks its record: a little of it is enough elsewhere.
    let heavy = random.random_ratio(1, HEAVY_EVERY);
    let heat = match step.point {
        point if REFUSE.contains(&point) => Heat::Refused,
        "deliver.after_pull" => Heat::Crossing,
        _ if heavy => Heat::Heavy,
        _ => Heat::Light,
    };
    plant.change(random, heat);
    plant.world.crossdock.kill();
    plant.refuse(!lifted);
    let at = format!("{}:{times}", step.name());
    plant.world.crossdock.start_with(&[(variable, &at)]).unwrap();
    let own = step.victim == Victim::Crossdock;
    // One that stands still may hold locks of the store for ever.
    if lifted && own {
        plant.retry();
    }
    let there = (0..PATIENCE).any(|_| {
        plant.change(random, heat);
        match own {
            true => plant.world.crossdock.wait_ended(PAUSE),
            false => wait_until(PAUSE, || plant.world.crossdock.is_stopped()),
        }
    });
    match (own, there) {
        (true, _) => {
            plant.world.crossdock.kill();
            let log = plant.world.crossdock.log_tail();
            let at_point = log.lines().last().is_some_and(|l| l.starts_with("crash point"));
            assert!(at_point || !there, "it ended by itself: {log}");
        }
        (false, true) => {
            kill(plant, step);
            plant.world.crossdock.go_on().unwrap();
            plant.start_servers();
        }
        (false, false) => {}
    }
    there
}

fn kill(plant: &mut Plant, step: &Step) {
    if matches!(step.victim, Victim::Source | Victim::SourceAndTarget) {
        plant.world.server.kill();
    }
    if step.victim == Victim::Store {
        plant.world.store.kill();
    }
    if matches!(step.victim, Victim::Target | Victim::SourceAndTarget) {
        plant.kill_target(step.who);
    }
}

/// The kind of the source in a leg: legs that follow each other have different ones.
fn source_of(seed: u64) -> Kind {
    if seed.is_multiple_of(2) { Kind::Postgres } else { Kind::MariaDb }
}

/// Of two legs with the same kind of source, one has targets with several workers.
fn workers_of(seed: u64) -> usize {
    if seed % 4 < 2 { 1 } else { 4 }
}

/// A world from its beginning to its comparison.
fn leg(seed: u64, points: usize, reached: &mut Reached) {
    let _leg = Leg { seed, points };
    eprintln!(
        "CRASH_SEED={seed} CRASH_POINTS={points}, from {:?}, {} workers",
        source_of(seed),
        workers_of(seed)
    );
    let mut random = StdRng::seed_from_u64(seed);
    let mut plant = Plant::new(source_of(seed), workers_of(seed));
    let begun = Instant::now();
    for (at, step) in (1..).zip(schedule(&mut random, points)) {
        let there = run(&mut plant, &step, &mut random);
        if at % 20 == 0 {
            eprintln!("{at} of {points} after {:.0} s", begun.elapsed().as_secs_f64());
        }
        reached.note(&step, there);
        if !there {
            let status = plant.world.crossdock.status().map_or_else(
                |e| e.to_string(),
                |s| {
                    let of = |t: &&serde_json::Value| step.who.is_empty() || t["name"] == step.who;
                    s["targets"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter(of)
                        .map(|t| t.to_string())
                        .collect()
                },
            );
            eprintln!("not reached: {} for {:?}: {status}", step.name(), step.victim);
        }
    }
    plant.settle();
}

/// The lines of the file: a seed and how many points.
fn seeds(text: &str) -> impl Iterator<Item = (u64, usize)> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (seed, points) = line.split_once(' ')?;
        Some((seed.parse().unwrap(), points.trim().parse().unwrap()))
    })
}

#[test]
fn ending_anywhere_loses_doubles_and_swaps_nothing() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let wanted = setting("CRASH_POINTS").map_or(SHORT, |n| usize::try_from(n).unwrap());
    let first = setting("CRASH_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let mut reached = Reached::default();
    let begun = Instant::now();
    seeds(SEEDS).for_each(|(seed, points)| leg(seed, points, &mut Reached::default()));
    let legs: Vec<usize> = (0..wanted).step_by(LEG).map(|done| LEG.min(wanted - done)).collect();
    let mut tried = 0;
    for (seed, points) in (first..).zip(legs) {
        leg(seed, points, &mut reached);
        tried += points;
        let each = begun.elapsed().as_secs_f64() / tried as f64;
        eprintln!("{tried} of {wanted} points, {} reached, {each:.1} s each", reached.sum());
    }
    let (sum, never) = (reached.sum(), reached.never());
    eprintln!("ended at {sum} of {wanted} points; tried and never reached: {never:?}");
    assert!(sum * 4 >= wanted * 3, "most points are reached: {never:?}");
    // As many legs try every point several times.
    let all: Vec<String> = steps().iter().map(Step::name).collect();
    if wanted >= all.len() * SERVER_EVERY {
        assert!(never.is_empty(), "{never:?}");
        let tried = |name: &String| reached.0.contains_key(name);
        assert!(all.iter().all(tried), "the schedule has every point");
    }
}

#[test]
fn seeds_are_read() {
    let text = "# a comment\n\n17 60  # what was wrong\n4 3\n";
    assert_eq!(seeds(text).collect::<Vec<_>>(), [(17, 60), (4, 3)]);
    assert!(seeds(SEEDS).count() < 100);
}

/// Every point of the program is in the list: the source says which there are.
#[test]
fn every_point_has_its_turn() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut there: Vec<String> = Vec::new();
    for folder in ["service/src", "apply/src"] {
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                if path.extension().is_none_or(|end| end != "rs") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let calls = text.split("pass(\"").skip(1).chain(text.split("pass_of(\"").skip(1));
                there.extend(calls.filter_map(|c| Some(c.split_once('"')?.0.to_string())));
            }
        }
    }
    let listed: Vec<&str> = steps().iter().map(|step| step.point).collect();
    let known = |point: &str| listed.contains(&point) || point == LARGE;
    let missing: Vec<_> = there.iter().filter(|point| !known(point.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(there.len() >= 20, "{there:?}");
}
