//! Private database servers for tests, the demo and benchmarks: own data directories, free
//! loopback ports, nothing shared with a server that the machine may run.
//!
//! A server never outlives the process that started it, also when that panics, is interrupted or
//! killed: it hangs on a pipe, and a small watchdog shell stops it when the pipe closes.
//! As root, servers run as the users that their packages made (`postgres`, `mysql`).
//!
//! Knows nothing of Crossdock.

mod certificates;
mod daemon;
mod lake;
mod mariadb;
mod mysql;
mod postgres;
mod process;
pub mod service;

pub use certificates::make_certificates;
pub use daemon::{Daemon, DaemonOptions};
pub use lake::parquet_rows;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use mysql::{MySql, MySqlOptions};
pub use parquet::record::Field;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Watched, free_port, wait_until};
