//! The guide's consumer that must not lose: killed at every await, and pausing for as long as its history was made for.

#![allow(
    dead_code,
    clippy::unused_async,
    reason = "the guide's program is here as a whole: its kill is one of ours, and its log is in memory"
)]

mod killed;
mod pauses;

// Not a module: it is formatted as the guide is.
include!("guide.rs");

#[test]
fn the_guide_has_this_program() {
    let guide = include_str!("../../../docs/consumer.md");
    assert!(
        guide.contains(include_str!("guide.rs")),
        "docs/consumer.md and tests/it/consumer/guide.rs differ"
    );
}
