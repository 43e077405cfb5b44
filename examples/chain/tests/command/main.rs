//! The command, as a process, on endpoints that are down, slow, broken or lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod chains;
mod checkpoint;
mod deposits;
#[allow(dead_code, reason = "shared with the tests of the adapter, which need more of it")]
#[path = "../../../../crates/chain-ethereum/tests/endpoints/fake.rs"]
mod fake;
mod flags;
mod flapping;
mod forks;
mod gateways;
mod hiccups;
#[allow(dead_code, unused_imports, reason = "some modes are for a start by hand")]
#[path = "../../../../crates/chain-ethereum/examples/misbehaving/server/mod.rs"]
mod misbehaving;
mod nodes;
#[path = "../../../../crates/console/tests/support/screen.rs"]
mod screen;
mod table;
mod wallets;

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use fake::{FakeNode, SECRET, chain};
use misbehaving::{Misbehaving, Modes};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const ACCOUNT: &str = misbehaving::ACCOUNT;
/// What each question for the head is counted as.
const LOOK: &str = "eth_getBlockByNumber latest";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chain"));
    command.args(arguments).kill_on_drop(true);
    command
}

fn follow(arguments: &[&str]) -> Command {
    command(&[&["follow"], arguments].concat())
}

/// A running command whose lines are read.
struct Follow {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines that no test has asked for yet: lines of chain and wallets come in any order.
    unclaimed: Vec<String>,
}

impl Follow {
    fn start(arguments: &[&str]) -> Self {
        Self::of(follow(arguments))
    }

    fn of(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, unclaimed: Vec::new() }
    }

    /// A line with this text: an unclaimed one, or the next one.
    async fn says(&mut self, text: &str) -> String {
        if let Some(at) = self.unclaimed.iter().position(|line| line.contains(text)) {
            return self.unclaimed.remove(at);
        }
        let line = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {text:?}: {:#?}", self.unclaimed));
                assert!(!line.contains(SECRET), "{line}");
                if line.contains(text) {
                    return line;
                }
                self.unclaimed.push(line);
            }
        };
        let line = timeout(PATIENCE, line).await;
        line.unwrap_or_else(|_| panic!("no {text:?}: {:#?}", self.unclaimed))
    }

    /// All lines that no test has asked for, up to the end.
    async fn ends(mut self) -> Vec<String> {
        self.interrupt();
        self.says("  ended  ").await;
        self.rest().await
    }

    async fn rest(mut self) -> Vec<String> {
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap() {
            self.unclaimed.push(line);
        }
        self.unclaimed
    }

    fn interrupt(&self) {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }
}

fn rpc(node: &FakeNode) -> String {
    format!("http://{}/v3/{SECRET}", node.address)
}

/// An address with a closed port.
fn down() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{free}")
}

/// A node of this chain that answers every request for a balance with `balance`.
async fn owning(branch: Vec<Value>, balance: Value) -> FakeNode {
    let chain = chain("0x1", branch);
    FakeNode::answering(move |method, parameters| match method {
        "eth_getBalance" => balance.clone(),
        _ => chain(method, parameters),
    })
    .await
}

/// Follows this server at a short interval.
fn following(server: &Misbehaving, arguments: &[&str]) -> Follow {
    let url = server.url();
    let flags = ["--interval", "20ms", "--unread-after", "200ms", "--from", "0", "--rpc", &url];
    Follow::start(&[&flags, arguments].concat())
}

/// How many of these lines have this text.
fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

/// What the account has at block 4, to which the chain grows once the account is followed.
async fn balance_at_4(modes: Modes, arguments: &[&str]) -> String {
    let server = Misbehaving::start(Modes { blocks: 3, ..modes }).await;
    let mut follow = following(&server, &[arguments, &["--wallet", ACCOUNT]].concat());
    follow.says(" ether at block 0 (").await;
    follow.says(" 3 (").await;
    server.grow(1);
    follow.says("block 4 (").await;
    let lines = follow.ends().await;
    let last = lines.iter().rfind(|line| line.contains("  wallet  ")).unwrap();
    last.split_once("  wallet  ").unwrap().1.trim_start().trim_start_matches("wallet1 ").to_owned()
}
