//! Rules and workspaces against a store in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod demo_files;
mod guards;
mod judging;
mod language;
mod problems;
mod properties;
mod replay;
mod rounds;
mod scenario;
mod store;
