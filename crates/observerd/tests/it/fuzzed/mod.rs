//! The corpora of the fuzz targets, without the fuzzer.
//!
//! Inputs `valid-*` are accepted, and inputs `invalid-*` are not. What the fuzzer has found is beside them, in files `found-*`.

mod config;
mod event;
mod events;
mod sse_id;

use std::fs;
use std::path::Path;

/// Inputs of which one has failed before, and those that say what is accepted.
fn replay(target: &str, accepts: fn(&[u8]) -> bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        // The name is in the output of a test that fails.
        println!("{}", path.display());
        let is_accepted = accepts(&fs::read(&path).unwrap());
        match path.file_name().unwrap().to_str().unwrap().split('-').next().unwrap() {
            "valid" => assert!(is_accepted, "it is valid"),
            "invalid" => assert!(!is_accepted, "it is invalid"),
            "found" => {}
            _ => panic!("the name says what it is"),
        }
        count += 1;
    }
    assert!(count >= 20, "{target} has {count} inputs");
}

#[test]
fn each_config_of_the_corpus_is_read_or_refused() {
    replay("config", config::config);
}

#[test]
fn each_event_of_the_corpus_is_read_or_refused() {
    replay("event", event::event);
}

#[test]
fn each_batch_of_the_corpus_is_read_or_refused() {
    replay("events", events::events);
}

#[test]
fn each_position_of_the_corpus_is_found_or_refused() {
    replay("sse_id", sse_id::sse_id);
}
