//! How many random schedules a property is tried with, and how a failing one is found again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::test_runner::Config as ProptestConfig;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// How many schedules are tried: `SCHEDULES`, `short` without it.
pub fn count(short: u64) -> u64 {
    number("SCHEDULES").unwrap_or(short)
}

/// The same for proptest, which has its own numbers.
pub fn cases(short: u64) -> ProptestConfig {
    ProptestConfig::with_cases(u32::try_from(count(short)).unwrap_or(u32::MAX))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Tries a property with `SCHEDULES` schedules (`make test-schedules`), with `short` ones without
/// it. The first one has the number `SEED`, 1 without it. A failure prints what repeats it.
pub fn try_all(name: &str, short: u64, property: impl Fn(&mut StdRng)) {
    let first = number("SEED").unwrap_or(1);
    for seed in first..first + count(short) {
        let tried = catch_unwind(AssertUnwindSafe(|| property(&mut StdRng::seed_from_u64(seed))));
        if let Err(failure) = tried {
            eprintln!("to repeat it: SEED={seed} SCHEDULES=1 cargo test --test main {name}");
            resume_unwind(failure);
        }
    }
}
