//! The command `demo`, as a process.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use watchkeeper_chain_ethereum::anvil::BINARY_VARIABLE;

use crate::common::PATIENCE;

async fn demo(flags: &[&str], anvil: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chain"));
    command.arg("demo").args(flags).kill_on_drop(true);
    if let Some(anvil) = anvil {
        command.env(BINARY_VARIABLE, anvil);
    }
    timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
}

#[tokio::test]
async fn the_demo_shows_head_fork_wallets_and_events_and_sums_up() {
    let output = demo(&[], None).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text:?} in:\n{shown}"));
    let story = [
        "starting two nodes",
        // The end of a line about one or several blocks.
        " 5 (",
        "wallets before:",
        "n2 replaces 3 blocks by others, and makes one more",
        "reorg: 3 blocks disconnected, 4 connected above 2 (",
        "is reorged out: block ",
        "wallets after:",
        "the head is at 6; 10 of 10 balances changed with the reorg and match n2; value was conserved in",
        "stop was requested",
    ];
    assert!(story.map(at).is_sorted(), "{shown}");
    // Both branches side by side, and the block where they fork.
    let drawn = shown.split("fork").nth(1).unwrap();
    for (height, branches) in [(6, "*"), (5, "* *"), (4, "* *"), (3, "* *"), (2, "*-'"), (1, "*")] {
        let line = drawn.lines().find_map(|line| line.trim().strip_prefix(&format!("{height} ")));
        assert!(line.is_some_and(|line| line.trim().starts_with(&format!("{branches} "))), "{shown}");
    }
    for wallet in 1..=10 {
        let name = format!(" w{wallet} ");
        assert_eq!(shown.matches(&name).count(), 2, "before and after: {name:?} in\n{shown}");
    }
}

#[tokio::test]
async fn for_programs_each_line_is_an_object() {
    let output = demo(&["--json"], None).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let with = |key: &str| lines.iter().filter(|line| line.get(key).is_some()).count();
    assert!(lines.iter().all(|line| line["at_s"].is_number()), "{shown}");
    assert_eq!((with("fork"), with("wallets"), with("done"), with("ended")), (1, 2, 1, 1), "{shown}");
    assert!(with("event") >= 2, "{shown}");
}

#[tokio::test]
async fn a_missing_program_is_reported_in_one_line() {
    let output = demo(&[], Some("/no/such/anvil")).await;
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    let wrong = "WATCHKEEPER_ANVIL names /no/such/anvil";
    assert!(printed.lines().count() == 1 && printed.contains(wrong), "{printed}");
}
