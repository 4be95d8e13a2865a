//! Rules and workspaces against a store in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod aliases;
mod codes;
mod companies;
mod cross_references;
mod demo;
mod demo_files;
mod guards;
mod interleavings;
mod judging;
mod language;
mod loops;
mod manufacturer;
mod overlays;
mod ownership;
mod pieces;
mod problems;
mod properties;
mod references;
mod replay;
mod rounds;
mod scenario;
mod schedules;
mod store;
mod sums;
mod upcasts;
