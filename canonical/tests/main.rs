//! Rules and workspaces against a store in memory.

mod demo_files;
mod judging;
mod problems;
mod properties;
mod store;
