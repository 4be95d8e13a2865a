//! The config as a user meets it: files in, a checked config or exact messages out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted;
mod agreement;
mod anything;
mod files;
mod poll;
mod problems;
mod rules;
mod secrets;
mod world;
