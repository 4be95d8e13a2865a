//! Rules and workspaces against a store in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod demo_files;
mod judging;
mod language;
mod loops;
mod problems;
mod properties;
mod scenario;
mod store;
