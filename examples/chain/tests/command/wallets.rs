//! Lines about the wallets.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{ACCOUNT, Follow, down, following, owning, rpc};
use crate::fake::{FakeNode, SECRET, answer, branch, chain, error, hash, result};
use crate::misbehaving::{Content, Misbehaving, Modes, Receipts};

#[tokio::test]
async fn a_wallet_opens_with_the_balance_of_a_node() {
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

/// Another node that is down does not hold up the wallet for ever.
#[tokio::test]
async fn a_wallet_without_an_opening_balance_shows_its_later_changes() {
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
        assert!(line.ends_with(", without what it had at block 0"), "{line}");
    }
}

/// ```text
/// eth_getBalance:  429, now | 429, in 1 s | 503 | 2 ether
/// ```
#[tokio::test]
async fn a_wallet_waits_for_a_busy_node_and_each_reason_is_printed_once() {
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
        follow.unclaimed.iter().filter(|line| line.contains("wallet1 waits for its balance")).collect();
    let [limited, away] = waits[..] else { panic!("{waits:#?}") };
    assert!(limited.ends_with(" limits the rate of requests"), "{limited}");
    assert!(away.ends_with(" is unreachable: HTTP status 503 Service Unavailable"), "{away}");
}

/// Blocks from before the balance arrived are read again, from one node after the other; each fails three times.
#[tokio::test]
async fn nodes_that_cannot_read_older_blocks_are_reported_once_each() {
    let (short, long) = (chain("0x1", branch(0, 300)), chain("0x1", branch(0, 301)));
    // Which blocks were read, and how often one of them was read once more after the balance: a node that is slow to
    // answer may be asked twice while the chain is read.
    let (read, again) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let node = FakeNode::answering(move |method, parameters| {
        let mut read = read.lock().unwrap();
        match method {
            "eth_getBalance" if read.len() < 300 => error(-32005, "later"),
            "eth_getBalance" => {
                again.fetch_max(1, Ordering::Relaxed);
                result(&"0x0".into())
            }
            "eth_getBlockByHash" if parameters[1] == true && again.load(Ordering::Relaxed) > 0 => {
                let nth = again.fetch_add(1, Ordering::Relaxed);
                if nth <= 6 { error(-32000, "no such index") } else { long(method, parameters) }
            }
            "eth_getBlockReceipts" => {
                read.insert(parameters[0].to_string());
                short(method, parameters)
            }
            _ if again.load(Ordering::Relaxed) > 7 => long(method, parameters),
            _ => short(method, parameters),
        }
    })
    .await;
    let rpc = &rpc(&node);
    let mut follow =
        Follow::start(&["--interval", "50ms", "--from", "0", "--rpc", rpc, rpc, "--wallet", ACCOUNT]);
    follow.says(" 301 (").await;
    for name in ["rpc1", "rpc2"] {
        let says = format!("{name}: reading older blocks: ");
        let lines = follow.unclaimed.iter().filter(|line| line.contains(&says)).count();
        assert_eq!(lines, 1, "{name}: {:#?}", follow.unclaimed);
    }
}

/// The balance arrives so late that the blocks from its height on are no longer kept: they are read again.
#[tokio::test]
async fn a_wallet_that_is_known_late_is_caught_up_with() {
    /// The blocks that are read for the chain, and of these the ones that are not among the 128 kept ones.
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
        // Five polls later the wallet is followed.
        let polls = usize::from(read >= READ && parameters[0] == "latest");
        if asked.fetch_add(polls, Ordering::Relaxed) < 5 {
            short(method, parameters)
        } else {
            long(method, parameters)
        }
    })
    .await;
    let arguments = ["--interval", "50ms", "--from", "0", "--rpc", &rpc(&node), "--wallet", ACCOUNT];
    let mut follow = Follow::start(&arguments);
    follow.says("wallet1 waits for its balance at block 0 (").await;
    follow.says("wallet1 2.000000 ether at block 0 (").await;
    follow.says(" 301 (").await;
    follow.interrupt();
    let line = follow.says("wallet1").await;
    assert!(line.ends_with("wallet1 2.000000 ether at block 301"), "{line}");
}

/// ```text
/// a full and an archive node at one address:  P P a | P P busy P P a | P P P: no state (P), 2 ether (a)
/// ```
#[tokio::test]
async fn one_answer_without_the_state_is_not_the_last_word_of_an_address() {
    for (script, says) in [
        ("PPa", "wallet1 2.000000 ether at block 0 ("),
        ("PPbPPa", "wallet1 2.000000 ether at block 0 ("),
        ("PPPa", "wallet1 is not known at block 0 ("),
    ] {
        let (chain, asked) = (chain("0x1", branch(0, 3)), AtomicUsize::new(0));
        let node = FakeNode::answering(move |method, parameters| match method {
            "eth_getBalance" => match script.as_bytes().get(asked.fetch_add(1, Ordering::Relaxed)) {
                Some(b'P') => error(-32000, "missing trie node 1a3b"),
                Some(b'b') => error(-32005, "later"),
                _ => result(&"0x1bc16d674ec80000".into()),
            },
            _ => chain(method, parameters),
        })
        .await;
        let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &rpc(&node), "--wallet", ACCOUNT]);
        let line = follow.says(" at block 0 (").await;
        let line = if line.contains(" waits for ") { follow.says(" at block 0 (").await } else { line };
        assert!(line.contains(says), "{script}: {line}");
    }
}

/// ```text
/// 1 - 2 - 3 - 4       a receipt of 4 is missing
///           ` 4' - 5' all are there
/// ```
#[tokio::test]
async fn a_wallet_that_becomes_unknown_is_printed_and_when_a_reorg_makes_it_known_again() {
    let contents = vec![Content::Payment, Content::Spend];
    for json in [&[][..], &["--json"]] {
        let server = Misbehaving::start(Modes { contents: contents.clone(), ..Modes::default() }).await;
        let mut follow = following(&server, &[&["--wallet", ACCOUNT], json].concat());
        follow.says("wallet1").await;
        follow.says(if json.is_empty() { " 3 (" } else { "\"height\":3" }).await;
        server.set(|modes| modes.receipts = Receipts::OneShort);
        server.grow(1);
        let line = follow.says("wallet1 is no longer known: ").await;
        assert!(!line.contains("wallet \"wallet1\"") && line.contains(" at height 4 "), "{line}");
        if !json.is_empty() {
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["wallet"], &line["address"]), (&json!("wallet1"), &json!(ACCOUNT)), "{line}");
        }
        server.set(|modes| modes.receipts = Receipts::ByBlock);
        server.reorg(1, 2);
        if json.is_empty() {
            follow.says("wallet1 is known again: 4.499895 ether at block 5").await;
        } else {
            let line: Value = serde_json::from_str(&follow.says("\"wei\":\"4499895").await).unwrap();
            let expected = (&json!("wallet1"), &json!(5), &json!(true));
            assert_eq!((&line["wallet"], &line["height"], &line["whole"]), expected, "{line}");
        }
        follow.interrupt();
        if json.is_empty() {
            follow.says("wallet1 4.499895 ether at block 5").await;
        }
        let again = follow.unclaimed.iter().filter(|line| line.contains("no longer known")).count();
        assert_eq!(again, 0, "{:#?}", follow.unclaimed);
    }
}
