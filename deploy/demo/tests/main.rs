//! The demo without Crossdock: history and workload on real servers, against their account.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contracts;
mod files;
mod grants;
mod sources;
