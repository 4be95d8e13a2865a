//! How many random schedules a property is tried with, and how a failing one is found again.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

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
/// it. The first one has the number `SEED`, 1 without it. A failure prints what repeats it. Many
/// schedules are shared out to all processors.
pub fn try_all(name: &str, short: u64, property: impl Fn(&mut StdRng) + Sync) {
    let (next, end) = (number("SEED").unwrap_or(1), count(short));
    let end = next.saturating_add(end);
    let next = AtomicU64::new(next);
    let threads = match count(short) > short {
        true => std::thread::available_parallelism().map_or(1, NonZero::get),
        false => 1,
    };
    std::thread::scope(|scope| {
        let tries = || try_some(name, &next, end, &property);
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(tries)).collect();
        tries();
        for other in others {
            other.join().unwrap_or_else(|failure| resume_unwind(failure));
        }
    });
}

/// Tries one schedule after the other that nobody else has taken.
fn try_some(name: &str, next: &AtomicU64, end: u64, property: &(impl Fn(&mut StdRng) + Sync)) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let tried = catch_unwind(AssertUnwindSafe(|| property(&mut StdRng::seed_from_u64(seed))));
        if let Err(failure) = tried {
            eprintln!("to repeat it: SEED={seed} SCHEDULES=1 cargo test --test main {name}");
            // The others need not go on.
            next.store(end, Ordering::Relaxed);
            resume_unwind(failure);
        }
    }
}
