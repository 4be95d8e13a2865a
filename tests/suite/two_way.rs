//! Two systems that both write, and Crossdock between them: each owns some columns and overwrites
//! the other's too, with triggers and generated columns at work. In the end both hold what the
//! owners said last, nothing runs in circles, and no write of Crossdock's counts as news.

use std::time::Duration;

use crossdock_harness::{MySql, wait_until};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::pair::{PARTS, Pair};
use crate::world::{Kind, LIMIT};

/// Writes in one script: a script is one connection, each statement a transaction.
const SCRIPT: usize = 5;
/// Overwrites of one column of one part: a system that insists is not written to for ever.
const OVERWRITES_MAX: usize = 2;

const RULES: &str = r#"
[defaults]
on_violation = "revert"
[entity.part]
owner = "wms"
[entity.part.fields]
description = { owner = "erp" }
seen = { owner = "erp" }

[[subscribe]]
name = "to_warehouse"
target = "wms"
entity = "part"
fields = ["description", "seen"]
table = "WMS.parts"
write = "update"
key = { no = 'rec.no' }
columns = { description = 'rec.description', seen = 'rec.seen' }

[[subscribe]]
name = "to_erp"
target = "erp"
entity = "part"
fields = ["bin", "label", "touched"]
table = "public.parts"
write = "update"
key = { no = 'rec.no' }
columns = { bin = 'rec.bin', label = 'rec.label', touched = 'rec.touched' }
"#;

/// What one system's application writes, and what it said last of what it owns.
struct Writer {
    own: &'static str,
    others: &'static [&'static str],
    last: Vec<String>,
    overwritten: Vec<usize>,
    scripts: Vec<String>,
}

impl Writer {
    fn random(
        rng: &mut StdRng,
        writes: usize,
        own: &'static str,
        others: &'static [&'static str],
        first: &str,
    ) -> Self {
        let (last, overwritten) = (vec![first.to_owned(); PARTS], vec![0; PARTS * others.len()]);
        let mut writer = Self { own, others, last, overwritten, scripts: Vec::new() };
        let statements: Vec<String> = (0..writes).map(|n| writer.write(rng, n)).collect();
        writer.scripts = statements.chunks(SCRIPT).map(|script| script.concat()).collect();
        writer
    }

    fn write(&mut self, rng: &mut StdRng, n: usize) -> String {
        let part = rng.random_range(0..PARTS);
        let mut set = Vec::new();
        let other = rng.random_range(0..self.others.len());
        let overwritten = &mut self.overwritten[part * self.others.len() + other];
        if rng.random_bool(0.4) && *overwritten < OVERWRITES_MAX {
            *overwritten += 1;
            let value = if self.others[other].ends_with('d') || self.others[other] == "seen" {
                format!("{}", 1_000 + n)
            } else {
                format!("'overwritten {n}'")
            };
            set.push(format!("{} = {value}", self.others[other]));
        }
        if set.is_empty() || rng.random_bool(0.3) {
            let words = ["bolt", "nut", "gear"];
            self.last[part] = format!("{} {n}", words.choose(rng).unwrap());
            set.push(format!("{} = '{}'", self.own, self.last[part]));
        }
        format!("UPDATE parts SET {} WHERE id = {};\n", set.join(", "), part + 1)
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn both_converge(kind: Kind) {
    let seed = number("TWO_WAY_SEED", 1);
    let writes = usize::try_from(number("TWO_WAY_WRITES", 60)).unwrap();
    println!("TWO_WAY_SEED={seed} TWO_WAY_WRITES={writes}");
    let mut rng = StdRng::seed_from_u64(seed);
    let erp = Writer::random(&mut rng, writes, "description", &["bin", "label", "touched"], "new");
    let wms = Writer::random(&mut rng, writes, "bin", &["description", "seen"], "A");
    let mut pair = Pair::new(kind, RULES);
    pair.crossdock.start().unwrap();
    pair.crossdock.wait_caught_up(LIMIT).unwrap();
    std::thread::scope(|scope| {
        let (one, other) = (&pair.erp, &pair.wms);
        scope.spawn(|| erp.scripts.iter().for_each(|s| _ = one.sql("erp", s).unwrap()));
        scope.spawn(|| wms.scripts.iter().for_each(|s| _ = other.sql("wms", s).unwrap()));
    });
    pair.crossdock.wait_caught_up(LIMIT).unwrap();

    for system in ["erp", "wms"] {
        assert_eq!(pair.column(system, "description"), erp.last, "{system}");
        assert_eq!(pair.column(system, "bin"), wms.last, "{system}");
        let labels: Vec<String> = erp.last.iter().map(|text| text.to_uppercase()).collect();
        assert_eq!(pair.column(system, "label"), labels, "{system}: made by the warehouse");
    }
    for counted in ["seen", "touched"] {
        assert_eq!(pair.column("erp", counted), pair.column("wms", counted), "{counted}");
    }
    rests(&pair, writes);
}

/// Nothing goes on, nothing went in circles, and no write of ours was taken for news.
fn rests(pair: &Pair, writes: usize) {
    let sums = "SELECT sum(version), max(version) FROM crossdock.record;
                SELECT count(*) FROM crossdock.delivery";
    let before = pair.ask(sums);
    let moved = || pair.ask(sums) != before;
    assert!(!wait_until(Duration::from_secs(2), moved), "{before}, then {}", pair.ask(sums));
    let versions: usize = before.split('|').next().unwrap().parse().unwrap();
    // A write of an owner makes a version, and so do its trigger's echoes: at most one from each
    // of the two systems' counters. A write that is put back can make a counter move twice.
    let most = PARTS * 4 + writes * 2 * 4;
    assert!(versions <= most, "{versions} versions after {writes} writes on each side");
    let status = pair.crossdock.status().unwrap();
    assert_eq!(status["echo_leaked_total"], 0, "{status:#}");
    for counted in ["echo_dropped_total", "withheld_total"] {
        assert!(status[counted].as_u64().unwrap() > 0, "{counted}: nothing was tried: {status:#}");
    }
    let open = pair.ask("SELECT count(*) FROM crossdock.exception WHERE open");
    assert_eq!(open, "0", "{}", pair.ask("SELECT kind, text FROM crossdock.exception WHERE open"));
}

#[test]
fn two_way_postgres_converges() {
    both_converge(Kind::Postgres);
}

#[test]
fn two_way_mariadb_converges() {
    both_converge(Kind::MariaDb);
}

#[test]
fn two_way_mysql_converges() {
    if MySql::installed() {
        both_converge(Kind::MySql);
    }
}
