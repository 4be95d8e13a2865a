//! Lines of COPY for a table of many types: what is taken makes a sound block.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(block) = fuzzing::postgres_copy(data) {
        crossdock_model::block::decode(&block.bytes).expect("a block of ours decodes");
    }
});
