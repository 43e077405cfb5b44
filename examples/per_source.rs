//! One async function probes one source: a source that refuses, and one that hangs, cost the others nothing.
//!
//! `cargo run --example per_source`

use std::future::pending;
use std::time::Duration;

use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::source::SharedSources;
use watchkeeper::{DynError, ObservedSource, observe};

/// A client of a node: here a fake, which says what happens when the node is asked.
#[derive(Clone, Copy)]
enum Node {
    Answers(u64),
    Refuses,
    Hangs,
}

async fn height(node: ObservedSource<Node>) -> Result<u64, DynError> {
    match node.source {
        Node::Answers(height) => Ok(height),
        Node::Refuses => Err("connection refused".into()),
        Node::Hangs => pending().await,
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)] // the clock jumps to the next thing that is due
async fn main() -> Result<(), DynError> {
    let [soon, interval] = [Duration::from_secs(10), Duration::from_millis(250)];
    let nodes = SharedSources::default(); // a set that changes while it is observed
    for (name, height) in [("n1", 7), ("n2", 7), ("n3", 8)] {
        nodes.insert(name, Node::Answers(height));
    }
    let runtime = observe(interval, nodes.clone(), height).await?;
    let handle = runtime.handle();
    let seen = handle.all_sources("every node answers", |height| *height >= 7).within(soon).await?;
    let heights: Vec<(&str, u64)> =
        seen.value.answering().map(|(name, height)| (&**name, **height)).collect();
    assert_eq!(heights, [("n1", 7), ("n2", 7), ("n3", 8)]);

    // A last value is kept, but nothing that asks for an *answer* gets it.
    nodes.insert("n2", Node::Refuses);
    nodes.insert("n3", Node::Hangs);
    let seen = handle.source_failing("n2").within(soon).await?;
    assert_eq!(seen.value.answer("n2"), None);
    let only_n1 = |seen: &PerSourceSnapshot<u64>| seen.answering().map(|(name, _)| &**name).eq(["n1"]);
    handle.eventually("only n1 answers", only_n1).within(soon).await?;
    handle.always("only n1 answers", only_n1).during(Duration::from_secs(2)).await?;
    println!("{}\n{}", handle.why_stale("n2"), handle.why_stale("n3"));
    assert!(handle.why_stale("n2").ends_with("connection refused"));
    assert!(handle.why_stale("n3").contains("probe in flight for "));
    assert_eq!(handle.status().missed_ticks, 0, "n3 delays no cycle");

    // Each change is an event.
    nodes.insert("n2", Node::Answers(9));
    let is_back = |event: &SourceEvent<u64>| matches!(event, SourceEvent::Recovered { source, .. } if **source == *"n2");
    let back = handle.event("n2 is back", is_back).within(soon).await?;
    assert!(matches!(back.event(), SourceEvent::Recovered { failures: 9.., .. }));
    nodes.remove("n3");
    handle.source_vanished("n3").within(soon).await?;
    assert_eq!(handle.latest_snapshot().ok_or("it has polled")?.value.answer("n2"), Some(&9));
    println!("{:?}", runtime.stop().await);
    Ok(())
}
