//! The demo: the systems of a manufacturer on private servers, a workload that plays their
//! business, and an independent account of what must come out of it.
//!
//! Knows nothing of Crossdock's code: it starts the `crossdock` program like a user would, and
//! judges it by what stands in the databases.

pub mod demo;
pub mod expect;
pub mod live;
pub mod master;
pub mod plan;
pub mod play;
pub mod seed;
pub mod service;
mod sql;
pub mod systems;
pub mod times;
pub mod verify;
pub mod workload;
