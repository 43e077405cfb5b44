//! The command `follow`, as a process.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use watchkeeper_chain_ethereum::U256;

use crate::common::{PATIENCE, ether, node};

/// ```text
/// each account owns 10,000 ether; a payment of 3 comes before the block where the observation begins
/// ```
#[tokio::test]
async fn wallets_open_with_their_balance_at_the_start_of_the_observation() {
    let node = node(1).await;
    let accounts = node.accounts().await.unwrap();
    node.transfer(accounts[0], accounts[1], ether(3)).await.unwrap();
    node.mine(69).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chain"));
    command.args(["follow", "--interval", "50ms", "--rpc", &node.http().to_string()]);
    command.args(["--wallet", &accounts[1].to_string(), "--wallet", &accounts[2].to_string()]);
    let mut follow = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Lines of chain and wallets come in any order.
    let mut unclaimed: Vec<String> = Vec::new();
    let mut until = async |text: &str| {
        if let Some(at) = unclaimed.iter().position(|line| line.contains(text)) {
            return unclaimed.remove(at);
        }
        let line = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {text:?}: {unclaimed:#?}"));
                if line.contains(text) {
                    return line;
                }
                unclaimed.push(line);
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
    let balance = node.balance(accounts[1]).await.unwrap();
    let pid = follow.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    // The command rounds down as well.
    let micros = balance / U256::from(1_000_000_000_000_u64);
    let (whole, rest) = (micros / U256::from(1_000_000), micros % U256::from(1_000_000));
    let line = until("wallet1").await;
    assert!(line.ends_with(&format!("wallet1 {whole}.{rest:0>6} ether at block 71")), "{line}");
    let line = until("wallet2").await;
    assert!(line.ends_with("wallet2 10002.000000 ether at block 71"), "{line}");
    assert!(timeout(PATIENCE, follow.wait()).await.unwrap().unwrap().success());
}
