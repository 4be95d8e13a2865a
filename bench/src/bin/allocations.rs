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
    let batch = std::env::args().nth(1).map_or(Ok(1_000), |text| text.parse())?;
    let rules = canonical::rules(Conditions::Demo)?;
    let meter = || {
        let stats = INSTRUMENTED_SYSTEM.stats();
        (stats.allocations + stats.reallocations) as u64
    };
    let took = canonical::judge(&rules, ORDERS, batch, &meter)?;
    println!("{:.2}", took.total() as f64 / took.changes as f64);
    Ok(())
}
