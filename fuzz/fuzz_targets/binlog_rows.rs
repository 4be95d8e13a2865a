//! Row images of a binlog, for a table with columns of many types.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(block) = fuzzing::binlog_rows(data) {
        crossdock_model::block::decode(&block.bytes).expect("a block of ours decodes");
    }
});
