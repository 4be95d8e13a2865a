//! `bench-canonical` as a table: row changes a second on one core against the goals, and
//! allocations for each.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cpu_time::ThreadTime;

use crate::canonical::{self, Conditions, HISTORY, Took};
use crate::report::{Row, publish};

const NAME: &str = "canonical";
/// Row changes a second with the demo's rules.
const GOAL: f64 = 300_000.0;
/// Row changes a second with a condition in CEL for every row.
const GOAL_CEL: f64 = 100_000.0;

/// Runs the benchmark.
pub fn bench(runs: u32, orders: u32, batch: usize) -> Result<()> {
    let demo = canonical::rules(Conditions::Demo)?;
    let every_row = canonical::rules(Conditions::EveryRow)?;
    let (mut plain, mut cel) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for (what, rules, goal, pairs) in [
            ("demo's rules", &demo, GOAL, &mut plain),
            ("CEL for every row", &every_row, GOAL_CEL, &mut cel),
        ] {
            let took = canonical::judge(rules, (HISTORY, orders), batch, &cpu_nanos)?;
            let rate = took.changes as f64 * 1e9 / took.total() as f64;
            eprintln!("run {run}, {what}: {rate:.0}/s; {}", told(&took));
            pairs.push((rate, goal));
        }
    }
    let allocations = allocations(batch)?;
    let (goal, goal_cel) = ("goal 300000/s", "goal 100000/s");
    let metric = "row changes/s on one core, demo's rules";
    publish(
        NAME,
        &[
            Row::more_is_better(NAME, goal, metric, &plain),
            Row::more_is_better(NAME, goal_cel, "row changes/s, CEL for every row", &cel),
            Row::less_is_better(
                NAME,
                "none",
                "allocations for a row change",
                &[(allocations, 0.0)],
            ),
        ],
    )
}

/// CPU time of this thread so far.
fn cpu_nanos() -> u64 {
    u64::try_from(ThreadTime::now().as_duration().as_nanos()).unwrap_or(u64::MAX)
}

fn told(took: &Took) -> String {
    let each = |nanos: u64| nanos as f64 / 1e3 / took.changes as f64;
    let (records, versions, deliveries) = took.result;
    format!(
        "of each change fold {:.2} µs, map and judge {:.2}, take in {:.2}, end {:.2}; {:.1} rounds \
         a batch; {} changes, {records} records, {versions} versions, {deliveries} deliveries",
        each(took.fold),
        each(took.needs),
        each(took.provide),
        each(took.finish),
        took.rounds as f64 / took.batches as f64,
        took.changes,
    )
}

/// The other program counts: its allocator would slow this one down.
fn allocations(batch: usize) -> Result<f64> {
    let program = std::env::current_exe()?.with_file_name("crossdock-bench-allocations");
    let output = Command::new(&program)
        .arg(batch.to_string())
        .output()
        .with_context(|| format!("{}: cargo build -p crossdock-bench", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
