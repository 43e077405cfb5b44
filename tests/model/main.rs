//! The runtime against a model of it: random lives, played on both and compared after each step.
//!
//! A life is made of controls, wakes, time, changing sources, failures of every stage and cause,
//! hangs, subscribers and waits. The model defines what must be seen; see `reference.rs`.
//!
//! `PROPTEST_CASES` sets the number of lives. One that fails is made smaller for half a minute, printed,
//! and its seed kept in `regressions.txt` or `regressions_of_waits.txt`, which is played first from then on:
//! check it in.
#![allow(clippy::unwrap_used, reason = "tests")]

mod app;
mod judging;
mod life;
mod listen;
mod play;
mod read;
mod reference;
mod waiting;

use std::panic;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime::Builder;

const LIVES: u32 = 10_000;
const FULL_OF_WAITS: u32 = 2_500;
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions.txt");
const REGRESSIONS_OF_WAITS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions_of_waits.txt");

#[test]
fn a_runtime_does_what_the_model_says() {
    play(&life::life(), LIVES, REGRESSIONS);
}

/// In these lives little happens that waits do not judge.
#[test]
fn waits_say_what_is_judged_from_the_list_of_publications() {
    play(&life::full_of_waits(), FULL_OF_WAITS, REGRESSIONS_OF_WAITS);
}

fn play(lives: &impl Strategy<Value = life::Life>, count: u32, regressions: &'static str) {
    let by_default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { by_default.cases } else { count };
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_time: 30_000,
        ..by_default
    };
    hide_scripted_panics();
    let played = TestRunner::new(config).run(lives, |life| {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // Unconstrained: one step may look at more than tokio lets a task do at a time.
        executor.block_on(tokio::task::unconstrained(play::play(life)))
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

/// The scripted panics of the app are not printed.
fn hide_scripted_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let said = info.payload().downcast_ref::<&str>();
        if !said.is_some_and(|text| text.starts_with("scripted")) {
            usual(info);
        }
    }));
}
