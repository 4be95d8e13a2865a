//! The binlog reader against a private MariaDB, and against a private MySQL where there is one.

mod access;
mod charsets;
mod checksums;
mod compressed;
mod definitions;
mod failover;
mod gtids;
mod proxy;
mod random;
mod refused;
mod rig;
mod robustness;
mod snapshot;
mod streaming;
mod tables;
mod types;
mod xa;
