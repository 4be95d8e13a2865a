//! Blocks of the journal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(fragments) = crossdock_model::block::decode(data) {
        for event in fragments.iter().flat_map(|fragment| &fragment.events) {
            for image in [&event.before, &event.after].into_iter().flatten() {
                for column in 0..event.table.as_ref().map_or(0, |table| table.columns.len()) {
                    let _ = image.get(column).map(crossdock_model::Value::to_text);
                }
            }
        }
    }
});
