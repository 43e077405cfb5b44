//! Any text as the query and the last id of a stream. What must hold is in `sse_id.rs` of the tests.

#![no_main]

#[path = "../../tests/it/fuzzed/sse_id.rs"]
mod sse_id;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sse_id::sse_id(input);
});
