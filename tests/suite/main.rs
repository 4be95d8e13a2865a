//! Whole-system suites. One binary, so that a clean machine links it once.

mod architecture;
mod config_errors;
mod debezium;
mod stage;
