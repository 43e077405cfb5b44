//! Random lives of a pipeline of two stages, against a model that judges each call of a handler and each commit.

#![allow(
    clippy::cast_possible_truncation,
    clippy::struct_excessive_bools,
    reason = "tests: all numbers are small, and a model is a list of facts"
)]

mod acting;
mod plan;
mod play;
mod world;

use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;

const CASES: u32 = 500;

/// `PIPELINE_CASES` sets the number of lives.
#[test]
fn whatever_fails_each_item_is_committed_in_order_or_is_a_dead_letter() {
    let cases = std::env::var("PIPELINE_CASES").ok().map_or(CASES, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, max_shrink_time: 30_000, ..Config::default() };
    let played = TestRunner::new(config).run(&plan::plan(), |plan| {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(play::play(&plan)).map_err(proptest::test_runner::TestCaseError::fail)
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}
