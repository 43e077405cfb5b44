//! The command, as a process.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::{PATIENCE, ether, node};

#[tokio::test]
async fn wallets_are_followed_from_where_the_observation_begins() {
    let node = node(70).await;
    let accounts = node.accounts().await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper-chain"));
    command.args(["follow", "--interval", "50ms", "--rpc", &node.http().to_string()]);
    command.args(["--wallet", &accounts[1].to_string()]);
    let mut follow = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut until = async |text: &str| {
        let line = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {text:?}"));
                if line.contains(text) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, line).await.unwrap_or_else(|_| panic!("no {text:?}"))
    };

    until(" 70 (").await;
    node.transfer(accounts[0], accounts[1], ether(2)).await.unwrap();
    // The first pays; two looks later the wallet is taken in.
    for height in 71..=73 {
        node.mine(1).await.unwrap();
        until(&format!(" {height} (")).await;
    }
    let pid = follow.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let line = until("wallet1").await;
    assert!(line.ends_with("wallet1 2.000000 ether"), "{line}");
    assert!(timeout(PATIENCE, follow.wait()).await.unwrap().unwrap().success());
}
