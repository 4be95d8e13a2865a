//! The binlog reader against a private MariaDB.

mod rig;
mod robustness;
mod streaming;
mod types;
