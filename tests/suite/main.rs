//! Whole-system suites. One binary, so that a clean machine links it once.
#![allow(clippy::unwrap_used)] // a test's way to fail; the setting covers `#[test]` functions only

mod architecture;
mod config_errors;
mod connectors;
mod contracts;
mod crash;
mod crash_points;
mod debezium;
mod drift;
mod epcis;
mod fencing;
mod gaps;
mod guards;
mod init;
mod lanes;
mod large;
mod memory;
mod mirror;
mod operation;
mod order_states;
mod outbox;
mod parcels;
mod polling;
mod refused;
mod registry;
mod reload;
mod rest;
mod scenarios;
mod snapshots;
mod stage;
mod takeover;
mod two_way;
mod world;
