//! What the command `follow` makes of what it is given.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::fake::{FakeNode, SECRET, answer, branch, chain, error, hash, result};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const ACCOUNT: &str = "0x0707070707070707070707070707070707070707";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper-chain"));
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
    /// What no test has asked for yet: chain and wallets are told in no order.
    heard: Vec<String>,
}

impl Follow {
    fn start(arguments: &[&str]) -> Self {
        let mut process = follow(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, heard: Vec::new() }
    }

    /// A line with this text: one that was heard, or the next one.
    async fn says(&mut self, text: &str) -> String {
        if let Some(at) = self.heard.iter().position(|line| line.contains(text)) {
            return self.heard.remove(at);
        }
        let line = async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended without {text:?}: {:#?}", self.heard));
                assert!(!line.contains(SECRET), "{line}");
                if line.contains(text) {
                    return line;
                }
                self.heard.push(line);
            }
        };
        let line = timeout(PATIENCE, line).await;
        line.unwrap_or_else(|_| panic!("no {text:?}: {:#?}", self.heard))
    }

    fn interrupt(&self) {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }
}

fn rpc(node: &FakeNode) -> String {
    format!("http://{}/v3/{SECRET}", node.address)
}

/// An address where nobody listens.
fn down() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{free}")
}

/// A node of this chain that says this of every balance.
async fn owning(branch: Vec<Value>, balance: Value) -> FakeNode {
    let chain = chain("0x1", branch);
    FakeNode::answering(move |method, parameters| match method {
        "eth_getBalance" => balance.clone(),
        _ => chain(method, parameters),
    })
    .await
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_in_one_line() {
    let rpc = "http://127.0.0.1:1";
    let long = format!("https://{SECRET}@/{SECRET}");
    let checksum = "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    for (arguments, code, says) in [
        (
            &["--rpc", "notaurl"][..],
            1,
            "--rpc number 1: the address is no URL: relative URL without a base; give",
        ),
        (
            &["--rpc", rpc, "--rpc", &long],
            1,
            "--rpc number 2: the address is no URL: empty host; give one such as",
        ),
        (&["--rpc", rpc, &long], 1, "--rpc number 2: the address is no URL: empty host"),
        (&["--rpc", "ftp://x"], 1, "--rpc number 1: an address of http or https is needed here, not of ftp"),
        (&["--rpc", rpc, "--public", rpc, "ws://x"], 1, "--public number 2: an address of http or https is"),
        (
            &["--rpc", rpc, "--ws", rpc],
            1,
            "--ws number 1: an address of ws or wss is needed here, not of http",
        ),
        (&["--rpc", rpc, "--wallet", "0x12"], 1, "--wallet number 1: an address has 40 hexadecimal digits"),
        (&["--rpc", rpc, "--wallet", ACCOUNT, &long], 1, "--wallet number 2: an address has 40 hexadecimal"),
        (&["--rpc", rpc, "--wallet", checksum], 1, "its capitals do not fit its digits (EIP-55)"),
        (&["--rpc", rpc, "--wallet", ACCOUNT, ACCOUNT], 1, "is given twice: give each account once"),
        (&["--rpc", rpc, "--from", "ten"], 2, "--from <HEIGHT>: invalid digit"),
        (&["--rpc", rpc, "--from", "-1"], 2, "--from <HEIGHT>: invalid digit"),
        (&["--rpc", rpc, "--chain-id", "main"], 2, "--chain-id <N>: invalid digit"),
        (&["--rpc", rpc, "--interval", "0s"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--interval", "9h"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--interval", "soon"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&[], 2, "--rpc <URL>... is missing"),
        (&["--rpc"], 2, "--rpc <URL>... has no value"),
        (&["--rcp", &long], 2, "there is no flag --rcp"),
        (&["--rpc", rpc, "--json", "--json"], 2, "--json: "),
    ] {
        let output = timeout(PATIENCE, follow(arguments).output()).await.unwrap().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("watchkeeper-chain: ") && told.contains(says), "{arguments:?}: {told}");
        assert_eq!((told.lines().count(), output.status.code()), (1, Some(code)), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty() && !told.contains(SECRET), "{told}");
    }
}

/// An address at a place where none belongs may be one with a key in it all the same.
#[tokio::test]
async fn an_address_at_a_wrong_place_is_not_shown() {
    let url = &format!("http://node.example/v3/{SECRET}");
    let (short, flag) = (&format!("-{SECRET}"), &format!("--{url}"));
    let (unit, equals, json) = (&format!("1s{SECRET}"), &format!("--from={url}"), &format!("--json={url}"));
    let rpc = "http://127.0.0.1:1";
    for arguments in [
        &["follow", url][..],
        &["follow", url, "--rpc", rpc],
        &["follow", "--rpc", rpc, "--json", url],
        &["follow", "--rpc", rpc, "--from", url],
        &["follow", "--rpc", rpc, equals],
        &["follow", "--rpc", rpc, json],
        &["follow", "--rpc", rpc, "--interval", url],
        &["follow", "--rpc", rpc, "--interval", unit],
        &["follow", "--rpc", rpc, "--interval", "1s", url],
        &["follow", "--rpc", rpc, flag],
        &["follow", "--rpc", rpc, short],
        &["follow", "--rpc", rpc, "--wallet", url],
        &["demo", url],
        &["--rpc", url],
        &[url],
    ] {
        let output = timeout(PATIENCE, command(arguments).output()).await.unwrap().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {told}");
        assert!(told.lines().count() == 1 && !told.contains(SECRET), "{arguments:?}: {told}");
    }
}

