//! Events of a binlog, in any order.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(block) = fuzzing::binlog(data) {
        crossdock_model::block::decode(&block.bytes).expect("a block of ours decodes");
    }
});
