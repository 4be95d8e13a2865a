//! The process `crossdock`: reads the command line and runs one command.

#[macro_use]
mod output;

mod board;
mod cli;
mod clock;
mod contract;
mod control;
mod copies;
mod crash_points;
mod forecast;
mod gaps;
mod http;
mod in_force;
mod init;
mod metrics;
mod observe;
mod operator;
mod pipeline;
mod preflight;
mod registry;
mod stage;
mod supervisor;
mod takeover;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

/// Judging allocates often and little, on few threads: see `docs/adr/0030`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One TLS provider for the process; it fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    crash_points::arm();
    cli::run(cli::Arguments::parse())
}
