//! Doors to the decoders for the fuzz targets: each takes bytes as they come from outside.

pub use crate::mysql::fuzzing::{binlog, binlog_rows, jsonb, mysql_reply};
pub use crate::postgres::fuzzing::{pgoutput, postgres_copy, postgres_reply, postgres_value};
