//! Opens any files as a journal. The input's format and what must hold are in `recovers.rs`, which the tests have too.

#![no_main]

#[path = "../../tests/journal/recovers.rs"]
mod recovers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| recovers::recovers(input));