/// In small letters nothing is said of the digits, and nothing is refused; nor in capitals alone.
#[tokio::test]
async fn an_address_without_capitals_or_without_small_letters_is_taken() {
    let node = owning(branch(0, 3), result(&"0x0".into())).await;
    let small = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
    let large = format!("0x{}", small[2..].to_ascii_uppercase());
    for account in [small, &large, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"] {
        Follow::start(&["--rpc", &rpc(&node), "--wallet", account]).says("wallet1 0.000000 ether").await;
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_told_and_waited_for() {
    let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &down(), "--wallet", ACCOUNT]);
    follow.says("node    rpc1 fails: http://127.0.0.1:").await;
    follow.interrupt();
    follow.says("wallet1 is not known: no node said what it had to begin with").await;
    assert!(timeout(PATIENCE, follow.process.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_height_beyond_the_head_is_told() {
    let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let mut follow = Follow::start(&["--rpc", &rpc(&node), "--from", "99999999999"]);
    follow.says("rpc1 answers, but is at 3, below where the observation is to begin").await;
}

#[tokio::test]
async fn a_second_endpoint_of_another_chain_is_told() {
    let one = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let two = FakeNode::answering(chain("0x5", branch(0, 3))).await;
    let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &rpc(&one), "--rpc", &rpc(&two)]);
    // Whoever answers first says which chain it is.
    let line = follow.says(": not believed").await;
    assert!(line.contains("rpc1 is on chain 1 (") || line.contains("rpc2 is on chain 5 ("), "{line}");
}

/// ```text
/// rpc1: hangs    rpc2: chain 5 | rpc3: chain 1, from its second answer on
/// ```
#[tokio::test]
async fn the_chain_is_the_one_of_the_id_that_is_given() {
    let hangs = FakeNode::serving(|_, _| None).await;
    let other = FakeNode::answering(chain("0x5", branch(1, 9))).await;
    let chain = chain("0x1", branch(0, 3));
    let asked = AtomicUsize::new(0);
    let late = FakeNode::serving(move |_, body| {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if is_first { StatusCode::BAD_GATEWAY.into_response() } else { answer(&body, &chain) })
    })
    .await;
    let nodes = [&hangs, &other, &late].map(rpc);
    let arguments = ["--interval", "50ms", "--chain-id", "1", "--rpc", &nodes[0], &nodes[1], &nodes[2]];
    let mut follow = Follow::start(&arguments);
    follow.says("rpc3 fails: ").await;
    follow.says("rpc2 is on chain 5, not on 1: not believed").await;
    follow.says(" 3 (").await;
    follow.says("rpc2 is on chain 5 (").await;
    follow.interrupt();
    follow.says("rpc3 at 3").await;

    let mut follow = Follow::start(&["--interval", "50ms", "--chain-id", "7", "--rpc", &nodes[1]]);
    follow.says("rpc1 is on chain 5, not on 7: not believed").await;
    follow.interrupt();
    follow.says("ended   no node of ours was on chain 7").await;
    assert!(timeout(PATIENCE, follow.process.wait()).await.unwrap().unwrap().success());
    assert_eq!(follow.heard, Vec::<String>::new());
}

#[tokio::test]
async fn fewer_public_nodes_than_can_outvote_one_measure_ours_and_it_is_said() {
    let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let node = &rpc(&node);
    for (public, says) in [
        (&[node, node][..], Some("ours are measured by 2 public, while all of these are fresh; 3 or more")),
        (&[node, node, node], None),
    ] {
        let public: Vec<_> = public.iter().map(|url| url.as_str()).collect();
        let arguments = [&["--interval", "50ms", "--rpc", node, "--public"], &public[..]].concat();
        let mut follow = Follow::start(&arguments);
        for nth in 1..=public.len() {
            follow.says(&format!("public{nth} answers")).await;
        }
        follow.says(" 3 (").await;
        follow.interrupt();
        follow.says("rpc1 at 3, 0 blocks behind the public chain; ").await;
        let said = follow.heard.iter().find(|line| line.contains("  public  "));
        assert_eq!(said.is_some(), says.is_some(), "{said:?}");
        assert!(said.is_none_or(|line| says.is_some_and(|says| line.contains(says))), "{said:?}");
    }
}

