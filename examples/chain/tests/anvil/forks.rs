//! The command `forks`, as a process.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::{PATIENCE, node};

/// ```text
/// 0 - ... - 4 - 5 - 6              (before)
///             \
///               5' - 6' - 7'       (after)
/// ```
#[tokio::test]
async fn a_branch_that_was_left_is_printed_with_the_way_back_to_it() {
    let node = node(6).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_chain"));
    command.args([
        "forks",
        "--json",
        "--interval",
        "50ms",
        "--until",
        "7",
        "--rpc",
        &node.http().to_string(),
    ]);
    let mut forks = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(forks.stdout.take().unwrap()).lines();
    let mut next = async || timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    while !next().await.unwrap().contains("\"height\":6}") {}
    node.reorg(2).await.unwrap();
    node.mine(1).await.unwrap();
    let mut last = None;
    while let Some(line) = next().await {
        last = Some(serde_json::from_str(&line).unwrap())
            .filter(|line: &Value| line["forks"].is_array())
            .or(last);
    }
    let last = last.unwrap();
    let [fork] = &last["forks"].as_array().unwrap()[..] else { panic!("{last}") };
    let heights = |way: &str| -> Vec<u64> {
        fork[way]["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["height"].as_u64().unwrap())
            .collect()
    };
    assert_eq!((heights("disconnects"), heights("connects")), (vec![7, 6, 5], vec![5, 6]));
    assert_eq!((&fork["fork"]["height"], &fork["distance"]), (&4.into(), &5.into()));
    assert!(timeout(PATIENCE, forks.wait()).await.unwrap().unwrap().success());
}
