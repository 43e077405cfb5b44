//! Lines about the nodes and their chain.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::time::timeout;

use super::{ACCOUNT, Follow, LOOK, PATIENCE, count, down, following, rpc};
use crate::fake::{FakeNode, answer, branch, chain, result};
use crate::misbehaving::{Misbehaving, Modes};

#[tokio::test]
async fn a_node_that_is_down_is_reported_and_waited_for() {
    let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &down(), "--wallet", ACCOUNT]);
    follow.says("node    rpc1 fails: http://127.0.0.1:").await;
    follow.interrupt();
    follow.says("wallet1 is not known: no node returned its opening balance").await;
    assert!(timeout(PATIENCE, follow.process.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_height_beyond_the_head_is_reported() {
    let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let mut follow = Follow::start(&["--rpc", &rpc(&node), "--from", "99999999999"]);
    follow.says("rpc1 answers, but is still below where the observation is to begin").await;
}

#[tokio::test]
async fn a_second_endpoint_of_another_chain_is_reported() {
    let one = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let two = FakeNode::answering(chain("0x5", branch(0, 3))).await;
    let mut follow = Follow::start(&["--interval", "50ms", "--rpc", &rpc(&one), "--rpc", &rpc(&two)]);
    // The endpoint that answers first decides the chain.
    let line = follow.says(": not believed").await;
    assert!(line.contains("rpc1 is on chain 1 (") || line.contains("rpc2 is on chain 5 ("), "{line}");
    follow.says(" answers, but is on chain ").await;
}

#[tokio::test]
async fn the_first_blocks_are_printed_before_the_first_interval_is_over() {
    let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let mut follow = Follow::start(&["--interval", "8h", "--rpc", &rpc(&node), "--from", "0"]);
    follow.says(" 3 (").await;
}

/// ```text
/// rpc1: hangs    rpc2: chain 5 | rpc3: chain 1, from its second answer on
/// ```
#[tokio::test]
async fn the_chain_is_the_one_with_the_given_id() {
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
}

/// The end is as of an observation that began: the nodes, and the wallets.
#[tokio::test]
async fn a_chain_that_is_not_found_is_reported_at_the_end_with_nodes_and_wallets() {
    let other = FakeNode::answering(chain("0x5", branch(1, 9))).await;
    let (other, down) = (rpc(&other), down());
    let arguments = ["--interval", "50ms", "--chain-id", "7", "--rpc", &other, &down, "--public", &other];
    let mut follow = Follow::start(&[&arguments[..], &["--wallet", ACCOUNT]].concat());
    follow.says("rpc1 is on chain 5, not on 7: not believed").await;
    follow.says("rpc2 fails: ").await;
    follow.says("  public  public nodes: 1").await;
    follow.interrupt();
    follow.says("ended   no local node has reported chain 7").await;
    assert_eq!(follow.unclaimed, Vec::<String>::new());
    follow.says("node    rpc1 no head; rpc1 is on chain 5, not on 7").await;
    follow.says("node    rpc2 no head; rpc2 fails: http://127.0.0.1:").await;
    follow.says("node    public1 no head; public1 was not asked, since no local node has reported").await;
    follow.says("wallet  wallet1 is not known: no node returned its opening balance").await;
    assert!(timeout(PATIENCE, follow.process.wait()).await.unwrap().unwrap().success());
    assert_eq!(follow.unclaimed, Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_fails_once_is_asked_for_its_chain_again_before_a_long_interval_is_over() {
    let chain = chain("0x1", branch(0, 3));
    let asked = AtomicUsize::new(0);
    let late = FakeNode::serving(move |_, body| {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if is_first { StatusCode::BAD_GATEWAY.into_response() } else { answer(&body, &chain) })
    })
    .await;
    let arguments = ["--interval", "8h", "--chain-id", "1", "--from", "0", "--rpc", &rpc(&late)];
    let mut follow = Follow::start(&arguments);
    follow.says("rpc1 fails: ").await;
    follow.says(" 3 (").await;
}

#[tokio::test]
async fn a_node_that_is_on_another_chain_each_time_is_printed_as_alternating() {
    let (asked, other) = (AtomicUsize::new(2), chain("0x5", branch(0, 3)));
    let node = FakeNode::answering(move |method, parameters| match method {
        "eth_chainId" => result(&format!("{:#x}", asked.fetch_add(1, Ordering::Relaxed)).into()),
        _ => other(method, parameters),
    })
    .await;
    let mut follow = Follow::start(&["--interval", "1ms", "--chain-id", "1", "--rpc", &rpc(&node)]);
    follow.says("rpc1 alternates: its condition is printed again when it has stayed for 1m").await;
    let lines = count(&follow.unclaimed, "  node    rpc1 is on chain ");
    assert!(lines < 20, "{:#?}", follow.unclaimed);
}

#[tokio::test]
async fn two_public_nodes_measure_local_nodes_and_a_note_is_printed() {
    let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
    let node = &rpc(&node);
    for (public, says) in [
        (
            &[node, node][..],
            Some("public nodes: 2, and local nodes are compared with them while all are fresh; 3 or more"),
        ),
        (&[node, node, node], None),
    ] {
        let public: Vec<_> = public.iter().map(|url| url.as_str()).collect();
        // A busy machine may take longer than half of a short interval to answer.
        let arguments = [&["--interval", "1s", "--rpc", node, "--public"], &public[..]].concat();
        let mut follow = Follow::start(&arguments);
        for nth in 1..=public.len() {
            follow.says(&format!("public{nth} answers")).await;
        }
        follow.says(" 3 (").await;
        follow.interrupt();
        follow.says("rpc1 at 3, 0 blocks behind the public chain; ").await;
        let note = follow.unclaimed.iter().find(|line| line.contains("  public  "));
        assert_eq!(note.is_some(), says.is_some(), "{note:?}");
        assert!(note.is_none_or(|line| says.is_some_and(|says| line.contains(says))), "{note:?}");
    }
}

/// ```text
/// ws1: a closed port | ws2: a server that is no WebSocket
/// ```
#[tokio::test]
async fn a_connection_for_new_heads_that_is_lost_is_reported_once() {
    let server = Misbehaving::start(Modes::default()).await;
    let (down, page) = (down().replace("http", "ws"), server.url().replace("http", "ws"));
    let mut follow = following(&server, &["--ws", &down, &page]);
    let line = follow.says("  ws      ws1 announces no heads: ").await;
    assert!(line.contains("Connection refused"), "{line}");
    follow.says("  ws      ws2 announces no heads: ").await;
    follow.says(" 3 (").await;
    server.is_asked(LOOK, 20).await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "  ws      "), 0, "{lines:#?}");

    let line = following(&server, &["--json", "--ws", &down]).says("\"ws1\"").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["is"].as_str().unwrap().starts_with("announces no heads: "), "{line}");
}
