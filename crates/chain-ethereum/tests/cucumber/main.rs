//! The features, on real nodes. Run by `cargo xtask test --only chains`.
#![allow(clippy::needless_pass_by_value, reason = "cucumber passes the captures of a step by value")]

mod chain_steps;
mod mistakes;
mod world;

use std::process::ExitCode;

use chain_steps::with_chain_steps;
use cucumber::World as _;
use watchkeeper_cucumber::{after, finish_run, list_tests, with_steps};
use world::World;

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/features");
/// The tests that nextest lists.
const TESTS: [&str; 2] = ["features", "mistakes"];

#[tokio::main]
async fn main() -> ExitCode {
    if list_tests(&TESTS) {
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args().collect();
    let names = |test: &str| args.iter().any(|arg| arg == test);
    // Nextest asks for one of them. `finish_run` counts all scenarios before it, so the features come first.
    let is_asked_for = |test| names(test) || !TESTS.iter().any(|test| names(test));
    let exit = if is_asked_for("features") { features().await } else { ExitCode::SUCCESS };
    if is_asked_for("mistakes") {
        mistakes::each_is_one_clear_error().await;
    }
    exit
}

async fn features() -> ExitCode {
    let run = World::cucumber()
        .steps(with_chain_steps(with_steps(World::collection())))
        .after(after)
        // Each scenario starts nodes.
        .max_concurrent_scenarios(1)
        .fail_on_skipped()
        // Nextest and cargo pass their own arguments, which cucumber must not parse.
        .with_default_cli();
    finish_run(&run.run(FEATURES).await)
}
