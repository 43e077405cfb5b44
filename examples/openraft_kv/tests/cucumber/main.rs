//! The features, on local processes: `cargo test -p openraft_kv --test cucumber`.
#![allow(clippy::needless_pass_by_value, reason = "cucumber passes what a step says by value")]

mod steps;

use std::process::ExitCode;

use cucumber::World as _;
use steps::World;
use watchkeeper_cucumber::{after, finish_run, list_tests, with_steps};

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/features");

#[tokio::main]
async fn main() -> ExitCode {
    if list_tests(&["features"]) {
        return ExitCode::SUCCESS;
    }
    let run = World::cucumber()
        .steps(with_steps(World::collection()))
        .after(after)
        // Each scenario starts a cluster of processes.
        .max_concurrent_scenarios(1)
        .fail_on_skipped();
    // Nextest passes its own arguments.
    let run = if std::env::var_os("NEXTEST").is_some() { run.with_default_cli() } else { run };
    finish_run(&run.run(FEATURES).await)
}
