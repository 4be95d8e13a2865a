//! Scratch.
#[path = "../src/canonical/mod.rs"]
mod canonical;
use canonical::Conditions;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let orders: u32 = std::env::args().nth(1).map_or(1000, |t| t.parse().unwrap());
    let batch = std::env::args().nth(2).map_or(1000, |t| t.parse().unwrap());
    let meter = || u64::try_from(cpu_time::ThreadTime::now().as_duration().as_nanos()).unwrap();
    let which =
        if std::env::args().nth(3).is_some() { Conditions::EveryRow } else { Conditions::Demo };
    let rules = canonical::rules(which).unwrap();
    for _ in 0..2 {
        let took = canonical::judge(&rules, orders, batch, &meter).unwrap();
        let each = |n: u64| n as f64 / 1e3 / took.changes as f64;
        println!(
            "{:.0}/s; fold {:.2} judge {:.2} provide {:.2} finish {:.2}; rounds {:.1}; {:?}",
            took.changes as f64 * 1e9 / took.total() as f64,
            each(took.fold),
            each(took.needs),
            each(took.provide),
            each(took.finish),
            took.rounds as f64 / took.batches as f64,
            took.result
        );
    }
}
