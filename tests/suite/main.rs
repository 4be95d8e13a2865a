//! Whole-system suites. One binary, so that a clean machine links it once.

mod architecture;
mod config_errors;
mod crash;
mod debezium;
mod operation;
mod stage;
