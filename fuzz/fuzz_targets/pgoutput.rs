//! Messages of PostgreSQL's logical decoding, in any order: what is taken makes sound blocks.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for block in fuzzing::pgoutput(data) {
        crossdock_model::block::decode(&block.bytes).expect("a block of ours decodes");
    }
});
