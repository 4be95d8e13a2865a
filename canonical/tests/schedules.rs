//! How many random schedules a property is tried with, and how a failing one is found again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Tries a property with `SCHEDULES` schedules (`make test-schedules`), with `short` ones without
/// it. The first one has the number `SEED`, 1 without it. A failure prints what repeats it.
pub fn try_all(name: &str, short: u64, property: impl Fn(&mut StdRng)) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|n| n.parse().ok());
    let first: u64 = number("SEED").unwrap_or(1);
    let schedules = number("SCHEDULES").unwrap_or(short);
    for seed in first..first + schedules {
        let tried = catch_unwind(AssertUnwindSafe(|| property(&mut StdRng::seed_from_u64(seed))));
        if let Err(failure) = tried {
            eprintln!("to repeat it: SEED={seed} SCHEDULES=1 cargo test --test main {name}");
            resume_unwind(failure);
        }
    }
}
