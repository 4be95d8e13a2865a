//! Capture against real databases.

// A failed step ends the test; helpers outside `#[test]` functions do not count as tests.
#![allow(clippy::unwrap_used)]

mod mysql;
mod poll;
mod postgres;
