//! The proof of what is promised: random lives of a journal, with power cuts, kills and failing disks, against a model.
//!
//! A power cut loses any of the unsynced blocks, sizes and names. `JOURNAL_CASES` sets the number of lives. Deliberate
//! [bugs] show that the model finds what is wrong.

mod bugs;
mod disk;
mod life;
mod model;

use std::sync::Arc;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

const CASES: u32 = 10_000;

/// The lives are shared out to the cores.
const PARTS: u32 = 2;

fn prove() {
    let cases = std::env::var("JOURNAL_CASES").ok().map_or(CASES, |cases| cases.parse().unwrap());
    let config = Config {
        cases: cases.div_ceil(PARTS),
        failure_persistence: None,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let lived = TestRunner::new(config)
        .run(&life::life(), |life| life.live(|disk| Arc::new(disk)).map_err(TestCaseError::fail));
    if let Err(failure) = lived {
        panic!("{failure}");
    }
}

#[test]
fn nothing_promised_is_lost_in_one_half_of_the_lives() {
    prove();
}

#[test]
fn nothing_promised_is_lost_in_the_other_half() {
    prove();
}
