//! Judges as `crossdock-bench canonical` does with an allocator that counts, and prints the number
//! of allocations for each row change.

#[path = "../canonical/mod.rs"]
mod canonical;

use std::alloc::System;

use anyhow::Result;
use canonical::Conditions;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Orders: enough for a figure with two places.
const ORDERS: u32 = 1_000;

fn main() -> Result<()> {
    // Further arguments are for profiling: orders to count, orders that are there before.
    let number = |at: usize, usual: u32| {
        std::env::args().nth(at).map_or(Ok(usual), |text| text.parse::<u32>())
    };
    let (orders, history) = (number(2, ORDERS)?, number(3, canonical::HISTORY)?);
    let batch = usize::try_from(number(1, 1_000)?)?;
    let rules = canonical::rules(Conditions::Demo)?;
    let meter = || {
        let stats = INSTRUMENTED_SYSTEM.stats();
        (stats.allocations + stats.reallocations) as u64
    };
    let took = canonical::judge(&rules, (history, orders), batch, &meter)?;
    println!("{:.2}", took.total() as f64 / took.changes as f64);
    Ok(())
}
