//! Any text as an operation. What must hold is in `event.rs` of the tests.

#![no_main]

#[path = "../../tests/it/fuzzed/event.rs"]
mod event;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    event::event(input);
});
