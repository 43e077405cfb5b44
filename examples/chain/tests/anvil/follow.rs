//! The command, as a process.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use watchkeeper_chain::adapter::ethereum::U256;

use crate::common::{PATIENCE, ether, node};

/// ```text
/// accounts own 10,000 ether each, and 3 come before where the observation begins
/// ```
#[tokio::test]
async fn wallets_open_with_what_they_have_where_the_observation_begins() {
    let node = node(1).await;
    let accounts = node.accounts().await.unwrap();
    node.transfer(accounts[0], accounts[1], ether(3)).await.unwrap();
    node.mine(69).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper-chain"));
    command.args(["follow", "--interval", "50ms", "--rpc", &node.http().to_string()]);
    command.args(["--wallet", &accounts[1].to_string(), "--wallet", &accounts[2].to_string()]);
    let mut follow = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Chain and wallets are told in no order.
    let mut heard: Vec<String> = Vec::new();
    let mut until = async |text: &str| {
        if let Some(at) = heard.iter().position(|line| line.contains(text)) {
            return heard.remove(at);
        }
        let line = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {text:?}: {heard:#?}"));
                if line.contains(text) {
                    return line;
                }
                heard.push(line);
            }
        };
        timeout(PATIENCE, line).await.unwrap_or_else(|_| panic!("no {text:?}"))
    };

    until("wallet1 10003.000000 ether at block 6 (").await;
    until("wallet2 10000.000000 ether at block 6 (").await;
    until(" 70 (").await;
    node.transfer(accounts[1], accounts[2], ether(2)).await.unwrap();
    node.mine(1).await.unwrap();
    until(" 71 (").await;
    let said = node.balance(accounts[1]).await.unwrap();
    let pid = follow.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    // The node rounds down as well.
    let micros = said / U256::from(1_000_000_000_000_u64);
    let (whole, rest) = (micros / U256::from(1_000_000), micros % U256::from(1_000_000));
    let line = until("wallet1").await;
    assert!(line.ends_with(&format!("wallet1 {whole}.{rest:0>6} ether at block 71")), "{line}");
    let line = until("wallet2").await;
    assert!(line.ends_with("wallet2 10002.000000 ether at block 71"), "{line}");
    assert!(timeout(PATIENCE, follow.wait()).await.unwrap().unwrap().success());
}
