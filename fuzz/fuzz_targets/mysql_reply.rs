//! What a MySQL or MariaDB server sends: its greeting and the log-in, rows of queries, the log.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::mysql_reply(data));
