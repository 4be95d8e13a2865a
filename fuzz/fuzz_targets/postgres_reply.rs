//! What a server answers before the stream: errors, rows of queries, certificates, histories.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::postgres_reply(data));
