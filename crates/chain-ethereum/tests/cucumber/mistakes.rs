//! Scenarios that fail, and their messages.

use std::collections::BTreeMap;
use std::fs::{self, File};

use cucumber::World as _;
use cucumber::writer::Json;
use serde_json::Value;
use watchkeeper_cucumber::{after, with_steps};

use crate::chain_steps::with_chain_steps;
use crate::world::World;

const FEATURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cucumber/mistakes.feature");

/// By scenario, the beginning of the error of its last step, and another part of it.
const EXPECTED: [(&str, &str, &str); 15] = [
    ("No chain", "no chain is observed yet", "Given step"),
    ("Unknown node", "no node is called \"n9\"; the nodes are n1, n2", "in sync"),
    ("Unknown transaction", "no transaction is called \"u\"; the transactions are t", ""),
    ("No transaction", "no transaction is called \"u\"; there are no transactions", ""),
    ("Unknown wallet", "no wallet is called \"z\"; the wallets are a, b, c, d, e, f, g, h, i, j", "at least"),
    ("Zero time", "\"0 seconds\" is no time to wait", "more than zero"),
    ("Zero depth", "0 blocks deep cannot be waited for", "at least 1"),
    ("Unknown unit", "\"5 pounds\" is no amount: give a whole number of one of ether, gwei, wei", "5 ether"),
    ("Different heads", "", "n1 has "),
    ("A node that hangs", "", "n2 has "),
    ("No public chain", "", "there is no public chain to compare with, how far n1 is behind is unknown"),
    ("Too poor", "", "a has 10000 ether"),
    ("Behind", "", "the public chain is at height 3, n1 is 1 block behind"),
    ("Not deep enough", "", "2 deep"),
    ("Still in", "", "1 deep"),
];

/// # Panics
///
/// If a scenario passes, or fails otherwise than expected.
pub(crate) async fn each_is_one_clear_error() {
    let mut failed = failures().await;
    for (scenario, begins, contains) in EXPECTED {
        let errors = failed.remove(scenario).unwrap_or_default();
        let [error] = &errors[..] else { panic!("{scenario}: {errors:?}") };
        let error = error.strip_prefix("Step panicked. Captured output: ").unwrap_or(error);
        assert!(error.starts_with(begins) && error.contains(contains), "{scenario}: {error}");
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// By scenario, the errors of its failed steps and hooks.
async fn failures() -> BTreeMap<String, Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.json");
    let report = File::create(&path).expect("a file");
    World::cucumber()
        .steps(with_chain_steps(with_steps(World::collection())))
        .after(after)
        .max_concurrent_scenarios(1)
        .with_writer(Json::new(report))
        .with_default_cli()
        .fail_on_skipped()
        .run(FEATURE)
        .await;
    let report = fs::read_to_string(&path).expect("the report");
    let features: Value = serde_json::from_str(&report).expect("JSON");
    let mut failures = BTreeMap::<String, Vec<String>>::new();
    for scenario in features[0]["elements"].as_array().into_iter().flatten() {
        let failed = failures.entry(scenario["name"].as_str().unwrap_or_default().to_owned()).or_default();
        let parts = ["steps", "after"].map(|part| scenario[part].as_array().cloned().unwrap_or_default());
        for result in parts.concat().iter().map(|part| &part["result"]) {
            failed.extend(result["error_message"].as_str().map(str::to_owned));
        }
    }
    failures
}
