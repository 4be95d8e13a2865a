//! Capture against real databases.

mod mysql;
mod postgres;
