//! Texts of PostgreSQL's values, of every type: what is taken comes out of a block as it went in.
#![no_main]

use crossdock_capture::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((value, block)) = fuzzing::postgres_value(data) {
        let fragments = crossdock_model::block::decode(&block.bytes).expect("decodes");
        let after = fragments[0].events[0].after.as_ref().expect("has an image");
        // Texts, since NaN is not equal to itself.
        assert_eq!(format!("{:?}", after.get(0).expect("has a column")), value);
    }
});
