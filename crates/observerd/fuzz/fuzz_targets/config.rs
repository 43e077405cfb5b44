//! Any text as the settings. What must hold is in `config.rs` of the tests.

#![no_main]

#[path = "../../tests/it/fuzzed/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    config::config(input);
});
