//! The config as a user meets it: files in, a checked config or exact messages out.

mod accepted;
mod agreement;
mod files;
mod problems;
mod secrets;
mod world;