#[tokio::test]
async fn a_wallet_opens_with_what_a_node_says_it_has() {
    let ether = json!("0x1bc16d674ec80000");
    let pruned = owning(branch(0, 3), error(-32000, "missing trie node 1a3b")).await;
    let archive = owning(branch(0, 3), result(&ether)).await;
    let (pruned, archive) = (rpc(&pruned), rpc(&archive));
    let arguments = ["--interval", "50ms", "--rpc", &pruned, "--public", &archive, "--wallet", ACCOUNT];
    let mut follow = Follow::start(&arguments);
    let root = &hash(&branch(0, 3)[0]).to_string()[..8];
    follow.says(&format!("wallet1 2.000000 ether at block 0 ({root})")).await;
    follow.says(" 3 (").await;
    follow.interrupt();
    let line = follow.says("wallet1").await;
    assert!(line.contains("wallet1 2.000000 ether at block "), "{line}");

    let mut follow = Follow::start(&[&arguments[..], &["--json"]].concat());
    let mut line: Value = serde_json::from_str(&follow.says("wallet1").await).unwrap();
    line.as_object_mut().unwrap().remove("at_s").unwrap();
    let wei = "2000000000000000000";
    let expected = json!({ "wallet": "wallet1", "address": ACCOUNT, "wei": wei, "height": 0, "whole": true });
    assert_eq!(line, expected);
}

/// A node that is down as well does not hold it up for ever.
#[tokio::test]
async fn a_wallet_whose_old_state_is_gone_is_shown_from_there_on() {
    let node = owning(branch(0, 3), error(-32000, &format!("missing trie node of {SECRET}"))).await;
    let (node, down) = (rpc(&node), down());
    let arguments = ["--interval", "50ms", "--rpc", &node, "--wallet", ACCOUNT];
    for also in [&[][..], &["--public", &down]] {
        let mut follow = Follow::start(&[&arguments[..], also].concat());
        let line = follow.says("wallet1").await;
        assert!(line.contains("wallet1 is not known at block 0 ("), "{line}");
        assert!(line.contains("rpc1: ") && line.contains("missing trie node"), "{line}");
        follow.says(" 3 (").await;
        follow.interrupt();
        let line = follow.says("wallet1").await;
        assert!(line.contains("wallet1 0.000000 ether at block "), "{line}");
        assert!(line.ends_with(", beside what it had at block 0"), "{line}");
    }
}

/// ```text
/// eth_getBalance:  429, now | 429, in 1 s | 503 | 2 ether
/// ```
#[tokio::test]
async fn a_wallet_waits_for_a_node_that_is_busy_and_says_so_once() {
    let chain = chain("0x1", branch(0, 3));
    let asked = AtomicUsize::new(0);
    let node = FakeNode::serving(move |_, body| {
        if !String::from_utf8_lossy(&body).contains("eth_getBalance") {
            return Some(answer(&body, &chain));
        }
        let limited = |after| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", after)]).into_response();
        Some(match asked.fetch_add(1, Ordering::Relaxed) {
            0 => limited("0"),
            1 => limited("1"),
            2 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => answer(&body, |_, _| result(&"0x1bc16d674ec80000".into())),
        })
    })
    .await;
    let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &rpc(&node), "--wallet", ACCOUNT]);
    follow.says("wallet1 2.000000 ether at block 0 (").await;
    let waits: Vec<_> =
        follow.heard.iter().filter(|line| line.contains("wallet1 waits to be known")).collect();
    let [limited, away] = waits[..] else { panic!("{waits:#?}") };
    assert!(limited.ends_with(" limits the rate of requests"), "{limited}");
    assert!(away.ends_with(" is unreachable: HTTP status 503 Service Unavailable"), "{away}");
}

/// The balance comes so late that the blocks behind it are no longer kept: they are read again.
#[tokio::test]
async fn a_wallet_that_is_known_late_is_caught_up_with() {
    /// Those that are told, and those of them that are not among the 128 kept ones.
    const READ: usize = 300 + 172;
    let (short, long) = (branch(0, 300), branch(0, 301));
    let (short, long) = (chain("0x1", short), chain("0x1", long));
    let (read, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let node = FakeNode::answering(move |method, parameters| {
        let read = match method {
            "eth_getBlockReceipts" => read.fetch_add(1, Ordering::Relaxed) + 1,
            _ => read.load(Ordering::Relaxed),
        };
        if method == "eth_getBalance" {
            return if read < 300 { error(-32005, "later") } else { result(&"0x1bc16d674ec80000".into()) };
        }
        // Five looks later the wallet is taken in.
        let looks = usize::from(read >= READ && parameters[0] == "latest");
        if asked.fetch_add(looks, Ordering::Relaxed) < 5 {
            short(method, parameters)
        } else {
            long(method, parameters)
        }
    })
    .await;
    let arguments = ["--interval", "50ms", "--from", "0", "--rpc", &rpc(&node), "--wallet", ACCOUNT];
    let mut follow = Follow::start(&arguments);
    follow.says("wallet1 waits to be known at block 0 (").await;
    follow.says("wallet1 2.000000 ether at block 0 (").await;
    follow.says("block 301 (").await;
    follow.interrupt();
    let line = follow.says("wallet1").await;
    assert!(line.ends_with("wallet1 2.000000 ether at block 301"), "{line}");
}
