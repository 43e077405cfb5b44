//! A condition that is watched beside a test: the first violation is kept, with what led to it.
//!
//! `cargo run --example invariant`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::{DynError, ObservedSource, observe};

/// A fake node: whether it believes that it leads.
type Node = Arc<AtomicBool>;

async fn leads(node: ObservedSource<Node>) -> Result<bool, DynError> {
    Ok(node.source.load(Ordering::SeqCst))
}

fn one_leader(nodes: &PerSourceSnapshot<bool>) -> Result<(), String> {
    let leaders: Vec<&str> =
        nodes.answering().filter(|(_, leads)| ***leads).map(|(name, _)| &**name).collect();
    if leaders.len() > 1 { Err(format!("{} lead", leaders.join(" and "))) } else { Ok(()) }
}

/// What a test does: the lead moves from one node to another. A careless hand-over has two leaders for a while.
async fn hand_over(from: &Node, to: &Node, first: &Node) {
    let change = |node: &Node| node.store(Arc::ptr_eq(node, to), Ordering::SeqCst);
    change(first);
    sleep(Duration::from_secs(1)).await;
    change(if Arc::ptr_eq(first, from) { to } else { from });
    sleep(Duration::from_secs(5)).await;
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let [n1, n2] = [Node::new(true.into()), Node::default()];
    let nodes = [("n1", n1.clone()), ("n2", n2.clone())];
    let runtime = observe(Duration::from_millis(250), nodes, leads).await?;
    let handle = runtime.handle();

    let at_most_one = handle.invariant("at most one leads", one_leader);
    hand_over(&n1, &n2, &n1).await;
    let held = at_most_one.finish().await?; // an invariant that is not collected proves nothing
    println!("it held in {} snapshots", held.judged);
    assert!(held.judged >= 20);

    let at_most_one = handle.invariant("at most one leads", one_leader);
    hand_over(&n2, &n1, &n1).await;
    assert!(at_most_one.violation().is_some(), "known at once; `violated()` waits for it");
    let violated = at_most_one.finish().await.expect_err("both led for a second");
    println!("{violated}");
    assert_eq!(violated.reason(), Some("n1 and n2 lead"));
    // What it says is of the moment of the violation, although it is over now.
    handle.eventually("one leads", |nodes| one_leader(nodes).is_ok()).within(Duration::from_secs(1)).await?;
    assert!(violated.to_string().contains("first violation at +0.250s, in cycle "));
    Ok(())
}
