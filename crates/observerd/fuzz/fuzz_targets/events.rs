//! Any text as a batch. What must hold is in `events.rs` of the tests.

#![no_main]

#[path = "../../tests/it/fuzzed/event.rs"]
mod event;
#[path = "../../tests/it/fuzzed/events.rs"]
mod events;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    events::events(input);
});
