//! The canonical store and the targets on real PostgreSQL and MariaDB servers.

#![allow(clippy::unwrap_used)]

mod check;
mod conflicts;
mod contract;
mod files;
mod parked;
mod presence;
mod service;
mod speed;
mod store;
mod subjects;
mod support;
mod target;
mod types;
mod upkeep;
